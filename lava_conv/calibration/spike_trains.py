"""The spikes of the layers that are done, exactly those of the finished network: its own integers, layer by layer."""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from lava_conv.calibration.layout import from_rows, to_rows
from lava_conv.conversion.algebra import Spikes
from lava_conv.conversion.builder import Builder
from lava_conv.frontends.module import Reader
from lava_conv.network.fixedpoint import INPUT_MAX
from lava_conv.network.graph import Skip
from lava_conv.network.neurons import NEURONS
from lava_conv.qat.evaluation import exact
from lava_conv.simulation.dense import sums
from lava_conv.simulation.fire import fire


class Trains:
    """Spike trains int8 (N, T, P, C) by layer of the graph that is being made.

    Args:
        traced: the model that is calibrated; layers are made of it as it is when they are asked for.
        images: uint8 (N, C, ...).
        steps: time steps of a sample.
        spread: the image comes at every step.
        most: steps for which bounds and thresholds are proven.
    """

    def __init__(self, traced: fx.GraphModule, images: torch.Tensor, steps: int, spread: bool, most: int) -> None:
        self.traced, self.steps, self.spread = traced, steps, spread
        frame = images if images.ndim == 4 else images[:, :, None]
        self.image = frame.float()
        repeats = steps if spread else 1
        self.builder = Builder(tuple(frame.shape[1:]), most, round_thresholds=True, repeats=repeats)
        self.reader = Reader(tuple(images.shape[1:]))
        self.spikes: dict[int, NDArray[np.int8]] = {}

    def make(self, node: fx.Node, chunk: int) -> NDArray[np.int8]:
        """Make the layers of a quantiser and run them; the spikes of its channels, joined.

        Args:
            node: of the quantiser; all that it reads is made.
            chunk: images at a time.

        Returns:
            int8 (N, T, P, C): images, steps, pixels, channels.
        """
        self._build(node, cast(fx.GraphModule, exact(self.traced)))  # the modules as they are now, in float64
        spikes = self._spikes(node)
        for part in spikes.parts:
            self.spikes[part.layer] = self._trains(part.layer, chunk)
        parts = [self.spikes[part.layer] for part in spikes.parts]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=3)

    def _build(self, node: fx.Node, model: fx.GraphModule) -> None:
        """Make the layers of a node, those of the nodes before it first."""
        if node.name not in self.builder.values:
            for before in node.all_input_nodes:
                self._build(before, model)
            self.builder.add(self.reader.read(model, node))

    def _spikes(self, node: fx.Node) -> Spikes:
        spikes = self.builder.values[node.name]
        assert isinstance(spikes, Spikes)
        return spikes

    def _trains(self, index: int, chunk: int) -> NDArray[np.int8]:
        """Of one layer; written in place, for two copies may be larger than the memory."""
        first = self._run(index, slice(0, chunk))
        trains = np.empty((len(self.image), *first.shape[1:]), first.dtype)
        trains[: len(first)] = first
        for i in range(len(first), len(trains), chunk):
            trains[i : i + chunk] = self._run(index, slice(i, i + chunk))
        return trains

    def forget(self, node: fx.Node) -> None:
        """No later layer reads it."""
        for part in self._spikes(node).parts:
            self.spikes.pop(part.layer, None)

    def _run(self, index: int, part: slice) -> NDArray[np.int8]:
        layer = self.builder.layers[index]
        assert layer.synapse is not None
        feeds = (Skip(index - 1 if layer.source is None else layer.source, layer.synapse), *layer.skips)
        drives = [self._drive(feed, part) for feed in feeds]
        total = np.zeros((*drives[0].shape[:1], max(len(d[0]) for d in drives), *drives[0].shape[2:]), np.int32)
        for drive in drives:
            total[:, : total.shape[1] if self.spread else drive.shape[1]] += drive
        return fire(
            NEURONS[layer.neuron], layer.params, total, self.steps, int(self.spread), threads=torch.get_num_threads()
        )

    def _drive(self, feed: Skip, part: slice) -> NDArray[np.int32]:
        """(n, frames, P, C): what one synapse brings in each step; one frame if it is the image."""
        source, flat = feed.source, False
        while self.builder.layers[source].is_view:
            before = self.builder.layers[source].source
            source, flat = source - 1 if before is None else before, True
        if source == 0:
            values, frames, payload = self.image[part], 1, INPUT_MAX
        else:
            spikes = self.spikes[source][part]
            frames, payload = self.steps, 1
            rows = torch.from_numpy(spikes.reshape(-1, *spikes.shape[2:]))
            values = from_rows(rows, self.builder.layers[source].shape).float()
        values = values.flatten(1) if flat else values
        found = sums(feed.synapse, values, payload)
        drive = to_rows(found).astype(np.int32)
        return drive.reshape(-1, frames, *drive.shape[1:])
