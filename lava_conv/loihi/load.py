"""What the layers of a network ask of a chip, as plain numbers: the rules and the partitioner see nothing else.

Every synapse is written as a convolution: a dense layer on a source of C,H,W has the kernel (H, W), an identity is a
1x1 convolution with as many groups as channels. All counts are then products over channels, rows and columns.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lava_conv.lowering import Lowered
from lava_conv.lowering.layer_integers import PAYLOAD_BITS
from lava_conv.network.fixedpoint import INPUT_MESSAGE_BITS, SPIKE_MESSAGE_BITS
from lava_conv.network.graph import Graph
from lava_conv.network.synapses import Conv, Dense, Identity, Shape, Synapse

Box = tuple[int, int, int]  # channels, rows, columns
SIGMA_DELTA_STATES = 3  # sigma, act, residue
IMAGE = 0  # the layer that is the image: it comes from outside and takes no core


class Feed(NamedTuple):
    """One synapse into a layer.

    Fields:
        source: index of the layer whose spikes it carries, flatten layers skipped; IMAGE for the image.
        kind: conv, dense or identity.
        box: C,H,W of the source.
        kernel: (rows, columns).
        stride: (rows, columns).
        padding: (rows, columns).
        dilation: (rows, columns).
        groups: as in PyTorch.
        weights: how many, each stored once.
        nonzero: those that are not 0.
        weight_min: the least weight.
        weight_max: the largest.
        payload_bits: of a spike it carries, sign included.
        delay: extra time steps that align it with other paths.
    """

    source: int
    kind: str
    box: Box
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    weights: int
    nonzero: int
    weight_min: int
    weight_max: int
    payload_bits: int
    delay: int

    @property
    def weight_bits(self) -> int:
        """Bits that hold every weight: two's complement, without a sign bit where all have the same sign."""
        return signed_bits(self.weight_min, self.weight_max)

    @property
    def fan_in(self) -> int:
        """Synapses of one neuron, those on padding included."""
        return self.box[0] // self.groups * self.kernel[0] * self.kernel[1]

    @property
    def density(self) -> float:
        """Share of the weights that are not 0."""
        return self.nonzero / self.weights


class Load(NamedTuple):
    """One layer of neurons.

    Fields:
        layer: its index in the network.
        kind: conv or dense.
        neuron: its type.
        shape: C,H,W; a flat layer is (n, 1, 1).
        depth: most synapses between it and the image; its window starts that many steps after the image's, less one.
        feeds: its synapses.
        state_bits: proven to hold its membrane potential and the input of one step, sign included.
        state_variables: of each neuron.
        programmable: whether it needs more than a leaky integrate-and-fire neuron.
    """

    layer: int
    kind: str
    neuron: str
    shape: Box
    depth: int
    feeds: tuple[Feed, ...]
    state_bits: int
    state_variables: int
    programmable: bool

    @property
    def neurons(self) -> int:
        """How many the layer has."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def synapses(self) -> int:
        """Connections after unrolling, none from padding."""
        return sum(connections(feed, self.shape) for feed in self.feeds)

    @property
    def weights(self) -> int:
        """Weights of all its synapses, those of a shared kernel counted once."""
        return sum(feed.weights for feed in self.feeds)

    @property
    def fan_in(self) -> int:
        """Synapses of one neuron over all feeds, those on padding included."""
        return sum(feed.fan_in for feed in self.feeds)


def signed_bits(low: int, high: int) -> int:
    """Bits of an integer in low..high: two's complement, or the magnitude alone if no two signs occur; at least 1."""
    if low < 0 < high:
        return max((-low - 1).bit_length(), high.bit_length()) + 1
    return max((-low).bit_length() if low < 0 else high.bit_length(), 1)


def positions(feed: Feed, axis: int, out: int) -> list[tuple[int, int]]:
    """(source position, tap) pairs that an output position reads along rows (axis 0) or columns (axis 1)."""
    start = out * feed.stride[axis] - feed.padding[axis]
    taps = ((start + tap * feed.dilation[axis], tap) for tap in range(feed.kernel[axis]))
    return [(at, tap) for at, tap in taps if 0 <= at < feed.box[1 + axis]]


def connections(feed: Feed, shape: Box) -> int:
    """Synapses of `feed` into a layer of `shape` (C,H,W)."""
    rows, columns = (sum(len(positions(feed, axis, out)) for out in range(shape[1 + axis])) for axis in (0, 1))
    return shape[0] * (feed.box[0] // feed.groups) * rows * columns


def network_loads(graph: Graph, steps: int | None = None) -> tuple[Load, ...]:
    """The loads of a graph's neuron layers, with bounds proven for `steps` time steps (default: the graph's)."""
    bounds, depths, found = graph.bounds(steps), graph.depths(), []
    for index, layer, neuron in graph.neuron_layers():
        feeds = []
        for one in graph.inputs(index):
            source = graph.origin(one.source)
            unipolar = source != IMAGE and getattr(graph.layers[source].params, "unipolar", 0)
            payload = INPUT_MESSAGE_BITS if source == IMAGE else 1 if unipolar else SPIKE_MESSAGE_BITS
            delay = depths[index] - 1 - depths[one.source]
            feeds.append(make_feed(source, one.synapse, box_of(graph.layers[source].shape), payload, delay))
        b = bounds[index]
        low, high = int(b.v_min.min()), int(b.v_max.max())
        found.append(
            Load(
                layer=index,
                kind=layer.kind,
                neuron=layer.neuron,
                shape=box_of(layer.shape),
                depth=depths[index],
                feeds=tuple(feeds),
                state_bits=signed_bits(min(low, -b.step_max, -1), max(high, b.step_max, 1)),
                state_variables=len(inspect.signature(neuron.State).parameters),
                programmable=neuron.spiking,  # a readout that only adds up is a leaky neuron without leak
            )
        )
    return tuple(found)


def lowered_loads(lowered: Lowered) -> tuple[Load, ...]:
    """The loads of a network lowered to SigmaDelta neurons, its stages numbered from 1; constants come from outside."""
    shape, found = lowered.input_shape, []
    for number, stage in enumerate(lowered.stages, 1):
        low, high = lowered.bounds(number - 1)
        kind = stage.synapse.file_type
        feeds = (make_feed(number - 1, stage.synapse, box_of(shape), PAYLOAD_BITS, delay=0),)
        bits, states = signed_bits(min(low, -1), max(high, 1)), 1 if stage.readout else SIGMA_DELTA_STATES
        neuron = "Sigma" if stage.readout else "SigmaDelta"
        found.append(
            Load(number, kind, neuron, box_of(stage.shape), number, feeds, bits, states, programmable=not stage.readout)
        )
        shape = stage.shape
    return tuple(found)


def box_of(shape: Shape) -> Box:
    """C,H,W of a layer; a flat one is (n, 1, 1)."""
    channels, rows, columns = (*shape, 1, 1)[:3]
    return channels, rows, columns


def make_feed(source: int, synapse: Synapse, box: Box, payload_bits: int, delay: int) -> Feed:
    """A synapse from a source of shape `box` as a Feed."""
    geometry = GEOMETRY[type(synapse)](synapse, box)
    weight = geometry.weight
    return Feed(
        source=source,
        kind=geometry.kind,
        box=box,
        kernel=geometry.kernel,
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        groups=geometry.groups,
        weights=weight.size,
        nonzero=int(np.count_nonzero(weight)),
        weight_min=int(weight.min()),
        weight_max=int(weight.max()),
        payload_bits=payload_bits,
        delay=delay,
    )


class Geometry(NamedTuple):
    """A synapse as a convolution; `weight` holds every weight that is stored, once."""

    kind: str
    weight: np.ndarray
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


GEOMETRY: dict[type, Callable[[Any, Box], Geometry]] = {
    Conv: lambda s, box: Geometry("conv", s.weight, s.weight.shape[2:], s.stride, s.padding, s.dilation, s.groups),
    Dense: lambda s, box: Geometry("dense", s.weight, box[1:]),
    Identity: lambda s, box: Geometry("identity", np.array(s.scale), (1, 1), groups=box[0]),
}
