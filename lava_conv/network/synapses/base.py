"""What synapses share: shapes, checked weights, exact products, and what those with a weight have in common."""

from functools import cached_property
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import ConversionError
from lava_conv.network.fixedpoint import FLOAT32_EXACT, WEIGHT_MAX, WEIGHT_MIN

# A synapse holds int8; it is made from whole numbers of any type.
Weight: TypeAlias = NDArray[Any]
Shape = tuple[int, ...]
Interval = tuple[NDArray[np.int64], NDArray[np.int64]]


def as_int8(weight: Weight) -> NDArray[np.int8]:
    """Integers of any type within -128..127 as int8.

    Raises:
        ConversionError: one is no integer or out of range.
    """
    weight = np.asarray(weight)
    if weight.dtype == np.int8:
        return np.ascontiguousarray(weight)
    whole = np.rint(weight)
    if not np.isfinite(weight).all() or not (whole == weight).all():
        raise ConversionError("weight holds values that are not integers; export quantised weights without their scale")
    if weight.size and (whole.min() < WEIGHT_MIN or whole.max() > WEIGHT_MAX):
        worst = whole.min() if whole.min() < WEIGHT_MIN else whole.max()
        raise ConversionError(f"weight is {int(worst)}, allowed is {WEIGHT_MIN}..{WEIGHT_MAX}")
    return np.ascontiguousarray(whole, np.int8)


def exact_type(x: NDArray[np.integer], magnitude: int) -> type[np.float32] | type[np.float64]:
    """The float type in which BLAS adds up products exactly, in whatever order: float32 while no partial sum can reach
    2**24, else float64 (2**53).

    Args:
        x: what arrives.
        magnitude: the largest sum of |weights| of one output.
    """
    largest = max(-int(x.min(initial=0)), int(x.max(initial=0))) * magnitude
    return np.float32 if largest < FLOAT32_EXACT else np.float64


K = TypeVar("K", bound="Kernel")


class Kernel:
    """What synapses with a weight (outputs, ...) share."""

    weight: Weight
    file_type: ClassVar[str]
    scale: ClassVar[int] = 1  # what it multiplies spikes by before they meet the weights

    @cached_property
    def magnitude(self) -> int:
        """The largest sum of |weights| of one output."""
        rows = self.weight.reshape(len(self.weight), -1)
        return int(np.abs(rows, dtype=np.int16).sum(axis=1, dtype=np.int64).max())

    @property
    def channels(self) -> int:
        """Output channels, or neurons of a flat layer."""
        return len(self.weight)

    @property
    def weights(self) -> int:
        """How many weights are stored."""
        return self.weight.size

    @property
    def kernel(self: K) -> K:
        """Itself: it has weights. None of a synapse that works element by element."""
        return self

    @property
    def label(self) -> str:
        """What a figure calls it."""
        return self.file_type

    def own(self: K, shape: Shape) -> tuple[K, None]:
        """(what a layer has as its own synapse, what remains for a skip)."""
        return self, None

    def rows(self, channels: int) -> NDArray[np.int64]:
        """The weights as int64, in their own shape."""
        return self.weight.astype(np.int64)
