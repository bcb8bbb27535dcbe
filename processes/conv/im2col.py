"""Exact integer products by float BLAS, as Lava's Conv and Dense need them: one frame a call, nothing but numpy.

A sum of integers is exact in float32 while no partial sum can reach 2**24, in whatever order BLAS adds; the guard is
the largest input times the L1 norm of a row of weights. Beyond it float64 is used, and beyond 32 bits nothing here:
what the stock models compute there depends on their types, so it is left to them.
"""

import numpy as np
from numpy.typing import NDArray

from lava_conv.lava.types import Numbers
from lava_conv.network.fixedpoint import FLOAT32_EXACT, wrap

FITS = 1 << 31  # sums below this magnitude are the same in 32 bits, in 64, and in the float64 of stock Conv
FEW = 0.6  # below this share of output positions with any input, only these are computed
GATHER = 0.25  # below this share of active inputs, a dense layer adds up their rows alone


def largest(frame: Numbers) -> int:
    """The largest magnitude in a frame of integers or booleans; np.abs has none for the least of a type."""
    return max(int(frame.max(initial=0)), -int(frame.min(initial=0)))


class Frames:
    """Convolution of one frame (H, W, C) after another, as `lava.proc.conv.utils.conv` computes it, wrapped to 24 bits.

    Args:
        weight: (O, kH, kW, C / groups) integers, applied flipped, as Lava's Conv does.
        shape: (H, W, C) of a frame.
        stride: (rows, columns).
        padding: (rows, columns) of zeros on either side.
        dilation: (rows, columns).
        groups: as in PyTorch.
    """

    def __init__(
        self,
        weight: Numbers,
        shape: tuple[int, int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> None:
        outputs, kh, kw, depth = weight.shape
        height, width, channels = shape
        self.groups = groups
        self.inner = (slice(padding[0], padding[0] + height), slice(padding[1], padding[1] + width))
        self.padded = (height + 2 * padding[0], width + 2 * padding[1])
        extent = [dilation[i] * (k - 1) + 1 for i, k in enumerate((kh, kw))]
        rows, columns = ((self.padded[i] - extent[i]) // stride[i] + 1 for i in (0, 1))
        self.shape, self.kernel, self.channels = (rows, columns, outputs), (kh, kw), channels
        self.stride, self.dilation = stride, dilation
        self.weight = weight[:, ::-1, ::-1].astype(np.int64).reshape(groups, outputs // groups, kh * kw * depth)
        self.norm = int(np.abs(self.weight).sum(2).max(initial=0))
        self.busy = np.zeros(self.padded, bool)
        self.busy_windows = self._windows(self.busy)
        self.parts: dict[
            type, tuple[Numbers, Numbers, Numbers]
        ] = {}  # by float type: padded frame, its windows, the weights as a matrix

    def _windows(self, frame: Numbers) -> Numbers:
        """A view of every window of a padded frame (H, W, ...): (rows, columns, kH, kW, ...)."""
        (down, right, *rest), (sh, sw), (dh, dw) = frame.strides, self.stride, self.dilation
        shape = (*self.shape[:2], *self.kernel, *frame.shape[2:])
        steps = (down * sh, right * sw, down * dh, right * dw, *rest)
        return np.lib.stride_tricks.as_strided(frame, shape, steps, writeable=False)

    def _part(self, kind: type) -> tuple[Numbers, Numbers, Numbers]:
        if kind not in self.parts:
            frame = np.zeros((*self.padded, self.channels), kind)
            matrix = np.ascontiguousarray(self.weight.transpose(0, 2, 1), kind)
            self.parts[kind] = (frame, self._windows(frame), matrix)
        return self.parts[kind]

    def __call__(self, frame: Numbers) -> NDArray[np.int32] | None:
        """(H, W, C) integers -> (H', W', O) int32, or None where a sum could leave 32 bits, or for fractions."""
        if frame.dtype.kind == "f":
            return None
        most = largest(frame)
        if not most:
            return np.zeros(self.shape, np.int32)
        if most * self.norm >= FITS:
            return None
        kind = np.float32 if most * self.norm < FLOAT32_EXACT else np.float64
        padded, windows, matrix = self._part(kind)
        padded[self.inner] = frame
        self.busy[self.inner] = frame.any(-1)
        active = self.busy_windows.any((2, 3))
        share = np.count_nonzero(active) / active.size
        if not share:  # strides and dilation passed every input by
            return np.zeros(self.shape, np.int32)
        chosen = windows[active] if share < FEW else windows.reshape(-1, *windows.shape[2:])
        found = self._product(chosen, matrix)
        if share >= FEW:
            return wrap(found.astype(np.int64)).astype(np.int32).reshape(self.shape)
        out = np.zeros(self.shape, np.int32)
        out[active] = wrap(found.astype(np.int64))
        return out

    def _product(self, windows: Numbers, matrix: Numbers) -> Numbers:
        """(n, kH, kW, C) times (groups, kH*kW*C/groups, O/groups) -> (n, O)."""
        if self.groups == 1:
            return windows.reshape(len(windows), -1) @ matrix[0]
        parts = windows.reshape(len(windows), -1, self.groups, windows.shape[-1] // self.groups)
        parts = parts.transpose(2, 0, 1, 3).reshape(self.groups, len(windows), -1)
        return np.matmul(parts, matrix).transpose(1, 0, 2).reshape(len(windows), -1)


class Rows:
    """weights @ s for one vector s after another, exact.

    Args:
        weights: (out, in) integers.
    """

    def __init__(self, weights: Numbers) -> None:
        self.norm = int(np.abs(weights.astype(np.int64)).sum(1).max(initial=0))
        self.rows: dict[type, Numbers] = {}  # by float type, made when first needed
        self.weights = weights

    def __call__(self, s: Numbers) -> NDArray[np.int64] | None:
        """(in,) integers -> (out,) int64, or None where a sum could leave 32 bits, or for fractions."""
        if s.dtype.kind == "f" or (most := largest(s)) * self.norm >= FITS:
            return None
        active = np.flatnonzero(s)
        if not active.size:
            return np.zeros(len(self.weights), np.int64)
        kind = np.float32 if most * self.norm < FLOAT32_EXACT else np.float64
        if kind not in self.rows:
            self.rows[kind] = np.ascontiguousarray(self.weights.T, kind)
        rows = self.rows[kind]
        if active.size < GATHER * s.size:
            return (s[active].astype(kind) @ rows[active]).astype(np.int64)
        return (s.astype(kind) @ rows).astype(np.int64)
