"""Models trained with off-the-shelf toolkits, as the same networks made of our own layers: one adapter a toolkit.

An adapter exports the integer weights as they are and turns fake-quantisers into quantisers with fixed steps. It needs
no post-conversion step; `convert` compares what it made with the toolkit's model on the example images.
"""

import importlib
import sys
from typing import Any

from torch import fx, nn

from lava_conv.arguments import copied
from lava_conv.errors import ConversionError

ADAPTERS = {"torch.ao.quantization": "torch_ao", "brevitas": "brevitas"}


def canonical(model: nn.Module, input_scale: float) -> tuple[nn.Module, fx.GraphModule] | None:
    """The model with nothing left that changes while it runs, and what its toolkit's adapter makes of it; None if it
    is made of our layers.

    Args:
        model: trained; from torch.ao before convert_fx.
        input_scale: the model was trained on pixels (0..255) times this.

    Raises:
        ConversionError: what the adapter cannot export.
    """
    for toolkit, name in ADAPTERS.items():
        if toolkit not in sys.modules:
            continue  # nobody can hold a model of a toolkit that was never imported
        adapter: Any = importlib.import_module(f"lava_conv.frontends.{name}")
        if adapter.made(model):
            if model._forward_hooks or model._forward_pre_hooks:
                raise ConversionError("the model has forward hooks, which no converted network runs; remove them")
            model = copied(model).eval()
            adapter.freeze(model)
            return model, adapter.export_model(model, input_scale)
    return None
