"""Bit widths and saturation.

All numbers of a network are integers. The widths below are those of Loihi-class hardware and of Lava's fixed-point
models; nothing else in the project writes them as literals.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

STATE_BITS = 24  # membrane potentials and thresholds, signed (Davies 2018; Lava declares precision=24)
STATE_MAX = (1 << (STATE_BITS - 1)) - 1
STATE_MIN = -(1 << (STATE_BITS - 1))
WEIGHT_BITS = 8  # synaptic weights, signed
WEIGHT_MAX = (1 << (WEIGHT_BITS - 1)) - 1
WEIGHT_MIN = -(1 << (WEIGHT_BITS - 1))
DECAY_BITS = 12  # the decay dv of a leaky neuron, 0..4095
DECAY_ONE = 1 << DECAY_BITS
INPUT_BITS = 8  # pixels, unsigned
INPUT_MAX = (1 << INPUT_BITS) - 1
SPIKE_MESSAGE_BITS = 2  # a signed spike; Lava casts to bool, and so loses the sign, below 2
INPUT_MESSAGE_BITS = INPUT_BITS + 1  # a graded pixel in a signed message
MAX_SHIFT = STATE_BITS - 1
STEPS_LIMIT = 1 << 16  # of any run: with them the bounds below cannot leave int64
BOUND_LIMIT = 1 << 36  # bounds of sums stop here, far beyond what fits, so that shifts of them stay in int64
MAX_STEPS = 64  # the number of steps that `convert` proves the bounds for unless told otherwise
TIE = 2.0**-40  # a quantiser's half is met this far below: sums of float64 products miss ties by less
FLOAT32_EXACT = 1 << 24  # integers below this magnitude add up exactly in float32

Array: TypeAlias = Any  # a numpy array or a torch tensor of integers; the dynamics of neurons must not care which


def saturate(x: Array) -> Array:
    """Clip `x` (any shape, numpy or torch) to the signed 24-bit range of a neuron's state."""
    return x.clip(STATE_MIN, STATE_MAX)


def is_float(x: Array) -> bool:
    """Whether a numpy array or torch tensor holds floats."""
    return "float" in str(x.dtype)


def wrap(x: NDArray[np.int64], bits: int = STATE_BITS) -> NDArray[np.int64]:
    """Two's-complement wrap to `bits` bits, as Lava's convolution applies to its output."""
    half = 1 << (bits - 1)
    return (x + half) % (1 << bits) - half
