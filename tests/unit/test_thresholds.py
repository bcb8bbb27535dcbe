"""The threshold search: equal at every integer z in range, or an exception that names the channel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_conv.conversion.thresholds import breakpoints, nearest_thresholds, search_thresholds, staircase
from lava_conv.errors import RangeError
from lava_conv.network.fixedpoint import STATE_MAX, STATE_MIN


@settings(max_examples=300, deadline=None)
@given(
    theta=st.floats(-500, 500),
    delta=st.floats(0.01, 300) | st.sampled_from([0.25, 0.5, 1.0, 1 / 3, 7.0]),
    low=st.integers(-400, 0),
    high=st.integers(0, 400),
    count_max=st.integers(1, 20),
)
def test_integer_staircase_equals_float_staircase_at_every_z(theta, delta, low, high, count_max):
    lows, highs = np.array([low]), np.array([high])
    found = search_thresholds(np.array([theta]), np.array([delta]), lows, highs, count_max)
    z = np.arange(low, high + 1)
    integer = np.clip(((z << found.shift) - found.theta[0]) // found.delta[0], 0, count_max)
    assert np.array_equal(integer, staircase(z, theta, delta, count_max))
    assert STATE_MIN <= found.theta[0] <= STATE_MAX and 1 <= found.delta[0] <= STATE_MAX


def test_the_shift_is_the_smallest_that_serves():
    theta, delta = np.array([10.0, 0.0]), np.array([4.0, 2.5])
    found = search_thresholds(theta, delta, np.array([-50, -50]), np.array([50, 50]), 16)
    assert found.shift > 0
    with pytest.raises(RangeError):
        search_thresholds(theta, delta, np.array([-50, -50]), np.array([50, 50]), 16, max_shift=found.shift - 1)


def test_impossible_staircase_names_channel_and_count():
    wide = np.array([3_000_000, 3_000_000])
    with pytest.raises(RangeError, match=r"channel 1 \(\d+ values of z differ\)"):
        search_thresholds(np.array([10.0, 0.123]), np.array([4.0, 3.7]), -wide, wide, 64)


@pytest.mark.parametrize(("shift", "most"), [(0, 12), (2, 13)])
def test_the_number_of_wrong_sums_is_that_of_rounded_thresholds(shift, most):
    """Counted one by one; the stretches around neighbouring steps may meet."""
    rng, told = np.random.default_rng(shift), 0
    for _ in range(60):
        theta, delta = rng.uniform(-40, 40, 1), rng.uniform(0.3, 9, 1)
        low, high = np.array([-rng.integers(0, 60)]), np.array([rng.integers(1, 60)])
        try:
            search_thresholds(theta, delta, low, high, most, max_shift=shift)
            continue
        except RangeError as error:
            said = str(error)
        z = np.arange(low[0], high[0] + 1)
        whole = np.rint(theta * 2**shift), np.maximum(np.rint(delta * 2**shift), 1)
        wrong = np.clip(((z << shift) - whole[0]) // whole[1], 0, most) != staircase(z, theta[0], delta[0], most)
        assert f"channel 0 ({wrong.sum()} values of z differ)" in said
        told += int(wrong.sum())
    assert told > 20


def test_nearest_thresholds_are_those_of_the_largest_shift():
    theta, delta = np.array([-7.3, 100.0, 0.001]), np.array([1e-9, 3.7, 12.0])
    low, high = np.array([-50, 0, -3]), np.array([20, 400, 3])
    found = nearest_thresholds(theta, delta, low, high)
    assert 400 << found.shift <= STATE_MAX < 400 << (found.shift + 1)
    assert found.theta.tolist() == np.ceil(theta * 2.0**found.shift).tolist()
    assert found.delta.tolist() == [1, *np.rint(delta[1:] * 2.0**found.shift).tolist()]
    small = nearest_thresholds(theta[2:], delta[2:], low[2:], high[2:])
    assert small.shift == 21 and 3 << 21 <= STATE_MAX < 3 << 22
    assert nearest_thresholds(theta[2:], delta[2:], -np.array([STATE_MAX]), high[2:]).shift == 0
    assert nearest_thresholds(np.array([-(2.0**22)]), delta[2:], low[2:], high[2:]).shift == 0
    assert nearest_thresholds(theta[2:], np.array([1e12]), low[2:], high[2:]).delta[0] == STATE_MAX
    with pytest.raises(RangeError, match=f"sums reach {STATE_MAX + 1}, which exceeds the 24-bit limit {STATE_MAX}"):
        nearest_thresholds(theta[2:], delta[2:], -np.array([STATE_MAX + 1]), high[2:])


def test_sum_beyond_24_bits_is_refused():
    wide = np.array([1 << 24])
    with pytest.raises(RangeError, match="exceeds the 24-bit limit"):
        search_thresholds(np.array([0.0]), np.array([4.0]), -wide, wide, 4)


def test_breakpoints_by_brute_force(rng):
    theta, delta = rng.normal(0, 20, 50), rng.uniform(0.1, 9, 50)
    low, high = -rng.integers(0, 90, 50), rng.integers(0, 90, 50)
    found = breakpoints(theta, delta, low, high, 12)
    for c in range(50):
        z = np.arange(low[c], high[c] + 1)
        for n in range(1, 13):
            reached = z[staircase(z, theta[c], delta[c], 12) >= n]
            assert found[c, n - 1] == (reached[0] if len(reached) else high[c] + 1)


def test_a_channel_that_never_steps_gets_the_smallest_numbers():
    """Two counts are always reached and a third never: theta = 0 - 2 * delta, delta just above the range."""
    found = search_thresholds(np.array([-25.0]), np.array([10.0]), np.array([0]), np.array([4]), 4)
    z = np.arange(0, 5)
    assert np.array_equal(staircase(z[:, None], np.array([-25.0]), np.array([10.0]), 4), np.full((5, 1), 2))
    assert (found.delta[0], found.theta[0]) == (5, -10) and found.shift == 0
    always = search_thresholds(np.array([-100.0]), np.array([10.0]), np.array([0]), np.array([4]), 4)
    assert (always.delta[0], always.theta[0], always.shift) == (1, -4, 0)


def test_halves_go_up_unless_told_otherwise():
    """theta 0, delta 2 after the half was taken in: z = 2 is a tie between 1 and 2 counts of a rounding."""
    z = np.arange(9)
    assert np.array_equal(staircase(z, 0.0, 2.0, 9), z // 2)
    assert np.array_equal(staircase(z, 0.0, 2.0, 9, half_even=True), [0, 0, 0, 1, 2, 2, 2, 3, 4])
    ends = np.array([0.0]), np.array([2.0]), np.array([0]), np.array([8])
    assert np.array_equal(breakpoints(*ends, 4)[0], [2, 4, 6, 8])
    assert np.array_equal(breakpoints(*ends, 4, half_even=True)[0], [3, 4, 7, 8])
    assert np.array_equal(staircase(z, 0.0, 2.0, 9, half_even=True, zero=1), [0, 0, 1, 1, 1, 2, 3, 3, 3])
