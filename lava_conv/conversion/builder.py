"""The layers of a Graph from a traced quantised model, node by node.

The table LAYERS says what a layer of the model does to what flows through it (see `algebra`). Each quantised activation
becomes a layer of neurons, whose integer thresholds are searched.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from lava_conv.conversion import algebra
from lava_conv.conversion.algebra import Part, Pool, Spikes, Staircase, Sum, Sums
from lava_conv.conversion.thresholds import Thresholds, nearest_thresholds, search_thresholds
from lava_conv.conversion.verify import Activation
from lava_conv.errors import ConversionError, RangeError
from lava_conv.frontends.tracing import cat_inputs, is_add, place
from lava_conv.network.bounds import drive_range
from lava_conv.network.fixedpoint import (
    INPUT_MAX,
    STATE_MAX,
    STATE_MIN,
    TIE,
)
from lava_conv.network.graph import Layer, Skip
from lava_conv.network.neurons import NEURONS, ca_lif
from lava_conv.network.synapses import Conv, Dense
from lava_conv.progress import Progress
from lava_conv.qat.layers import Average, Pixels, QuantisedWeight, Quantiser, Readout
from lava_conv.qat.pooling import POOLS, pair, window
from lava_conv.qat.preparation import NORMS, NOTHING

Value = Spikes | Pool | Sums


@dataclass
class Walk:
    """Builds the graph's layers from the traced model, for counts up to `max_steps`."""

    traced: fx.GraphModule
    shape: tuple[int, ...]
    max_steps: int
    round_thresholds: bool = False
    repeats: int = 1  # how often the image comes
    progress: Progress | None = None  # called after each node
    integers: dict[Any, Any] = field(default_factory=dict)  # by module, its quantised weight; other walks may share it
    inexact: dict[int, str] = field(default_factory=dict)  # layers that do not round as the model does, and why
    layers: list[Layer] = field(default_factory=list)
    counts: list[NDArray[np.int64]] = field(default_factory=list)  # largest count per channel, by layer
    flats: dict[int, int] = field(default_factory=dict)  # layer -> the flatten layer behind it
    activations: dict[str, Activation] = field(default_factory=dict)  # by node, for the check afterwards
    values: dict[fx.Node, Value] = field(default_factory=dict)  # what flows out of the nodes that were visited

    def finish(self) -> "Walk":
        """Visit all nodes."""
        nodes: Any = self.traced.graph.nodes
        for number, node in enumerate(nodes, 1):
            self.visit(node)
            if self.progress:
                self.progress(number, len(nodes))
        return self

    def visit(self, node: fx.Node) -> None:
        """Make the layers that `node` needs, those of the nodes before it first."""
        if node in self.values:
            return
        for before in node.all_input_nodes:
            self.visit(before)
        try:
            if node.op == "placeholder":
                self._input(node, self.values)
            elif node.op == "output":
                self._finish(node.args[0], self.values)
            else:
                self.values[node] = self._apply(node, self.values)
        except RangeError as error:
            raise RangeError(f"{place(node)}: {error}") from None
        except ConversionError as error:
            raise ConversionError(f"{place(node)}: {error}") from None

    def _input(self, node: fx.Node, values: dict[fx.Node, Value]) -> None:
        if not self.layers:
            self.layers.append(Layer("input", self.shape))
            self.counts.append(np.full(self.shape[0], INPUT_MAX * self.repeats, np.int64))
            values[node] = Spikes((Part(0, 1.0 / self.repeats, self.shape[0]),))
        elif node.users:
            raise ConversionError("it is a second input; only one image can be fed")

    def _apply(self, node: fx.Node, values: dict[fx.Node, Value]) -> Value:
        inputs = [values[n] for n in node.all_input_nodes]
        if is_add(node):
            if len(inputs) == 1:
                raise ConversionError("it adds a tensor to itself; scale the weights instead")
            return algebra.add(*[algebra.as_sums(v) for v in inputs])
        if (tensors := cat_inputs(node)) is not None:
            return self._cat([values[n] for n in tensors])
        module = self.traced.get_submodule(str(node.target))
        make = handler(module)
        assert make is not None, "refused before the walk"
        value = make(self, module, inputs[0])
        if isinstance(module, Quantiser):
            assert isinstance(value, Spikes)
            self.activations[node.name] = Activation(value, algebra.as_sums(inputs[0]), self.inexact)
        return value

    def _cat(self, values: list[Value]) -> Value:
        if all(isinstance(v, Spikes) for v in values):
            return Spikes(tuple(part for v in values for part in v.parts))  # type: ignore[union-attr]
        return tuple(s for v in values for s in algebra.as_sums(v))

    def flat(self, layer: int) -> int:
        """The flatten layer behind `layer` (itself if it is flat), made when first asked for."""
        shape = self.layers[layer].shape
        if len(shape) == 1:
            return layer
        if layer not in self.flats:
            size = int(np.prod(shape))
            source = None if layer == len(self.layers) - 1 else layer
            self.layers.append(Layer("flatten", (size,), source=source))
            self.counts.append(np.repeat(self.counts[layer], size // shape[0]))
            self.flats[layer] = len(self.layers) - 1
        return self.flats[layer]

    def flattened(self, spikes: Spikes) -> Spikes:
        """The same spikes as flat layers give them."""
        layers = [self.flat(part.layer) for part in spikes.parts]
        parts = zip(spikes.parts, layers, strict=True)
        return Spikes(tuple(replace(part, layer=flat, channels=len(self.counts[flat])) for part, flat in parts))

    def _finish(self, output: Any, values: dict[fx.Node, Value]) -> None:
        value = values.get(output) if isinstance(output, fx.Node) else None
        if (
            not isinstance(value, tuple)
            or len(value) != 1
            or not all(isinstance(t.synapse, Dense) for t in value[0].terms)
        ):
            raise ConversionError("the model must end in a linear layer, whose output are the logits")
        total = value[0]
        rounding = Staircase(1.0, 0, 0, 0.5, False)
        feeds, unit = algebra.on_one_grid(total, rounding, self.counts, flat=True)
        if np.ptp(unit) > algebra.RELATIVE * unit.max():
            raise ConversionError(
                "the last layer has a scale for each class, so that classes cannot compare their integers; end the "
                "model in a qat.Readout, or give its weights one scale for all (per-tensor)"
            )
        bias, shift = _whole_bias(total.offset / unit[0])
        self._add_neurons(feeds, "ACC", NEURONS["ACC"].Params(bias, shift), total.channels)

    def _add_neurons(self, feeds: list[Any], neuron: str, params: Any, channels: int) -> int:
        shape = feeds[0][1].output_shape(self.layers[feeds[0][0]].shape)
        (source, main), *rest = algebra.main_and_skips(feeds, len(self.layers) - 1, shape)
        assert isinstance(main, Conv | Dense)
        kind = "conv" if isinstance(main, Conv) else "dense"
        skips = tuple(Skip(layer, synapse) for layer, synapse in rest)
        before = None if source == len(self.layers) - 1 else source
        self.layers.append(Layer(kind, shape, main, neuron, params, skips, source=before))
        return len(self.layers) - 1


def _whole_bias(bias: NDArray[np.float64]) -> tuple[NDArray[np.int64], int]:
    """Integer biases and a shift of the sums that keep the order of the classes for every input.

    Where z_a - z_b is a whole number, only the whole part of bias_a - bias_b and the order of the fractions matter; so
    each fraction is replaced by its rank, in as many bits as there are different ones.
    """
    whole = np.rint(bias)
    if np.allclose(bias, whole, rtol=0, atol=1e-6):
        return whole.astype(np.int64), 0
    floor = np.floor(bias)
    ranks = np.unique(bias - floor, return_inverse=True)[1]
    shift = int(ranks.max()).bit_length()
    return (floor.astype(np.int64) << shift) + ranks, shift


def _pixels(walk: Walk, module: Pixels, before: Value) -> Value:
    assert isinstance(before, Spikes)
    return Spikes(tuple(replace(part, unit=part.unit * module.scale) for part in before.parts))


def _weights(walk: Walk, module: Any, before: Value) -> Value:
    if isinstance(before, tuple):
        raise ConversionError("it follows a sum (another weight layer or an addition) without an activation between")
    with torch.no_grad():
        if module not in walk.integers:
            walk.integers[module] = module.quantise()
        integer, scales = walk.integers[module]
        offset = torch.zeros(len(integer)) if module.bias is None else module.bias
        if isinstance(module, Readout) and module.bias is not None:
            offset = module.quantised_bias(scales)
    weight = integer.numpy().astype(np.int8)
    scale = np.broadcast_to(scales.numpy().astype(np.float64), len(weight)).copy()
    bias = offset.detach().numpy().astype(np.float64)
    if not isinstance(module, nn.Conv1d | nn.Conv2d):
        return _dense(walk, before, weight, scale, bias)
    if isinstance(before, Pool):
        raise ConversionError("it takes an average that is not quantised; quantise it (lava_conv.qat.prepare does)")
    if module.padding_mode != "zeros":
        raise ConversionError(f"it pads with {module.padding_mode!r}; only zeros can be padded")
    flat = isinstance(module, nn.Conv1d)
    weight = weight[:, :, None] if weight.ndim == 3 else weight
    options: dict[str, Any] = {name: pair(getattr(module, name), 1, flat) for name in ("stride", "dilation")}
    if module.padding == "same":
        weight, options["padding"] = same_padding(weight, options["dilation"])
    else:
        options["padding"] = pair(0 if module.padding == "valid" else module.padding, 0, flat)
    return algebra.convolve(before, Conv(weight, **options, groups=module.groups), scale, bias)


def same_padding(weight: NDArray[np.int8], dilation: tuple[int, int]) -> tuple[NDArray[np.int8], tuple[int, int]]:
    """A kernel (O, I, H, W), and the padding that keeps the size of the frame.

    An even kernel needs one value more at the end than at the beginning: a tap of zeros before the first one makes room
    for it at both ends.
    """
    total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    if any(t % 2 and d > 1 for t, d in zip(total, dilation, strict=True)):
        raise ConversionError(
            f"padding='same' of a kernel of {weight.shape[2:]} with dilation {dilation} pads one side by one more than "
            f"the other; use an odd kernel"
        )
    weight = np.pad(weight, ((0, 0), (0, 0), *((t % 2, 0) for t in total)))
    return weight, (-(-total[0] // 2), -(-total[1] // 2))


def _dense(walk: Walk, before: Spikes | Pool, weight: Any, scale: Any, bias: Any) -> Value:
    if isinstance(before, Pool):
        if not before.flat:
            raise ConversionError("it needs a flat input; put nn.Flatten() before it")
        weight, scale = algebra.spread(weight, before), scale / before.divisor
        before = before.spikes
    return algebra.connect(walk.flattened(before), weight, scale, bias)


def _batch_norm(walk: Walk, module: Any, before: Value) -> Value:
    if module.running_mean is None or module.running_var is None:
        raise ConversionError("normalisation keeps no running statistics; train with track_running_stats=True")
    mean, var = module.running_mean.numpy(), module.running_var.numpy()
    weight = module.weight.detach().numpy() if module.affine else np.ones_like(mean)
    shift = module.bias.detach().numpy() if module.affine else np.zeros_like(mean)
    factor = weight / np.sqrt(var + module.eps)
    shift = shift - mean * factor
    if not (np.isfinite(factor).all() and np.isfinite(shift).all()):
        raise ConversionError("normalisation holds NaN or infinity; the training diverged")
    return algebra.normalise(algebra.as_sums(before), factor, shift)


def _quantise(walk: Walk, module: Quantiser, before: Value) -> Value:
    """Neurons whose settled count is the quantised activation of each of the joined sums."""
    unit = torch.as_tensor(module.unit()).item()
    if not np.isfinite(unit) or unit <= 0:
        raise ConversionError(f"its step is {unit}; the training diverged")
    rounding = Staircase(unit, module.n_max, module.zero, 0.5 + (module.tie or 0.0), module.tie is None)
    parts, start = [], 0
    for total in algebra.as_sums(before):
        parts.append(_neurons(walk, module, rounding, total, slice(start, start + total.channels)))
        start += total.channels
    return Spikes(tuple(Part(layer, unit, walk.layers[layer].shape[0], module.zero) for layer in parts))


def _neurons(walk: Walk, module: Quantiser, rounding: Staircase, total: Sum, channels: slice) -> int:
    """One layer: N = clip(floor((z - theta) / delta), 0, n_max) with y = unit * z + offset and delta = step / unit.

    channels: which of the quantiser's channels these are.
    """
    initial = _extra(module.initial, channels)
    total = replace(total, offset=total.offset + _extra(module.offset, channels) + initial)
    flat = len(walk.layers[total.terms[0].layer].shape) == 1
    feeds, unit = algebra.on_one_grid(total, rounding, walk.counts, flat)
    reach = min(module.n_max, walk.max_steps) if module.n_max else walk.max_steps
    low, high = drive_range([(synapse, walk.counts[layer]) for layer, synapse in feeds])
    # A channel that nothing can move is a constant: its weights say nothing, and cost spikes.
    ends = [rounding.counts(unit * z + total.offset, reach) for z in (low, high)]
    constant = ends[0] == ends[1]
    feeds = [(layer, algebra.without(synapse, constant, flat)) for layer, synapse in feeds]
    level = total.offset / rounding.step + rounding.zero + rounding.half
    theta = np.where(constant, -ends[0] - 0.5, -level * rounding.step / unit)
    delta = np.where(constant, 1.0, rounding.step / unit)
    low, high = np.where(constant, 0, low), np.where(constant, 0, high)
    found = _thresholds(walk, rounding, theta, delta, low, high, reach)
    neuron = NEURONS[module.neuron]
    if module.neuron == "DTB":
        params = neuron.Params(found.theta, found.delta, found.shift, module.n_max, int(module.encoder))
    else:
        # the same neuron: v(0) = -theta, of which half a step is the usual initial potential
        v_init = found.delta // 2 + np.rint(initial / rounding.step * found.delta).astype(np.int64)
        bias = -found.theta - v_init
        bias, leak = ca_lif.spread(bias, walk.repeats) if walk.repeats > 1 else (bias, 0 * bias)
        if bias.max() > STATE_MAX or bias.min() < STATE_MIN:
            raise RangeError(f"a bias of {bias[np.abs(bias).argmax()]} exceeds 24 bits; use fewer inputs or levels")
        params = neuron.Params(
            found.delta, bias, leak, v_init, shift=found.shift, ca_max=module.n_max,
            leak_steps=walk.repeats if walk.repeats > 1 else 0, unipolar=int(module.encoder),
        )  # fmt: skip
    bounds = neuron.bounds(params, low, high, walk.max_steps)
    layer = walk._add_neurons(feeds, module.neuron, params, total.channels)
    walk.counts.append(bounds.count_max)
    return layer


def _extra(value: torch.Tensor | None, channels: slice) -> Any:
    """What calibration adds to these channels."""
    return 0.0 if value is None else value.detach().double().numpy()[channels]


def _thresholds(walk: Walk, rounding: Staircase, theta: Any, delta: Any, low: Any, high: Any, reach: int) -> Thresholds:
    """Exact integer thresholds; where there are none, halves that went to even go up, or (asked for) the nearest."""
    try:
        return search_thresholds(theta, delta, low, high, reach, half_even=rounding.half_even)
    except RangeError as error:
        refusal = error
    if rounding.half_even:  # no evenly spaced thresholds round halves to even, as behind an average
        try:
            found = search_thresholds(theta - TIE * delta, delta, low, high, reach)
            walk.inexact[len(walk.layers)] = "halves that go up instead of to the even neighbour"
            return found
        except RangeError:
            pass
    if not walk.round_thresholds:
        raise RangeError(f"{refusal}; or pass round_thresholds=True for the nearest thresholds") from None
    walk.inexact[len(walk.layers)] = "rounded thresholds"
    return nearest_thresholds(theta, delta, low, high)


def _pool(walk: Walk, module: Any, before: Value) -> Value:
    if not isinstance(before, Spikes):
        raise ConversionError("it averages a sum; put the activation before it")
    module = module.pool if isinstance(module, Average) else module
    shape = walk.layers[before.parts[0].layer].shape
    size = (shape[1], shape[2])
    found = window(module, size)
    channels = sum(part.channels for part in before.parts)
    return Pool(before, found.kernel, found.stride, found.padding, found.divisor, (channels, *size))


def _flatten(walk: Walk, module: nn.Flatten, before: Value) -> Value:
    if (module.start_dim, module.end_dim) not in ((1, -1), (1, 3)):
        raise ConversionError(
            f"flatten from {module.start_dim} to {module.end_dim}; only all of C,H,W can be flattened"
        )
    if isinstance(before, Pool):
        return replace(before, flat=True)
    if not isinstance(before, Spikes):
        raise ConversionError("flatten must follow an activation; put it after the activation")
    return walk.flattened(before)


def _nothing(walk: Walk, module: nn.Module, before: Value) -> Value:
    return before


LAYERS: tuple[tuple[Any, Callable[[Walk, Any, Any], Value]], ...] = (
    (Pixels, _pixels),
    (QuantisedWeight, _weights),
    (Quantiser, _quantise),
    (Average, _pool),
    (NORMS, _batch_norm),
    (POOLS, _pool),
    (nn.Flatten, _flatten),
    (NOTHING, _nothing),
)


def handler(module: nn.Module) -> Callable[[Walk, Any, Any], Value] | None:
    """What the table LAYERS says of a module, None if it is not in it."""
    return next((handler for kinds, handler in LAYERS if isinstance(module, kinds)), None)
