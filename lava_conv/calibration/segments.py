"""The traced model in pieces: from the spikes that arrive to the sum that one neuron layer takes.

A segment ends in a quantiser (or in the logits) and begins at the quantisers before it, or at the image. Within it
everything is linear, so it runs on floats, on spikes of many time steps at once, or on their counts alike.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn

from lava_conv.frontends.calls import Call, plain, quantised, run_node
from lava_conv.frontends.nodes import module_of
from lava_conv.qat.layers import Pixels, QuantisedWeight, Quantiser

Called = TypeVar("Called")
See = Callable[[str, Tensor, Tensor], None]
BATCH = 32  # images at a time through the float model


class Segments:
    """The quantiser nodes of a traced model in order, and what each needs.

    Args:
        traced: from `lava_conv.qat.prepare`.
    """

    def __init__(self, traced: fx.GraphModule) -> None:
        self.traced = traced
        nodes = list(traced.graph.nodes)
        self.image: fx.Node = next(n for n in reversed(nodes) if isinstance(self.module(n), Pixels))
        self.quantisers: list[fx.Node] = [n for n in nodes if isinstance(self.module(n), Quantiser)]
        (self.logits,) = next(n for n in nodes if n.op == "output").all_input_nodes
        self.ends = [*self.quantisers, self.logits]
        self.needs = {end: self._sources(end) for end in self.ends}

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls, None if it calls none."""
        return module_of(self.traced, node)

    def called(self, node: fx.Node, kind: type[Called]) -> Called:
        """The module that a node calls, which is of this kind."""
        module = self.module(node)
        assert isinstance(module, kind), f"{node.target} is a {type(module).__name__}"
        return module

    def last_use(self, node: fx.Node) -> int:
        """Number of the last segment that starts at `node`."""
        return max((i for i, end in enumerate(self.ends) if node in self.needs[end]), default=-1)

    def inside(self, end: fx.Node) -> list[fx.Node]:
        """The nodes between the sources and `end`, in order, `end` not among them."""
        found: dict[fx.Node, None] = {}

        def visit(node: fx.Node) -> None:
            for before in node.all_input_nodes:
                if before not in self.needs[end] and before not in found:
                    visit(before)
                    found[before] = None

        visit(end)
        return list(found)

    def layers(self, end: fx.Node) -> list[QuantisedWeight]:
        """The weight layers whose sum `end` takes (for the logits: that give them)."""
        return [m for n in (*self.inside(end), end) if isinstance(m := self.module(n), QuantisedWeight)]

    def run(self, end: fx.Node, values: Mapping[fx.Node, Tensor], call: Call = quantised) -> Tensor:
        """What the segment's end takes (for the logits: gives), from the values of its sources."""
        known = dict(values)
        for node in self.inside(end):
            known[node] = run_node(self.traced, node, known, call)
        if end is self.logits:
            return run_node(self.traced, end, known, call)
        return known[end.all_input_nodes[0]]

    def _sources(self, end: fx.Node) -> tuple[fx.Node, ...]:
        found: dict[fx.Node, None] = {}

        def visit(node: fx.Node) -> None:
            for before in node.all_input_nodes:
                if before is self.image or isinstance(self.module(before), Quantiser):
                    found[before] = None
                else:
                    visit(before)

        visit(end)
        return tuple(found)


class _Activations(fx.Interpreter):
    """Runs the model without rounding and hands every activation to `see`; values are dropped after their last use."""

    def __init__(self, traced: fx.GraphModule, see: See) -> None:
        super().__init__(traced)
        self.extra_traceback = False  # else fx adds its own lines to the words of every error
        self.see = see

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Tensor:
        module = self.fetch_attr(target)
        value = plain(module, list(args))
        if isinstance(module, Quantiser | nn.BatchNorm1d | nn.BatchNorm2d):
            self.see(target, args[0], value)
        return value


def watch(traced: fx.GraphModule, images: Tensor, see: See | None = None) -> Tensor:
    """Run the model without rounding on images (n, C, H, W), BATCH at a time; `see` gets each activation's and
    normalisation's module path, input and output. Returns the logits."""
    run = _Activations(traced, see or (lambda *_: None)).run
    with torch.no_grad():
        return torch.cat([run(images[i : i + BATCH].float()) for i in range(0, len(images), BATCH)])
