"""Models trained with off-the-shelf toolkits, as the same networks made of our own layers: one adapter a toolkit.

An adapter exports the integer weights as they are and turns fake-quantisers into quantisers with fixed steps. It needs
no post-conversion step, and what it made is compared with the toolkit's model on the example images.
"""

import importlib
import sys
from typing import Any

import torch
from torch import nn

from lava_conv.errors import ConversionError

ADAPTERS = {"torch.ao.quantization": "torch_ao", "brevitas": "brevitas"}
TOLERANCE = 1e-3  # of the largest logit, for the median image: float32 moves single counts, a wrong export all


def canonical(model: nn.Module, images: torch.Tensor, input_scale: float) -> nn.Module:
    """`model` itself if it is made of our layers, else what its toolkit's adapter makes of it.

    Args:
        model: trained; from torch.ao before convert_fx.
        images: uint8 examples on which the two are compared.
        input_scale: the model was trained on pixels (0..255) times this.

    Raises:
        ConversionError: what the adapter cannot export, or the two differ.
    """
    for toolkit, name in ADAPTERS.items():
        if toolkit not in sys.modules:
            continue  # nobody can hold a model of a toolkit that was never imported
        adapter: Any = importlib.import_module(f"lava_conv.qat.toolkits.{name}")
        if adapter.made(model):
            stripped, new = adapter.export_model(model, input_scale)
            _compare(toolkit, stripped, new, images)
            return new
    return model


def _compare(toolkit: str, stripped: nn.Module, new: nn.Module, images: torch.Tensor) -> None:
    with torch.inference_mode():
        theirs = stripped.eval()(images.float()).double()
        ours = new.double().eval()(images.double())
    error = (theirs - ours).abs().flatten(1).amax(1).median() / theirs.abs().max().clamp_min(1e-12)
    if not float(error) <= TOLERANCE:
        raise ConversionError(
            f"export from {toolkit}: the exported model differs from the trained one by {float(error):.2g} of the "
            f"largest logit; look for operations whose quantiser is disabled or was never calibrated"
        )
