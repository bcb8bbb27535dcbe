"""The lowered network: made layer by layer, its conditions, and what it computes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_conv.arguments import graph_of
from lava_conv.errors import ConversionError
from lava_conv.lowering import assembly
from lava_conv.lowering.assembly import CONSTANT, COUNT, OVER, Key, Rows, Stage, Wire
from lava_conv.lowering.layer_integers import (
    ONE,
    ONE_BITS,
    Condition,
    Ints,
    LayerIntegers,
    layer_integers,
    range_conditions,
)
from lava_conv.lowering.taps import Taps, taps_of
from lava_conv.memory import check_memory
from lava_conv.network.fixedpoint import INPUT_MAX
from lava_conv.network.graph import Graph, Skip
from lava_conv.network.reference import REFERENCE_CHUNK, REFERENCE_VALUES, check_images
from lava_conv.network.synapses import Shape, Weighted
from lava_conv.progress import Progress
from lava_conv.record import Counts, Parts, Record, smallest


class LayerDifference(NamedTuple):
    """How far one layer of the graph is from the reference.

    Fields:
        layer: its index.
        share: of counts unlike the reference's, 0..1.
        mean: distance of a count from the reference's, over all counts.
        largest: distance.
    """

    layer: int
    share: float
    mean: float
    largest: int


@dataclass(frozen=True, eq=False)
class Lowered:
    """A chain of stock layers.

    Fields:
        graph: what it was made of.
        stages: its layers; stage number i sends i + 1 steps after the image came.
        constants: values of the channels that come with every image, behind its own.
        conditions: of an exact lowering, one by one.
        integers: by layer of the graph, what its neurons hold and how far they can get.
    """

    graph: Graph
    stages: tuple[Stage, ...]
    constants: tuple[int, ...]
    conditions: tuple[Condition, ...]
    integers: dict[int, LayerIntegers]

    @property
    def exact(self) -> bool:
        """Whether every condition is met (for any image, or measured on some)."""
        return all(c.met for c in self.conditions)

    def bounds(self, number: int) -> tuple[int, int]:
        """Range of the states of stage `number`, proven for any image."""
        stage = self.stages[number]
        integers = self.integers[stage.layer]
        low, high = int(integers.low.min()), int(integers.high.max())
        if stage.divides:  # what arrives is a 64th, and is multiplied by 64 at most
            low, high = 0, max(high, 0)
        for kind, of in stage.wires:
            if kind == CONSTANT:
                high = max(high, of * ONE)
            elif of != stage.layer:
                high = max(high, int(self.integers[of].high.max()) if of else INPUT_MAX * ONE)
        return low, high

    @property
    def input_shape(self) -> Shape:
        """C, H, W of a frame: the image's channels, and a channel for each constant."""
        channels, height, width = self.graph.input_shape
        return (channels + len(self.constants), height, width)

    def frames(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """What the network takes: the images with the constant channels behind theirs.

        Args:
            images: uint8 (N, C, H, W).

        Returns:
            int64 (N, C + constants, H, W).

        Raises:
            DataError: the images are not the network's.
        """
        pixels = check_images(self.graph, images).astype(np.int64)
        n, _, height, width = pixels.shape
        values = np.reshape(np.array(self.constants, np.int64), (1, -1, 1, 1))
        return np.concatenate([pixels, np.broadcast_to(values, (n, len(self.constants), height, width))], axis=1)

    def run(self, images: NDArray[np.uint8]) -> Record:
        """Counts and logits as `graph.reference` gives them, computed the way the stock neurons do, in numpy."""
        images = check_images(self.graph, images)
        size, found = self._chunk(), Parts(len(images))
        for start in range(0, len(images), size):
            part = self.record(self._wave(self.frames(images[start : start + size])), "")
            counts = {index: smallest(counts) for index, counts in part.counts.items()}
            if not start:
                each = sum(count.nbytes for count in counts.values()) // len(images[:size])
                check_memory(len(images) * each, f"the record of {len(images):,} images", "use fewer images at a time")
            found.put(start, part.logits, counts)
        return found.record("lowered, in numpy")

    def record(self, sent: list[NDArray[np.int64]], backend: str) -> Record:
        """A Record of one step.

        Args:
            sent: what every stage sent, in order, int64 (N, ...) each; of the readout its sums.
            backend: what computed it, in words.
        """
        counts = {}
        for stage, values in zip(self.stages, sent, strict=True):
            if not stage.readout:
                counts[stage.layer] = _counts(stage, values)  # a dividing stage comes later and takes the place
        shift = self.graph.layers[-1].params.shift
        return Record(sent[-1].astype(np.int64)[None] << shift, Counts(counts), backend=backend)

    def differences(
        self, images: NDArray[np.uint8], progress: Progress | None = None
    ) -> tuple[list[LayerDifference], int]:
        """How far the lowered network is from `graph.reference`, all zeros if it is exact.

        Args:
            images: uint8 (N, C, H, W).
            progress: called after each chunk with the images done and their total.

        Returns:
            (a row for each spiking layer, the number of images with another prediction).
        """
        off: dict[int, list[int]] = {}  # by layer: counts, those that differ, by how much in all and at most
        predictions = 0
        for part in self._chunks(check_images(self.graph, images), progress):
            found, wanted = self.run(part), self.graph.reference(part)
            predictions += int((found.predictions != wanted.predictions).sum())
            for index, counts in wanted.counts.items():
                gap = np.abs(found.counts[index] - counts)
                before = off.get(index, [0, 0, 0, 0])
                now = [gap.size, int(np.count_nonzero(gap)), int(gap.sum()), int(gap.max())]
                off[index] = [*(a + b for a, b in zip(before[:3], now[:3], strict=True)), max(before[3], now[3])]
        rows = [LayerDifference(i, differ / of, total / of, most) for i, (of, differ, total, most) in off.items()]
        return rows, predictions

    def reach(self, images: NDArray[np.uint8], progress: Progress | None = None) -> dict[int, tuple[int, int]]:
        """By layer of the graph the largest |state| and the largest payload on these images; progress as above."""
        found: dict[int, tuple[int, int]] = {}
        for part in self._chunks(check_images(self.graph, images), progress):
            values = self.frames(part)
            for stage in self.stages:
                state, values = _step(stage, values)
                before = found.get(stage.layer, (0, 0))
                now = (int(np.abs(state).max()), int(np.abs(values).max()))
                found[stage.layer] = (max(before[0], now[0]), max(before[1], now[1]))
        return found

    def _chunk(self) -> int:
        """Images at a time: bounds the memory, changes nothing."""
        widest, before = 1, self.input_shape
        for stage in self.stages:
            pixels = int(np.prod(stage.shape[1:]))
            widest = max(widest, int(np.prod(before)), int(np.prod(stage.shape)), pixels * stage.synapse.fan_in)
            before = stage.shape
        return max(1, min(REFERENCE_CHUNK, REFERENCE_VALUES // widest))

    def _chunks(self, images: NDArray[np.uint8], progress: Progress | None) -> Iterator[NDArray[np.uint8]]:
        size = self._chunk()
        for start in range(0, len(images), size):
            part = images[start : start + size]
            yield part
            if progress:
                progress(start + len(part), len(images))

    def _wave(self, values: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        sent = []
        for stage in self.stages:
            _, values = _step(stage, values)
            sent.append(values)
        return sent


def _step(stage: Stage, values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(state, what is sent): stock SigmaDelta with a threshold of 0 right after a reset, or stock Sigma."""
    flat = values.reshape(len(values), -1) if stage.synapse.input_rank == 1 else values
    sigma = stage.synapse.apply(flat)
    return sigma, sigma if stage.readout else np.maximum(sigma, 0) >> ONE_BITS


def _counts(stage: Stage, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The counts of the stage's layer: what counts less what is beyond the limit."""
    at, of = stage.wires[(COUNT, stage.layer)]
    counts = values[:, at : at + len(of)].copy()
    if (OVER, stage.layer) in stage.wires:
        at, of = stage.wires[(OVER, stage.layer)]
        counts[:, of] -= values[:, at : at + len(of)]
    return counts


def lower(
    graph: Graph, images: NDArray[np.uint8] | None = None, approximate: bool = False,
    progress: Progress | None = None,
) -> Lowered:  # fmt: skip
    """Lower a network to stock SigmaDelta neurons.

    Args:
        graph: the network; trained with power_of_two=True it can be exact.
        images: uint8 (N, C, H, W); where a range cannot be proven for every image, it is measured on these.
        approximate: lower also what cannot be exact, to the nearest integers; `differences` measures what that costs.
        progress: called after each chunk with the images measured and their total.

    Raises:
        ConversionError: every condition that fails, one sentence each with the layer, what is there, what is allowed
            and the remedy.
    """
    graph_of(graph)
    counts: dict[int, Ints] = {0: np.full(graph.input_shape[0], INPUT_MAX, np.int64)}
    conditions: list[Condition] = []
    plan: dict[int, LayerIntegers] = {}
    for index, layer in enumerate(graph.layers[1:], 1):
        if layer.is_view:
            source = graph.source(index)
            counts[index] = layer.view_channels(counts[source], graph.layers[source].shape)
            continue
        plan[index], found = layer_integers(graph, index, counts, approximate)
        conditions += found
        counts[index] = plan[index].count_max
    try:
        constants, stages = _stages(graph, plan)
    except _PathError as error:
        layer, words = error.args
        remedy = "use kernels that reach the pixel at their own place, or shortcuts within one chain of layers"
        path = Condition(
            layer, "path", words, "a chain in which every layer reads the one before", "failed", remedy, "no"
        )
        raise _refusal([*conditions, path]) from None
    lowered = Lowered(graph, stages, constants, (), plan)
    seen = None if images is None else lowered.reach(images, progress)
    for index, integers in plan.items():
        readout = not graph.neuron(index).spiking
        conditions += range_conditions(index, integers, readout, None if seen is None else seen[index])
    if any(c.status == "failed" for c in conditions):
        raise _refusal(conditions)
    return replace(lowered, conditions=tuple(sorted(conditions, key=lambda c: c.layer)))


def _refusal(conditions: list[Condition]) -> ConversionError:
    failed = [str(c) for c in sorted(conditions, key=lambda c: c.layer) if c.status == "failed"]
    return ConversionError("\n".join(failed))


class _PathError(Exception):
    """(layer, what keeps the network from being a chain)."""


def _stages(graph: Graph, plan: dict[int, LayerIntegers]) -> tuple[tuple[int, ...], tuple[Stage, ...]]:
    """(constants, stages). A constant of 0 comes too if there is a matrix without positive weights, which stock netx
    alters or fails on: a weight of 1 from it changes nothing but that."""
    used = {index: _constants_of(integers) for index, integers in plan.items()}
    constants = tuple(sorted(set().union(*used.values())))
    stages = _chain(graph, plan, constants, used)
    if any(stage.synapse.input_rank == 1 and stage.synapse.weight.max() <= 0 for stage in stages):
        constants = (0, *constants)
        stages = _chain(graph, plan, constants, {index: found | {0} for index, found in used.items()})
    return constants, stages


def _constants_of(integers: LayerIntegers) -> set[int]:
    """The constants that the biases of a layer are made of."""
    both = np.concatenate([integers.bias, integers.bias_over])
    return {constant for constant, weight in assembly.digits(both).items() if weight.any()}


def _chain(
    graph: Graph, plan: dict[int, LayerIntegers], constants: tuple[int, ...], used: dict[int, set[int]]
) -> tuple[Stage, ...]:
    channels = graph.input_shape[0]
    shape: Shape = (channels + len(constants), *graph.input_shape[1:])
    wires: dict[Key, Wire] = {(COUNT, 0): Wire(0, np.arange(channels))}
    wires |= {(CONSTANT, c): Wire(channels + i, np.zeros(1, np.int64)) for i, c in enumerate(constants)}
    strides = {0: (1, 1)}  # by layer whose counts are carried: every how many-th row and column
    stages: list[Stage] = []
    before = 0
    for index, integers in plan.items():
        later = [i for i in plan if i > index]
        try:
            feeds = graph.inputs(index)
            taps = taps_of(_main(graph, feeds, before), shape)
            rows = _rows(graph, index, plan, feeds, taps, strides)
            wanted = {graph.origin(f.source) for i in later for f in graph.inputs(i)} - {index}
            asked = set().union(*(used[i] for i in later))
            for key, wire in wires.items():
                if key[1] in (asked if key[0] == CONSTANT else wanted):
                    rows.append(assembly.repeated(key, wire, taps))
            stages.append(assembly.assemble(index, taps, shape, wires, rows, not graph.neuron(index).spiking))
        except ConversionError as error:
            raise _PathError(index, str(error)) from None
        shape, wires = stages[-1].shape, stages[-1].wires
        down, right = taps.stride
        strides = {i: (s[0] * down, s[1] * right) for i, s in strides.items()} | {index: (1, 1)}
        stages += assembly.divided(index, shape, wires, integers)
        before = index
    return tuple(stages)


def _main(graph: Graph, feeds: tuple[Skip, ...], before: int) -> Weighted:
    """The synapse that reads the layer before; its geometry is the stage's."""
    for feed in feeds:
        if graph.origin(feed.source) == before and (kernel := feed.synapse.kernel) is not None:
            return kernel
    raise ConversionError(f"it reads none of the counts of layer {before} with a kernel")


def _rows(
    graph: Graph, index: int, plan: dict[int, LayerIntegers], feeds: tuple[Skip, ...], taps: Taps,
    strides: dict[int, tuple[int, int]],
) -> list[Rows]:  # fmt: skip
    """The layer's own neurons: those that count, and those that count what is beyond the limit."""
    integers = plan[index]
    blocks: dict[Key, Ints] = {}
    for feed, weight in zip(feeds, integers.weights, strict=True):
        source = graph.origin(feed.source)
        block = taps.block(feed.synapse, weight, graph.layers[source].shape, strides[source])
        parts = {(COUNT, source): block}
        if source and len(over := plan[source].over):
            parts[(OVER, source)] = -block[:, over]
        for key, part in parts.items():
            blocks[key] = blocks[key] + part if key in blocks else part
    rows = [Rows((COUNT, index), np.arange(len(integers.bias)), blocks, integers.bias)]
    if len(over := integers.over):
        rows.append(Rows((OVER, index), over, {key: b[over] for key, b in blocks.items()}, integers.bias_over))
    return rows
