"""Average pooling as a sum over windows of one size: what a layer of integers can do of what torch's layers can."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from lava_conv.errors import ConversionError

POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
Adaptive = nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d
Pool = nn.AvgPool1d | nn.AvgPool2d | Adaptive


class Window(NamedTuple):
    """kernel, stride and padding as (H, W), and the number that the sum over a window is divided by."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    divisor: int

    @property
    def overlaps(self) -> bool:
        """Whether a value may be in several windows."""
        return any(s < k for s, k in zip(self.stride, self.kernel, strict=True))


def window(module: Pool, size: tuple[int, int] | None) -> Window:
    """The windows of torch's average pooling.

    Args:
        module: one of POOLS.
        size: H, W of what it takes (1, L for 1-D layers); None: not known, what depends on it is not checked.

    Raises:
        ConversionError: its windows are of different sizes.
    """
    flat = isinstance(module, nn.AvgPool1d | nn.AdaptiveAvgPool1d)
    if isinstance(module, nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d):
        if size is None:
            return Window((1, 1), (1, 1), (0, 0), 1)
        wanted = _target(module, size)
        if any(s % t for s, t in zip(size, wanted, strict=True)):
            raise ConversionError(
                f"it averages {size[flat:]} to {wanted[flat:]}, which does not divide it; choose a divisor, or "
                f"images of another size"
            )
        kernel = (size[0] // wanted[0], size[1] // wanted[1])
        return Window(kernel, kernel, (0, 0), kernel[0] * kernel[1])
    values = (module.kernel_size, module.stride or module.kernel_size, module.padding)
    kernel, stride, padding = (pair(value, int(i < 2), flat) for i, value in enumerate(values))
    if any(padding) and not module.count_include_pad:
        raise ConversionError("it leaves the padding out of the average; use count_include_pad=True")
    if module.ceil_mode and size is not None and not fits(size, kernel, stride, padding):
        raise ConversionError("ceil_mode adds incomplete windows; use ceil_mode=False or a fitting kernel")
    return Window(kernel, stride, padding, getattr(module, "divisor_override", None) or kernel[0] * kernel[1])


def fits(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> bool:
    """Whether windows end where the padded values end, so that ceil_mode adds none."""
    return not any((s + 2 * p - k) % d for s, p, k, d in zip(size, padding, kernel, stride, strict=True))


def pair(value: Any, neutral: int, one_dimensional: bool) -> tuple[int, int]:
    """H, W of an option; a 1-D layer has only W."""
    values = (value,) if isinstance(value, int) else tuple(value)
    if one_dimensional:
        return (neutral, values[0])
    return (values[0], values[-1])


def frame(shape: Sequence[int]) -> tuple[int, int]:
    """H, W of values (C, H, W) or (C, L)."""
    return (1, int(shape[1])) if len(shape) == 2 else (int(shape[1]), int(shape[2]))


def _target(module: Adaptive, size: tuple[int, int]) -> tuple[int, int]:
    """H, W that an adaptive average gives."""
    wanted = module.output_size if isinstance(module.output_size, tuple) else (module.output_size,)
    if isinstance(module, nn.AdaptiveAvgPool1d):
        wanted = (1, wanted[0])
    height, width = wanted if len(wanted) == 2 else wanted * 2
    return (size[0] if height is None else height, size[1] if width is None else width)


class Checked(nn.Module):
    """Mixin: an average pooling that refuses, at the first images already, sizes that it could not be converted for."""

    def forward(self, input: Tensor) -> Tensor:
        window(cast(Pool, self), frame(input.shape[1:]))
        return super().forward(input)

    def unchecked(self, input: Tensor) -> Tensor:
        """The average, whatever the size."""
        return super().forward(input)


class CheckedAvgPool1d(Checked, nn.AvgPool1d):
    """AvgPool1d that refuses what cannot be converted."""


class CheckedAvgPool2d(Checked, nn.AvgPool2d):
    """AvgPool2d that refuses what cannot be converted."""


class CheckedAdaptiveAvgPool1d(Checked, nn.AdaptiveAvgPool1d):
    """AdaptiveAvgPool1d that refuses what cannot be converted."""


class CheckedAdaptiveAvgPool2d(Checked, nn.AdaptiveAvgPool2d):
    """AdaptiveAvgPool2d that refuses what cannot be converted."""


CHECKED = (CheckedAvgPool1d, CheckedAvgPool2d, CheckedAdaptiveAvgPool1d, CheckedAdaptiveAvgPool2d)


def checked(pool: nn.Module) -> nn.Module:
    """The same pooling, which refuses sizes that cannot be converted."""
    new = copy.copy(pool)
    new.__class__ = next(kind for plain, kind in zip(POOLS, CHECKED, strict=True) if isinstance(pool, plain))
    return new
