"""Saturation and wrap at the ends of their ranges."""

import numpy as np

from lava_conv.network.fixedpoint import STATE_MAX, STATE_MIN, saturate, wrap


def test_wrap_and_saturate_at_the_edges():
    x = np.array([STATE_MAX + 1, STATE_MIN - 1, STATE_MAX, STATE_MIN, 5])
    assert np.array_equal(saturate(x), [STATE_MAX, STATE_MIN, STATE_MAX, STATE_MIN, 5])
    assert np.array_equal(wrap(x), [STATE_MIN, STATE_MAX, STATE_MAX, STATE_MIN, 5])
