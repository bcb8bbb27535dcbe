"""A simple core partitioner.

The model:
- A core holds neurons of one layer, and all their synapses; a layer is cut into a grid of tiles of (channels, rows,
  columns), one tile a core. All tiles have the size of the first, save the last in each direction.
- Input axons of a core: the sources its tile reads, each synapse's apart. A signed spike on a chip without payload
  takes two, one for +1 and one for -1, and so its synapses are stored twice.
- Output axons of a core: for each of its neurons the cores that it must reach, twice where spikes take two.
- Synaptic memory: each input axon has a list of synapses, a header for every block of them, blocks filling whole
  words (as in nengo-loihi). The cheapest of three formats is taken: dense (no target index, a weight for every neuron
  of the tile), sparse (weight and index, weights of 0 left out in the share they have in the layer), shared (sparse,
  and equal lists of a convolution once: each distinct pattern of kernel taps, or each kernel, as the chip has it).
- An identity with a scale beyond the chip's widest weight is several synapses side by side.
- Layers are placed from the last to the first, so that the cores each neuron must reach are known. Among the grids
  whose fullest core keeps every limit, the one with the fewest cores is taken. Where none does, the limits that a
  single neuron breaks are raised to what it needs, for that layer alone, and the rules report them.

Everything is arithmetic on rows, columns and channels apart: no loop runs over neurons or synapses.
"""

import math
from collections import Counter
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_conv.loihi.chip import Chip
from lava_conv.loihi.load import Box, Feed, Load, positions
from lava_conv.network.fixedpoint import SPIKE_MESSAGE_BITS

Range = tuple[int, int]
FORMATS = ("dense", "sparse", "shared")


class Usage(NamedTuple):
    """What a core holds.

    Fields:
        neurons: how many.
        synapse_bytes: of its synapses, in the cheapest format for each feed.
        core_bytes: of synapses and neuron states together, 0 where the chip says nothing of them.
        input_axons: source neurons that it reads, twice where a signed spike takes two axons.
        output_axons: pairs of one of its neurons and a core that it must reach.
    """

    neurons: int
    synapse_bytes: int
    core_bytes: int
    input_axons: int
    output_axons: int


LIMITS = {  # field of Usage -> key of the chip
    "neurons": "neurons_per_core",
    "synapse_bytes": "synapse_bytes_per_core",
    "core_bytes": "core_bytes",
    "input_axons": "input_axons",
    "output_axons": "output_axons",
}


class Core(NamedTuple):
    """A tile, half-open ranges of the layer's channels, rows and columns, and what its core holds."""

    channels: Range
    rows: Range
    columns: Range
    usage: Usage


class Plan(NamedTuple):
    """How a layer is cut.

    Fields:
        layer: its index.
        tile: channels, rows, columns of the first tile.
        cores: one for each tile, channels outermost.
        formats: of each feed, the one that is cheapest for the first tile.
        bytes_by_format: synaptic memory of the whole layer if all of it had that format, where the chip has it.
        relaxed: fields of Usage whose limit a single neuron breaks.
    """

    layer: int
    tile: Box
    cores: tuple[Core, ...]
    formats: tuple[str, ...]
    bytes_by_format: dict[str, int]
    relaxed: tuple[str, ...]

    @property
    def fullest(self) -> Usage:
        """The largest of each number over the cores."""
        return Usage(*map(max, zip(*(core.usage for core in self.cores), strict=True)))


class Memory(NamedTuple):
    """What the chip says of synaptic memory; see lava_conv.loihi.chip.REQUIRED."""

    weight_bits: tuple[int, ...]
    index_bits: tuple[int, ...]
    header: int
    block: int
    word: int
    kernels: str
    spike_bits: int


class Span(NamedTuple):
    """What a range of outputs reads along one axis: how many sources; how many lists of how many taps, as they are
    (`lists`), with equal lists once (`patterns`), and the whole kernel (`kernel`): (taps, lists) pairs."""

    sources: int
    lists: tuple[tuple[int, int], ...]
    patterns: tuple[tuple[int, int], ...]
    kernel: tuple[tuple[int, int], ...]


def memory_of(chip: Chip) -> Memory:
    """What the chip's description says of synaptic memory, widths in rising order."""
    return Memory(
        weight_bits=tuple(sorted(chip["weight_bits"])),
        index_bits=tuple(sorted(chip["index_bits"])),
        header=chip["list_header_bits"],
        block=chip["list_block"],
        word=chip["memory_word_bits"],
        kernels=chip["kernels"],
        spike_bits=chip["spike_bits"],
    )


def ports(payload_bits: int, spike_bits: int) -> int:
    """Axons of one source: two for a signed spike where a spike has no payload."""
    return 2 if spike_bits == 1 and payload_bits == SPIKE_MESSAGE_BITS else 1


def stored_bits(feed: Feed, memory: Memory) -> int:
    """Width in which the chip holds the weights, its widest where none suffices."""
    low, high = feed.weight_min, feed.weight_max
    if ports(feed.payload_bits, memory.spike_bits) == 2:  # -w is stored too
        feed = feed._replace(weight_min=min(low, -high), weight_max=max(high, -low))
    return next((width for width in memory.weight_bits if width >= feed.weight_bits), memory.weight_bits[-1])


def parallel(feed: Feed, memory: Memory) -> int:
    """Synapses side by side that make up one weight; more than one only for an identity's large scale."""
    largest = max(2 ** (memory.weight_bits[-1] - 1) - 1, 1)
    scale = max(abs(feed.weight_min), abs(feed.weight_max))
    return -(-scale // largest) if feed.kind == "identity" and feed.weight_bits > memory.weight_bits[-1] else 1


@lru_cache(maxsize=65536)
def span(feed: Feed, axis: int, start: int, stop: int) -> Span:
    """Rows (axis 0) or columns (axis 1) that the outputs start..stop-1 read."""
    taps: dict[int, list[int]] = {}
    for out in range(start, stop):
        for at, tap in positions(feed, axis, out):
            taps.setdefault(at, []).append(tap)
    lists = Counter(len(t) for t in taps.values())
    patterns = Counter(len(t) for t in {tuple(t) for t in taps.values()})
    return Span(len(taps), _pairs(lists), _pairs(patterns), ((feed.kernel[axis], 1),))


def channel_span(feed: Feed, outputs: int, start: int, stop: int) -> Span:
    """Channels that the output channels start..stop-1 (of `outputs`) read; equal lists do not occur."""
    per_out, per_in = outputs // feed.groups, feed.box[0] // feed.groups
    first, last = start // per_out, (stop - 1) // per_out
    lists: Counter[int] = Counter()
    if first == last:
        lists[stop - start] += per_in
    else:
        lists[(first + 1) * per_out - start] += per_in
        lists[stop - last * per_out] += per_in
        if last - first > 1:
            lists[per_out] += per_in * (last - first - 1)
    pairs = _pairs(lists)
    return Span(per_in * (last - first + 1), pairs, pairs, pairs)


def _pairs(counts: Counter[int]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(counts.items()))


@lru_cache(maxsize=65536)
def list_bits(length: int, synapse: int, memory: Memory) -> int:
    """Memory of one list of `length` synapses of `synapse` bits each."""
    full, rest = divmod(length, memory.block)
    blocks = full * _words(memory.block * synapse + memory.header, memory.word)
    return blocks + (_words(rest * synapse + memory.header, memory.word) if rest else 0)


def _words(bits: int, word: int) -> int:
    return -(-bits // word) * word


@lru_cache(maxsize=65536)
def format_bits(feed: Feed, spans: tuple[Span, ...], neurons: int, memory: Memory) -> tuple[tuple[str, int], ...]:
    """(format, bits) of a feed's synapses into a tile of `neurons`, for the formats that the chip has."""
    copies, side = ports(feed.payload_bits, memory.spike_bits), parallel(feed, memory)
    weight = stored_bits(feed, memory)
    index = next((width for width in memory.index_bits if width >= (neurons - 1).bit_length()), None)
    sources = math.prod(s.sources for s in spans)
    found = [("dense", copies * sources * list_bits(neurons * side, weight, memory))]
    kinds = {"sparse": "lists"}
    if feed.kind == "conv" and memory.kernels != "none":
        kinds["shared"] = memory.kernels if memory.kernels == "kernel" else "patterns"
    for name, field in kinds.items():
        if index is None:
            continue
        bits = 0
        for parts in product(*(getattr(s, field) for s in spans)):
            length = max(1, math.ceil(math.prod(taps for taps, _ in parts) * side * feed.density))
            bits += math.prod(count for _, count in parts) * list_bits(length, weight + index, memory)
        found.append((name, copies * bits))
    return tuple(found)


def reached(feed: Feed, load: Load, plan: Plan) -> tuple[NDArray[np.int64], ...]:
    """Per channel, row and column of a source: how many tiles of `plan`, along that axis, read it.

    A source neuron reaches as many cores as the product of its three numbers.
    """
    per_out, per_in = load.shape[0] // feed.groups, feed.box[0] // feed.groups
    counts = [np.zeros(size, np.int64) for size in feed.box]
    for start, stop in chunks(load.shape[0], plan.tile[0]):
        counts[0][start // per_out * per_in : ((stop - 1) // per_out + 1) * per_in] += 1
    for axis in (0, 1):
        for start, stop in chunks(load.shape[1 + axis], plan.tile[1 + axis]):
            counts[1 + axis][sorted({at for out in range(start, stop) for at, _ in positions(feed, axis, out)})] += 1
    return tuple(counts)


def chunks(total: int, size: int) -> list[Range]:
    """0..total in pieces of `size`, the last one smaller."""
    return [(start, min(start + size, total)) for start in range(0, total, size)]


class Piece(NamedTuple):
    """A stretch of one axis: its length, what each feed reads for it, and for each consumer the sum of `reached`."""

    length: int
    spans: tuple[Span, ...]
    reached: tuple[int, ...]


Pieces = tuple[Piece, ...]  # of channels, rows and columns: a tile


class _Layer:
    """A load on a chip, and what its consumers read; measures tiles, equal ones once."""

    def __init__(self, load: Load, chip: Chip, consumers: list[tuple[Feed, tuple[NDArray[np.int64], ...]]]) -> None:
        self.load, self.memory = load, memory_of(chip)
        self.state_bytes = load.state_variables * (chip.get("state_variable_bytes") or 0)
        self.ports = [ports(feed.payload_bits, self.memory.spike_bits) for feed, _ in consumers]
        self.sums = [[np.concatenate([[0], np.cumsum(c[axis])]) for _, c in consumers] for axis in range(3)]
        self._pieces: dict[tuple[int, int], list[Piece]] = {}
        self._usage: dict[Pieces, Usage] = {}

    def pieces(self, axis: int, size: int) -> list[Piece]:
        """Of axis 0 channels, 1 rows, 2 columns, cut into pieces of `size`."""
        if (axis, size) not in self._pieces:
            self._pieces[axis, size] = [self._piece(axis, *c) for c in chunks(self.load.shape[axis], size)]
        return self._pieces[axis, size]

    def _piece(self, axis: int, start: int, stop: int) -> Piece:
        if axis:
            spans = tuple(span(feed, axis - 1, start, stop) for feed in self.load.feeds)
        else:
            spans = tuple(channel_span(feed, self.load.shape[0], start, stop) for feed in self.load.feeds)
        return Piece(stop - start, spans, tuple(int(s[stop] - s[start]) for s in self.sums[axis]))

    def formats(self, pieces: Pieces) -> list[tuple[tuple[str, int], ...]]:
        """Of each feed, (format, bits) for a tile."""
        neurons = math.prod(piece.length for piece in pieces)
        return [format_bits(feed, spans, neurons, self.memory) for feed, spans in self._by_feed(pieces)]

    def _by_feed(self, pieces: Pieces) -> list[tuple[Feed, tuple[Span, ...]]]:
        spans = zip(*(piece.spans for piece in pieces), strict=True)
        return list(zip(self.load.feeds, spans, strict=True))

    def usage(self, pieces: Pieces) -> Usage:
        if pieces not in self._usage:
            neurons = math.prod(piece.length for piece in pieces)
            bits = sum(min(size for _, size in formats) for formats in self.formats(pieces))
            inputs = sum(
                ports(feed.payload_bits, self.memory.spike_bits) * math.prod(one.sources for one in spans)
                for feed, spans in self._by_feed(pieces)
            )
            outputs = sum(
                number * math.prod(piece.reached[i] for piece in pieces) for i, number in enumerate(self.ports)
            )
            stored = -(-bits // 8)
            total = stored + neurons * self.state_bytes if self.state_bytes else 0
            self._usage[pieces] = Usage(neurons, stored, total, inputs, outputs)
        return self._usage[pieces]

    def fullest(self, tile: Box) -> Usage:
        """The largest of each number over the tiles of a grid."""
        kinds = (dict.fromkeys(self.pieces(axis, size)) for axis, size in enumerate(tile))
        return Usage(*map(max, zip(*map(self.usage, product(*kinds)), strict=True)))


def _within(usage: Usage, limits: dict[str, int]) -> bool:
    return all(getattr(usage, field) <= limit for field, limit in limits.items())


def _search(layer: _Layer, limits: dict[str, int]) -> Box | None:
    """The tile whose grid has the fewest cores, all within the limits; None if there is none."""
    channels, rows, columns = layer.load.shape
    spatial = sorted(
        (-(-rows // h) * -(-columns // w), h, w) for h, w in product(_sizes(rows), _sizes(columns))
    )  # fmt: skip
    best, fewest = None, channels * rows * columns + 1
    for tiles, h, w in spatial:
        if tiles >= fewest:
            break
        low, high = -(-channels // ((fewest - 1) // tiles)), channels  # with fewer channels a tile it is no better
        if not _within(layer.fullest((low, h, w)), limits):
            continue
        while low < high:
            middle = (low + high + 1) // 2
            fits = _within(layer.fullest((middle, h, w)), limits)
            low, high = (middle, high) if fits else (low, middle - 1)
        parts = -(-channels // low)
        even = -(-channels // parts)
        best = (even if _within(layer.fullest((even, h, w)), limits) else low, h, w)
        fewest = tiles * parts
    return best


def _sizes(total: int) -> list[int]:
    """The even piece sizes for 1, 2, ... pieces."""
    return sorted({-(-total // parts) for parts in range(1, total + 1)})


def plan_layer(load: Load, chip: Chip, consumers: list[tuple[Feed, tuple[NDArray[np.int64], ...]]]) -> Plan:
    """Cut one layer; consumers: each feed that reads it, with `reached` of the consumer's plan."""
    layer = _Layer(load, chip, consumers)
    limits = {field: chip[key] for field, key in LIMITS.items() if chip.get(key) is not None}
    relaxed: tuple[str, ...] = ()
    while (tile := _search(layer, limits)) is None:
        single = layer.fullest((1, 1, 1))
        broken = [field for field, limit in limits.items() if getattr(single, field) > limit]
        relaxed += tuple(broken)
        limits |= {field: getattr(single, field) for field in broken}
    return _plan(layer, tile, relaxed)


def _plan(layer: _Layer, tile: Box, relaxed: tuple[str, ...]) -> Plan:
    ranges = [chunks(total, size) for total, size in zip(layer.load.shape, tile, strict=True)]
    pieces = [layer.pieces(axis, size) for axis, size in enumerate(tile)]
    grid = zip(product(*ranges), product(*pieces), strict=True)
    cores = tuple(Core(*where, usage=layer.usage(of)) for where, of in grid)
    totals: Counter[str] = Counter()
    for of, number in Counter(product(*pieces)).items():
        by_feed = [dict(formats) for formats in layer.formats(of)]
        for name in FORMATS:
            if any(name in formats for formats in by_feed):
                # what cannot share (dense, identity) is sparse, what has too wide an index is dense
                sizes = (f.get(name, f.get("sparse", f["dense"])) for f in by_feed)
                totals[name] += number * -(-sum(sizes) // 8)
    chosen = tuple(
        min(formats, key=lambda pair: pair[1])[0] for formats in layer.formats(tuple(p[0] for p in pieces))
    )  # fmt: skip
    return Plan(layer.load.layer, tile, cores, chosen, dict(totals), relaxed)


def partition(loads: tuple[Load, ...], chip: Chip) -> tuple[Plan, ...]:
    """A plan for every load, in the same order."""
    consumers: dict[int, list[tuple[Feed, tuple[NDArray[np.int64], ...]]]] = {}
    plans: list[Plan] = []
    for load in sorted(loads, key=lambda one: -one.layer):
        plan = plan_layer(load, chip, consumers.get(load.layer, []))
        for feed in load.feeds:
            consumers.setdefault(feed.source, []).append((feed, reached(feed, load, plan)))
        plans.insert(0, plan)
    return tuple(plans)
