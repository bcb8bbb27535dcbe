"""Convolutions in a form that no known fault of a native kernel touches: the same sums, whatever the geometry.

Two faults of oneDNN, both with frames that are channels last in memory:

- An output that sees nothing but padding. Its BRGEMM kernels (AVX2, AVX-512) follow a null pointer or, for int8, sum
  wrongly (uxlfoundation/oneDNN#5942, releases up to 3.14). Here such a frame is padded beforehand.
- A 1x1 convolution with a stride on few channels. On AVX2 its backward pass writes past its workspace
  (uxlfoundation/oneDNN#6035): wrong gradients or a crash. Here the frame is thinned out beforehand.

`benchmarks/geometries.py` looks for others.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

FEW_CHANNELS = 16  # a strided 1x1 convolution of fewer is thinned out; oneDNN's fault needs fewer than 8
ATEN: Any = torch.ops.aten
CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {3: torch.conv1d, 4: torch.conv2d}  # by the dimensions of the weight

Size = int | Sequence[int]
Padding = Size | str  # or "same" or "valid"


def conv(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """`functional.conv1d` or `conv2d` (by the weight), in a safe form; the arguments are theirs."""
    input, stride, padding = safe_form(input, weight.shape[2:], stride, padding, dilation)
    return CONVOLUTIONS[weight.ndim](input, weight, bias, stride, padding, dilation, groups)


def exact_conv2d(x: Tensor, weight: Tensor, stride: Size, padding: Size, dilation: Size, groups: int) -> Tensor:
    """conv2d without bias, without kernels that round integers: cuDNN may choose Winograd's, and TF32 has 10 bits.

    Both are left out of this call alone; torch's settings stay as they are.
    """
    x, stride, safe = safe_form(x, weight.shape[2:], stride, padding, dilation)
    assert not isinstance(safe, str)
    stride, padding, dilation = (_each(value, 2) for value in (stride, safe, dilation))
    # not transposed; then benchmark, deterministic, cudnn_enabled, allow_tf32
    return ATEN._convolution.default(
        x, weight, None, stride, padding, dilation, False, (0, 0), groups, False, False, False, False
    )


def safe_form(
    x: Tensor, kernel: Sequence[int], stride: Size, padding: Padding, dilation: Size
) -> tuple[Tensor, Size, Padding]:
    """Frame, stride and padding of an equal convolution that is safe; those that came if it is so already.

    Args:
        x: (N, C, ...) or (C, ...), one axis more for each of the kernel's.
        kernel: its size by axis.
        stride: by axis, or one for all.
        padding: by axis, or one for all, or "same" or "valid".
        dilation: by axis, or one for all.
    """
    axes = len(kernel)
    size, steps, dilations = x.shape[-axes:], _each(stride, axes), _each(dilation, axes)
    ends = [_ends(padding, axis, kernel[axis], dilations[axis]) for axis in range(axes)]
    if any(padding_only(size[a], kernel[a], steps[a], *ends[a], dilations[a]) for a in range(axes)):
        x, padding = functional.pad(x, [end for pair in reversed(ends) for end in pair]), (0,) * axes
        ends = [(0, 0)] * axes
    strided = max(steps) > 1 and max(kernel) == 1 and x.shape[-axes - 1] < FEW_CHANNELS
    if strided and not any(map(max, ends)):
        return x[(..., *(slice(None, None, step) for step in steps))], (1,) * axes, padding
    return x, stride, padding


@cache
def padding_only(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> bool:
    """Whether some output along one axis sees padding only.

    Args:
        size: of the frame.
        kernel: its size.
        stride: of the kernel.
        before: padding in front of the frame.
        after: padding behind it.
        dilation: of the kernel.
    """
    last = size + before + after - dilation * (kernel - 1) - 1
    starts = range(-before, last - before + 1, stride) if before or after else ()
    return any(all(not 0 <= at + i * dilation < size for i in range(kernel)) for at in starts)


class SafeConvolutions(TorchFunctionMode):
    """Within it the convolutions of any model, in this thread, are computed as by `conv`.

    Our own layers call `conv` themselves; this is for the float layers of others.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in CONVOLUTIONS.values() and all(isinstance(value, Tensor) for value in args[:2]):
            return conv(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _each(value: Size, axes: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * axes if len(values) == 1 else values


def _ends(padding: Padding, axis: int, kernel: int, dilation: int) -> tuple[int, int]:
    """Padding in front of the frame and behind it."""
    if isinstance(padding, str):
        total = dilation * (kernel - 1) if padding == "same" else 0
        return total // 2, total - total // 2
    both = padding if isinstance(padding, int) else padding[axis % len(padding)]
    return both, both
