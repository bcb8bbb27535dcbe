"""The convolution."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import ConversionError
from lava_conv.network.synapses.base import Interval, Kernel, Shape, Weight, as_int8, exact_type


@dataclass(frozen=True, eq=False)
class Conv(Kernel):
    """Cross-correlation as in PyTorch, without bias.

        a_out[o, y, x] = sum over c, i, j of weight[o, c, i, j] * s_in[g + c, r(y, i), r(x, j)]
        r(y, i) = y * stride + i * dilation - padding;  g: the first input channel of the group of o

    Padding brings zeros.

    Fields:
        weight: (O, I/groups, kH, kW), kept as int8; integers of any type within -128..127 are taken.
        stride: (rows, columns), 1 or more.
        padding: (rows, columns) on either side, 0 or more.
        dilation: (rows, columns), 1 or more.
        groups: must divide O.

    Raises:
        ConversionError: a weight is no integer or out of range, or an option is.
    """

    file_type: ClassVar[str] = "conv"
    input_rank: ClassVar[int] = 3

    weight: Weight
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", as_int8(self.weight))
        for name, least in (("stride", 1), ("padding", 0), ("dilation", 1)):
            value = tuple(int(v) for v in getattr(self, name))
            if len(value) != 2 or min(value) < least:
                raise ConversionError(f"{name} is {value}, allowed are two integers of at least {least}")
            object.__setattr__(self, name, value)
        if self.weight.ndim != 4 or 0 in self.weight.shape:
            raise ConversionError(f"weight has shape {self.weight.shape}, a convolution needs (O, I/groups, kH, kW)")
        if self.groups < 1 or self.weight.shape[0] % self.groups:
            raise ConversionError(f"groups is {self.groups}, which does not divide {self.weight.shape[0]} channels")

    def output_shape(self, shape: Shape) -> Shape:
        """C,H,W of the output for an input of C,H,W.

        Raises:
            ConversionError: they do not go together.
        """
        if len(shape) != 3:
            raise ConversionError(f"a convolution needs an input of shape C,H,W, but gets {shape}")
        if shape[0] != self.weight.shape[1] * self.groups:
            raise ConversionError(
                f"weight {self.weight.shape} with groups {self.groups} takes {self.weight.shape[1] * self.groups} "
                f"channels, but the input {shape} has {shape[0]}"
            )
        size = []
        for axis in (0, 1):
            extent = self.dilation[axis] * (self.weight.shape[2 + axis] - 1) + 1
            out = (shape[1 + axis] + 2 * self.padding[axis] - extent) // self.stride[axis] + 1
            if shape[1 + axis] + 2 * self.padding[axis] < extent:
                raise ConversionError(f"the kernel spans {extent} pixels, more than the padded input {shape} has")
            size.append(out)
        return (self.weight.shape[0], *size)

    def apply(self, x: NDArray[np.integer]) -> NDArray[np.int64]:
        """(N, C, H, W) integers -> (N, O, H', W') integers, channels last in memory. Exact."""
        (kh, kw), (ph, pw), kind = self.weight.shape[2:], self.padding, exact_type(x, self.magnitude)
        n, channels, height, width = x.shape
        padded = np.zeros((n, height + 2 * ph, width + 2 * pw, channels), kind)
        padded[:, ph : ph + height, pw : pw + width] = x.transpose(0, 2, 3, 1)
        extent = (self.dilation[0] * (kh - 1) + 1, self.dilation[1] * (kw - 1) + 1)
        axes: Any = (1, 2)  # numpy's annotation leaves tuples out
        windows = np.lib.stride_tricks.sliding_window_view(padded, extent, axis=axes)
        windows = windows[:, :: self.stride[0], :: self.stride[1], :, :: self.dilation[0], :: self.dilation[1]]
        _, height, width = windows.shape[:3]
        groups, inside = self.groups, self.weight.shape[1]
        cols = windows.reshape(n, height, width, groups, inside, kh, kw).transpose(3, 0, 1, 2, 5, 6, 4)
        weight = self.weight.reshape(groups, -1, inside, kh, kw).transpose(0, 3, 4, 2, 1)
        flat, matrix = cols.reshape(groups, n * height * width, -1), weight.reshape(groups, kh * kw * inside, -1)
        sums = (flat @ matrix.astype(kind)).astype(np.int64)
        return sums.reshape(groups, n, height, width, -1).transpose(1, 0, 4, 2, 3).reshape(n, -1, height, width)

    def interval(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> Interval:
        """Range (least, largest) of the sum per output channel, int64 (O,), whatever the image.

        Args:
            low: int64 (I,), least value of each input channel; 0 counts too, for padding brings zeros.
            high: int64 (I,), largest.
        """
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        positive = np.maximum(self.weight, 0).sum((2, 3), dtype=np.int64)
        negative = np.minimum(self.weight, 0).sum((2, 3), dtype=np.int64)
        shape = (self.groups, -1, self.weight.shape[1])
        lows, highs = low.reshape(self.groups, 1, -1), high.reshape(self.groups, 1, -1)
        positive, negative = positive.reshape(shape), negative.reshape(shape)
        least = (positive * lows + negative * highs).sum(-1).ravel()
        return least, (positive * highs + negative * lows).sum(-1).ravel()

    def fan_out(self, shape: Shape, stored: bool = False) -> NDArray[np.int64]:
        """Synapses that a spike of each source neuron passes, int64 (C, H, W).

        Args:
            shape: C,H,W of the source.
            stored: leave out those whose weight is 0.
        """
        _, rows, columns = self.output_shape(shape)
        (ph, pw), (sh, sw), (dh, dw) = self.padding, self.stride, self.dilation
        used = (self.weight != 0) if stored else np.ones_like(self.weight, bool)
        by_group = used.reshape(self.groups, -1, *used.shape[1:]).sum(1)
        targets = by_group.reshape(shape[0], *used.shape[2:])  # outputs reached by each channel, per kernel position
        out = np.zeros((shape[0], shape[1] + 2 * ph, shape[2] + 2 * pw), np.int64)
        for i, j in np.ndindex(*used.shape[2:]):
            at = (slice(i * dh, i * dh + sh * (rows - 1) + 1, sh), slice(j * dw, j * dw + sw * (columns - 1) + 1, sw))
            out[:, at[0], at[1]] += targets[:, i, j, None, None]
        return out[:, ph : ph + shape[1], pw : pw + shape[2]]

    @property
    def fan_in(self) -> int:
        """Synapses of one neuron, those on padding included."""
        return int(np.prod(self.weight.shape[1:]))

    @property
    def label(self) -> str:
        """What a figure calls it."""
        kernel, (high, wide) = "×".join(map(str, self.weight.shape[2:])), self.stride
        stride = "" if high == wide == 1 else f" stride {high}" if high == wide else f" stride {high}×{wide}"
        return f"conv {kernel}{stride}{'' if self.groups == 1 else f' groups {self.groups}'}"

    def padded_size(self, shape: Shape) -> int:
        """Elements of the padded copy of an input of C,H,W."""
        sides = (side + 2 * pad for side, pad in zip(shape[1:], self.padding, strict=True))
        return shape[0] * math.prod(sides)  # not numpy's, which wraps round for the paddings that a file may claim

    @property
    def pads(self) -> bool:
        """Whether some inputs are zeros that stand for no neuron."""
        return any(self.padding)

    def as_events(self) -> "Conv":
        """The same sums as a convolution of C,H,W, in the form that the compiled kernels read."""
        return self

    def frames(self, shape: Shape) -> Shape:
        """The shape of an input in the form of `as_events`: C,H,W, as it is."""
        return shape

    def with_rows(self, rows: NDArray[np.int64], flat: bool = False) -> "Conv":
        """The same geometry with other weights, in the shape of the weight."""
        return replace(self, weight=rows)

    def scaled(self, multiple: NDArray[np.int64], flat: bool) -> "Conv":
        """The synapse with the weights of each output channel multiplied by `multiple`, int64 (O,)."""
        return replace(self, weight=self.rows(self.channels) * multiple[:, None, None, None])
