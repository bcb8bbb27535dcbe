"""Convolutions and linear layers: integer weights times a scale, plus a bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional

from lava_conv.conversion import algebra
from lava_conv.conversion.algebra import Floats, Pool, Spikes
from lava_conv.errors import ConversionError
from lava_conv.frontends.operations.entry import Arriving, Entry
from lava_conv.frontends.operations.refused import unsupported
from lava_conv.frontends.program import Operation, Shape
from lava_conv.network.synapses import Conv
from lava_conv.qat.flow import Flow, Lazy
from lava_conv.qat.layers import (
    Int8Conv1d,
    Int8Conv2d,
    Int8Linear,
    Int8Weight,
    QuantisedWeight,
    Readout,
    TernaryConv1d,
    TernaryConv2d,
    TernaryLinear,
)
from lava_conv.qat.options import DYNAMIC_THRESHOLD
from lava_conv.qat.pooling import pair
from lava_conv.torch_tools.convolution import conv

if TYPE_CHECKING:
    from lava_conv.conversion.algebra import Value
    from lava_conv.conversion.builder import Builder
    from lava_conv.qat.walk import Walk

UNQUANTISED = "its weights are not quantised; pass the model through lava_conv.qat.prepare and train it"


@dataclass(frozen=True)
class Convolution(Operation):
    """y = scale * (weight convolved with x) + bias, with zeros around x; 1-D convolutions have a height of 1.

    Fields:
        weight: int8 (O, I / groups, H, W).
        scale: float64 (O,).
        bias: float64 (O,).
        stride, padding, dilation: (H, W).
        groups: as torch's.
    """

    weight: NDArray[np.int8]
    scale: Floats
    bias: Floats
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def evaluate(self, *values: Tensor) -> Tensor:
        (x,) = values
        frames = x if x.ndim == 4 else x.unsqueeze(2)
        weight = torch.from_numpy(self.weight).double()
        total = conv(frames, weight, None, self.stride, self.padding, self.dilation, self.groups)
        scale, bias = (torch.from_numpy(v).reshape(-1, 1, 1) for v in (self.scale, self.bias))
        y = total * scale + bias
        return y if x.ndim == 4 else y.squeeze(2)

    def output_shape(self, *shapes: Shape) -> Shape:
        channels, *size = shapes[0]
        if channels != self.weight.shape[1] * self.groups:
            raise ConversionError(
                f"takes {self.weight.shape[1] * self.groups} channels, but {channels} arrive; check the images' shape"
            )
        frame = [1] * (2 - len(size)) + size
        found = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(
                frame, self.weight.shape[2:], self.stride, self.padding, self.dilation, strict=True
            )
        ]
        return (len(self.weight), *found[2 - len(size) :])

    def build(self, builder: Builder, *values: Value) -> Value:
        spikes = _spikes(values[0])
        if isinstance(spikes, Pool):
            raise ConversionError("it takes an average that is not quantised; quantise it (lava_conv.qat.prepare does)")
        synapse = Conv(self.weight, self.stride, self.padding, self.dilation, self.groups)
        return algebra.convolve(spikes, synapse, self.scale, self.bias)


@dataclass(frozen=True)
class Linear(Operation):
    """y = scale * (weight @ x) + bias.

    Fields:
        weight: int8 (O, I).
        scale: float64 (O,).
        bias: float64 (O,).
        grain: of logits, the value of 1 of their integers, of which they are whole multiples; None: not known.
    """

    weight: NDArray[np.int8]
    scale: Floats
    bias: Floats
    grain: float | None = None

    def evaluate(self, *values: Tensor) -> Tensor:
        scale, bias = torch.from_numpy(self.scale), torch.from_numpy(self.bias)
        y = functional.linear(values[0], torch.from_numpy(self.weight).double()) * scale + bias
        return y if self.grain is None else torch.round(y / self.grain) * self.grain

    def output_shape(self, *shapes: Shape) -> Shape:
        if shapes[0][-1] != self.weight.shape[1]:
            raise ConversionError(
                f"takes {self.weight.shape[1]} inputs, but {shapes[0][-1]} arrive; check the images' shape"
            )
        return (*shapes[0][:-1], len(self.weight))

    def build(self, builder: Builder, *values: Value) -> Value:
        spikes, weight, scale = _spikes(values[0]), self.weight, self.scale
        if isinstance(spikes, Pool):
            if not spikes.flat:
                raise ConversionError("it needs a flat input; put nn.Flatten() before it")
            weight, scale = algebra.spread(weight, spikes), scale / spikes.divisor
            spikes = spikes.spikes
        return algebra.connect(builder.flattened(spikes), weight, scale, self.bias)


def _spikes(value: Value) -> Spikes | Pool:
    if isinstance(value, tuple):
        raise ConversionError("it follows a sum (another weight layer or an addition) without an activation between")
    return value


def _read(module: Any, arriving: Arriving) -> Operation:
    if not isinstance(module, QuantisedWeight):
        return unsupported(module, UNQUANTISED)
    with torch.no_grad():
        integer, scales = module.quantise()
        offset = torch.zeros(len(integer)) if module.bias is None else module.bias
        if isinstance(module, Readout) and module.bias is not None:
            offset = module.quantised_bias(scales)
        weight = integer.numpy().astype(np.int8)
        scale = np.broadcast_to(scales.numpy().astype(np.float64), len(weight)).copy()
        bias = offset.detach().numpy().astype(np.float64)
        if isinstance(module, Readout):
            return Linear(weight, scale, bias, float(module.grain(scales)) if module.source else None)
    if not isinstance(module, nn.Conv1d | nn.Conv2d):
        return Linear(weight, scale, bias)
    if module.padding_mode != "zeros":
        raise ConversionError(f"pads with {module.padding_mode!r}; only zeros can be padded")
    flat = isinstance(module, nn.Conv1d)
    weight = weight[:, :, None] if weight.ndim == 3 else weight
    stride, dilation = (pair(getattr(module, name), 1, flat) for name in ("stride", "dilation"))
    if module.padding == "same":
        weight, padding = same_padding(weight, dilation)
    else:
        padding = pair(0 if isinstance(module.padding, str) else module.padding, 0, flat)
    return Convolution(weight, scale, bias, stride, padding, dilation, module.groups)


def same_padding(weight: NDArray[np.int8], dilation: tuple[int, int]) -> tuple[NDArray[np.int8], tuple[int, int]]:
    """A kernel (O, I, H, W), and the padding that keeps the size of the frame.

    An even kernel needs one value more at the end than at the beginning: a tap of zeros before the first one makes room
    for it at both ends.
    """
    if _is_uneven(weight.shape[2:], dilation):
        raise ConversionError(_uneven(weight.shape[2:], dilation))
    total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    weight = np.pad(weight, ((0, 0), (0, 0), *((t % 2, 0) for t in total)))
    return weight, (-(-total[0] // 2), -(-total[1] // 2))


def _is_uneven(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> bool:
    """Whether padding="same" needs more at one end, where no tap of zeros makes room for it."""
    return any(d > 1 and d * (k - 1) % 2 for d, k in zip(dilation, kernel, strict=True))


def _uneven(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> str:
    return (
        f"pads one side by one more than the other (padding='same', kernel {kernel}, dilation {dilation}); use an odd "
        f"kernel"
    )


def _prepare(walk: Walk, node: fx.Node, module: Any) -> None:
    """Weights that train quantised; the last linear layer becomes the readout."""
    linear = isinstance(module, nn.Linear)
    flow = walk.spikes(node, node.all_input_nodes[0], flat_pool=linear)
    if flow is None:
        return
    shape = walk.arriving(node)[0]
    if linear and shape is not None and len(shape) > 1:
        axis = f"is a linear layer on the last axis of values of shape {shape}"
        walk.problem(node, f"{axis}; put nn.Flatten() before it")
        return
    if getattr(module, "padding", 0) == "same" and _is_uneven(module.kernel_size, module.dilation):
        walk.problem(node, _uneven(module.kernel_size, module.dilation))
        return
    if getattr(module, "padding_mode", "zeros") != "zeros":
        walk.problem(node, f"pads with {module.padding_mode!r}; only zeros (padding_mode='zeros') can be padded")
        return
    channels = module.out_features if linear else module.out_channels
    if flow.kind == "pixels" and not linear:
        walk.module(flow.sources[0]).channels = module.in_channels
    if linear and walk.is_last(node):
        readout = Readout.from_float(module)
        walk.exchange(node, readout)
        walk.readouts.append((readout, flow))
        walk.flows[node] = Flow("logits", channels)
        return
    first = all(walk.flows[source].kind == "pixels" for source in flow.sources)
    layer = _quantised(module, ternary=walk.options.method == DYNAMIC_THRESHOLD and not first).from_float(module)
    if isinstance(layer, Int8Weight) and not first:
        layer.narrow(walk.options.weight_bits)
    walk.exchange(node, layer)
    walk.flows[node] = Flow("sum", channels, flow.sources, [Lazy(layer, (), s) for s in flow.sources])


QUANTISED: dict[type, tuple[type[Int8Weight], type[QuantisedWeight]]] = {
    nn.Linear: (Int8Linear, TernaryLinear),
    nn.Conv1d: (Int8Conv1d, TernaryConv1d),
    nn.Conv2d: (Int8Conv2d, TernaryConv2d),
}


def _quantised(module: nn.Module, ternary: bool) -> type[QuantisedWeight]:
    return next(pair[ternary] for kind, pair in QUANTISED.items() if isinstance(module, kind))


ENTRY = Entry(_read, _prepare, (nn.Conv1d, nn.Conv2d, nn.Linear), (QuantisedWeight,))
