"""Other views of the same values: flattening."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from lava_conv.conversion.algebra import Pool, Spikes
from lava_conv.errors import ConversionError
from lava_conv.frontends.nodes import argument, name_of
from lava_conv.frontends.operations.entry import Arriving, AsModule, Entry
from lava_conv.frontends.program import Operation, Shape
from lava_conv.qat.pooling import window

if TYPE_CHECKING:
    from lava_conv.conversion.algebra import Value
    from lava_conv.conversion.builder import Builder
    from lava_conv.qat.walk import Walk


@dataclass(frozen=True)
class Flatten(Operation):
    """All values of a sample on one axis."""

    def evaluate(self, *values: Tensor) -> Tensor:
        return values[0].flatten(1)

    def output_shape(self, *shapes: Shape) -> Shape:
        return (prod(shapes[0]),)

    def build(self, builder: Builder, *values: Value) -> Value:
        (value,) = values
        if isinstance(value, Pool):
            return replace(value, flat=True)
        if not isinstance(value, Spikes):
            raise ConversionError("flatten must follow an activation; put it after the activation")
        return builder.flattened(value)


def _is_whole(module: nn.Flatten, shape: Shape | None) -> bool:
    return module.start_dim == 1 and module.end_dim in (-1, 3 if shape is None else len(shape))


def _read(module: nn.Flatten, arriving: Arriving) -> Operation:
    if not _is_whole(module, arriving[0]):
        raise ConversionError(f"flattens {module.start_dim}..{module.end_dim}; use nn.Flatten() for all of C,H,W")
    return Flatten()


def _prepare(walk: Walk, node: fx.Node, module: nn.Flatten) -> None:
    before = node.all_input_nodes[0]
    flow, shape = walk.flows[before], walk.arriving(node)[0]
    if shape is not None and len(shape) == 1:
        walk.exchange(node, nn.Identity())
        walk.flows[node] = replace(flow, flat=True)
    elif flow.kind == "sum":
        walk.problem(node, "flattens a sum; put the activation before it")
    elif not _is_whole(module, shape):
        walk.problem(node, f"flattens {module.start_dim}..{module.end_dim}; use nn.Flatten() for all of C,H,W")
    else:
        if flow.pool is not None and flow.kind == "pool" and window(walk.module(flow.pool), None).overlaps:
            flow = walk.spikes(node, before) or flow  # the last layer absorbs only windows that stand apart
        walk.flows[node] = replace(flow, flat=True)


def _flatten(node: fx.Node) -> nn.Module:
    return nn.Flatten(argument(node, 1, "start_dim", 0), argument(node, 2, "end_dim", -1))


def _view(node: fx.Node) -> nn.Module | None:
    """view and reshape that keep the batch and flatten the rest: (x.size(0), -1) or (-1, n)."""
    shape: Any = node.args[1] if len(node.args) == 2 and isinstance(node.args[1], list | tuple) else node.args[1:]
    if len(shape) != 2:
        return None
    batch, rest = shape
    of_batch = isinstance(batch, fx.Node) and name_of(batch) in ("size", "getitem", "getattr")
    return nn.Flatten() if (of_batch and (rest == -1 or isinstance(rest, int))) or batch == -1 else None


CALLS: dict[Any, AsModule] = {
    torch.flatten: _flatten,
    "flatten": _flatten,
    "view": _view,
    "reshape": _view,
    torch.reshape: _view,
}
ENTRY = Entry(_read, _prepare, (nn.Flatten,), calls=CALLS)
