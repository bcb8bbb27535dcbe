"""The dense synapse: every input to every output."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import ConversionError
from lava_conv.network.synapses.base import Interval, Kernel, Shape, Weight, as_int8, exact_type
from lava_conv.network.synapses.conv import Conv

BLOCK = 1 << 18  # weights that are turned into floating point at a time


@dataclass(frozen=True, eq=False)
class Dense(Kernel):
    """a_out = weight @ s_in, without bias.

    Fields:
        weight: (out, in), kept as int8; integers of any type within -128..127 are taken. The inputs are C,H,W flattened
            in C order.

    Raises:
        ConversionError: a weight is no integer or out of range.
    """

    file_type: ClassVar[str] = "dense"
    input_rank: ClassVar[int] = 1

    weight: Weight

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", as_int8(self.weight))
        if self.weight.ndim != 2 or 0 in self.weight.shape:
            raise ConversionError(f"weight has shape {self.weight.shape}, a dense layer needs (out, in)")

    def output_shape(self, shape: Shape) -> Shape:
        """(out,) for an input of (in,).

        Raises:
            ConversionError: they do not go together.
        """
        if len(shape) != 1:
            raise ConversionError(f"a dense layer needs a flat input, but gets {shape}; put a flatten layer before it")
        if shape[0] != self.weight.shape[1]:
            raise ConversionError(
                f"weight {self.weight.shape} takes {self.weight.shape[1]} inputs, but gets {shape[0]}"
            )
        return (self.weight.shape[0],)

    def apply(self, x: NDArray[np.integer]) -> NDArray[np.int64]:
        """(N, in) integers -> (N, out) integers. Exact."""
        kind = exact_type(x, self.magnitude)
        return (x.astype(kind) @ self.weight.T.astype(kind)).astype(np.int64)

    def interval(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> Interval:
        """Range (least, largest) of each sum, int64 (out,), for inputs within low..high, int64 (in,) each."""
        # sum of w * (low + high) / 2 -+ sum of |w| * (high - low) / 2, doubled: exact in float64 below 2**53, while
        # numpy's integer product is slow; in blocks, for float64 takes eight times the memory of the weights
        middle, reach = (low + high).astype(np.float64), (high - low).astype(np.float64)
        least, most = (np.zeros(len(self.weight)) for _ in range(2))
        wide = min(self.weight.shape[1], BLOCK)
        tall = max(1, BLOCK // wide)
        for top in range(0, len(self.weight), tall):
            rows = slice(top, top + tall)
            for left in range(0, self.weight.shape[1], wide):
                columns = slice(left, left + wide)
                weight = self.weight[rows, columns].astype(np.float64)
                centre = weight @ middle[columns]
                spread = np.abs(weight, out=weight) @ reach[columns]
                least[rows] += centre - spread
                most[rows] += centre + spread
        return (least / 2).astype(np.int64), (most / 2).astype(np.int64)

    def fan_out(self, shape: Shape, stored: bool = False) -> NDArray[np.int64]:
        """Synapses that a spike of each source neuron passes, int64 (in,); `stored`: without those of weight 0."""
        used = self.weight != 0 if stored else np.ones_like(self.weight, bool)
        return used.sum(0).astype(np.int64)

    @property
    def fan_in(self) -> int:
        """Synapses of one neuron: all inputs."""
        return self.weight.shape[1]

    def padded_size(self, shape: Shape) -> int:
        """It makes no padded copy of its input."""
        return 0

    @property
    def pads(self) -> bool:
        """No input stands for no neuron."""
        return False

    def as_events(self) -> Conv:
        """The same sums as a convolution of (in, 1, 1), in the form that the compiled kernels read."""
        return Conv(self.weight[:, :, None, None])

    def frames(self, shape: Shape) -> Shape:
        """The shape of an input in the form of `as_events`: (in, 1, 1)."""
        return (shape[0], 1, 1)

    def with_rows(self, rows: NDArray[np.int64], flat: bool = True) -> "Dense":
        """A dense synapse with other weights (out, in)."""
        return Dense(rows)

    def scaled(self, multiple: NDArray[np.int64], flat: bool) -> "Dense":
        """The synapse with the weights of each output multiplied by `multiple`, int64 (out,)."""
        return Dense(self.rows(self.channels) * multiple[:, None])
