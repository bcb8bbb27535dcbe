"""What a network does on given images: spikes, synaptic operations, and the same task's operations as an ANN.

This is the one definition of both, after Zou et al. 2024, and everything that states a ratio takes it from here:

    synaptic operations   one per spike and synapse that it passes, weights of 0 included; a layer that reads the image
                          works as in the ANN and counts MAC per multiply-accumulate
    ANN's operations      MAC per multiply-accumulate, those on padding included
    ratio                 ANN's operations / synaptic operations

What a chip does for them is another count, in `lava_conv.loihi.cost`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lava_conv.arguments import graph_of, whole
from lava_conv.backends import run
from lava_conv.errors import DataError
from lava_conv.network.graph import Graph
from lava_conv.progress import Progress
from lava_conv.record import Record

MAC = 4  # synaptic operations that one multiply-accumulate is counted as (Zou et al. 2024)
CHUNK_SPIKES = 1 << 26  # spikes of all layers held at once (64 MiB)
CHUNK = 128  # images at once, at most


@dataclass(frozen=True)
class LayerActivity:
    """What one layer does, as means per sample: spikes that it sends, and operations that its input causes.

    Fields:
        index: of the layer.
        neurons: how many.
        positive: spikes +1 sent by all its neurons.
        negative: spikes -1.
        synops: synapses passed by the spikes that arrive.
        stored: of these, the synapses whose weight is not 0.
        macs: multiply-accumulates of the same layer in an ANN, padding included.
        graded: whether the image is among its inputs; the layer then costs its MACs once.
        positive_by_step: what `positive` is made of, step by step.
        negative_by_step: the same of `negative`.
    """

    index: int
    neurons: int
    positive: float
    negative: float
    synops: float
    stored: float
    macs: int
    graded: bool
    positive_by_step: tuple[float, ...]
    negative_by_step: tuple[float, ...]


@dataclass(frozen=True)
class Activity:
    """The layers, and their totals per sample."""

    layers: tuple[LayerActivity, ...]
    steps: int
    samples: int

    @property
    def positive(self) -> float:
        """Positive spikes per spiking neuron."""
        return sum(x.positive for x in self.layers) / self._neurons

    @property
    def negative(self) -> float:
        """Negative spikes per spiking neuron."""
        return sum(x.negative for x in self.layers) / self._neurons

    @property
    def _neurons(self) -> int:
        return sum(x.neurons for x in self.layers[:-1])

    @property
    def synops(self) -> float:
        """Synaptic operations; the image's frame counts MAC operations for each multiply-accumulate."""
        return sum(MAC * x.macs if x.graded else x.synops for x in self.layers)

    @property
    def stored(self) -> float:
        """As `synops`, without the spikes' synapses of weight 0."""
        return sum(MAC * x.macs if x.graded else x.stored for x in self.layers)

    @property
    def ann(self) -> int:
        """Operations of the ANN, MAC for each multiply-accumulate."""
        return MAC * sum(x.macs for x in self.layers)

    @property
    def ratio(self) -> float:
        """How many times as many operations the ANN needs."""
        return self.ann / self.synops

    def __str__(self) -> str:
        return (
            f"{self.synops:,.0f} synaptic operations per image, {self.ann:,} of the same network as an ANN ({MAC} per "
            f"multiply-accumulate, in the first layer of both): {self.ratio:.2f} times as many"
        )

    def as_json(self) -> dict[str, float]:
        """The totals in types that json writes."""
        return {
            "synaptic_operations": self.synops, "ann_operations": self.ann, "ratio": self.ratio,
            "positive_spikes_per_neuron": self.positive, "negative_spikes_per_neuron": self.negative,
        }  # fmt: skip


class Meter:
    """Adds up what a graph did, record by record.

    Args:
        graph: the network that the records are of.
        steps: time steps that count, default the graph's.
    """

    def __init__(self, graph: Graph, steps: int | None = None) -> None:
        self.graph, self.samples = graph_of(graph), 0
        self.steps = graph.steps if steps is None else whole(steps, "steps")
        shapes = {i: layer.shape for i, layer, neuron in graph.neuron_layers() if neuron.spiking}
        self._up = {i: np.zeros(shape) for i, shape in shapes.items()}
        self._down = {i: np.zeros(shape) for i, shape in shapes.items()}
        self._by_step = {i: np.zeros((2, self.steps)) for i in shapes}

    def add(self, record: Record) -> None:
        """Count a record with spikes, its first `steps` steps.

        Raises:
            DataError: the record holds no spikes, or fewer steps.
        """
        if not record.has_spikes or record.steps < self.steps:
            raise DataError(f"needed is a record with spikes of {self.steps} steps; run with record_spikes=True")
        for index, spikes in record.spikes.items():
            used = spikes[: self.steps]
            for row, kept in enumerate((self._up, self._down)):
                sent = used > 0 if row == 0 else used < 0
                self._by_step[index][row] += [np.count_nonzero(one) for one in sent]
                kept[index] += _column_sums(sent.reshape(-1, kept[index].size)).reshape(kept[index].shape)
        self.samples += record.logits.shape[1]

    def result(self) -> Activity:
        """Means per sample of all that was added."""
        layers = tuple(self._layer(index) for index, _, _ in self.graph.neuron_layers())
        return Activity(layers, self.steps, self.samples)

    def _layer(self, index: int) -> LayerActivity:
        graph, synops, stored, macs, graded = self.graph, 0.0, 0.0, 0, False
        neurons = int(np.prod(graph.layers[index].shape))
        for feed in graph.inputs(index):
            source = graph.origin(feed.source)
            graded = graded or source == 0
            if source:
                shape = graph.layers[feed.source].shape
                sent = (self._up[source] + self._down[source]).reshape(shape) / self.samples
                synops += float((sent * feed.synapse.fan_out(shape)).sum())
                stored += float((sent * feed.synapse.fan_out(shape, stored=True)).sum())
            macs += feed.synapse.fan_in * neurons
        by_step = self._by_step.get(index, np.zeros((2, self.steps)))
        positive, negative = (by_step.sum(1) / self.samples).tolist()
        up, down = (tuple(row) for row in (by_step / self.samples).tolist())
        return LayerActivity(index, neurons, positive, negative, synops, stored, macs, graded, up, down)


def _column_sums(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Sums of each column of bool (rows, columns), in bytes as long as they hold it: ten times as fast as in int64."""
    total, block = np.zeros(flags.shape[1], np.int64), np.iinfo(np.uint8).max
    for start in range(0, len(flags), block):
        total += flags[start : start + block].view(np.uint8).sum(0, dtype=np.uint8)
    return total


def measure(
    graph: Graph,
    images: NDArray[np.uint8],
    steps: int | None = None,
    backend: str = "torch",
    progress: Progress | None = None,
) -> Activity:
    """Run images and count spikes and synaptic operations, as means per sample.

    Args:
        graph: the network.
        images: uint8 (N, C, H, W).
        steps: time steps a sample, default graph.steps.
        backend: on which the spikes are computed.
        progress: called after each chunk with the images done and their total.

    Raises:
        DataError: the images are not the network's.
    """
    meter = Meter(graph, steps)
    spikes = sum(int(np.prod(layer.shape)) for layer in graph.layers) * meter.steps
    size = max(1, min(CHUNK, CHUNK_SPIKES // spikes))
    for start in range(0, len(images), size):
        part = images[start : start + size]
        meter.add(run(graph, part, meter.steps, backend, record_spikes=True))
        if progress:
            progress(start + len(part), len(images))
    return meter.result()
