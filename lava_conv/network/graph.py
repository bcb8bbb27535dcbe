"""The integer network as data: its layers, and how they are connected."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lava_conv.classes import class_count
from lava_conv.errors import ConversionError
from lava_conv.network import bounds, reference, summary
from lava_conv.network.bounds import LayerBounds
from lava_conv.network.fixedpoint import INPUT_BITS, STEPS_LIMIT
from lava_conv.network.neurons import NEURONS, Neuron, map_channels
from lava_conv.network.neurons.base import Values
from lava_conv.network.synapses import OWN, Shape, Synapse, Weighted, same_synapse
from lava_conv.progress import Progress
from lava_conv.record import Record

Number = TypeVar("Number", bound=np.generic)
INPUT_CODES = ("flash", "constant")
INPUT = "input"
VIEWS: dict[str, Callable[[Shape], Shape]] = {"flatten": lambda before: (math.prod(before),)}  # kind -> its shape


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
    synapse: Weighted | None = None
    neuron: str = ""
    params: Values = None
    skips: tuple[Skip, ...] = ()
    source: int | None = None

    @property
    def is_input(self) -> bool:
        """Whether it is the image."""
        return self.kind == INPUT

    @property
    def is_view(self) -> bool:
        """Whether it only rearranges what it reads: no synapse, no neurons, no time."""
        return self.kind in VIEWS

    def view(self, values: NDArray[Number]) -> NDArray[Number]:
        """What it reads, (N, ...), as the next layer sees it, (N, *shape); of a view."""
        return values.reshape(len(values), *self.shape)

    def view_channels(self, values: NDArray[Number], before: Shape) -> NDArray[Number]:
        """One value per channel of the layer before, whose shape is `before`, as one per channel of this view."""
        return np.repeat(values, math.prod(before[1:]))


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
        if not self.layers[0].is_input:
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
        if layer.is_view:
            expected = VIEWS[layer.kind](before)
        elif isinstance(layer.synapse, OWN.get(layer.kind, ())):
            expected = layer.synapse.output_shape(before)
        else:
            raise ConversionError(f"type is {layer.kind!r}, allowed are conv, dense and flatten")
        if tuple(layer.shape) != expected:
            raise ConversionError(f"shape is {tuple(layer.shape)}, but input and weight make it {expected}")
        last = index == len(self.layers) - 1
        if layer.is_view:
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
        while self.layers[index].is_view:
            index = self.source(index)
        return index

    def depths(self) -> tuple[int, ...]:
        """Per layer, most synapses between it and the image; in Lava its window starts that much later."""
        depths = [0]
        for index, layer in enumerate(self.layers[1:], 1):
            if layer.is_view:
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
            for source in (self.source(index),) if layer.is_view else (s.source for s in self.inputs(index)):
                last[source] = index
        return last

    # -- what is known about it: see bounds.py, reference.py and summary.py ------------------------------------------

    def bounds(self, steps: int | None = None) -> dict[int, LayerBounds]:
        """What every layer can reach within `steps` steps (default: the graph's): `lava_conv.network.bounds.bounds`."""
        return bounds.bounds(self, steps)

    def check(self, steps: int | None = None) -> None:
        """Prove that every state fits 24 bits, once per `steps`: `lava_conv.network.bounds.check`.

        Raises:
            RangeError: one could leave them.
        """
        steps = self.steps if steps is None else steps
        if not isinstance(steps, int | np.integer) or steps not in self._checked:  # a graph does not change
            bounds.check(self, steps)
            self._checked.add(steps)

    def reference(self, images: NDArray[np.uint8], progress: Progress | None = None) -> Record:
        """The settled counts and logits of uint8 images (N, C, H, W): `lava_conv.network.reference.reference`."""
        return reference.reference(self, images, progress)

    def summary(self) -> str:
        """A table of the layers as text: `lava_conv.network.summary.summary`."""
        return summary.summary(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        mine = (self.steps, self.input_code, self.labels, len(self.layers))
        return mine == (other.steps, other.input_code, other.labels, len(other.layers)) and all(
            _same_layer(a, b) for a, b in zip(self.layers, other.layers, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]


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
