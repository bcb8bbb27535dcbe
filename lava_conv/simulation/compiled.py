"""The simulator on a CPU: spikes as bytes, channels last, an image after the other; sums by events or by int8 products.

Each chunk runs in one thread from the first layer to the last. Where one synapse feeds a layer and spikes are few, one
compiled loop gathers them and runs the neuron; otherwise the sums of all steps are formed first.
"""

import weakref
from collections.abc import Sequence
from threading import Lock, local
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lava_conv.kernels import events
from lava_conv.kernels.neuron import arguments, compiled, tally
from lava_conv.network.fixedpoint import INPUT_MAX
from lava_conv.network.graph import Graph, Skip
from lava_conv.network.neurons import Neuron
from lava_conv.network.synapses import Weighted
from lava_conv.simulation.dense import Int8, int8_exact, int8_works, sums
from lava_conv.simulation.fire import fire
from lava_conv.simulation.tensors import Part, simulate_chunk

# Share of neurons that spike in a step, below which gathering events is faster than the dense product. Measured on one
# thread with AVX-512: events 50 to 60, int8 150 to 220, float32 50 to 65 billion synapses a second.
FEW = {"int8": 0.3, "float": 0.6}


class Frames(NamedTuple):
    """What a layer sends: (images, frames, pixels, channels) in C order; int8 spikes, or the image as one frame."""

    values: NDArray[np.integer]
    width: int  # pixels in a row


Sent = Sequence[Frames | None]  # by layer; None where no later layer reads it


class Rooms(local):
    """Memory of one thread, by layer."""

    def __init__(self) -> None:
        self.by_layer: dict[int, NDArray[np.signedinteger]] = {}


class Prepared:
    """A graph's weights in the forms that the kernels read, made when first needed and kept while the graph lives."""

    def __init__(self) -> None:
        self.lock = Lock()  # the threads that run chunks prepare each synapse once
        self.plans: dict[int, events.Plan | None] = {}
        self.int8: dict[int, Int8] = {}

    def plan(self, synapse: Weighted, shape: tuple[int, ...]) -> events.Plan | None:
        """How the events of a source of `shape` are gathered; None where this synapse cannot be."""
        with self.lock:
            if id(synapse) not in self.plans:
                self.plans[id(synapse)] = events.plan(synapse, shape)
            return self.plans[id(synapse)]

    def product(self, synapse: Weighted, batch: torch.Tensor) -> torch.Tensor:
        """The sums float32 (B, O, H', W') of int8 spikes (B, C, H, W), exact."""
        with self.lock:
            if id(synapse) not in self.int8:
                self.int8[id(synapse)] = Int8(synapse)
            ready = self.int8[id(synapse)].ready(batch)
        return ready()


_prepared: dict[int, Prepared] = {}


def prepared(graph: Graph) -> Prepared:
    """The graph's own; gone with it. (By id, for graphs compare by value and so have no hash.)"""
    if id(graph) not in _prepared:
        _prepared[id(graph)] = Prepared()
        weakref.finalize(graph, _prepared.pop, id(graph), None)
    return _prepared[id(graph)]


class Network:
    """A graph made ready: called with uint8 images (n, C, H, W), gives their logits, counts (channels last), spikes.

    Args:
        graph: the network.
        steps: time steps a sample.
        keep_spikes: whether spikes are kept.
        method: how sums are formed, see `lava_conv.simulation.simulate`.
    """

    def __init__(self, graph: Graph, steps: int, keep_spikes: bool, method: str) -> None:
        self.graph, self.steps, self.keep_spikes, self.method = graph, steps, keep_spikes, method
        self.compiled = all(compiled(graph.neuron(i), narrow=True) for i, _, _ in graph.neuron_layers())
        self.last_use = graph.last_uses()
        self.weights = prepared(graph)
        self.rooms = Rooms()

    def __call__(self, images: NDArray[np.uint8]) -> Part:
        if not self.compiled:  # a neuron that numba cannot compile
            logits, counts, kept = simulate_chunk(self.graph, torch.tensor(images), self.steps, self.keep_spikes)
            return logits, {i: np.moveaxis(c, 1, -1) for i, c in counts.items()}, kept
        graph, count = self.graph, len(images)
        values: list[Frames | None] = [_channels_last(images[:, None])]
        counts: dict[int, NDArray[np.integer]] = {}
        kept: dict[int, NDArray[np.int8]] = {}
        logits = np.zeros(0, np.int64)
        for index, layer in enumerate(graph.layers[1:], 1):
            if layer.is_view:
                values.append(_flatten(_sent(values, graph.source(index)), graph.layers[graph.source(index)].shape))
            else:
                spikes = self._layer(index, values, count)
                values.append(Frames(spikes, layer.shape[-1] if len(layer.shape) == 3 else 1))
                if not graph.neuron(index).spiking:
                    logits = spikes[:, :, 0].transpose(1, 0, 2).astype(np.int64)
                else:
                    counts[index] = self._counts(spikes, layer.shape)
                    if self.keep_spikes:
                        kept[index] = _channels_first(spikes, layer.shape)
            for done in [i for i, use in self.last_use.items() if use == index]:
                values[done] = None  # no later layer reads it
        return logits, counts, kept

    def _layer(self, index: int, values: Sent, count: int) -> NDArray[np.signedinteger]:
        """The spikes (n, T, P, C) of a layer."""
        graph, layer, neuron = self.graph, self.graph.layers[index], self.graph.neuron(index)
        channels, pixels = layer.shape[0], int(np.prod(layer.shape[1:]))
        out = self._room(index, (count, self.steps, pixels, channels), np.int8 if neuron.spiking else np.int32)
        feeds = graph.inputs(index)
        if len(feeds) == 1 and self._sparse(feeds[0], values):
            self._gather(feeds[0], values, neuron, out, layer.params)
            return out
        drive = self._drive(feeds, values, index, out.shape)
        hold = int(graph.input_code == "constant")
        return fire(neuron, layer.params, drive, self.steps, hold, out)

    def _drive(self, feeds: tuple[Skip, ...], values: Sent, index: int, shape: tuple[int, ...]) -> NDArray[np.number]:
        """Sums (n, frames, P, C) of all synapses; one frame if only the image comes in."""
        if len(feeds) == 1:
            return self._sums(feeds[0], values, shape)
        total = np.zeros(shape, np.int32)
        for feed in feeds:
            part = self._sums(feed, values, shape)
            if part.shape[1] == 1 and self.graph.input_code != "constant":
                total[:, :1] += part.astype(np.int32)
            else:
                total += part.astype(np.int32)
        return total

    def _sums(self, feed: Skip, values: Sent, shape: tuple[int, ...]) -> NDArray[np.number]:
        frames = _sent(values, feed.source)
        synapse = feed.synapse
        kernel = synapse.kernel
        if kernel is None:
            return sums(synapse, torch.from_numpy(frames.values), 1).numpy()
        if self._sparse(feed, values):
            out = np.empty((*frames.values.shape[:2], *shape[2:]), np.int32)
            self._gather(feed, values, None, out, None)
            return out
        n, t, pixels, channels = frames.values.shape
        image = frames.values.dtype == np.uint8
        batch = torch.from_numpy(frames.values.reshape(n * t, pixels // frames.width, frames.width, channels))
        batch = batch.permute(0, 3, 1, 2)
        if not image and int8_exact(kernel, tuple(batch.shape[1:])):
            found = self.weights.product(kernel, batch)
        else:
            found = sums(kernel, batch, INPUT_MAX if image else 1)
        if found.ndim == 4:
            found = found.permute(0, 2, 3, 1)
        return found.reshape(n, t, *shape[2:]).contiguous().numpy()

    def _sparse(self, feed: Skip, values: Sent) -> bool:
        """Whether to gather the events of this synapse, by what was asked for or by how many there are."""
        frames = _sent(values, feed.source)
        if self.method == "dense" or feed.synapse.kernel is None or frames.values.dtype == np.uint8:
            return False
        if self.method == "auto":
            share = np.count_nonzero(frames.values) / max(1, frames.values.size)
            if share > FEW["int8" if int8_works() else "float"]:
                return False
        return self._plan(feed) is not None

    def _plan(self, feed: Skip) -> events.Plan | None:
        kernel = feed.synapse.kernel
        return None if kernel is None else self.weights.plan(kernel, self.graph.layers[feed.source].shape)

    def _gather(
        self,
        feed: Skip,
        values: Sent,
        neuron: Neuron | None,
        out: NDArray[np.signedinteger],
        params: "NamedTuple | None",
    ) -> None:
        plan = self._plan(feed)
        assert plan is not None
        frames = _sent(values, feed.source)
        images, steps, pixels, channels = frames.values.shape
        spikes = frames.values.reshape(images, steps * pixels, channels)
        index, starts = events.room(images, steps * pixels, np.count_nonzero(spikes))
        group = events.grouped(plan)
        acc = np.empty((steps, 1, group * plan.block), plan.acc)
        states = arguments(neuron, params, group * out.shape[3]) if neuron else ((), (), ())
        layer = events.gather(neuron, plan.block, plan.bits)
        layer(
            spikes, index, starts, plan.weight, plan.geometry, group,
            out.reshape(images, steps, -1, group * out.shape[3]), acc, *states,
        )  # fmt: skip

    def _room(self, index: int, shape: tuple[int, ...], kind: type[np.signedinteger]) -> NDArray[np.signedinteger]:
        """Memory that a thread uses again for every chunk: fresh pages cost as much as the spikes in them."""
        rooms = self.rooms.by_layer
        size = int(np.prod(shape))
        if index not in rooms or rooms[index].size < size:
            rooms[index] = np.empty(size, kind)
        return rooms[index][:size].reshape(shape)

    def _counts(self, spikes: NDArray[np.int8], shape: tuple[int, ...]) -> NDArray[np.signedinteger]:
        """Channels last."""
        counts = np.empty((len(spikes), *shape[1:], shape[0]), np.min_scalar_type(-self.steps - 1))
        tally(spikes.reshape(len(spikes), self.steps, -1), counts.reshape(len(spikes), -1))
        return counts


def _sent(values: Sent, layer: int) -> Frames:
    frames = values[layer]
    assert frames is not None, "forgotten before its last use"
    return frames


def _channels_last(images: NDArray[np.uint8]) -> Frames:
    """(n, 1, C, H, W) -> (n, 1, H*W, C)."""
    n, _, channels, height, width = images.shape
    values = np.ascontiguousarray(images.transpose(0, 1, 3, 4, 2)).reshape(n, 1, height * width, channels)
    return Frames(values, width)


def _channels_first(spikes: NDArray[np.int8], shape: tuple[int, ...]) -> NDArray[np.int8]:
    """(n, T, P, C) -> (T, n, C, H, W) or (T, n, C)."""
    n, steps = spikes.shape[:2]
    return np.ascontiguousarray(spikes.transpose(1, 0, 3, 2)).reshape(steps, n, *shape)


def _flatten(frames: Frames, shape: tuple[int, ...]) -> Frames:
    """To one pixel whose channels are in the order C,H,W."""
    n, steps = frames.values.shape[:2]
    values = np.ascontiguousarray(frames.values.transpose(0, 1, 3, 2)).reshape(n, steps, 1, -1)
    return Frames(values, 1)
