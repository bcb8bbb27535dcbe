"""The synapses: what turns the spikes of one layer into the summed input `a_in` of the next. Integers only.

Shapes are C,H,W throughout. `apply` is the plain numpy form that the oracle uses; it shares no code with the simulator.
"""

import math
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import ConversionError
from lava_conv.network.fixedpoint import FLOAT32_EXACT, STATE_MAX, STATE_MIN, WEIGHT_MAX, WEIGHT_MIN

Shape = tuple[int, ...]
BLOCK = 1 << 18  # weights that are turned into floating point at a time
Interval = tuple[NDArray[np.int64], NDArray[np.int64]]


def _as_int8(weight: NDArray[Any]) -> NDArray[np.int8]:
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


def _exact(x: NDArray[np.integer], magnitude: int) -> type[np.floating[Any]]:
    """The float type in which BLAS adds up products exactly, in whatever order: float32 while no partial sum can reach
    2**24, else float64 (2**53).

    Args:
        x: what arrives.
        magnitude: the largest sum of |weights| of one output.
    """
    largest = max(-int(x.min(initial=0)), int(x.max(initial=0))) * magnitude
    return np.float32 if largest < FLOAT32_EXACT else np.float64


Kernel = TypeVar("Kernel", bound="_Kernel")


class _Kernel:
    """What synapses with a weight (outputs, ...) share."""

    weight: NDArray[Any]
    file_type: ClassVar[str]

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
    def kernel(self: Kernel) -> Kernel:
        """Itself: it has weights. None of a synapse that works element by element."""
        return self

    @property
    def label(self) -> str:
        """What a figure calls it."""
        return self.file_type

    def own(self: Kernel, shape: Shape) -> tuple[Kernel, None]:
        """(what a layer has as its own synapse, what remains for a skip)."""
        return self, None

    def rows(self, channels: int) -> NDArray[np.int64]:
        """The weights as int64, in their own shape."""
        return self.weight.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Conv(_Kernel):
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

    weight: NDArray[Any]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", _as_int8(self.weight))
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
        (kh, kw), (ph, pw), kind = self.weight.shape[2:], self.padding, _exact(x, self.magnitude)
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

    def with_rows(self, rows: NDArray[np.int64]) -> "Conv":
        """The same geometry with other weights, in the shape of the weight."""
        return replace(self, weight=rows)

    def scaled(self, multiple: NDArray[np.int64], flat: bool) -> "Conv":
        """The synapse with the weights of each output channel multiplied by `multiple`, int64 (O,)."""
        return replace(self, weight=self.rows(self.channels) * multiple[:, None, None, None])


@dataclass(frozen=True, eq=False)
class Dense(_Kernel):
    """a_out = weight @ s_in, without bias.

    Fields:
        weight: (out, in), kept as int8; integers of any type within -128..127 are taken. The inputs are C,H,W flattened
            in C order.

    Raises:
        ConversionError: a weight is no integer or out of range.
    """

    file_type: ClassVar[str] = "dense"
    input_rank: ClassVar[int] = 1

    weight: NDArray[Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", _as_int8(self.weight))
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
        kind = _exact(x, self.magnitude)
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

    def with_rows(self, rows: NDArray[np.int64]) -> "Dense":
        """A dense synapse with other weights (out, in)."""
        return Dense(rows)

    def scaled(self, multiple: NDArray[np.int64], flat: bool) -> "Dense":
        """The synapse with the weights of each output multiplied by `multiple`, int64 (out,)."""
        return Dense(self.rows(self.channels) * multiple[:, None])


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

    def own(self, shape: Shape) -> "tuple[Weighted, Identity | None]":
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

    def with_rows(self, rows: NDArray[np.int64]) -> Conv:
        """A depthwise convolution with a weight per channel, int64 (channels,)."""
        return elementwise(rows, flat=False)

    def scaled(self, multiple: NDArray[np.int64], flat: bool) -> "Synapse":
        """Each channel multiplied by `multiple`, int64 (channels,): an Identity, where one scale serves for all."""
        whole = self.scale * multiple
        if whole[0] and not np.ptp(whole):
            return Identity(int(whole[0]))
        return elementwise(whole, flat)


Weighted = Conv | Dense  # the synapses that a layer may have as its own
Synapse = Weighted | Identity
OWN: dict[str, type[Weighted]] = {synapse.file_type: synapse for synapse in (Conv, Dense)}  # by the kind of the layer


@overload
def elementwise(weight: NDArray[np.int64], flat: Literal[False]) -> Conv: ...
@overload
def elementwise(weight: NDArray[np.int64], flat: bool) -> Weighted: ...
def elementwise(weight: NDArray[np.int64], flat: bool) -> Weighted:
    """A synapse from each position to itself with a weight per channel, int64 (channels,); flat: of a flat layer."""
    return Dense(np.diag(weight)) if flat else Conv(weight.reshape(-1, 1, 1, 1), groups=len(weight))


def same_synapse(a: Synapse | None, b: Synapse | None) -> bool:
    """Whether two synapses are of one type and hold equal values."""
    if type(a) is not type(b) or a is None or b is None:
        return a is b
    return all(np.array_equal(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
