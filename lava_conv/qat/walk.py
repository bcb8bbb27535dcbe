"""The walk of `prepare` through a traced model: each node is exchanged, and what flows out of it is noted.

What becomes of an operation stands in its entry, `lava_conv.frontends.operations`; here is what the entries share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import fx, nn

from lava_conv.errors import ConversionError, Problem, grouped, problem
from lava_conv.frontends.nodes import exchange, insert, name_of, place, remedy_of, unused
from lava_conv.frontends.operations import entry_of, entry_of_call
from lava_conv.frontends.operations.identity import NOTHING
from lava_conv.frontends.operations.refused import GENERAL, unsupported
from lava_conv.frontends.program import Shape
from lava_conv.qat import layers as own
from lava_conv.qat.flow import Flow, Lazy
from lava_conv.qat.grid import Grid, Summand
from lava_conv.qat.options import CA_LIF, Preparation


class Walk:
    """One walk through a traced model, which is changed.

    Args:
        traced: from `lava_conv.frontends.tracing.trace`.
        options: what was asked for.
        shapes: of a sample of what each node gives, by its name, as far as they are known.

    Raises:
        ConversionError: everything that cannot be quantised, each with place and remedy.
    """

    def __init__(self, traced: fx.GraphModule, options: Preparation, shapes: dict[str, Shape] | None = None) -> None:
        self.traced, self.options = traced, options
        self.flows: dict[fx.Node, Flow] = {}
        self.readouts: list[tuple[own.Readout, Flow]] = []
        self._problems: list[Problem] = []
        self._grids: list[tuple[Sequence[Lazy], fx.Node]] = []  # summands, and the quantiser node they end in
        self._calls: dict[str, int] = {}  # how often each module is called
        nodes: Any = list(traced.graph.nodes)
        known = shapes or {}
        self._arriving = {node: [known.get(n.name) for n in node.all_input_nodes] for node in nodes}
        for node in nodes:
            if node.op == "call_module":
                self._calls[node.target] = self._calls.get(node.target, 0) + 1
        for node in nodes:
            if node.op == "output":
                self._output(node)
            elif node not in self.flows and (node.op == "placeholder" or self._known_inputs(node)):
                self.visit(node)
        if self._problems:
            raise ConversionError(f"cannot quantise: {grouped(self._problems)}")
        self._link()

    def done(self) -> fx.GraphModule:
        """The model, quantised."""
        self.traced.graph.lint()
        self.traced.delete_all_unused_submodules()
        self.traced.recompile()
        return self.traced

    # -- for the entries -------------------------------------------------------------------------------------------

    def visit(self, node: fx.Node) -> None:
        """Exchange one node, as its entry says."""
        if node.op == "placeholder":
            self._input(node)
        elif node.op == "call_module":
            module = self.module(node)
            entry_of(module).prepare(self, node, module)
        elif (found := entry_of_call(node)) is not None:
            found[0].prepare(self, node, None)
        else:
            self.problem(node, f"calls {name_of(node)}; {remedy_of(node, GENERAL)}")

    def module(self, node: fx.Node) -> Any:
        """The module that a node calls."""
        return self.traced.get_submodule(str(node.target))

    def arriving(self, node: fx.Node) -> list[Shape | None]:
        """The shape of a sample of each input of a node of the model, as far as it is known."""
        return self._arriving.get(node) or [None] * len(node.all_input_nodes)

    def flow_before(self, node: fx.Node) -> Flow:
        """What flows into a node with one input."""
        return self.flows[node.all_input_nodes[0]]

    def problem(self, node: fx.Node, sentence: str) -> None:
        """Note that a node is refused, "what is wrong; what to do"; the walk goes on as if it had been mended, so that
        everything is told at once."""
        self._problems.append(problem(place(node), sentence))
        before = [self.flows[n] for n in node.all_input_nodes if n in self.flows]
        sources = before[0].sources if before else ()
        self.flows[node] = Flow("spikes", before[0].channels if before else 0, sources)

    def refuse(self, node: fx.Node, module: nn.Module) -> None:
        """Note that a module is none that can be quantised."""
        what = unsupported(module)
        self.problem(node, f"{what.what}; {what.remedy}")

    def enter(self, node: fx.Node) -> None:
        """Note that the node gives the pixels."""
        self.flows[node] = Flow("pixels", 0, (node,))

    def spikes(self, node: fx.Node, before: fx.Node, flat_pool: bool = False) -> Flow | None:
        """The flow of `before` as spikes; an average, or a sum of spikes, gets its own quantiser."""
        flow = self.flows[before]
        plain_sum = flow.kind == "sum" and all(s.layer is None and not s.norms for s in flow.summands)
        if flow.kind == "pool" and flat_pool and flow.flat:
            return flow
        if flow.kind == "pool" and flow.flat:
            self.problem(node, "takes a flattened average; only a linear layer can")
            return None
        if flow.kind == "pool" or plain_sum:
            new = insert(self.traced, before, self.quantiser(flow, None), f"{before.name}_quantiser")
            self.settle(new, flow)
            return self.flows[new]
        if flow.kind == "sum":
            self.problem(node, "takes a sum that no activation follows; put nn.ReLU before it")
            return None
        return flow

    def quantiser(self, flow: Flow, limit: float | None) -> own.Quantiser:
        """A quantiser for a tensor; `limit`: the upper clip of the float activation, None: none."""
        o = self.options
        if o.method == CA_LIF:
            step = None if limit is None else limit / o.levels
            quantiser = own.LearnedStep(o.levels, o.clip, o.power_of_two, step)
            quantiser.limit = limit
            return quantiser
        if flow.kind == "sum" and all(self.flows[s.source].kind == "pixels" for s in flow.summands):
            most = o.encoder_levels if limit is None else min(o.encoder_levels, max(1, round(limit)))
            median = own.MedianQuant(0, most, encoder=True)
        else:
            median = own.MedianQuant(o.k, o.n_max if limit is None else max(1, round(limit * 2**o.k)))
        median.limit = limit
        return median

    def settle(self, node: fx.Node, flow: Flow) -> None:
        """Note the spikes that the quantiser `node` gives, and what it sums."""
        if flow.kind == "sum":
            self._grids.append((flow.summands, node))
        self.flows[node] = Flow("spikes", flow.channels, (node,), flat=flow.flat)

    def share(self, node: fx.Node, sources: list[fx.Node]) -> None:
        """Spikes that are joined or added directly must have one unit: they get one quantiser between them, or, where
        zero point or clip differ, quantisers with one step."""
        first = self.module(sources[0]) if sources else None
        for other in sources[1:]:
            module = self.module(other)
            if isinstance(first, own.MedianQuant) and isinstance(module, own.MedianQuant):
                if first.k != module.k:
                    self.problem(node, f"joins level {first.k} with level {module.k}; put a convolution between")
            elif isinstance(first, own.LearnedStep) and isinstance(module, own.LearnedStep) and module is not first:
                self._one_step(sources[0], first, module.step)

    def _one_step(self, node: fx.Node, first: own.LearnedStep, step: Any) -> None:
        """Give everything whose step is `step` that of `first`, the quantiser of `node`."""
        nodes: Any = self.traced.graph.nodes
        for other in [n for n in nodes if n.op == "call_module"]:
            module = self.module(other)
            if not isinstance(module, own.LearnedStep) or module.step is not step:
                continue
            if (module.zero, module.limit) == (first.zero, first.limit):
                other.target = node.target
            else:
                module.step, module.step_ready = first.step, first.step_ready

    def is_last(self, node: fx.Node) -> bool:
        """Whether nothing but layers without effect stands between the node and the output."""
        users = list(node.users)
        if len(users) != 1:
            return False
        if users[0].op == "output":
            return True
        follows = users[0].op == "call_module" and isinstance(self.module(users[0]), NOTHING)
        return follows and self.is_last(users[0])

    def exchange(self, node: fx.Node, module: nn.Module) -> None:
        """Put `module` where the node's module was; a module that is called several times keeps its other calls."""
        target = str(node.target)
        shared = self._calls.get(target, 1) > 1
        if shared and any(True for _ in module.parameters()) and isinstance(module, own.QuantisedWeight):
            self.problem(node, "is called more than once; one layer of neurons cannot stand in two places")
            return
        if shared:
            self._calls[target] -= 1
            target = unused(self.traced, node.name)
            self.traced.add_submodule(target, module)
            node.target = target
            return
        exchange(self.traced, node, module)

    # -- the walk --------------------------------------------------------------------------------------------------

    def _known_inputs(self, node: fx.Node) -> bool:
        """False where an earlier problem left an input unknown: what follows from it is not told again."""
        return all(n in self.flows for n in node.all_input_nodes)

    def _input(self, node: fx.Node) -> None:
        if any(flow.kind == "pixels" for flow in self.flows.values()):
            if node.users:
                self._problems.append(Problem(node.name, "is a second input", "only one image can be fed"))
            return
        self.enter(node)
        self.enter(insert(self.traced, node, own.Pixels(self.options.input_scale), "pixels"))

    def _output(self, node: fx.Node) -> None:
        last = node.args[0]
        flow = self.flows.get(last) if isinstance(last, fx.Node) else None
        if not isinstance(last, fx.Node):
            self._problems.append(Problem("the output", "is not one tensor", "return the logits alone"))
        elif flow is not None and flow.kind != "logits":
            what = "is what the model ends in"
            self._problems.append(
                Problem(place(last), what, "it must end in an nn.Linear, whose output are the logits")
            )

    def _link(self) -> None:
        """Grids and readouts learn the units of their inputs, now that shared quantisers are settled."""
        owner: dict[int, Grid] = {}
        for lazy, node in self._grids:
            quantiser = self.module(node)
            summands = _without_copies(Summand(s.layer, s.norms, self.module(s.source)) for s in lazy)
            layers = [s.layer for s in summands if s.layer is not None]
            shortcuts = [s.source for s in summands if s.layer is None and not s.norms]
            learned = isinstance(quantiser, own.LearnedStep)
            if learned and layers and shortcuts and shortcuts[0] is not quantiser:
                quantiser.anchor = (shortcuts[0],)
            if not layers or not (len(summands) > 1 or learned or self.options.power_of_two):
                continue
            grid = Grid(summands, quantiser, self.options.power_of_two, self.options.step_max)
            for layer in layers:
                if owner.setdefault(id(layer), grid) is not grid:
                    raise ConversionError(
                        f"{place(node)}: a layer's sum is used by two activations, of which one adds more to it; put "
                        f"the activation before the branch (post-activation residual blocks)"
                    )
                layer.grid = grid
        anchors = {id(m.step): m.anchor for m in self.traced.modules() if isinstance(m, own.LearnedStep) and m.anchor}
        for module in self.traced.modules():
            if isinstance(module, own.LearnedStep):  # one step is one unit
                module.anchor = anchors.get(id(module.step), ())
        for readout, flow in self.readouts:
            readout.source = (self.module(flow.sources[0]),)
            if flow.pool is not None:
                average = own.Average(self.module(flow.pool), self.module(flow.sources[0]))
                self.exchange(flow.pool, average)
                readout.source = (average,)


def _without_copies(summands: Iterable[Summand]) -> list[Summand]:
    """A layer behind a concatenation has one summand for each joined source; their unit is the same."""
    kept: dict[int, Summand] = {}
    return [kept.setdefault(id(s.layer), s) for s in summands if s.layer is None or id(s.layer) not in kept]
