"""Average pooling; and max pooling, which `prepare` exchanges when it is asked to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from lava_conv.conversion.algebra import Pool, Spikes
from lava_conv.errors import ConversionError
from lava_conv.frontends.nodes import argument, insert
from lava_conv.frontends.operations.entry import Arriving, AsModule, Entry
from lava_conv.frontends.operations.refused import unsupported
from lava_conv.frontends.program import Operation, Shape
from lava_conv.qat.layers import Average
from lava_conv.qat.pooling import POOLS, Checked, Window, checked, fits, frame, pair, window

if TYPE_CHECKING:
    from lava_conv.conversion.algebra import Value
    from lava_conv.conversion.builder import Builder
    from lava_conv.qat.walk import Walk

MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d)


@dataclass(frozen=True)
class AveragePool(Operation):
    """The sum over each window, over its divisor; 1-D pooling has a height of 1."""

    window: Window

    def evaluate(self, *values: Tensor) -> Tensor:
        (x,) = values
        frames = x if x.ndim == 4 else x.unsqueeze(2)
        kernel, stride, padding, divisor = self.window
        y = functional.avg_pool2d(frames, kernel, stride, padding, divisor_override=divisor)
        return y if x.ndim == 4 else y.squeeze(2)

    def output_shape(self, *shapes: Shape) -> Shape:
        channels, *size = shapes[0]
        kernel, stride, padding, _ = self.window
        found = [
            (n + 2 * p - k) // s + 1
            for n, k, s, p in zip([1] * (2 - len(size)) + size, kernel, stride, padding, strict=True)
        ]
        return (channels, *found[2 - len(size) :])

    def build(self, builder: Builder, *values: Value) -> Value:
        (spikes,) = values
        if not isinstance(spikes, Spikes):
            raise ConversionError("it averages a sum; put the activation before it")
        height, width = builder.layers[spikes.parts[0].layer].shape[1:]
        channels = sum(part.channels for part in spikes.parts)
        return Pool(spikes, *self.window, (channels, height, width))


def _read(module: Any, arriving: Arriving) -> Operation:
    shape = arriving[0]
    pool = module.pool if isinstance(module, Average) else module
    return AveragePool(window(pool, None if shape is None or len(shape) < 2 else frame(shape)))


def _prepare(walk: Walk, node: fx.Node, module: Any) -> None:
    """It stays, refuses sizes that it cannot be converted for, and is quantised by whatever follows."""
    before, shape = node.all_input_nodes[0], walk.arriving(node)[0]
    if isinstance(module, Average):
        walk.refuse(node, module)
        return
    if walk.flows[before].signed:
        walk.problem(node, "averages values of both signs; put the activation before it")
        return
    try:
        window(module, None if shape is None or len(shape) < 2 else frame(shape))
    except ConversionError as error:
        walk.problem(node, str(error))
        return
    if walk.spikes(node, before) is not None:
        walk.exchange(node, checked(module))
        walk.flows[node] = replace(walk.flow_before(node), kind="pool", pool=node)


def _read_max(module: nn.Module, arriving: Arriving) -> Operation:
    return unsupported(module)


def _prepare_max(walk: Walk, node: fx.Node, module: Any) -> None:
    """What was asked for in its place: a learned convolution with normalisation and ReLU, or an average."""
    before, shape = node.all_input_nodes[0], walk.arriving(node)[0]
    if walk.flows[before].kind == "pixels" or not walk.options.max_pool:
        walk.refuse(node, module)
        return
    flow = walk.spikes(node, before)
    if flow is None:
        return
    two = isinstance(module, nn.MaxPool2d)
    geometry = {"kernel_size": module.kernel_size, "stride": module.stride, "padding": module.padding}
    kernel, stride, padding, dilation = (pair(value, 1, not two) for value in (*geometry.values(), module.dilation))
    if module.return_indices:
        walk.problem(node, "gives indices, too; use return_indices=False")
        return
    if module.ceil_mode and (
        shape is None or not fits(frame(shape), kernel, stride, padding if two else (0, padding[1]))
    ):
        walk.problem(node, "adds incomplete windows (ceil_mode=True); use ceil_mode=False or a fitting kernel")
        return
    if walk.options.max_pool == "average":
        if dilation != (1, 1):
            walk.problem(node, f"has dilation {dilation}; no average of that kind exists, use dilation=1")
            return
        pool: Any = checked((nn.AvgPool2d if two else nn.AvgPool1d)(**geometry))
        pool.stands_for = (module,)  # calibration compares with the model as it came
        node.meta["exchanged"] = True
        walk.exchange(node, pool)
        walk.visit(node)
        return
    kind, norm = (nn.Conv2d, nn.BatchNorm2d) if two else (nn.Conv1d, nn.BatchNorm1d)
    conv = kind(flow.channels, flow.channels, **geometry, dilation=module.dilation, bias=False)
    behind = insert(walk.traced, node, norm(flow.channels), f"{node.name}_norm")
    active = insert(walk.traced, behind, nn.ReLU(), f"{node.name}_relu")
    node.meta.pop("call", None)  # the comparison with the model takes what comes out last for the maximum
    node.meta["stands_for"] = ""
    active.meta |= {"stands_for": node.name, "exchanged": True}
    walk.exchange(node, conv)
    for one in (node, behind, active):
        walk.visit(one)


def _with(kind: Any, names: Sequence[str]) -> AsModule:
    """A module with the options of a call, in their order."""

    def make(node: fx.Node) -> nn.Module:
        options = {name: argument(node, i, name) for i, name in enumerate(names, 1)}
        return kind(**{name: value for name, value in options.items() if value is not None})

    return make


def _mean(node: fx.Node) -> nn.Module | None:
    axes, keep = argument(node, 1, "dim"), argument(node, 2, "keepdim", False)
    if not isinstance(axes, list | tuple) or sorted(a % 4 for a in axes) != [2, 3]:
        return None
    pool = nn.AdaptiveAvgPool2d(1)
    return pool if keep else nn.Sequential(pool, nn.Flatten())


WINDOWS = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
MAX_WINDOWS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
CALLS: dict[Any, AsModule] = {
    functional.avg_pool1d: _with(nn.AvgPool1d, WINDOWS),
    functional.avg_pool2d: _with(nn.AvgPool2d, WINDOWS),
    functional.adaptive_avg_pool1d: _with(nn.AdaptiveAvgPool1d, ("output_size",)),
    functional.adaptive_avg_pool2d: _with(nn.AdaptiveAvgPool2d, ("output_size",)),
    torch.mean: _mean,
    "mean": _mean,
}
MAX_CALLS: dict[Any, AsModule] = {
    functional.max_pool1d: _with(nn.MaxPool1d, MAX_WINDOWS),
    functional.max_pool2d: _with(nn.MaxPool2d, MAX_WINDOWS),
    torch.max_pool2d: _with(nn.MaxPool2d, MAX_WINDOWS),
}
ENTRY = Entry(_read, _prepare, POOLS, (Average, Checked), CALLS)
MAXIMUM = Entry(_read_max, _prepare_max, MAX_POOLS, calls=MAX_CALLS)
