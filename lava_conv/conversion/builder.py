"""The layers of a Graph from the steps of a Program.

What a step adds to the network says its operation (`lava_conv.frontends.operations`); here is what operations add:
layers of neurons, whose integer thresholds are searched, and flat views of layers.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lava_conv.conversion import algebra
from lava_conv.conversion.algebra import Floats, Ints, Part, Spikes, Staircase, Sum, Sums, Value
from lava_conv.conversion.thresholds import Thresholds, nearest_thresholds, search_thresholds
from lava_conv.conversion.verify import HALVES, Activation
from lava_conv.errors import ConversionError, RangeError
from lava_conv.frontends.program import Step
from lava_conv.network.bounds import drive_range
from lava_conv.network.fixedpoint import INPUT_MAX, TIE
from lava_conv.network.graph import Layer, Skip
from lava_conv.network.neurons import NEURONS, READOUT, IntegerStaircase
from lava_conv.network.synapses import Synapse


@dataclass(frozen=True)
class Neurons:
    """What a quantiser asks of the neurons that it becomes.

    Fields:
        type: in the table `lava_conv.network.neurons.NEURONS`.
        unipolar: they never send negative spikes.
        offset: float64 (C,), added to what they take; with a constant input evenly over the sample. None: nothing.
        initial: the same, at the beginning of the sample.
    """

    type: str
    unipolar: bool
    offset: Floats | None
    initial: Floats | None


@dataclass
class Builder:
    """Builds the layers of a Graph, for counts up to `max_steps`.

    Fields:
        shape: C,H,W of the image.
        max_steps: steps for which bounds and thresholds are proven.
        round_thresholds: take the nearest thresholds where there are no exact ones.
        repeats: how often the image comes.
        layers: the layers so far.
        counts: by layer, the largest count of each channel.
        values: what flows out of the steps so far, by name.
        activations: the layers that quantisers became, by name, for the check afterwards.
    """

    shape: tuple[int, ...]
    max_steps: int
    round_thresholds: bool = False
    repeats: int = 1
    layers: list[Layer] = field(default_factory=list)
    counts: list[Ints] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    activations: dict[str, Activation] = field(default_factory=dict)
    _name: str = ""  # of the step that is being added
    _flats: dict[int, int] = field(default_factory=dict)  # layer -> the flatten layer behind it
    _inexact: dict[int, str] = field(default_factory=dict)  # layers that do not round as the model does, and why

    def add(self, step: Step) -> None:
        """Make the layers that a step needs; those of the steps before it are made.

        Raises:
            ConversionError, RangeError: it cannot stand here; names the place.
        """
        self._name = step.name
        try:
            self.values[step.name] = step.operation.build(self, *(self.values[name] for name in step.inputs))
        except RangeError as error:
            raise RangeError(f"{step.place}: {error}") from None
        except ConversionError as error:
            raise ConversionError(f"{step.place}: {error}") from None

    def readout(self, outputs: tuple[str, ...]) -> None:
        """The last layer, which accumulates the logits.

        Args:
            outputs: names of the tensors that the model gives.

        Raises:
            ConversionError: they are not the one that a linear layer gives.
            RangeError: its bias leaves its width.
        """
        value = self.values.get(outputs[0]) if len(outputs) == 1 else None
        if (
            not isinstance(value, tuple)
            or len(value) != 1
            or not all((kernel := t.synapse.kernel) and kernel.input_rank == 1 for t in value[0].terms)
        ):
            raise ConversionError("output: the model must end in a linear layer, whose output are the logits")
        total = value[0]
        feeds, unit = algebra.on_one_grid(total, Staircase(1.0, 0, 0, 0.5, False), self.counts, flat=True)
        if np.ptp(unit) > algebra.RELATIVE * unit.max():
            raise ConversionError(
                "output: the last layer has a scale for each class, so that classes cannot compare their integers; end "
                "the model in a qat.Readout, or give its weights one scale for all (per-tensor)"
            )
        bias, shift = _whole_bias(total.offset / unit[0])
        self._add_layer(feeds, READOUT.type, READOUT.Params(bias, shift))

    # -- for the operations ----------------------------------------------------------------------------------------

    def image(self) -> Spikes:
        """The input layer."""
        self.layers.append(Layer("input", self.shape))
        self.counts.append(np.full(self.shape[0], INPUT_MAX * self.repeats, np.int64))
        return Spikes((Part(0, 1.0 / self.repeats, self.shape[0]),))

    def flattened(self, spikes: Spikes) -> Spikes:
        """The same spikes as flat layers give them."""
        layers = [self._flat(part.layer) for part in spikes.parts]
        parts = zip(spikes.parts, layers, strict=True)
        return Spikes(tuple(replace(part, layer=flat, channels=len(self.counts[flat])) for part, flat in parts))

    def neurons(self, sums: Sums, rounding: Staircase, neurons: Neurons) -> Spikes:
        """Neurons whose settled count is the quantised activation of each of the joined sums.

        Args:
            sums: what they take.
            rounding: the count that belongs to it.
            neurons: what they are.

        Raises:
            ConversionError: the summands have no common unit.
            RangeError: no integer thresholds within 24 bits do it.
        """
        parts, start = [], 0
        for total in sums:
            layer = self._settling(total, rounding, neurons, slice(start, start + total.channels))
            parts.append(Part(layer, rounding.step, self.layers[layer].shape[0], rounding.zero))
            start += total.channels
        spikes = Spikes(tuple(parts))
        self.activations[self._name] = Activation(spikes, sums, self._inexact)
        return spikes

    # -- layers ----------------------------------------------------------------------------------------------------

    def _flat(self, layer: int) -> int:
        """The flatten layer behind `layer` (itself if it is flat), made when first asked for."""
        shape = self.layers[layer].shape
        if len(shape) == 1:
            return layer
        if layer not in self._flats:
            size = int(np.prod(shape))
            source = None if layer == len(self.layers) - 1 else layer
            self.layers.append(Layer("flatten", (size,), source=source))
            self.counts.append(np.repeat(self.counts[layer], size // shape[0]))
            self._flats[layer] = len(self.layers) - 1
        return self._flats[layer]

    def _settling(self, total: Sum, rounding: Staircase, neurons: Neurons, channels: slice) -> int:
        """One layer: N = clip(floor((z - theta) / delta), 0, n_max) with y = unit * z + offset and delta = step / unit.

        channels: which of the quantiser's channels these are.
        """
        initial = _part(neurons.initial, channels)
        total = replace(total, offset=total.offset + _part(neurons.offset, channels) + initial)
        flat = len(self.layers[total.terms[0].layer].shape) == 1
        feeds, unit = algebra.on_one_grid(total, rounding, self.counts, flat)
        reach = min(rounding.n_max, self.max_steps) if rounding.n_max else self.max_steps
        low, high = drive_range([(synapse, self.counts[layer]) for layer, synapse in feeds])
        # A channel that nothing can move is a constant: its weights say nothing, and cost spikes.
        ends = [rounding.counts(unit * z + total.offset, reach) for z in (low, high)]
        constant = ends[0] == ends[1]
        feeds = [(layer, algebra.without(synapse, constant, flat)) for layer, synapse in feeds]
        level = total.offset / rounding.step + rounding.zero + rounding.half
        theta = np.where(constant, -ends[0] - 0.5, -level * rounding.step / unit)
        delta = np.where(constant, 1.0, rounding.step / unit)
        low, high = np.where(constant, 0, low), np.where(constant, 0, high)
        found = self._thresholds(rounding, theta, delta, low, high, reach)
        neuron = NEURONS[neurons.type]
        initial = np.rint(initial / rounding.step * found.delta).astype(np.int64)
        params = neuron.from_staircase(
            IntegerStaircase(*found, rounding.n_max, int(neurons.unipolar), self.repeats, initial)
        )
        bounds = neuron.bounds(params, low, high, self.max_steps)
        layer = self._add_layer(feeds, neurons.type, params)
        self.counts.append(bounds.count_max)
        return layer

    def _add_layer(self, feeds: list[tuple[int, Synapse]], neuron: str, params: object) -> int:
        shape = feeds[0][1].output_shape(self.layers[feeds[0][0]].shape)
        (source, main), rest = algebra.main_and_skips(feeds, len(self.layers) - 1, shape)
        skips = tuple(Skip(layer, synapse) for layer, synapse in rest)
        before = None if source == len(self.layers) - 1 else source
        self.layers.append(Layer(main.file_type, shape, main, neuron, params, skips, source=before))
        return len(self.layers) - 1

    def _thresholds(
        self, rounding: Staircase, theta: Floats, delta: Floats, low: Ints, high: Ints, reach: int
    ) -> Thresholds:
        """Exact integer thresholds; where there are none, halves that went to even go up, or (if asked) the nearest."""
        try:
            return search_thresholds(theta, delta, low, high, reach, half_even=rounding.half_even, zero=rounding.zero)
        except RangeError as error:
            refusal = error
        if rounding.half_even:  # no evenly spaced thresholds round halves to even, as behind an average
            try:
                found = search_thresholds(theta - TIE * delta, delta, low, high, reach)
                self._inexact[len(self.layers)] = HALVES
                return found
            except RangeError:
                pass
        if not self.round_thresholds:
            raise RangeError(f"{refusal}; or pass round_thresholds=True for the nearest thresholds") from None
        self._inexact[len(self.layers)] = "rounded thresholds"
        return nearest_thresholds(theta, delta, low, high)


def _part(value: Floats | None, channels: slice) -> Floats:
    """What calibration adds to these channels."""
    return np.zeros(()) if value is None else value[channels]


def _whole_bias(bias: Floats) -> tuple[NDArray[np.int64], int]:
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
