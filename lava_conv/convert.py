"""A model trained with quantisation -> Graph: weights exported as they are, normalisation folded into thresholds.

The model is traced with torch.fx and walked node by node. Two kinds of value travel along: spikes of a graph layer
(with the float value of one count), and sums, which are affine in the integer synaptic sum z: y = gain * z + offset.
A layer of the model is a function in the table LAYERS that turns one into the other.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from lava_conv import __version__
from lava_conv.errors import ConversionError, DataError, RangeError
from lava_conv.fixedpoint import INPUT_MAX, MAX_STEPS, search_thresholds
from lava_conv.graph import Graph, Layer, drive_range
from lava_conv.neurons import NEURONS
from lava_conv.qat import exact
from lava_conv.qat.layers import MedianQuant, Pixels, QuantisedConv2d, QuantisedLinear, Readout, check_pixels
from lava_conv.synapses import Conv, Dense

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Spikes:
    """Output of graph layer `layer`; one count stands for `unit` in the model."""

    layer: int
    unit: float


@dataclass(frozen=True)
class Sum:
    """gain * z + offset per output channel, z = synapse applied to the counts of graph layer `source`."""

    source: int
    synapse: Conv | Dense
    gain: NDArray[np.float64]
    offset: NDArray[np.float64]


def convert(
    model: nn.Module,
    example_input: Any,
    steps: int = 8,
    max_steps: int | None = None,
    labels: tuple[str, ...] = (),
) -> Graph:
    """Convert a model trained with the layers of `lava_conv.qat`.

    Args:
        model: its forward may nest modules; training mode does not matter.
        example_input: a few images (N, C, H, W), uint8 or floats that hold 0..255; conversion checks itself on them.
        steps: time steps a sample takes by default.
        max_steps: steps for which bounds and thresholds are proven (a neuron counts at most so far). Default: the most
            that fits the hardware, up to 64.
        labels: names of the classes.

    Returns:
        Graph whose settled counts equal the model's quantised activations, for every image.

    Raises:
        ConversionError: lists everything that cannot be converted, each with its place and remedy.
        RangeError: no integer thresholds within 24 bits do what the model does.
    """
    images = _example(example_input)
    traced = _trace(exact(model))
    _refuse_unknown(traced)
    if max_steps is not None:
        if max_steps < steps:
            raise ConversionError(f"max_steps is {max_steps}, allowed is at least steps = {steps}")
        tries = [max_steps]
    else:
        tries = sorted({n for n in (MAX_STEPS, 48, 32, 24, 16, 12, 8, 4, steps) if n >= steps}, reverse=True)
    for attempt in tries:
        try:
            walk = _Walk(traced, tuple(images.shape[1:]), attempt)
            graph = Graph(tuple(walk.layers), steps, labels=tuple(labels), generator=f"lava-conv {__version__}")
            graph.check(attempt)
        except RangeError as error:
            if attempt == tries[-1]:
                raise
            log.info("thresholds for up to %d steps do not exist (%s); trying fewer", attempt, error)
            continue
        log.info("bounds and thresholds are proven for up to %d steps", attempt)
        _verify(traced, graph, walk, images)
        return graph
    raise AssertionError("unreachable: the last attempt returns or raises")


def _example(example_input: Any) -> torch.Tensor:
    example = torch.as_tensor(
        np.asarray(example_input) if not isinstance(example_input, torch.Tensor) else example_input
    )
    if example.ndim == 3:
        example = example[None]
    if example.ndim != 4 or not len(example):
        raise DataError(
            f"example_input has shape {tuple(example.shape)}, needed is (N, C, H, W) with at least one image"
        )
    try:
        return check_pixels(example)
    except ValueError:
        raise DataError(
            "example_input holds values that are not whole numbers in 0..255; pass the uint8 images, unscaled"
        ) from None


# -- tracing -------------------------------------------------------------------------------------------------------


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in LAYERS or super().is_leaf_module(m, module_qualified_name)


def _trace(model: nn.Module) -> fx.GraphModule:
    try:
        return fx.GraphModule(model, _Tracer().trace(model))
    except Exception as error:
        raise ConversionError(
            f"the model's forward cannot be traced ({' '.join(str(error).split())}); no control flow may depend on "
            f"tensor values"
        ) from error


def _refuse_unknown(traced: fx.GraphModule) -> None:
    """Everything unsupported at once: whoever trained for hours should not find the problems one by one."""
    modules = dict(traced.named_modules())
    problems = []
    nodes: Any = traced.graph.nodes
    for node in nodes:
        if node.op == "call_module" and type(modules[node.target]) not in LAYERS:
            kind = type(modules[node.target])
            problems.append(f"{node.target} is a {kind.__name__}: {REMEDIES.get(kind, GENERAL_REMEDY)}")
        elif node.op in ("call_function", "call_method", "get_attr"):
            name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
            if node.op == "get_attr" or name != "flatten":
                problems.append(f"{node.name} calls {name}: {GENERAL_REMEDY}")
    if problems:
        raise ConversionError("cannot convert " + "; ".join(problems))


# -- the walk ------------------------------------------------------------------------------------------------------


@dataclass
class _Walk:
    """Builds the graph's layers from the traced model, for counts up to `max_steps`."""

    traced: fx.GraphModule
    shape: tuple[int, ...]
    max_steps: int
    layers: list[Layer] = field(default_factory=list)
    counts: list[NDArray[np.int64]] = field(default_factory=list)  # largest count per channel, by layer
    units: dict[str, Spikes] = field(default_factory=dict)  # node name -> spikes, for the check afterwards

    def __post_init__(self) -> None:
        modules = dict(self.traced.named_modules())
        values: dict[fx.Node, Spikes | Sum] = {}
        nodes: Any = self.traced.graph.nodes
        for node in nodes:
            if node.op == "placeholder":
                if self.layers:
                    raise ConversionError(f"the model takes a second input {node.name}; only one image can be fed")
                self.layers.append(Layer("input", self.shape))
                self.counts.append(np.full(self.shape[0], INPUT_MAX, np.int64))
                values[node] = Spikes(0, 1.0)
            elif node.op == "output":
                self._finish(values[node.args[0]] if isinstance(node.args[0], fx.Node) else None)
            else:
                place = str(node.target) if node.op == "call_module" else node.name
                before = values[node.args[0]]
                handler = LAYERS[type(modules[node.target])] if node.op == "call_module" else _flatten
                try:
                    values[node] = handler(self, modules.get(str(node.target)), before)
                except RangeError as error:
                    raise RangeError(f"{place}: {error}") from None
                except ConversionError as error:
                    raise ConversionError(f"{place}: {error}") from None
                if isinstance(values[node], Spikes) and node.op == "call_module":
                    self.units[node.name] = values[node]  # type: ignore[assignment]

    def add(self, layer: Layer, counts: NDArray[np.int64]) -> int:
        self.layers.append(layer)
        self.counts.append(counts)
        return len(self.layers) - 1

    def _finish(self, value: Spikes | Sum | None) -> None:
        if not isinstance(value, Sum) or not isinstance(value.synapse, Dense):
            raise ConversionError("the model must end in a qat.Readout, whose output are the logits")
        self._in_order(value.source)
        if np.ptp(value.gain) or value.gain[0] <= 0:
            raise ConversionError("the last layer has a scale for each class; end the model in a qat.Readout")
        bias = value.offset / value.gain
        if not np.allclose(bias, np.rint(bias), rtol=0, atol=1e-6):
            raise ConversionError(
                "the bias of the last layer is no whole multiple of its scale; end the model in a qat.Readout"
            )
        params = NEURONS["ACC"].Params(np.rint(bias).astype(np.int64))
        self.add(Layer("dense", (value.synapse.channels,), value.synapse, "ACC", params), np.zeros(0, np.int64))

    def _in_order(self, source: int) -> None:
        if source != len(self.layers) - 1:
            raise ConversionError("the model branches here; branches cannot be converted yet")


def _pixels(walk: _Walk, module: Pixels, before: Spikes | Sum) -> Spikes | Sum:
    return before


def _weights(walk: _Walk, module: QuantisedConv2d | QuantisedLinear | Readout, before: Spikes | Sum) -> Sum:
    if not isinstance(before, Spikes):
        raise ConversionError("it follows another weight layer without an activation between; put a MedianQuant there")
    with torch.no_grad():
        integer, scale = module.quantise()
        bias = module.quantised_bias(scale) if isinstance(module, Readout) else torch.zeros(len(integer))
    weight = integer.numpy()
    if isinstance(module, nn.Conv2d):
        if module.padding_mode != "zeros" or isinstance(module.padding, str):
            raise ConversionError(f"padding is {module.padding} {module.padding_mode}; use a number of zeros")
        options = {name: tuple(getattr(module, name)) for name in ("stride", "padding", "dilation")}
        synapse: Conv | Dense = Conv(weight, **options, groups=module.groups)  # type: ignore[arg-type]
    else:
        synapse = Dense(weight)
    gain = np.broadcast_to(scale.numpy().astype(np.float64) * before.unit, len(weight)).copy()
    return Sum(before.layer, synapse, gain, bias.numpy().astype(np.float64))


def _batch_norm(walk: _Walk, module: nn.BatchNorm1d | nn.BatchNorm2d, before: Spikes | Sum) -> Sum:
    if not isinstance(before, Sum):
        raise ConversionError("normalisation must follow a convolution or a dense layer directly")
    if module.running_mean is None or module.running_var is None:
        raise ConversionError("normalisation keeps no running statistics; train with track_running_stats=True")
    mean, var = module.running_mean.numpy(), module.running_var.numpy()
    weight = module.weight.detach().numpy() if module.affine else np.ones_like(mean)
    shift = module.bias.detach().numpy() if module.affine else np.zeros_like(mean)
    factor = weight / np.sqrt(var + module.eps)
    gain, offset = before.gain * factor, (before.offset - mean) * factor + shift
    if not (np.isfinite(gain).all() and np.isfinite(offset).all()):
        raise ConversionError("normalisation holds NaN or infinity; the training diverged")
    return Sum(before.source, before.synapse, gain, offset)


def _median_quant(walk: _Walk, module: MedianQuant, before: Spikes | Sum) -> Spikes:
    """N = clip(floor(2^k (gain z + offset) + 1/2), 0, n_max) = clip(floor((z - theta) / delta), 0, n_max)."""
    if not isinstance(before, Sum):
        raise ConversionError("an activation must follow a convolution or a dense layer (and its normalisation)")
    walk._in_order(before.source)
    levels = 2**module.k
    gain, offset = levels * before.gain, levels * before.offset + 0.5
    # A negative gain flips the channel; a gain of zero makes it a constant, whose weights say nothing.
    weight = before.synapse.weight * np.sign(gain).astype(np.int64).reshape(-1, *[1] * (before.synapse.weight.ndim - 1))
    constant = gain == 0
    size = np.where(constant, 1.0, np.abs(gain))
    theta = np.where(constant, -np.floor(offset) - 0.5, -offset / size)
    options = {name: value for name, value in vars(before.synapse).items() if name != "weight"}
    synapse = type(before.synapse)(weight, **options)
    low, high = drive_range([(synapse, walk.counts[before.source])])
    reach = min(module.n_max, walk.max_steps) if module.n_max else walk.max_steps
    found = search_thresholds(theta, 1 / size, low, high, reach)
    neuron = NEURONS["DTB"]
    params = neuron.Params(found.theta, found.delta, found.shift, module.n_max, int(module.encoder))
    kind = "conv" if isinstance(synapse, Conv) else "dense"
    shape = synapse.output_shape(walk.layers[before.source].shape)
    bounds = neuron.bounds(params, low, high, walk.max_steps)
    return Spikes(walk.add(Layer(kind, shape, synapse, "DTB", params), bounds.count_max), 1 / levels)


def _flatten(walk: _Walk, module: nn.Module | None, before: Spikes | Sum) -> Spikes:
    if not isinstance(before, Spikes):
        raise ConversionError("flatten must follow an activation; put it after the MedianQuant")
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) != (1, -1):
        raise ConversionError(
            f"flatten from {module.start_dim} to {module.end_dim}; only all of C,H,W can be flattened"
        )
    walk._in_order(before.layer)
    shape = walk.layers[before.layer].shape
    size = int(np.prod(shape))
    return Spikes(
        walk.add(Layer("flatten", (size,)), np.repeat(walk.counts[before.layer], size // shape[0])), before.unit
    )


def _nothing(walk: _Walk, module: nn.Module, before: Spikes | Sum) -> Spikes | Sum:
    return before


LAYERS: dict[type, Callable[[_Walk, Any, Any], Spikes | Sum]] = {
    Pixels: _pixels,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    MedianQuant: _median_quant,
    nn.Flatten: _flatten,
    nn.Dropout: _nothing,
    nn.Identity: _nothing,
    Readout: _weights,
}


def _register_weights() -> None:
    from lava_conv.qat import Int8Conv2d, Int8Linear, TernaryConv2d, TernaryLinear

    LAYERS.update(dict.fromkeys((Int8Conv2d, Int8Linear, TernaryConv2d, TernaryLinear), _weights))


_register_weights()

GENERAL_REMEDY = "it has no spiking counterpart here; build the model from lava_conv.qat layers"
REMEDIES: dict[type, str] = {
    nn.Conv2d: "its weights are not quantised; use qat.TernaryConv2d or qat.Int8Conv2d",
    nn.Linear: "its weights are not quantised; use qat.TernaryLinear, qat.Int8Linear or, at the end, qat.Readout",
    nn.ReLU: "its output is not quantised; use qat.MedianQuant",
    nn.MaxPool2d: "max pooling has no exact spiking form; replace it with a 2x2 stride-2 convolution before training",
    nn.AvgPool2d: "average pooling must be trained as a depthwise convolution with its own activation",
}


# -- the check afterwards --------------------------------------------------------------------------------------------


class _Recorder(fx.Interpreter):
    """Runs the traced model and keeps what its activations gave."""

    def __init__(self, module: fx.GraphModule, wanted: dict[str, Spikes]) -> None:
        super().__init__(module)
        self.wanted, self.seen = wanted, {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self.wanted:
            self.seen[n.name] = value
        return value


def _verify(traced: fx.GraphModule, graph: Graph, walk: _Walk, images: torch.Tensor) -> None:
    """Compare every activation of the float64 model with the integer oracle on the example images."""
    recorder = _Recorder(traced, {n: s for n, s in walk.units.items() if s.layer and graph.layers[s.layer].neuron})
    with torch.inference_mode():
        recorder.run(images.double())
    counts = graph.reference(images.numpy()).counts
    within = np.ones(len(images), bool)  # a neuron cannot count beyond max_steps, and nothing after it is promised then
    for name, value in recorder.seen.items():
        spikes = walk.units[name]
        expected = np.rint(value.numpy() / spikes.unit).astype(np.int64)
        reached = np.minimum(counts[spikes.layer], walk.max_steps)
        wrong = (np.minimum(expected, walk.max_steps) != reached)[within]
        if wrong.any():
            raise ConversionError(
                f"layer {spikes.layer} ({name}) differs from the model in {int(wrong.sum())} of {wrong.size} counts on "
                f"the example images; this is a fault of the converter, please report it"
            )
        within &= (expected <= walk.max_steps).reshape(len(images), -1).all(axis=1)
    if not within.all():
        log.warning(
            "%d of %d example images need more than %d spikes from some neuron, which it cannot send in %d steps; "
            "train with an upper clip (n_max) or smaller k",
            len(images) - within.sum(),
            len(images),
            walk.max_steps,
            walk.max_steps,
        )
