"""Addition of two tensors, as a residual shortcut adds."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx

from lava_conv.conversion import algebra
from lava_conv.errors import ConversionError
from lava_conv.frontends.operations.entry import Arriving, Entry
from lava_conv.frontends.program import Operation, Shape
from lava_conv.qat.flow import Flow, Lazy

if TYPE_CHECKING:
    from lava_conv.conversion.algebra import Value
    from lava_conv.conversion.builder import Builder
    from lava_conv.qat.walk import Walk

FUNCTIONS = (operator.add, operator.iadd, torch.add)
METHODS = ("add", "add_")
TO_ITSELF = "adds a tensor to itself; scale the weights instead"


@dataclass(frozen=True)
class Add(Operation):
    """a + b, of equal shapes."""

    def evaluate(self, *values: Tensor) -> Tensor:
        return values[0] + values[1]

    def output_shape(self, *shapes: Shape) -> Shape:
        first, second = shapes
        if first != second:
            raise ConversionError(
                f"it adds values of shapes {first} and {second}, which repeats one of them; only equal shapes can be "
                f"added"
            )
        return first

    def build(self, builder: Builder, *values: Value) -> Value:
        first, second = values
        if first is second:
            raise ConversionError(f"it {TO_ITSELF}")
        return algebra.add(algebra.as_sums(first), algebra.as_sums(second))


def is_add(node: fx.Node) -> bool:
    """Whether the node adds two tensors."""
    called = (node.op == "call_function" and node.target in FUNCTIONS) or (
        node.op == "call_method" and node.target in METHODS
    )
    tensors = [a for a in node.args if isinstance(a, fx.Node)]
    return called and len(node.args) == 2 and len(tensors) == 2 and not node.kwargs


def _tensors(node: fx.Node) -> list[fx.Node] | None:
    return [a for a in node.args if isinstance(a, fx.Node)] if is_add(node) else None


def _read(module: None, arriving: Arriving) -> Operation:
    return Add()


def _prepare(walk: Walk, node: fx.Node, module: None) -> None:
    """A sum of what the two are sums of; a shortcut is a summand as it is."""
    if len(node.all_input_nodes) == 1:
        walk.problem(node, TO_ITSELF)
        return
    shapes = [shape for shape in walk.arriving(node) if shape is not None]
    if len(set(shapes)) > 1:
        repeats = f"adds values of shapes {' and '.join(map(str, shapes))}, which repeats one of them"
        walk.problem(node, f"{repeats}; only equal shapes can be added")
        return
    for tensor in node.all_input_nodes:
        if walk.flows[tensor].kind == "pool":
            walk.spikes(node, tensor)
    flows = [walk.flows[tensor] for tensor in node.all_input_nodes]
    summands: list[Lazy] = []
    for flow in flows:
        if flow.kind == "pixels":
            walk.problem(node, "adds the image itself; send it through a 1x1 convolution first")
            return
        if flow.kind == "spikes" and len(flow.sources) > 1:
            walk.problem(node, "adds a concatenation; put a 1x1 convolution behind the concatenation")
            return
        summands += flow.addends()
    walk.share(node, [s.source for s in summands if s.layer is None])
    walk.flows[node] = Flow("sum", flows[0].channels, flows[0].sources, summands, flows[0].flat)


ENTRY = Entry(_read, _prepare, tensors=_tensors)
