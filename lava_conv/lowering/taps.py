"""The taps of a layer's own synapse: through them comes everything that a layer of the lowered network reads.

A stage has one synapse, so the weights of all inputs, of shortcuts and of constants are laid on the taps of one kernel.
The taps of a convolution are the positions of its kernel, those of a dense synapse all positions of what it reads.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import ConversionError
from lava_conv.network.synapses import Conv, Dense, Shape, Synapse, Weighted

Ints = NDArray[np.int64]


class Taps(Protocol):
    """What a layer's own synapse, reading an output of a given shape, does with the positions that it reads."""

    shape: Shape  # of the taps
    stride: tuple[int, int]

    def block(self, synapse: Synapse, weight: Ints, source: Shape, step: tuple[int, int]) -> Ints:
        """The weights of one input on these taps: (O, channels, *taps).

        Args:
            synapse: of the graph, whose geometry the weights have.
            weight: its integers in 64ths, a row for each neuron: (O, I/groups, kH, kW), (O, I), or (O,) of an identity.
            source: shape of what it reads, in the graph.
            step: every how many-th row and column of it arrives here.

        Raises:
            ConversionError: it reads pixels that the layer's own synapse does not.
        """
        ...

    def centre(self) -> tuple[int, ...]:
        """The tap that reads the pixel at the output's own place.

        Raises:
            ConversionError: there is none.
        """
        ...

    def inner(self) -> tuple[int, ...]:
        """A tap that never reads padding: constants come in there.

        Raises:
            ConversionError: there is none.
        """
        ...

    def synapse(self, kernel: Ints) -> Weighted:
        """The layer's own synapse with other weights (O, channels, *taps)."""
        ...


NO_CENTRE = "no tap of its kernel reads the pixel at the output's own place, so that no shortcut can pass it"


class ConvTaps:
    """The taps of a convolution."""

    def __init__(self, main: Conv, before: Shape) -> None:
        self.main, self.before = main, before
        self.shape: Shape = main.weight.shape[2:]
        self.stride = main.stride

    def block(self, synapse: Synapse, weight: Ints, source: Shape, step: tuple[int, int]) -> Ints:
        conv = synapse.with_rows(weight).as_events()
        alone = conv.weight.shape[2:] == (1, 1) and conv.padding == (0, 0)
        stride = tuple(a * b for a, b in zip(step, self.stride, strict=True))
        if stride != conv.stride or (step != (1, 1) and not alone):
            raise ConversionError(
                f"an input with stride {conv.stride} and a kernel of {conv.weight.shape[2:]} reads pixels that the "
                f"layers in between, with strides of {step} in all, do not carry"
            )
        full = np.zeros((len(weight), source[0], *self.shape), np.int64)
        rows, columns = (self._same_taps(conv, axis) for axis in (0, 1))
        inputs, outputs = conv.weight.shape[1], len(weight) // conv.groups
        for group in range(conv.groups):
            here = slice(group * outputs, (group + 1) * outputs)
            there = np.arange(group * inputs, (group + 1) * inputs)
            full[here, there[:, None, None], rows[:, None], columns] = conv.weight[here]
        return full

    def _same_taps(self, conv: Conv, axis: int) -> Ints:
        """The taps that read the pixels which those of `conv` read."""
        offsets, known = _offsets(conv, axis), _offsets(self.main, axis)
        if not np.isin(offsets, known).all():
            raise ConversionError("an input reads pixels outside of the layer's own kernel")
        return np.searchsorted(known, offsets)

    def centre(self) -> tuple[int, ...]:
        taps = []
        for axis in (0, 1):
            known = _offsets(self.main, axis)
            if 0 not in known:
                raise ConversionError(NO_CENTRE)
            taps.append(int(np.flatnonzero(known == 0)[0]))
        return tuple(taps)

    def inner(self) -> tuple[int, ...]:
        taps = []
        for axis in (0, 1):
            first = _offsets(self.main, axis)
            # rows of the padded input that a first tap may read
            reach = self.before[1 + axis] + self.main.padding[axis] - first[-1]
            last = first + ((reach - 1) // self.stride[axis]) * self.stride[axis]
            inside = np.flatnonzero((first >= 0) & (last < self.before[1 + axis]))
            if not len(inside):
                raise ConversionError(
                    "every tap of its kernel reads padding somewhere, so that no constant reaches all of its neurons"
                )
            taps.append(int(inside[len(inside) // 2]))
        return tuple(taps)

    def synapse(self, kernel: Ints) -> Conv:
        return Conv(kernel, self.main.stride, self.main.padding, self.main.dilation)


class DenseTaps:
    """The taps of a dense synapse."""

    def __init__(self, main: Dense, before: Shape) -> None:
        self.shape: Shape = before[1:]
        self.stride: tuple[int, int] = (1, 1)

    def block(self, synapse: Synapse, weight: Ints, source: Shape, step: tuple[int, int]) -> Ints:
        matrix = synapse.with_rows(weight, flat=True).rows(len(weight))
        return matrix.reshape(len(matrix), source[0], *source[1:])

    def centre(self) -> tuple[int, ...]:
        if self.shape:
            raise ConversionError(NO_CENTRE)
        return ()

    def inner(self) -> tuple[int, ...]:
        return (0,) * len(self.shape)

    def synapse(self, kernel: Ints) -> Dense:
        return Dense(kernel.reshape(len(kernel), -1))


# By the type of the layer's own synapse.
TAPS: dict[str, Callable[..., Taps]] = {Conv.file_type: ConvTaps, Dense.file_type: DenseTaps}


def taps_of(main: Weighted, before: Shape) -> Taps:
    """The taps of a layer's own synapse that reads an output of shape `before`."""
    return TAPS[main.file_type](main, before)


def _offsets(conv: Conv, axis: int) -> Ints:
    """Where each tap reads, in pixels from the output's own place times the stride."""
    return np.arange(conv.weight.shape[2 + axis]) * conv.dilation[axis] - conv.padding[axis]
