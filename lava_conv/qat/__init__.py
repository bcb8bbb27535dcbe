"""Quantisation-aware training: the layers, networks made of them, and their exact evaluation."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lava_conv.qat.layers import (
    Int8Conv1d,
    Int8Conv2d,
    Int8Linear,
    LearnedStep,
    MedianQuant,
    Pixels,
    Readout,
    TernaryConv1d,
    TernaryConv2d,
    TernaryLinear,
)
from lava_conv.qat.prepare import prepare

__all__ = [
    "Int8Conv1d",
    "Int8Conv2d",
    "Int8Linear",
    "LearnedStep",
    "MedianQuant",
    "Pixels",
    "Readout",
    "TernaryConv1d",
    "TernaryConv2d",
    "TernaryLinear",
    "evaluate",
    "exact",
    "prepare",
]


def exact(model: nn.Module) -> nn.Module:
    """A copy of `model` in eval mode and float64, in which every quantisation falls as the equations say.

    In float32 the normalisation rounds, and a value next to a step of the staircase may fall on its other side. Logits
    are rounded to the whole multiples that they are, so that classes whose integers are equal are equal here, too.
    """
    model = copy.deepcopy(model).double().eval()
    for module in model.modules():
        if isinstance(module, Readout) and module.source:
            module.whole = True
    return model


def evaluate(
    model: nn.Module, images: NDArray[np.uint8], batch: int = 256, progress: Callable[[int], Any] | None = None
) -> NDArray[np.float64]:
    """Logits float64 (N, outputs) of the quantised model on uint8 images (N, C, H, W), computed in float64.

    `lava_conv.classes.predictions` names their classes.
    """
    model = exact(model)
    logits = []
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            part = torch.tensor(images[start : start + batch], dtype=torch.float64)
            logits.append(model(part).numpy())
            if progress:
                progress(len(part))
    return np.concatenate(logits)
