"""The exact search for the integer thresholds of a quantised activation."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import RangeError
from lava_conv.network.fixedpoint import MAX_SHIFT, STATE_BITS, STATE_MAX, STATE_MIN


class Thresholds(NamedTuple):
    """Integer thresholds of one layer: `floor((z * 2**shift - theta) / delta)` is the staircase of a channel.

    Fields:
        theta: int64 (channels,), within 24 bits.
        delta: int64 (channels,), 1 or more.
        shift: left shift of the sum z, one for all channels.
    """

    theta: NDArray[np.int64]
    delta: NDArray[np.int64]
    shift: int


def staircase(
    z: Any, theta: Any, delta: Any, count_max: int, half_even: bool = False, zero: int = 0
) -> NDArray[np.int64]:
    """The quantised activation of a channel as a function of the synaptic sum.

    Equation: `N = clip(floor((z - theta) / delta), 0, count_max)`, evaluated in float64. With half_even a sum that
    meets a step exactly (a half, before theta took the 1/2 in) goes to the even count, as torch.round has it.

    Args:
        z: integer synaptic sums, any shape that broadcasts with the thresholds.
        theta: lower thresholds in units of `z`; +-inf for a channel that is never (always) active.
        delta: step widths in units of `z`, > 0.
        count_max: the largest count.
        half_even: whether a half goes to the even value instead of up.
        zero: the count that stands for the value 0; an even value is an odd count where it is odd.

    Returns:
        int64 counts.
    """
    level = (np.asarray(z, np.float64) - theta) / delta
    whole = np.rint(level - 0.5 - zero % 2) + zero % 2 if half_even else np.floor(level)
    return np.clip(whole, 0, count_max).astype(np.int64)


def breakpoints(
    theta: NDArray[np.float64],
    delta: NDArray[np.float64],
    z_min: NDArray[np.int64],
    z_max: NDArray[np.int64],
    count_max: int,
    half_even: bool = False,
    zero: int = 0,
) -> NDArray[np.int64]:
    """Smallest integer z in [z_min, z_max] whose staircase reaches n, for n = 1..count_max.

    The staircase is monotone in z, so bisection on the very function that users see finds each step exactly,
    rounding of float64 included.

    Args:
        theta: float64 (channels,), lower thresholds (see `staircase`).
        delta: float64 (channels,), step widths, > 0.
        z_min: int64 (channels,), the least synaptic sum that is reachable.
        z_max: int64 (channels,), the largest.
        count_max: the largest count.
        half_even: how a half is rounded.
        zero: the count that stands for the value 0, which decides what is even.

    Returns:
        int64 (channels, count_max); z_max + 1 where the count is out of reach, z_min where it always holds.
    """
    levels = np.arange(1, count_max + 1)
    low = np.repeat(z_min[:, None], count_max, axis=1)
    high = np.repeat(z_max[:, None] + 1, count_max, axis=1)  # the answer lies in [low, high]
    while (low < high).any():
        middle = (low + high) // 2
        reached = staircase(middle, theta[:, None], delta[:, None], count_max, half_even, zero) >= levels
        low, high = np.where(reached | (low >= high), low, middle + 1), np.where(reached & (low < high), middle, high)
    return low


def search_thresholds(
    theta: NDArray[np.float64],
    delta: NDArray[np.float64],
    z_min: NDArray[np.int64],
    z_max: NDArray[np.int64],
    count_max: int,
    max_shift: int = MAX_SHIFT,
    half_even: bool = False,
    zero: int = 0,
) -> Thresholds:
    """Find the smallest shift and the integer thresholds whose staircase equals the float one at every integer z.

    For each channel and each level n, with b_n the first z that reaches n, equality means
    `(b_n - 1) * 2**e < theta + n * delta <= b_n * 2**e`: an interval each, in two unknowns. For a given delta the
    intervals leave theta a range whose width is a concave function of delta, so bisection on its slope finds the
    widest, and with it whether any solution exists for this shift e.

    Args:
        theta: float64 (channels,), lower thresholds of the float staircase (see `staircase`).
        delta: float64 (channels,), its step widths, > 0.
        z_min: int64 (channels,), the least synaptic sum that is reachable.
        z_max: int64 (channels,), the largest, z_min <= z_max.
        count_max: the largest count that can be told apart (an upper clip, or the number of steps).
        max_shift: largest shift to try.
        half_even: how the float staircase rounds (see `staircase`).
        zero: the count that stands for the value 0 (see `staircase`).

    Returns:
        Thresholds with int64 (channels,) theta and delta inside 24 bits.

    Raises:
        RangeError: no shift serves; names the channels and how many integer z differ in the best attempt.
    """
    theta, delta = np.asarray(theta, np.float64), np.asarray(delta, np.float64)
    if not (delta > 0).all():
        raise ValueError("search_thresholds: every delta must be > 0; flip the channel's weights first")
    b = breakpoints(theta, delta, z_min, z_max, count_max, half_even, zero)
    largest = int(max(z_max.max(), -z_min.min(), 1))
    failed: tuple[int, NDArray[np.bool_]] | None = None
    for shift in range(max_shift + 1):
        if largest << shift > STATE_MAX:
            break
        found_theta, found_delta, width = _solve(b, z_min, z_max, shift)
        failed = (shift, width < 0)
        if not failed[1].any():
            return Thresholds(found_theta, found_delta, shift)
    if failed is None:
        raise RangeError(
            f"synaptic sums reach {largest}, which exceeds the {STATE_BITS}-bit limit {STATE_MAX} even without a "
            f"shift; use fewer inputs, smaller weights or fewer steps"
        )
    shift, bad = failed
    wrong = _count_wrong(theta[bad], delta[bad], z_min[bad], z_max[bad], b[bad], shift)
    channels = np.flatnonzero(bad)
    shown = ", ".join(f"{c} ({w} values of z differ)" for c, w in zip(channels[:5], wrong[:5], strict=True))
    more = f" and {len(channels) - 5} more" if len(channels) > 5 else ""
    raise RangeError(
        f"no integer thresholds within {STATE_BITS} bits reproduce the staircase of channel {shown}{more} at the "
        f"largest possible shift {shift}; use fewer steps (count up to {count_max}), fewer inputs or smaller weights"
    )


def nearest_thresholds(
    theta: NDArray[np.float64], delta: NDArray[np.float64], z_min: NDArray[np.int64], z_max: NDArray[np.int64]
) -> Thresholds:
    """Thresholds rounded at the largest shift that 24 bits allow; where `search_thresholds` finds none.

    theta is rounded up and delta to the nearest integer. A count differs from the float staircase's only where z lies
    next to a step.

    Args:
        theta: float64 (channels,), lower thresholds (see `staircase`).
        delta: float64 (channels,), step widths, > 0.
        z_min: int64 (channels,), the least synaptic sum that is reachable.
        z_max: int64 (channels,), the largest.

    Raises:
        RangeError: the sums exceed 24 bits without a shift.
    """
    largest = max(int(np.maximum(z_max, -z_min).max()), int(np.abs(theta).max()), 1)
    shift = MAX_SHIFT
    while shift >= 0 and largest << shift > STATE_MAX:
        shift -= 1
    if shift < 0:
        raise RangeError(f"synaptic sums reach {largest}, which exceeds the {STATE_BITS}-bit limit {STATE_MAX}")
    whole_theta = np.ceil(theta * 2.0**shift).astype(np.int64)
    whole_delta = np.clip(np.rint(delta * 2.0**shift), 1, STATE_MAX).astype(np.int64)
    return Thresholds(whole_theta, whole_delta, shift)


def _solve(
    b: NDArray[np.int64], z_min: NDArray[np.int64], z_max: NDArray[np.int64], shift: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Per channel: theta, delta, and the width of theta's feasible range (negative: no solution at this shift)."""
    channels, levels = b.shape
    n = np.arange(1, levels + 1)
    unlimited = np.int64(1) << 60
    below, above = b <= z_min[:, None], b > z_max[:, None]  # always reached; never reached
    # theta + n*delta must be > lower and <= upper.
    lower = np.where(below, -unlimited, (b - 1) << shift)
    lower = np.where(above, (z_max << shift)[:, None], lower)
    upper = np.where(above, unlimited, np.where(below, (z_min << shift)[:, None], b << shift))

    def feasible(delta: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        reach = n * delta[:, None]
        least = np.where(lower == -unlimited, -unlimited, lower + 1 - reach).max(axis=1)
        most = np.where(upper == unlimited, unlimited, upper - reach).min(axis=1)
        return np.maximum(least, STATE_MIN), np.minimum(most, STATE_MAX)

    low, high = np.ones(channels, np.int64), np.full(channels, STATE_MAX, np.int64)
    while (low < high).any():
        middle = (low + high) // 2
        (l0, u0), (l1, u1) = feasible(middle), feasible(middle + 1)
        rising = (u1 - l1) > (u0 - l0)  # concave: still rising means the widest lies to the right
        low, high = np.where(rising & (low < high), middle + 1, low), np.where(rising | (low >= high), high, middle)
    least, most = feasible(low)
    theta, delta = (least + most) // 2, low
    # Where no step lies within reach nothing bounds the search: take the smallest numbers instead of the widest range.
    reached = below.sum(1)
    small = np.where(reached == levels, 1, ((z_max - z_min) << shift) + 1)
    start = (z_min << shift) - reached * small
    constant = (below | above).all(1) & (start >= STATE_MIN) & (small <= STATE_MAX)
    return np.where(constant, start, theta), np.where(constant, small, delta), most - least


def _count_wrong(
    theta: NDArray[np.float64],
    delta: NDArray[np.float64],
    z_min: NDArray[np.int64],
    z_max: NDArray[np.int64],
    b: NDArray[np.int64],
    shift: int,
) -> list[int]:
    """How many integer z in range differ when theta and delta are merely rounded at `shift`."""
    levels = np.arange(1, b.shape[1] + 1)
    whole_theta = np.rint(np.clip(theta * 2.0**shift, STATE_MIN, STATE_MAX)).astype(np.int64)
    whole_delta = np.maximum(np.rint(np.clip(delta * 2.0**shift, 1, STATE_MAX)).astype(np.int64), 1)
    reached = -((-(whole_theta[:, None] + levels * whole_delta[:, None])) >> shift)  # ceiling of the division
    reached = np.clip(reached, z_min[:, None], z_max[:, None] + 1)
    # A z differs when it lies between the two positions of some step; the union of these stretches is counted.
    counts = []
    for first, second in zip(np.minimum(b, reached), np.maximum(b, reached), strict=True):
        total, end = 0, np.iinfo(np.int64).min
        for start, stop in sorted(zip(first.tolist(), second.tolist(), strict=True)):
            total += max(0, stop - max(start, end))
            end = max(end, stop)
        counts.append(int(total))
    return counts
