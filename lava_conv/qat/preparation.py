"""A plain nn.Module -> the same network, quantised for training: weights, activations, and the sums between them."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from lava_conv.arguments import images_of, model_of
from lava_conv.errors import ConversionError, DataError, Problem, grouped, problem
from lava_conv.frontends import gate
from lava_conv.frontends.calls import plain
from lava_conv.frontends.effective import effective
from lava_conv.frontends.probe import probe
from lava_conv.frontends.tracing import cat_inputs, exchange, insert, is_add, name_of, place, remedy_of, trace, unused
from lava_conv.options import takes
from lava_conv.qat import layers as own
from lava_conv.qat.grid import Grid, Summand
from lava_conv.qat.options import CA_LIF, DYNAMIC_THRESHOLD, Preparation
from lava_conv.qat.pooling import POOLS, checked, fits, frame, pair, window

RELUS = (nn.ReLU, nn.ReLU6, nn.Hardtanh)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d)

NO_NEGATIVE_COUNT = "a spike count has no negative values; replace it with nn.ReLU before training"
REMEDIES: dict[type, str] = {
    nn.MaxPool1d: "max pooling has no exact spiking form; prepare(..., max_pool='conv') puts a learned convolution "
    "with the same stride in its place, 'average' an average, both before training",
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
    nn.LayerNorm: "it normalises each image anew; use batch normalisation",
    nn.GroupNorm: "it normalises each image anew; use batch normalisation",
    nn.InstanceNorm2d: "it normalises each image anew; use batch normalisation",
    nn.ConvTranspose2d: "transposed convolutions are not in the format; use a convolution",
    nn.Conv3d: "only 1-D and 2-D convolutions are in the format",
    nn.LSTM: "recurrent layers have no counterpart here",
    nn.GRU: "recurrent layers have no counterpart here",
    nn.MultiheadAttention: "attention multiplies activations, spikes only add; use convolutions",
}
REMEDIES[nn.MaxPool2d] = REMEDIES[nn.MaxPool1d]
GENERAL_REMEDY = "it has no spiking counterpart here; leave it out, or write it with convolutions, ReLU and additions"


@dataclass
class Flow:
    """What is known of a tensor: `kind` is pixels, spikes, sum (of summands) or pool (an average of spikes)."""

    kind: str
    channels: int = 0
    sources: tuple[fx.Node, ...] = ()  # the quantiser (or input) nodes whose counts these are
    summands: list["Lazy"] = field(default_factory=list)
    flat: bool = False
    pool: fx.Node | None = None  # the node that averages
    signed: bool = False  # counts that stand for values of both signs


@dataclass(frozen=True)
class Lazy:
    """A Summand whose source may still be exchanged for a shared quantiser."""

    layer: Any
    norms: tuple[nn.Module, ...]
    source: fx.Node


@takes(Preparation, ConversionError)
def prepare(model: nn.Module, options: Preparation) -> fx.GraphModule:
    """Quantise a plain model for training. The model itself is not changed; names in the state dict stay.

    The model is read as it runs in evaluation mode, with the weights that it then computes with (parametrisations,
    pruning and the like included), and what comes out is in the mode that the model is in. Before it is handed out, the
    quantised model without its rounding is compared with the given one, layer by layer.

    Weight layers quantise their weights, ReLU (ReLU6, Hardtanh from 0) becomes a quantised ReLU, average pooling is
    quantised after it unless the last layer absorbs it, and where a residual addition meets one neuron its summands
    share one integer grid. The input is the uint8 image itself.

    Args:
        model: traced with torch.fx; ends in an nn.Linear.
        options: how to quantise, see `lava_conv.qat.options.Preparation`.

    Raises:
        ConversionError: an option is not allowed, or everything that cannot be converted, each with place and remedy.
    """
    model = model_of(model)
    for name, parameter in model.named_parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            raise ConversionError(
                f"{name} is {parameter.dtype}, too coarse to train rounded weights; pass model.float()"
            )
    traced = trace(effective(model), lambda m: isinstance(m, own.LEAVES))
    example = probe(model, traced) if options.example_input is None else _example(options.example_input)
    if example is None:
        _Preparation(traced, options)  # what is refused anyway says more
        raise ConversionError(
            "prepare: the model takes images of none of the usual sizes, so it cannot be compared with the result; "
            "pass example_input, a few images (N, C, H, W)"
        )
    pixels = example.double()
    witness = gate.Witness(model, pixels * options.input_scale, gate.called(traced))
    refusal = None
    try:
        gate.check(witness, copy.deepcopy(traced).double().cpu(), "prepare", values=witness.named)
    except ConversionError as error:
        refusal = error
    shapes = {name: tuple(value.shape[1:]) for name, value in witness.named.items()}
    prepared = _Preparation(traced, options, shapes).done()  # what is not supported says more than that it differs
    if refusal is not None:
        raise refusal
    gate.check(witness, copy.deepcopy(prepared).double().cpu(), "prepare", plain, pixels)
    return prepared


def _example(images: object) -> Tensor:
    found = images_of(images, "example_input")
    if found.ndim not in (3, 4):
        raise DataError(f"example_input has shape {tuple(found.shape)}, needed is (N, C, H, W), or (N, C, L) in 1-D")
    return gate.some(found)


class _Preparation:
    """One walk through the traced model: each node is exchanged, and what flows out of it is noted."""

    def __init__(
        self, traced: fx.GraphModule, options: Preparation, shapes: dict[str, tuple[int, ...]] | None = None
    ) -> None:
        self.traced, self.options = traced, options
        self.shapes = shapes or {}  # of a sample, by node, as far as they are known
        self.flows: dict[fx.Node, Flow] = {}
        self.problems: list[Problem] = []
        self.grids: list[tuple[list[Lazy], fx.Node]] = []  # summands, and the quantiser node they end in
        self.readouts: list[tuple[own.Readout, Flow]] = []
        self.calls: dict[str, int] = {}  # how often each module is called
        nodes: Any = list(traced.graph.nodes)
        self.arriving = {node: [self.shapes.get(n.name) for n in node.all_input_nodes] for node in nodes}
        for node in nodes:
            if node.op == "call_module":
                self.calls[node.target] = self.calls.get(node.target, 0) + 1
        for node in nodes:
            if node.op == "output":
                self._output(node)
            elif node not in self.flows and (node.op == "placeholder" or self._known_inputs(node)):
                self._visit(node)
        if self.problems:
            raise ConversionError(f"cannot quantise: {grouped(self.problems)}")
        self._link()

    def done(self) -> fx.GraphModule:
        self.traced.graph.lint()
        self.traced.delete_all_unused_submodules()
        self.traced.recompile()
        return self.traced

    # -- the walk --------------------------------------------------------------------------------------------------

    def _known_inputs(self, node: fx.Node) -> bool:
        """False where an earlier problem left an input unknown: what follows from it is not told again."""
        return all(n in self.flows for n in node.all_input_nodes)

    def _problem(self, node: fx.Node, sentence: str) -> None:
        self.problems.append(problem(place(node), sentence))
        # The walk goes on as if it had been mended, so that everything is told at once.
        before = [self.flows[n] for n in node.all_input_nodes if n in self.flows]
        sources = before[0].sources if before else ()
        self.flows[node] = Flow("spikes", before[0].channels if before else 0, sources)

    def _visit(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self._input(node)
        elif node.op == "call_module":
            self._module(node, self.traced.get_submodule(str(node.target)), node.all_input_nodes[0])
        elif is_add(node):
            self._add(node)
        elif (tensors := cat_inputs(node)) is not None:
            self._cat(node, tensors)
        else:
            self._problem(node, f"calls {name_of(node)}; {remedy_of(node, GENERAL_REMEDY)}")

    def _input(self, node: fx.Node) -> None:
        if any(flow.kind == "pixels" for flow in self.flows.values()):
            if node.users:
                self.problems.append(Problem(node.name, "is a second input", "only one image can be fed"))
            return
        self.flows[node] = Flow("pixels", 0, (node,))
        new = insert(self.traced, node, own.Pixels(self.options.input_scale), "pixels")
        self.flows[new] = Flow("pixels", 0, (new,))

    def _module(self, node: fx.Node, module: nn.Module, before: fx.Node) -> None:
        flow = self.flows[before]
        if isinstance(module, own.Stream):
            self._stream(node, flow)
        elif isinstance(module, own.Pixels) and flow.kind == "pixels":
            self.flows[node] = Flow("pixels", 0, (node,))
        elif isinstance(module, NOTHING):
            self.flows[node] = flow
        elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            self._weights(node, module, before)
        elif isinstance(module, NORMS):
            self._norm(node, module, flow)
        elif isinstance(module, RELUS):
            self._activation(node, module, flow)
        elif isinstance(module, POOLS) and flow.signed:
            self._problem(node, "averages values of both signs; put the activation before it")
        elif isinstance(module, POOLS):
            self._pool(node, module, before)
        elif isinstance(module, MAX_POOLS) and self.options.max_pool and flow.kind != "pixels":
            self._max_pool(node, module, before)
        elif isinstance(module, nn.Flatten):
            self._flatten(node, module, before)
        else:
            remedy = next((text for kind, text in REMEDIES.items() if isinstance(module, kind)), GENERAL_REMEDY)
            self._problem(node, f"is a {type(module).__name__}; {remedy}")

    def _pool(self, node: fx.Node, module: Any, before: fx.Node) -> None:
        shape = self.arriving[node][0]
        try:
            window(module, None if shape is None or len(shape) < 2 else frame(shape))
        except ConversionError as error:
            self._problem(node, str(error))
            return
        if self._spikes(node, before) is not None:
            self._exchange(node, checked(module))
            self.flows[node] = replace(self.flows[node.all_input_nodes[0]], kind="pool", pool=node)

    def _flatten(self, node: fx.Node, module: nn.Flatten, before: fx.Node) -> None:
        flow = self.flows[before]
        shape = self.arriving[node][0]
        if shape is not None and len(shape) == 1:
            self._exchange(node, nn.Identity())
            self.flows[node] = replace(flow, flat=True)
        elif flow.kind == "sum":
            self._problem(node, "flattens a sum; put the activation before it")
        elif module.start_dim != 1 or module.end_dim not in (-1, 3 if shape is None else len(shape)):
            self._problem(node, f"flattens {module.start_dim}..{module.end_dim}; use nn.Flatten() for all of C,H,W")
        else:
            if flow.pool is not None and flow.kind == "pool" and window(self._of(flow.pool), None).overlaps:
                flow = self._spikes(node, before) or flow  # the last layer absorbs only windows that stand apart
            self.flows[node] = replace(flow, flat=True)

    def _of(self, node: fx.Node) -> Any:
        return self.traced.get_submodule(str(node.target))

    def _weights(self, node: fx.Node, module: Any, before: fx.Node) -> None:
        flow = self._spikes(node, before, flat_pool=isinstance(module, nn.Linear))
        if flow is None:
            return
        shape = self.arriving[node][0]
        if isinstance(module, nn.Linear) and shape is not None and len(shape) > 1:
            self._problem(
                node, f"is a linear layer on the last axis of values of shape {shape}; put nn.Flatten() before it"
            )
            return
        if not isinstance(module, nn.Linear) and module.padding == "same":
            taps = [d * (k - 1) % 2 * (d > 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
            if any(taps):
                self._problem(
                    node, f"pads one side by one more than the other (padding='same', kernel {module.kernel_size}, "
                    f"dilation {module.dilation}); use an odd kernel",
                )  # fmt: skip
                return
        if getattr(module, "padding_mode", "zeros") != "zeros":
            self._problem(node, f"pads with {module.padding_mode!r}; only zeros (padding_mode='zeros') can be padded")
            return
        channels = module.out_features if isinstance(module, nn.Linear) else module.out_channels
        if flow.kind == "pixels" and not isinstance(module, nn.Linear):
            self._quantiser_of(flow.sources[0]).channels = module.in_channels
        if isinstance(module, nn.Linear) and self._is_last(node):
            readout = own.Readout.from_float(module)
            self._exchange(node, readout)
            self.readouts.append((readout, flow))
            self.flows[node] = Flow("logits", channels)
            return
        first = all(self.flows[source].kind == "pixels" for source in flow.sources)
        layer = _weight_class(module, ternary=self.options.method == DYNAMIC_THRESHOLD and not first).from_float(module)
        if self.options.method == CA_LIF and not first:
            layer.narrow(self.options.weight_bits)
        self._exchange(node, layer)
        self.flows[node] = Flow("sum", channels, flow.sources, [Lazy(layer, (), s) for s in flow.sources])

    def _norm(self, node: fx.Node, module: nn.Module, flow: Flow) -> None:
        if getattr(module, "running_mean", None) is None:
            self._problem(node, "keeps no running statistics; train with track_running_stats=True")
        elif flow.kind in ("sum", "spikes"):
            summands = flow.summands or [Lazy(None, (), s) for s in flow.sources]
            behind = [replace(s, norms=(*s.norms, module)) for s in summands]
            self.flows[node] = replace(flow, kind="sum", summands=behind)
        else:
            self._problem(node, f"normalises {flow.kind}; batch normalisation must follow a weight layer")

    def _activation(self, node: fx.Node, module: nn.Module, flow: Flow) -> None:
        low = module.min_val if isinstance(module, nn.Hardtanh) else 0
        if low != 0:
            self._problem(node, f"clips at {low}; {NO_NEGATIVE_COUNT}")
        elif flow.kind == "spikes" and not flow.signed and not isinstance(module, nn.ReLU6 | nn.Hardtanh):
            self._exchange(node, nn.Identity())  # counts are not negative
            self.flows[node] = flow
        elif flow.kind == "pixels":
            self._problem(node, "is applied to the image; a weight layer must come first")
        else:
            limit = float(module.max_val) if isinstance(module, nn.Hardtanh) else None
            if flow.kind == "spikes":
                flow = replace(flow, kind="sum", summands=[Lazy(None, (), s) for s in flow.sources])
            quantiser = self._quantiser(flow, limit)
            self._exchange(node, quantiser)
            self._settle(node, flow)

    def _stream(self, node: fx.Node, flow: Flow) -> None:
        """A sum that branches: neurons whose counts stand for values of both signs, half of the levels each."""
        levels = self.options.levels
        if self.options.method != CA_LIF or levels < 2:
            self._problem(node, "branches before an activation; use method='ca_lif' with 2 levels or more")
            return
        self._exchange(node, own.LearnedStep(levels, zero=levels // 2))
        self._settle(node, flow)
        self.flows[node].signed = True

    def _add(self, node: fx.Node) -> None:
        summands: list[Lazy] = []
        flows = [self.flows[n] for n in node.all_input_nodes]
        if len(flows) == 1:
            self._problem(node, "adds a tensor to itself; scale the weights instead")
            return
        if len({shape for shape in self.arriving[node] if shape is not None}) > 1:
            shapes = " and ".join(map(str, self.arriving[node]))
            self._problem(
                node, f"adds values of shapes {shapes}, which repeats one of them; only equal shapes can be added"
            )
            return
        for tensor, flow in zip(node.all_input_nodes, flows, strict=True):
            if flow.kind == "pool":
                self._spikes(node, tensor)
        flows = [self.flows[n] for n in node.all_input_nodes]
        for flow in flows:
            if flow.kind == "pixels":
                self._problem(node, "adds the image itself; send it through a 1x1 convolution first")
                return
            if flow.kind == "spikes" and len(flow.sources) > 1:
                self._problem(node, "adds a concatenation; put a 1x1 convolution behind the concatenation")
                return
            summands += flow.summands if flow.kind == "sum" else [Lazy(None, (), source) for source in flow.sources]
        shortcuts = [s.source for s in summands if s.layer is None]
        self._share(node, shortcuts)
        self.flows[node] = Flow("sum", flows[0].channels, flows[0].sources, summands, flows[0].flat)

    def _cat(self, node: fx.Node, tensors: list[fx.Node]) -> None:
        flows = [self._spikes(node, tensor) for tensor in tensors]
        if any(flow is None for flow in flows):
            return
        sources = tuple(s for flow in flows if flow is not None for s in flow.sources)
        if any(self.flows[s].kind == "pixels" for s in sources):
            self._problem(node, "joins the image with activations; send the image through a convolution first")
            return
        self._share(node, list(sources))
        channels = sum(flow.channels for flow in flows if flow is not None)
        self.flows[node] = Flow("spikes", channels, sources, flat=flows[0].flat)  # type: ignore[union-attr]

    def _output(self, node: fx.Node) -> None:
        last = node.args[0]
        flow = self.flows.get(last) if isinstance(last, fx.Node) else None
        if not isinstance(last, fx.Node):
            self.problems.append(Problem("the output", "is not one tensor", "return the logits alone"))
        elif flow is not None and flow.kind != "logits":
            what = "is what the model ends in"
            self.problems.append(Problem(place(last), what, "it must end in an nn.Linear, whose output are the logits"))

    # -- pieces ----------------------------------------------------------------------------------------------------

    def _spikes(self, node: fx.Node, before: fx.Node, flat_pool: bool = False) -> Flow | None:
        """The flow of `before` as spikes; an average, or a sum of spikes, gets its own quantiser."""
        flow = self.flows[before]
        plain_sum = flow.kind == "sum" and all(s.layer is None and not s.norms for s in flow.summands)
        if flow.kind == "pool" and flat_pool and flow.flat:
            return flow
        if flow.kind == "pool" and flow.flat:
            self._problem(node, "takes a flattened average; only a linear layer can")
            return None
        if flow.kind == "pool" or plain_sum:
            new = insert(self.traced, before, self._quantiser(flow, None), f"{before.name}_quantiser")
            self._settle(new, flow)
            return self.flows[new]
        if flow.kind == "sum":
            self._problem(node, "takes a sum that no activation follows; put nn.ReLU before it")
            return None
        return flow

    def _quantiser(self, flow: Flow, limit: float | None) -> own.Quantiser:
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

    def _settle(self, node: fx.Node, flow: Flow) -> None:
        """Note the spikes that the quantiser `node` gives, and what it sums."""
        if flow.kind == "sum":
            self.grids.append((flow.summands, node))
        self.flows[node] = Flow("spikes", flow.channels, (node,), flat=flow.flat)

    def _share(self, node: fx.Node, sources: list[fx.Node]) -> None:
        """Spikes that are joined or added directly must have one unit: they get one quantiser between them, or, where
        zero point or clip differ, quantisers with one step."""
        first = self._quantiser_of(sources[0]) if sources else None
        for other in sources[1:]:
            module = self._quantiser_of(other)
            if isinstance(first, own.MedianQuant) and isinstance(module, own.MedianQuant):
                if first.k != module.k:
                    self._problem(node, f"joins level {first.k} with level {module.k}; put a convolution between")
            elif isinstance(first, own.LearnedStep) and isinstance(module, own.LearnedStep) and module is not first:
                self._one_step(sources[0], first, module.step)

    def _one_step(self, node: fx.Node, first: own.LearnedStep, step: Any) -> None:
        """Give everything whose step is `step` that of `first`, the quantiser of `node`."""
        nodes: Any = self.traced.graph.nodes
        for other in [n for n in nodes if n.op == "call_module"]:
            module = self._quantiser_of(other)
            if not isinstance(module, own.LearnedStep) or module.step is not step:
                continue
            if (module.zero, module.limit) == (first.zero, first.limit):
                other.target = node.target
            else:
                module.step, module.step_ready = first.step, first.step_ready

    def _quantiser_of(self, node: fx.Node) -> Any:
        return self.traced.get_submodule(str(node.target))

    def _max_pool(self, node: fx.Node, module: Any, before: fx.Node) -> None:
        """The replacement that was asked for: a learned convolution with normalisation and ReLU, or an average."""
        flow = self._spikes(node, before)
        if flow is None:
            return
        two = isinstance(module, nn.MaxPool2d)
        geometry = {"kernel_size": module.kernel_size, "stride": module.stride, "padding": module.padding}
        kernel, stride, padding, dilation = (
            pair(value, 1, not two) for value in (*geometry.values(), module.dilation)
        )  # fmt: skip
        shape = self.arriving[node][0]
        if module.return_indices:
            self._problem(node, "gives indices, too; use return_indices=False")
            return
        if module.ceil_mode and (
            shape is None or not fits(frame(shape), kernel, stride, padding if two else (0, padding[1]))
        ):
            self._problem(node, "adds incomplete windows (ceil_mode=True); use ceil_mode=False or a fitting kernel")
            return
        if self.options.max_pool == "average":
            if dilation != (1, 1):
                self._problem(node, f"has dilation {dilation}; no average of that kind exists, use dilation=1")
                return
            pool: Any = checked((nn.AvgPool2d if two else nn.AvgPool1d)(**geometry))
            pool.stands_for = (module,)  # calibration compares with the model as it came
            node.meta["exchanged"] = True
            self._exchange(node, pool)
            self._module(node, pool, before)
            return
        kind, norm = (nn.Conv2d, nn.BatchNorm2d) if two else (nn.Conv1d, nn.BatchNorm1d)
        conv = kind(flow.channels, flow.channels, **geometry, dilation=module.dilation, bias=False)
        behind = insert(self.traced, node, norm(flow.channels), f"{node.name}_norm")
        active = insert(self.traced, behind, nn.ReLU(), f"{node.name}_relu")
        node.meta.pop("call", None)  # the comparison with the model takes what comes out last for the maximum
        node.meta["stands_for"] = ""
        active.meta |= {"stands_for": node.name, "exchanged": True}
        self._exchange(node, conv)
        for one in (node, behind, active):
            self._module(one, self._of(one), one.all_input_nodes[0])

    def _is_last(self, node: fx.Node) -> bool:
        """Whether nothing but layers without effect stands between the node and the output."""
        users = list(node.users)
        if len(users) != 1:
            return False
        if users[0].op == "output":
            return True
        follows = users[0].op == "call_module" and isinstance(self.traced.get_submodule(str(users[0].target)), NOTHING)
        return follows and self._is_last(users[0])

    def _exchange(self, node: fx.Node, module: nn.Module) -> None:
        """Put `module` where the node's module was; a module that is called several times keeps its other calls."""
        target = str(node.target)
        shared = self.calls.get(target, 1) > 1
        if shared and any(True for _ in module.parameters()) and isinstance(module, own.QuantisedWeight):
            self._problem(node, "is called more than once; one layer of neurons cannot stand in two places")
            return
        if shared:
            self.calls[target] -= 1
            target = unused(self.traced, node.name)
            self.traced.add_submodule(target, module)
            node.target = target
            return
        exchange(self.traced, node, module)

    def _link(self) -> None:
        """Grids and readouts learn the units of their inputs, now that shared quantisers are settled."""

        def source(node: fx.Node) -> Any:
            return self.traced.get_submodule(str(node.target))

        owner: dict[int, Grid] = {}
        for lazy, node in self.grids:
            quantiser = source(node)
            summands = _without_copies(Summand(s.layer, s.norms, source(s.source)) for s in lazy)
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
            readout.source = (source(flow.sources[0]),)
            if flow.pool is not None:
                average = own.Average(source(flow.pool), source(flow.sources[0]))
                self._exchange(flow.pool, average)
                readout.source = (average,)


def _without_copies(summands: Iterable[Summand]) -> list[Summand]:
    """A layer behind a concatenation has one summand for each joined source; their unit is the same."""
    kept: dict[int, Summand] = {}
    return [kept.setdefault(id(s.layer), s) for s in summands if s.layer is None or id(s.layer) not in kept]


def _weight_class(module: nn.Module, ternary: bool) -> Any:
    table: dict[type, tuple[Callable[..., Any], Callable[..., Any]]] = {
        nn.Linear: (own.Int8Linear, own.TernaryLinear),
        nn.Conv1d: (own.Int8Conv1d, own.TernaryConv1d),
        nn.Conv2d: (own.Int8Conv2d, own.TernaryConv2d),
    }
    return next(pair[ternary] for kind, pair in table.items() if isinstance(module, kind))
