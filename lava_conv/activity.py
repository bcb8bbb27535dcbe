"""What a network does on given images: spikes, synaptic operations, and the same task's operations as an ANN."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_conv.backends import run
from lava_conv.graph import Graph

MAC = 4  # synaptic operations that one multiply-accumulate is counted as (Zou et al. 2024)
CHUNK_SPIKES = 1 << 28  # spikes of all layers held at once (256 MiB)


@dataclass(frozen=True)
class LayerActivity:
    """Of one layer, per sample: spikes sent by its neurons (net count apart), and the operations that its input causes.

    synops: synapses passed by the spikes that arrive; stored: those whose weight is not 0. macs: multiply-accumulates
    of the same layer in an ANN, padding included. graded: the input is the image; the layer costs its MACs once.
    """

    index: int
    neurons: int
    positive: float
    negative: float
    synops: float
    stored: float
    macs: int
    graded: bool


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


def measure(
    graph: Graph,
    images: NDArray[np.uint8],
    steps: int | None = None,
    backend: str = "torch",
    progress: Callable[[int], Any] | None = None,
) -> Activity:
    """Run uint8 images (N, C, H, W) and count spikes and synaptic operations, as means per sample."""
    steps = graph.steps if steps is None else steps
    width = sum(int(np.prod(layer.shape)) for layer in graph.layers) * steps
    size = max(1, CHUNK_SPIKES // width)
    up = {i: np.zeros(layer.shape) for i, layer, neuron in graph.neuron_layers() if neuron.spiking}
    down = {i: np.zeros_like(x) for i, x in up.items()}
    for start in range(0, len(images), size):
        part = images[start : start + size]
        for index, spikes in run(graph, part, steps, backend).spikes.items():
            up[index] += (spikes > 0).sum((0, 1))
            down[index] += (spikes < 0).sum((0, 1))
        if progress:
            progress(len(part))
    layers = []
    for index, layer, neuron in graph.neuron_layers():
        synops, stored, macs, graded = 0.0, 0.0, 0, False
        for feed in graph.inputs(index):
            source = feed.source
            while graph.layers[source].kind == "flatten":
                source = graph.source(source)
            graded = graded or source == 0
            if source:
                sent = (up[source] + down[source]).reshape(graph.layers[feed.source].shape) / len(images)
                synops += float((sent * feed.synapse.fan_out(sent.shape)).sum())
                stored += float((sent * feed.synapse.fan_out(sent.shape, stored=True)).sum())
            macs += feed.synapse.fan_in * int(np.prod(layer.shape))
        positive, negative = (float(x[index].sum()) / len(images) if neuron.spiking else 0.0 for x in (up, down))
        neurons = int(np.prod(layer.shape))
        layers.append(LayerActivity(index, neurons, positive, negative, synops, stored, macs, graded))
    return Activity(tuple(layers), steps, len(images))
