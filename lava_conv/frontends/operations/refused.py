"""What no network of integer spikes does yet, and what to do instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.nn import functional

from lava_conv.frontends.nodes import argument
from lava_conv.frontends.operations.entry import Arriving, AsModule, Entry, Unsupported

if TYPE_CHECKING:
    from lava_conv.qat.walk import Walk

NO_NEGATIVE_COUNT = "a spike count has no negative values; replace it with nn.ReLU before training"
GENERAL = "it has no spiking counterpart here; leave it out, or write it with convolutions, ReLU and additions"
NO_MAXIMUM = (
    "max pooling has no exact spiking form; prepare(..., max_pool='conv') puts a learned convolution with the same "
    "stride in its place, 'average' an average, both before training"
)
NORMALISES_ANEW = "it normalises each image anew; use batch normalisation"
REMEDIES: dict[type, str] = {
    nn.MaxPool1d: NO_MAXIMUM,
    nn.MaxPool2d: NO_MAXIMUM,
    nn.LeakyReLU: NO_NEGATIVE_COUNT,
    nn.PReLU: NO_NEGATIVE_COUNT,
    nn.ELU: NO_NEGATIVE_COUNT,
    nn.SELU: NO_NEGATIVE_COUNT,
    nn.GELU: NO_NEGATIVE_COUNT,
    nn.SiLU: NO_NEGATIVE_COUNT,
    nn.Mish: NO_NEGATIVE_COUNT,
    nn.Hardswish: NO_NEGATIVE_COUNT,
    nn.Tanh: NO_NEGATIVE_COUNT,
    nn.Sigmoid: "gates multiply, spikes add; leave it out (a sigmoid at the very end changes no prediction)",
    nn.Softmax: "leave it out: the class with the largest logit stays the same",
    nn.LogSoftmax: "leave it out, and train with cross_entropy",
    nn.LayerNorm: NORMALISES_ANEW,
    nn.GroupNorm: NORMALISES_ANEW,
    nn.InstanceNorm2d: NORMALISES_ANEW,
    nn.ConvTranspose2d: "transposed convolutions are not in the format; use a convolution",
    nn.Conv3d: "only 1-D and 2-D convolutions are in the format",
    nn.LSTM: "recurrent layers have no counterpart here",
    nn.GRU: "recurrent layers have no counterpart here",
    nn.MultiheadAttention: "attention multiplies activations, spikes only add; use convolutions",
}
CONVERTED = "it is what torch.ao's convert_fx made; pass the trained model as it was before convert_fx"


def unsupported(module: nn.Module, remedy: str | None = None) -> Unsupported:
    """Why a module cannot be converted, and the remedy, that of the table if none is given."""
    if ".quantized" in type(module).__module__:
        remedy = CONVERTED
    elif remedy is None:
        remedy = next((text for kind, text in REMEDIES.items() if isinstance(module, kind)), GENERAL)
    return Unsupported(f"is a {type(module).__name__}", remedy)


def _read(module: nn.Module, arriving: Arriving) -> Unsupported:
    return unsupported(module)


def _prepare(walk: Walk, node: fx.Node, module: nn.Module) -> None:
    walk.refuse(node, module)


CALLS: dict[Any, AsModule] = {
    functional.leaky_relu: lambda node: nn.LeakyReLU(argument(node, 1, "negative_slope", 0.01)),
    functional.gelu: lambda node: nn.GELU(argument(node, 1, "approximate", "none")),
    functional.silu: lambda node: nn.SiLU(),
    functional.elu: lambda node: nn.ELU(argument(node, 1, "alpha", 1.0)),
    functional.hardswish: lambda node: nn.Hardswish(),
    torch.sigmoid: lambda node: nn.Sigmoid(),
    torch.tanh: lambda node: nn.Tanh(),
}
ENTRY = Entry(_read, _prepare, (nn.Module,), calls=CALLS)  # whatever no other entry knows
