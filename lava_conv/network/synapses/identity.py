"""The identity, and other synapses from each position to itself."""

from dataclasses import dataclass
from typing import ClassVar, Literal, overload

import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import ConversionError
from lava_conv.network.fixedpoint import STATE_MAX, STATE_MIN, WEIGHT_MAX
from lava_conv.network.synapses.base import Interval, Shape
from lava_conv.network.synapses.conv import Conv
from lava_conv.network.synapses.dense import Dense


@dataclass(frozen=True, eq=False)
class Identity:
    """a_out = scale * s_in, element by element: the plain shortcut of a residual block.

    Fields:
        scale: any 24-bit integer but 0; beyond a weight's 8 bits hardware holds it as several synapses.

    Raises:
        ConversionError: the scale is out of range.
    """

    file_type: ClassVar[str] = "identity"

    scale: int = 1

    def __post_init__(self) -> None:
        if not STATE_MIN <= self.scale <= STATE_MAX or self.scale == 0:
            raise ConversionError(f"scale is {self.scale}, allowed is {STATE_MIN}..{STATE_MAX} without 0")

    def output_shape(self, shape: Shape) -> Shape:
        """The shape of the input, whatever it is."""
        return shape

    def apply(self, x: NDArray[np.integer]) -> NDArray[np.int64]:
        """Integers (N, ...) -> integers (N, ...)."""
        return self.scale * x.astype(np.int64)

    def interval(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> Interval:
        """Range (least, largest) per channel, for inputs within low..high, int64 (channels,) each."""
        return (self.scale * low, self.scale * high) if self.scale > 0 else (self.scale * high, self.scale * low)

    def fan_out(self, shape: Shape, stored: bool = False) -> NDArray[np.int64]:
        """One synapse for each source neuron."""
        return np.ones(shape, np.int64)

    @property
    def fan_in(self) -> int:
        """One synapse per neuron."""
        return 1

    @property
    def weights(self) -> int:
        """No weights are stored: the scale is one number."""
        return 0

    @property
    def kernel(self) -> None:
        """It has none: it works element by element."""
        return None

    def own(self, shape: Shape) -> "tuple[Conv | Dense, Identity | None]":
        """(what a layer of C,H,W or (n,) has as its own synapse, what remains for a skip)."""
        one = self.scale if abs(self.scale) <= WEIGHT_MAX else int(np.sign(self.scale))
        rest = Identity(self.scale - one) if self.scale != one else None
        return elementwise(np.full(shape[0], one), len(shape) == 1), rest

    def padded_size(self, shape: Shape) -> int:
        """It makes no padded copy of its input."""
        return 0

    @property
    def pads(self) -> bool:
        """No input stands for no neuron."""
        return False

    @property
    def magnitude(self) -> int:
        """The largest sum of |weights| of one output."""
        return abs(self.scale)

    def rows(self, channels: int) -> NDArray[np.int64]:
        """The scale per output channel, int64 (channels,)."""
        return np.full(channels, self.scale, np.int64)

    def with_rows(self, rows: NDArray[np.int64], flat: bool = False) -> Conv | Dense:
        """A weight per channel, int64 (channels,), as a depthwise convolution; flat: as a dense synapse."""
        return elementwise(rows, flat)

    def scaled(self, multiple: NDArray[np.int64], flat: bool) -> "Conv | Dense | Identity":
        """Each channel multiplied by `multiple`, int64 (channels,): an Identity, where one scale serves for all."""
        whole = self.scale * multiple
        if whole[0] and not np.ptp(whole):
            return Identity(int(whole[0]))
        return elementwise(whole, flat)


@overload
def elementwise(weight: NDArray[np.int64], flat: Literal[False]) -> Conv: ...
@overload
def elementwise(weight: NDArray[np.int64], flat: bool) -> Conv | Dense: ...
def elementwise(weight: NDArray[np.int64], flat: bool) -> Conv | Dense:
    """A synapse from each position to itself with a weight per channel, int64 (channels,); flat: of a flat layer."""
    return Dense(np.diag(weight)) if flat else Conv(weight.reshape(-1, 1, 1, 1), groups=len(weight))
