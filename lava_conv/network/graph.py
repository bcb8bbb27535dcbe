"""The integer network: layers, shapes, proven bounds, and the quantised-ANN oracle `reference()`."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_conv.arguments import array_of, graph_of
from lava_conv.classes import class_count
from lava_conv.errors import ConversionError, DataError, RangeError
from lava_conv.memory import check_memory
from lava_conv.network.fixedpoint import (
    BOUND_LIMIT,
    INPUT_BITS,
    INPUT_MAX,
    STATE_BITS,
    STATE_MAX,
    STATE_MIN,
    STEPS_LIMIT,
)
from lava_conv.network.neurons import NEURONS, Neuron, map_channels
from lava_conv.network.synapses import Conv, Dense, Shape, Synapse, same_synapse
from lava_conv.record import Parts, Record, smallest

INPUT_CODES = ("flash", "constant")
REFERENCE_CHUNK = 64  # images at a time in the oracle, at most
REFERENCE_VALUES = 1 << 23  # inputs of all synapses of its widest layer at a time (32 MiB of float32)


@dataclass(frozen=True, eq=False)
class Skip:
    """A second synapse into a neuron, from the output of the earlier layer `source`, arriving in the same window."""

    source: int
    synapse: Synapse


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of a Graph.

    Fields:
        kind: "input", "conv", "flatten" or "dense".
        shape: of its output, C,H,W or (n,).
        synapse: Conv or Dense; None for input and flatten.
        neuron: its type in the table `lava_conv.network.neurons.NEURONS`, "" for input and flatten.
        params: that neuron's Params, per-channel values as int64 (channels,) arrays.
        skips: further synapses into the same neurons.
        source: index of the layer it reads, None: the one before it.
    """

    kind: str
    shape: Shape
    synapse: Conv | Dense | None = None
    neuron: str = ""
    params: Any = None
    skips: tuple[Skip, ...] = ()
    source: int | None = None


class LayerBounds(NamedTuple):
    """What one layer can reach, proven for any image; all int64 (channels,) but the last.

    Fields:
        drive_min: least running sum of the synapses, before the shift.
        drive_max: largest.
        v_min: least membrane potential, before saturation.
        v_max: largest.
        count_max: largest net spike count; the least is 0.
        step_max: the largest |a_in| of any channel within one step, before the shift.
    """

    drive_min: NDArray[np.int64]
    drive_max: NDArray[np.int64]
    v_min: NDArray[np.int64]
    v_max: NDArray[np.int64]
    count_max: NDArray[np.int64]
    step_max: int


@dataclass(frozen=True, eq=False)
class Graph:
    """A network of signed-spike neurons in integers, ready for any backend.

    Fields:
        layers: layer 0 is the input; the last one has the neuron ACC. A scalar given for a value per channel holds for
            all of them.
        steps: time steps a sample takes unless `run` is told otherwise.
        input_code: "flash" (the image as one graded frame at the first step) or "constant" (at every step).
        labels: names of the classes, may be empty; of one output those of class 0 and 1, or of class 1 alone.
        generator: what wrote the network.
        input_bits: of a pixel, 8.

    Raises:
        ConversionError: names the layer, what is there and what is allowed.
    """

    layers: tuple[Layer, ...]
    steps: int
    input_code: str = "flash"
    labels: tuple[str, ...] = ()
    generator: str = "lava-conv"
    input_bits: int = INPUT_BITS
    _checked: set[int] = field(default_factory=set, init=False, repr=False)  # steps whose bounds are known to fit

    def __post_init__(self) -> None:
        if not isinstance(self.layers, tuple | list) or not all(isinstance(layer, Layer) for layer in self.layers):
            raise ConversionError("layers must be a tuple of Layer, the input first and the readout last")
        if not isinstance(self.steps, int | np.integer):
            raise ConversionError(f"steps is {self.steps!r}, allowed is a whole number of 1 or more")
        if len(self.layers) < 2:
            raise ConversionError(f"the network has {len(self.layers)} layers, allowed is 2 or more")
        if self.layers[0].kind != "input":
            raise ConversionError(f"layer 0: type is {self.layers[0].kind!r}, it must be the input")
        if not 1 <= self.steps <= STEPS_LIMIT:
            raise ConversionError(f"steps is {self.steps}, allowed is 1 or more, up to {STEPS_LIMIT}")
        if self.input_code not in INPUT_CODES:
            raise ConversionError(f"input_code is {self.input_code!r}, allowed are {' and '.join(INPUT_CODES)}")
        if self.input_bits != INPUT_BITS:
            raise ConversionError(f"input_bits is {self.input_bits}, allowed is {INPUT_BITS}")
        if len(self.layers[0].shape) != 3 or min(self.layers[0].shape) < 1:
            raise ConversionError(f"layer 0: shape is {self.layers[0].shape}, an input needs (C, H, W)")
        for index in range(1, len(self.layers)):
            try:
                self._check_layer(index)
            except ConversionError as error:
                raise ConversionError(f"layer {index}: {error}") from None
        if self.labels and len(self.labels) not in {self.classes, class_count(self.classes)}:
            raise ConversionError(f"labels names {len(self.labels)} classes, but the readout has {self.classes}")
        object.__setattr__(self, "layers", tuple(map(_per_channel, self.layers)))

    def _check_layer(self, index: int) -> None:
        layer = self.layers[index]
        if not 0 <= self.source(index) < index:
            raise ConversionError(f"from is {layer.source}, allowed is an earlier layer")
        before = self.layers[self.source(index)].shape
        if layer.kind == "flatten":
            expected: Shape = (math.prod(before),)
        elif layer.kind in ("conv", "dense") and isinstance(layer.synapse, Conv if layer.kind == "conv" else Dense):
            expected = layer.synapse.output_shape(before)
        else:
            raise ConversionError(f"type is {layer.kind!r}, allowed are conv, dense and flatten")
        if tuple(layer.shape) != expected:
            raise ConversionError(f"shape is {tuple(layer.shape)}, but input and weight make it {expected}")
        last = index == len(self.layers) - 1
        if layer.kind == "flatten":
            if last or layer.neuron or layer.skips:
                raise ConversionError("a flatten layer has no neuron and no skips, and another layer follows it")
            return
        if layer.neuron not in NEURONS:
            raise ConversionError(f"neuron type is {layer.neuron!r}, allowed are {', '.join(NEURONS)}")
        if NEURONS[layer.neuron].spiking == last:
            raise ConversionError("the last layer, and only it, has the readout neuron ACC")
        if last and len(expected) != 1:
            raise ConversionError(f"the readout has shape {expected}; it must be flat, one number a class")
        neuron = NEURONS[layer.neuron]
        for name in neuron.channel_fields:
            value = np.asarray(getattr(layer.params, name))
            if value.shape not in ((), (expected[0],)):
                raise ConversionError(f"neuron {name} has shape {value.shape}, allowed is ({expected[0]},)")
        if problem := neuron.check(layer.params):
            raise ConversionError(f"neuron {problem}")
        for number, skip in enumerate(layer.skips):
            if not 0 <= skip.source < index:
                raise ConversionError(f"skip {number}: from is {skip.source}, allowed is an earlier layer")
            shape = skip.synapse.output_shape(self.layers[skip.source].shape)
            if shape != expected:
                raise ConversionError(f"skip {number}: gives shape {shape}, but the layer has {expected}")

    # -- structure -------------------------------------------------------------------------------------------------

    @property
    def input_shape(self) -> Shape:
        """C, H, W of one image."""
        return tuple(self.layers[0].shape)

    @property
    def classes(self) -> int:
        """How many logits the readout gives; one logit tells two classes apart, see `lava_conv.classes`."""
        return self.layers[-1].shape[0]

    def neuron(self, index: int) -> Neuron:
        """The functions of the neurons of layer `index`, which must have some (see `neuron_layers`)."""
        return NEURONS[self.layers[index].neuron]

    def neuron_layers(self) -> Iterator[tuple[int, Layer, Neuron]]:
        """(index, layer, neuron) of every layer that has neurons, the readout included."""
        for index, layer in enumerate(self.layers):
            if layer.neuron:
                yield index, layer, NEURONS[layer.neuron]

    def source(self, index: int) -> int:
        """The layer that layer `index` reads (its skips apart)."""
        source = self.layers[index].source
        return index - 1 if source is None else source

    def origin(self, index: int) -> int:
        """The layer whose spikes layer `index` gives: itself, or what is behind its flatten layers."""
        while self.layers[index].kind == "flatten":
            index = self.source(index)
        return index

    def depths(self) -> tuple[int, ...]:
        """Per layer, most synapses between it and the image; in Lava its window starts that much later."""
        depths = [0]
        for index, layer in enumerate(self.layers[1:], 1):
            if layer.kind == "flatten":
                depths.append(depths[self.source(index)])
            else:
                depths.append(1 + max(depths[s.source] for s in self.inputs(index)))
        return tuple(depths)

    def inputs(self, index: int) -> tuple[Skip, ...]:
        """Everything that feeds the neurons of layer `index`: its own synapse first, then its skips."""
        layer = self.layers[index]
        assert layer.synapse is not None
        return (Skip(self.source(index), layer.synapse), *layer.skips)

    def last_uses(self) -> dict[int, int]:
        """Layer index -> the last layer that reads its output, after which a backend may forget it."""
        last: dict[int, int] = {}
        for index, layer in enumerate(self.layers[1:], 1):
            for source in (self.source(index),) if layer.kind == "flatten" else (s.source for s in self.inputs(index)):
                last[source] = index
        return last

    # -- bounds ----------------------------------------------------------------------------------------------------

    def bounds(self, steps: int | None = None) -> dict[int, LayerBounds]:
        """Interval analysis: what every layer can reach within `steps` steps, for any image at all.

        A neuron sends at most one spike a step, so its net count stays in 0..min(n_max, steps), transients included;
        the running sum of a layer therefore stays within the interval of its weights over these counts.

        Args:
            steps: time steps a sample, default those of the graph.

        Returns:
            Layer index -> LayerBounds, for every layer that has neurons.
        """
        steps = self.steps if steps is None else steps
        pixel = INPUT_MAX * (steps if self.input_code == "constant" else 1)
        count: list[NDArray[np.int64]] = [np.full(self.input_shape[0], pixel, np.int64)]
        found: dict[int, LayerBounds] = {}
        for index, layer in enumerate(self.layers[1:], 1):
            if layer.kind == "flatten":
                source = self.source(index)
                count.append(np.repeat(count[source], int(np.prod(self.layers[source].shape[1:]))))
                continue
            feeds = [(s.synapse, count[s.source]) for s in self.inputs(index)]
            low, high = (np.clip(end, -BOUND_LIMIT, BOUND_LIMIT) for end in drive_range(feeds))
            step = np.zeros_like(low)
            for feed in self.inputs(index):
                one = np.full_like(count[feed.source], self._payload(feed.source))
                step = step + np.maximum(*map(np.abs, feed.synapse.interval(-one, one)))
            b = NEURONS[layer.neuron].bounds(layer.params, low, high, steps)
            found[index] = LayerBounds(low, high, b.v_min, b.v_max, b.count_max, int(step.max()))
            count.append(b.count_max)
        return found

    def _payload(self, index: int) -> int:
        """Largest value that layer `index` sends in one step."""
        return INPUT_MAX if self.origin(index) == 0 else 1

    def check(self, steps: int | None = None) -> None:
        """Prove that every state fits 24 bits (-8388608..8388607) for any image.

        Args:
            steps: time steps a sample, default those of the graph.

        Raises:
            RangeError: one could leave them; names the layer, the channel, the value and the remedy.
        """
        steps = self.steps if steps is None else steps
        if not isinstance(steps, int | np.integer):
            raise RangeError(f"steps is {steps!r}, allowed is a whole number of 1 or more, up to {STEPS_LIMIT}")
        if steps in self._checked:  # a graph does not change
            return
        if not 1 <= steps <= STEPS_LIMIT:
            raise RangeError(f"steps is {steps}, allowed is 1 or more, up to {STEPS_LIMIT}")
        for index, b in self.bounds(steps).items():
            lowest, highest = int(b.v_min.argmin()), int(b.v_max.argmax())
            ends = ((lowest, int(b.v_min[lowest])), (highest, int(b.v_max[highest])))
            outside = [(channel, v) for channel, v in ends if not STATE_MIN <= v <= STATE_MAX]
            if outside:
                channel, v = max(outside, key=lambda end: abs(end[1]))
                what = f", channel {channel}: the membrane potential can reach {v} within {steps} steps"
                remedy = "fewer steps, smaller weights, fewer inputs or a smaller shift"
            elif b.step_max > STATE_MAX:
                what = f": the input of one step can reach {b.step_max}"
                remedy = "smaller weights or fewer inputs"
            else:
                continue
            raise RangeError(
                f"layer {index} ({self.layers[index].kind}){what}, the limit is {STATE_BITS} bits "
                f"({STATE_MIN}..{STATE_MAX}); use {remedy}"
            )
        self._checked.add(steps)

    # -- the oracle ------------------------------------------------------------------------------------------------

    def reference(self, images: NDArray[np.uint8], progress: Callable[[int], Any] | None = None) -> Record:
        """The quantised ANN in integers: the counts and logits on which every backend settles.

        Args:
            images: uint8 (N, C, H, W).
            progress: called after each chunk with its number of images.

        Returns:
            Record with a steps axis of length 1. With input_code "constant" the image counts `steps` times.

        Raises:
            DataError: wrong shape or dtype, or a record larger than the free memory.
            RangeError: a settled sum is beyond all bounds.
        """
        images = check_images(self, images)
        size, found = self.reference_chunk(), Parts(len(images))
        for start in range(0, len(images), size):
            chunk = images[start : start + size]
            logits, counts = self._settle(chunk)
            if not start:  # the first chunk shows in how many bytes counts are kept
                each = sum(count.nbytes for count in counts.values()) // len(chunk) + 8 * self.classes
                check_memory(
                    len(images) * each, f"the reference's record of {len(images):,} images",
                    "take fewer images at a time",
                )  # fmt: skip
            found.put(start, logits[None], counts)
            if progress:
                progress(len(chunk))
        return found.record("reference")

    def reference_chunk(self) -> int:
        """Images that `reference` takes at a time: it bounds its memory and changes nothing."""
        widest = max(int(np.prod(layer.shape)) for layer in self.layers)
        for index, layer, _ in self.neuron_layers():
            pixels = int(np.prod(layer.shape[1:]))
            widest = max(widest, *(pixels * feed.synapse.fan_in for feed in self.inputs(index)))
        return max(1, min(REFERENCE_CHUNK, REFERENCE_VALUES // widest))

    def _settle(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.int64], dict[int, NDArray[np.integer]]]:
        """(logits (N, classes), counts of each spiking layer, in as few bytes as hold them)."""
        repeats = self.steps if self.input_code == "constant" else 1
        values: list[Any] = [smallest(images.astype(np.int64) * repeats)]
        counts: dict[int, NDArray[np.integer]] = {}
        last_uses = self.last_uses()
        for index, layer in enumerate(self.layers[1:], 1):
            if layer.kind == "flatten":
                values.append(values[self.source(index)].reshape(len(images), -1))
                continue
            drive: Any = sum(s.synapse.apply(values[s.source]) for s in self.inputs(index))
            if (largest := max(-int(drive.min()), int(drive.max()))) > BOUND_LIMIT:
                raise RangeError(
                    f"layer {index} ({layer.kind}): the settled input is {largest}, the limit is {BOUND_LIMIT}; "
                    f"use smaller weights or an upper clip"
                )
            neuron = NEURONS[layer.neuron]
            column = (-1,) + (1,) * (len(layer.shape) - 1)
            params = map_channels(neuron, layer.params, lambda x, c=column: x.reshape(c))
            settled = neuron.settle(drive, params)
            if neuron.spiking:
                settled = counts[index] = smallest(settled)
            values.append(settled)
            for done in [i for i, use in last_uses.items() if use == index]:
                values[done] = None  # no later layer reads it
        return values[-1], counts

    # -- for people ------------------------------------------------------------------------------------------------

    def summary(self) -> str:
        """A table of the layers as text: shape, neuron, weights, fan-in, sources, and the proven bounds of the largest
        |v| and count for the default steps."""
        bounds = self.bounds()
        rows: list[tuple[str, ...]] = [
            ("layer", "type", "shape", "neuron", "weights", "fan-in", "from", "max |v|", "max count")
        ]
        for index, layer in enumerate(self.layers):
            row = [str(index), layer.kind, "x".join(map(str, layer.shape)), layer.neuron or "-"]
            if layer.synapse is None:
                row += ["-"] * 5
            else:
                b = bounds[index]
                size = int(max(np.abs(b.v_min).max(), np.abs(b.v_max).max()))
                sources = ",".join(str(s.source) for s in self.inputs(index))
                row += [f"{layer.synapse.weight.size:,}", str(layer.synapse.fan_in), sources, f"{size:,}"]
                row += [str(int(b.count_max.max())) if NEURONS[layer.neuron].spiking else "-"]
            rows.append(tuple(row))
        head = f"{len(self.layers)} layers, {self.steps} steps, input {self.input_code}, {STATE_BITS}-bit state"
        return f"{head}\n{aligned(rows)}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        mine = (self.steps, self.input_code, self.labels, len(self.layers))
        return mine == (other.steps, other.input_code, other.labels, len(other.layers)) and all(
            _same_layer(a, b) for a, b in zip(self.layers, other.layers, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of cells as text, in columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    cells = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join("  ".join(row).rstrip() for row in cells)


def _per_channel(layer: Layer) -> Layer:
    """The layer with its per-channel values as int64 (channels,) arrays, the others as plain ints."""
    if not layer.neuron:
        return layer
    neuron = NEURONS[layer.neuron]
    params = map_channels(
        neuron, layer.params, lambda x: np.ascontiguousarray(np.broadcast_to(x, layer.shape[:1]), np.int64)
    )
    params = params._replace(**{name: int(getattr(params, name)) for name in neuron.scalar_fields})
    return replace(layer, params=params)


def drive_range(feeds: list[tuple[Synapse, NDArray[np.int64]]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Range (least, largest) of the running synaptic sum, int64 (channels,) each.

    Args:
        feeds: each synapse with the largest count of each channel that it reads, int64 (its input channels,).
    """
    low, high = feeds[0][0].interval(0 * feeds[0][1], feeds[0][1])
    for synapse, count in feeds[1:]:
        least, most = synapse.interval(0 * count, count)
        low, high = low + least, high + most
    return low, high


def _same_layer(a: Layer, b: Layer) -> bool:
    return (
        (a.kind, tuple(a.shape), a.neuron, a.source, len(a.skips))
        == (b.kind, tuple(b.shape), b.neuron, b.source, len(b.skips))
        and same_synapse(a.synapse, b.synapse)
        and all(np.array_equal(x, y) for x, y in zip(a.params or (), b.params or (), strict=True))
        and all(
            s.source == t.source and same_synapse(s.synapse, t.synapse) for s, t in zip(a.skips, b.skips, strict=True)
        )
    )


def check_images(graph: Graph, images: Any) -> NDArray[np.uint8]:
    """The images as a contiguous uint8 (N, C, H, W) array; DataError says what is wrong with them."""
    graph_of(graph)
    images = array_of(images)
    if images.dtype != np.uint8:
        raise DataError(f"images have dtype {images.dtype}, allowed is uint8 (0..255); do not scale or normalise them")
    if images.ndim != 4 or images.shape[1:] != graph.input_shape:
        raise DataError(
            f"images have shape {images.shape}, the network takes (N, {', '.join(map(str, graph.input_shape))}), "
            f"that is N, C, H, W"
        )
    if len(images) == 0:
        raise DataError("images is empty; at least one image is needed")
    return np.ascontiguousarray(images)
