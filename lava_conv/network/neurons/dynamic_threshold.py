"""Dynamic-threshold bipolar neuron (Zou et al. 2024, Front. Neurosci. 18:1449020)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_conv.network.fixedpoint import MAX_SHIFT, STATE_MAX, STATE_MIN, saturate
from lava_conv.network.neurons.base import Array, Bounds, IntegerStaircase, Neuron, Range, out_of_ranges


class Params(NamedTuple):
    """Parameters of DTB; thresholds in units of the shifted sum, 24 bits.

    Fields:
        theta: int per channel, the potential from which counting begins.
        delta: int per channel, > 0, the step of the thresholds.
        shift: left shift of the input.
        max_count: largest count, 0 = unlimited.
        unipolar: 1 = never sends a negative spike (encoder).
    """

    theta: Array
    delta: Array
    shift: int = 0
    max_count: int = 0
    unipolar: int = 0


class State(NamedTuple):
    """State of DTB.

    Fields:
        v: membrane potential, never reset within a sample.
        n: net number of spikes sent so far.
    """

    v: Array
    n: Array


def initial_state(params: Params, zeros: Array) -> State:
    """v = 0, n = 0, in the shape of `zeros`."""
    return State(zeros, zeros)


def integrate(state: State, a_in: Array, params: Params) -> Array:
    """v + (a_in << shift), before saturation."""
    return state.v + a_in * (1 << params.shift)


def step(state: State, a_in: Array, params: Params) -> tuple[Array, State]:
    """One time step.

        v <- sat24(v + (a_in << shift));  m = max(v, theta);  lo = theta + n*delta;  hi = lo + delta
        s = +1 if m >= hi and (max_count == 0 or n < max_count);  s = -1 if m < lo and not unipolar;  n <- n + s

    The two moving thresholds of the paper are lo and hi. At rest lo <= m < hi, so the count settles on
    n = clip(floor((v - theta) / delta), 0, max_count).
    """
    theta, delta, n = params.theta, params.delta, state.n
    v = saturate(integrate(state, a_in, params))
    m = v + (v < theta) * (theta - v)
    lo = theta + n * delta
    up = (m >= lo + delta) & ((params.max_count == 0) | (n < params.max_count))
    down = (m < lo) & (params.unipolar == 0)
    s = (n + up) - (n + down)  # up - down in the integer type of n: neither numpy nor torch subtracts booleans
    return s, State(v, n + s)


def settle(drive: NDArray[np.int64], params: Params) -> NDArray[np.int64]:
    """n = clip(floor(((drive << shift) - theta) / delta), 0, max_count), for the whole input `drive` of a sample.

    Exact; of a unipolar neuron, which takes no spike back, only if its count never passes the last one on the way.
    """
    count = np.maximum(((drive << params.shift) - params.theta) // params.delta, 0)
    return np.minimum(count, params.max_count) if params.max_count else count


def bounds(params: Params, drive_min: NDArray[np.int64], drive_max: NDArray[np.int64], steps: int) -> Bounds:
    """v is the shifted running sum itself; a count of n needs v >= theta + n*delta once and n steps."""
    count = np.minimum(settle(drive_max, params), steps)
    return Bounds(drive_min << params.shift, drive_max << params.shift, count)


RANGES = (
    Range("theta", STATE_MIN, STATE_MAX),
    Range("delta", 1, STATE_MAX),
    Range("shift", 0, MAX_SHIFT),
    Range("max_count", 0, STATE_MAX),
    Range("unipolar", 0, 1),
)


def check(params: Params) -> str | None:
    """What is out of range, as a sentence, or None."""
    return out_of_ranges(params, RANGES)


def from_staircase(staircase: IntegerStaircase) -> Params:
    """Its parameters are the staircase; it begins at 0 whatever the initial part, and spreads nothing."""
    return Params(staircase.theta, staircase.delta, staircase.shift, staircase.max_count, staircase.unipolar)


def to_staircase(params: Params) -> IntegerStaircase:
    """The staircase that the neuron settles on."""
    return IntegerStaircase(params.theta, params.delta, params.shift, params.max_count, params.unipolar)


def random_params(rng: np.random.Generator, channels: int) -> Params:
    """Random valid parameters."""
    theta, delta = rng.integers(-60, 60, channels), rng.integers(1, 40, channels)
    return Params(theta, delta, int(rng.integers(0, 4)), int(rng.integers(0, 5)), int(rng.integers(0, 2)))


NEURON: Neuron = Neuron(
    type="DTB",
    Params=Params,
    State=State,
    channel_fields=("theta", "delta"),
    scalar_fields=("shift", "max_count", "unipolar"),
    initial_state=initial_state,
    integrate=integrate,
    step=step,
    settle=settle,
    bounds=bounds,
    ranges=RANGES,
    check=check,
    required=("theta", "delta"),
    file_names=(("max_count", "n_max"),),
    provable=True,
    from_staircase=from_staircase,
    to_staircase=to_staircase,
    random_params=random_params,
)
