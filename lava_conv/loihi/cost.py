"""What a network does on real images, core by core, and what that costs where a chip's figures are published.

Counted, as means per sample (as the chip works; `lava_conv.analysis.activity` is what is compared with an ANN):
- synaptic operations: synapses that the spikes pass; without those of weight 0 (in the share they have in the layer)
  unless the synapses are stored in the dense format, which visits them all. The image counts once for every pixel
  that is not 0, in each step in which it comes.
- neuron updates: every neuron in every step; active ones, which a spike reaches or which send one, and the others.
- messages: a spike is one to each core that it must reach.

Energy = operations, updates and messages, each times its published figure; a message costs its own figure and the hops
of the mean way between the cores of the two layers, cores being numbered along the layers and four (or as the chip has
it) to a tile of the mesh.

Latency of one sample by itself: it takes steps + depth - 1 time steps, for the layer at depth d starts d - 1 steps
late. A time step lasts as long as its slowest core, whose operations, updates and messages sent follow one another, and
then the barrier, interpolated between its figures for one tile and for all. Contention in the mesh, links between chips
and whatever brings the image in are not in it.

A chip without published figures (Loihi 2) gets the counts and neither energy nor latency.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_conv.analysis.activity import Activity, Meter
from lava_conv.backends import run
from lava_conv.errors import DataError
from lava_conv.loihi.chip import Chip
from lava_conv.loihi.fitting import Fit, fit
from lava_conv.loihi.load import IMAGE, Box, Feed, Load, positions
from lava_conv.loihi.partition import Plan, chunks, reached
from lava_conv.network.graph import Graph
from lava_conv.network.reference import check_images
from lava_conv.progress import Progress
from lava_conv.record import Record

Array = NDArray[np.float64]
CHUNK_VALUES = 1 << 24  # spikes of all layers at once; as float64, where a chip has figures, 128 MiB


class Work(NamedTuple):
    """Of one layer, float64 (steps, N, cores): synaptic operations, active neurons, messages sent by each core."""

    operations: Array
    active: Array
    messages: Array


class LayerCost(NamedTuple):
    """What one layer costs, as means per sample.

    Fields:
        layer: its index in the network.
        neurons: how many it has.
        cores: that they take.
        spikes: sent by its neurons.
        operations: synapses that the spikes which arrive pass.
        updates: neurons x steps.
        active: of these, updates of neurons that a spike reaches or that send one.
        messages: one for each spike and core that it must reach.
        macs: multiply-accumulates of the same layer in an ANN.
        energy_pj: in pJ; None where nothing is published.
    """

    layer: int
    neurons: int
    cores: int
    spikes: float
    operations: float
    updates: int
    active: float
    messages: float
    macs: int
    energy_pj: float | None


class Cost(NamedTuple):
    """What a network costs on a chip, as means per sample.

    Fields:
        chip: its name.
        label: what kind of figures the energies and times are, "" where none are published.
        samples: images that were run.
        steps: time steps a sample.
        layers: in order, one for each layer of neurons.
        energy_pj: by cause, in pJ; None where nothing is published.
        latency_ns: of one sample by itself, in ns; None where nothing is published.
        activity: spikes, and synaptic operations against those of the ANN.
    """

    chip: str
    label: str
    samples: int
    steps: int
    layers: tuple[LayerCost, ...]
    energy_pj: dict[str, float] | None
    latency_ns: float | None
    activity: Activity

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the same network as an ANN."""
        return sum(layer.macs for layer in self.layers)

    @property
    def operations(self) -> float:
        """Synaptic operations of all layers as the chip does them, per sample."""
        return sum(layer.operations for layer in self.layers)

    def as_json(self) -> dict[str, object]:
        """All of it in types that json writes."""
        rows = [x._asdict() for x in self.layers]
        return self._asdict() | {"layers": rows, "macs": self.macs, "activity": self.activity.as_json()}


def cost(
    graph: Graph,
    images: NDArray[np.uint8],
    chip: str | Chip | Fit = "loihi1",
    steps: int | None = None,
    backend: str = "torch",
    progress: Progress | None = None,
) -> Cost:
    """Run uint8 images (N, C, H, W) and add up what they cost on a chip.

    Args:
        graph: the network.
        images: uint8 (N, C, H, W); the figures are means over them.
        chip: as `fit` takes it, or a Fit of this graph, whose steps then hold.
        steps: time steps a sample; default: the graph's.
        backend: on which the spikes are computed.
        progress: called after each chunk with the images done and their total.

    Returns:
        Cost; without energy and latency where the chip's description has no figures.

    Raises:
        FitError: the chip is unknown.
        DataError: the images are not the network's.
    """
    images = check_images(graph, images)
    laid = chip if isinstance(chip, Fit) else fit(graph, chip, steps)
    meter, sums, latency = Meter(graph, laid.steps), {}, 0.0
    size = max(1, CHUNK_VALUES // (sum(load.neurons for load in laid.loads) * laid.steps))
    for start in range(0, len(images), size):
        part = images[start : start + size]
        record = run(graph, part, laid.steps, backend, record_spikes=True)
        meter.add(record)
        if laid.chip.has_cost:  # which needs every core in every step
            works = network_work(laid, record, part, graph.input_code)
            latency += float(sample_times(laid, works).sum())
            found = {index: np.array([x.sum() for x in work]) for index, work in works.items()}
        else:
            found = _totals(laid, record, part, graph.input_code)
        sums = {index: sums.get(index, 0) + total for index, total in found.items()}
        if progress:
            progress(start + len(part), len(images))
    return _cost(laid, meter, sums, latency)


def _cost(laid: Fit, meter: Meter, sums: dict[int, Array], latency: float) -> Cost:
    activity, chip, layers = meter.result(), laid.chip, []
    causes: dict[str, float] = {}
    for load, plan, seen in zip(laid.loads, laid.plans, activity.layers, strict=True):
        operations, active, messages = (float(x) / meter.samples for x in sums[load.layer])
        updates = load.neurons * laid.steps
        energy = None
        if chip.has_cost:
            parts = {
                "synaptic operations": operations * chip["energy_synaptic_op"],
                "active updates": active * chip["energy_update_active"],
                "inactive updates": (updates - active) * chip["energy_update_inactive"],
                "spikes": messages * message_energy(laid, load.layer),
            }
            causes = {name: causes.get(name, 0.0) + value for name, value in parts.items()}
            energy = sum(parts.values())
        spikes = seen.positive + seen.negative
        layers.append(
            LayerCost(
                load.layer, load.neurons, len(plan.cores), spikes, operations, updates, active, messages, seen.macs,
                energy,
            )
        )  # fmt: skip
    known = chip.has_cost
    return Cost(
        chip.name, chip["cost_label"] if known else "", meter.samples, laid.steps, tuple(layers),
        causes if known else None, latency / meter.samples if known else None, activity,
    )  # fmt: skip


def network_work(laid: Fit, record: Record, images: NDArray[np.uint8], input_code: str) -> dict[int, Work]:
    """What every layer does in a record with spikes of these images.

    Raises:
        DataError: the record holds no spikes or too few steps.
    """
    sent = {index: x.astype(np.float64) for index, x in _sent(laid, record, images, input_code).items()}
    consumers = _consumers(laid)
    return {
        load.layer: _work(load, plan, sent, consumers.get(load.layer, []))
        for load, plan in zip(laid.loads, laid.plans, strict=True)
    }


def _sent(laid: Fit, record: Record, images: NDArray[np.uint8], input_code: str) -> dict[int, NDArray[np.int8]]:
    """(steps, N, C, H, W) of the image and of each layer: 1 where something is sent."""
    if not record.has_spikes or record.steps < laid.steps:
        raise DataError(f"needed is a record with spikes of {laid.steps} steps; run with record_spikes=True")
    sent = {IMAGE: np.zeros((laid.steps, *images.shape), np.int8)}
    sent[IMAGE][: None if input_code == "constant" else 1] = images != 0
    for load in laid.loads:
        if load.layer in record.spikes:
            spikes = np.abs(record.spikes[load.layer][: laid.steps])
            sent[load.layer] = spikes.reshape(*spikes.shape[:2], *load.shape)
    return sent


def _consumers(laid: Fit) -> dict[int, list[tuple[Array, ...]]]:
    """By layer, for each feed that reads it, how many cores a spike must reach, along channels, rows, columns."""
    found: dict[int, list[tuple[Array, ...]]] = {}
    for load, plan in zip(laid.loads, laid.plans, strict=True):
        for feed in load.feeds:
            found.setdefault(feed.source, []).append(tuple(x.astype(float) for x in reached(feed, load, plan)))
    return found


def _totals(laid: Fit, record: Record, images: NDArray[np.uint8], input_code: str) -> dict[int, Array]:
    """By layer the sums over steps, images and cores of a Work: what is linear in spikes is formed of their sums."""
    sent = _sent(laid, record, images, input_code)
    summed = {index: x.sum((0, 1), dtype=np.float64)[None, None] for index, x in sent.items()}
    consumers, found = _consumers(laid), {}
    for load, plan in zip(laid.loads, laid.plans, strict=True):
        operations, messages = _linear(load, plan, summed, consumers.get(load.layer, []), tile_members(load, plan))
        steps, samples = sent[IMAGE].shape[:2]
        active = sent.get(load.layer, np.zeros((steps, samples, *load.shape), np.int8)) != 0
        if all(feed.groups == 1 for feed in load.feeds):  # then all channels are touched alike
            touched = np.zeros((steps, samples, 1, *load.shape[1:]), bool)
            for feed in load.feeds:
                touched |= _touched(feed, (1, *load.shape[1:]), sent[feed.source])
            active |= touched
        else:
            for feed in load.feeds:
                active |= _touched(feed, load.shape, sent[feed.source])
        found[load.layer] = np.array([operations.sum(), np.count_nonzero(active), messages.sum()])
    return found


def _work(load: Load, plan: Plan, sent: dict[int, Array], consumers: list[tuple[Array, ...]]) -> Work:
    tiles = tile_members(load, plan)
    steps, samples = sent[IMAGE].shape[:2]
    operations, messages = _linear(load, plan, sent, consumers, tiles)
    active = sent.get(load.layer, np.zeros((steps, samples, *load.shape))) > 0
    for feed in load.feeds:
        active |= _touched(feed, load.shape, sent[feed.source])
    by_core = (x.reshape(steps, samples, -1) for x in (operations, _through(active.astype(float), tiles), messages))
    return Work(*by_core)


def _linear(
    load: Load, plan: Plan, sent: dict[int, Array], consumers: list[tuple[Array, ...]], tiles: list[Array]
) -> tuple[Array, Array]:
    """Synaptic operations and messages (steps, N, tiles along channels, rows, columns)."""
    steps, samples = sent[IMAGE].shape[:2]
    grid = (steps, samples, *(len(one) for one in tiles))
    operations, messages = np.zeros(grid), np.zeros(grid)
    for feed, form in zip(load.feeds, plan.formats, strict=True):
        share = 1.0 if form == "dense" else feed.density
        operations += share * _through(sent[feed.source], targets(feed, load.shape, tiles))
    if load.layer in sent:
        for channels, rows, columns in consumers:
            messages += _through(sent[load.layer] * (channels[:, None, None] * rows[:, None] * columns), tiles)
    return operations, messages


def tile_members(load: Load, plan: Plan) -> list[Array]:
    """Of channels, rows, columns: (tiles, neurons), 1 where a tile has that channel, row or column."""
    return [
        np.array([[start <= at < stop for at in range(total)] for start, stop in chunks(total, size)], float)
        for total, size in zip(load.shape, plan.tile, strict=True)
    ]


def _taps(feed: Feed, axis: int, outputs: int) -> Array:
    """(outputs, sources): 1 where an output row (axis 0) or column (axis 1) reads a source's."""
    found = np.zeros((outputs, feed.box[1 + axis]))
    for out in range(outputs):
        for at, _ in positions(feed, axis, out):
            found[out, at] = 1
    return found


def targets(feed: Feed, shape: Box, tiles: list[Array]) -> list[Array]:
    """Of channels, rows, columns: (tiles, sources), how many of a tile's outputs a source reaches along that axis."""
    per_out, per_in = shape[0] // feed.groups, feed.box[0] // feed.groups
    groups = tiles[0].reshape(len(tiles[0]), feed.groups, per_out).sum(-1)
    rows, columns = (tiles[1 + axis] @ _taps(feed, axis, shape[1 + axis]) for axis in (0, 1))
    return [np.repeat(groups, per_in, axis=1), rows, columns]


def _through(x: Array, matrices: list[Array]) -> Array:
    """(steps, N, C, H, W) -> (steps, N, C', H', W') through a matrix along each of the last three axes."""
    channels, rows, columns = matrices
    x = rows @ (x @ columns.T)
    return np.moveaxis(np.tensordot(channels, x, axes=(1, 2)), 0, 2)


def _touched(feed: Feed, shape: Box, sent: NDArray[np.int8] | Array) -> NDArray[np.bool_]:
    """bool (steps, N, C, H, W): whether a neuron gets a spike through this feed."""
    steps, samples = sent.shape[:2]
    groups = sent.reshape(steps, samples, feed.groups, -1, *feed.box[1:]).max(3).astype(np.float32)
    rows, columns = (_taps(feed, axis, shape[1 + axis]) for axis in (0, 1))
    return np.repeat(rows @ (groups @ columns.T) > 0, shape[0] // feed.groups, axis=2)


def core_places(laid: Fit) -> dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Layer -> (column, row) of the mesh tile of each of its cores; beyond the last tile it begins again."""
    wide, high, per_tile = laid.chip["mesh"]
    places, first = {}, 0
    for plan in laid.plans:
        tile = np.arange(first, first + len(plan.cores)) // per_tile % (wide * high)
        places[plan.layer], first = (tile % wide, tile // wide), first + len(plan.cores)
    return places


def message_energy(laid: Fit, layer: int) -> float:
    """Mean energy of one spike of a layer to one core, in pJ: its own and that of the mean way's hops."""
    places, ways = core_places(laid), []
    for load in laid.loads:
        for feed in load.feeds:
            if feed.source == layer:
                pairs = zip(places[layer], places[load.layer], strict=True)
                ways.append([float(np.abs(a[:, None] - b).mean()) for a, b in pairs])
    if not ways:
        return 0.0
    return laid.chip["energy_spike"] + float(np.mean(ways, axis=0) @ laid.chip["energy_hop"])


def barrier_ns(laid: Fit) -> float:
    """Time in ns that all cores wait for one another at the end of a step, between the figures for one and all tiles.

    barrier = one + (all - one) * (tiles used - 1) / (tiles - 1)
    """
    wide, high, per_tile = laid.chip["mesh"]
    one, all_tiles = laid.chip["time_barrier"]
    used = min(-(-laid.cores // per_tile), wide * high)
    return one + (all_tiles - one) * (used - 1) / max(wide * high - 1, 1)


def sample_times(laid: Fit, works: dict[int, Work]) -> Array:
    """float64 (N,): latency of each sample by itself in ns."""
    chip, depth = laid.chip, max(load.depth for load in laid.loads)
    slowest: Array | None = None
    for load, plan in zip(laid.loads, laid.plans, strict=True):
        operations, active, messages = works[load.layer]
        neurons = np.array([core.usage.neurons for core in plan.cores])
        busy = operations * chip["time_synaptic_op"] + active * chip["time_update_active"]
        busy = busy + (neurons - active) * chip["time_update_inactive"] + messages * chip["time_spike"]
        idle = neurons.max() * chip["time_update_inactive"]
        times = np.full((laid.steps + depth - 1, busy.shape[1]), float(idle))
        times[load.depth - 1 : load.depth - 1 + laid.steps] = busy.max(2)
        slowest = times if slowest is None else np.maximum(slowest, times)
    assert slowest is not None
    return (slowest + barrier_ns(laid)).sum(0)
