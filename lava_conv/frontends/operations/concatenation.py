"""Concatenation along the channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx

from lava_conv.conversion import algebra
from lava_conv.conversion.algebra import Spikes
from lava_conv.errors import ConversionError
from lava_conv.frontends.operations.entry import Arriving, Entry
from lava_conv.frontends.program import Operation, Shape
from lava_conv.qat.flow import Flow

if TYPE_CHECKING:
    from lava_conv.conversion.algebra import Value
    from lava_conv.conversion.builder import Builder
    from lava_conv.qat.walk import Walk

FUNCTIONS = (torch.cat, torch.concat, torch.concatenate)
CHANNELS = (1, -3)  # axes of the channels


@dataclass(frozen=True)
class Concatenate(Operation):
    """Its inputs joined along the channels."""

    def evaluate(self, *values: Tensor) -> Tensor:
        return torch.cat(values, 1)

    def output_shape(self, *shapes: Shape) -> Shape:
        if len({shape[1:] for shape in shapes}) > 1:
            raise ConversionError(
                f"it joins values of shapes {' and '.join(map(str, shapes))}; they may differ in the channels alone"
            )
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def build(self, builder: Builder, *values: Value) -> Value:
        spikes = [value for value in values if isinstance(value, Spikes)]
        if len(spikes) == len(values):
            return Spikes(tuple(part for value in spikes for part in value.parts))
        return tuple(total for value in values for total in algebra.as_sums(value))


def _tensors(node: fx.Node) -> list[fx.Node] | None:
    if node.op != "call_function" or node.target not in FUNCTIONS:
        return None
    tensors = node.args[0] if node.args else node.kwargs.get("tensors")
    axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    if axis not in CHANNELS or not isinstance(tensors, list | tuple):
        return None
    return [t for t in tensors if isinstance(t, fx.Node)]


def _read(module: None, arriving: Arriving) -> Operation:
    return Concatenate()


def _prepare(walk: Walk, node: fx.Node, module: None) -> None:
    flows = [flow for tensor in _tensors(node) or () if (flow := walk.spikes(node, tensor))]
    if not flows or len(flows) < len(_tensors(node) or ()):
        return  # one of them was refused
    sources = tuple(source for flow in flows for source in flow.sources)
    if any(walk.flows[source].kind == "pixels" for source in sources):
        walk.problem(node, "joins the image with activations; send the image through a convolution first")
        return
    walk.share(node, list(sources))
    walk.flows[node] = Flow("spikes", sum(flow.channels for flow in flows), sources, flat=flows[0].flat)


ENTRY = Entry(_read, _prepare, tensors=_tensors)
