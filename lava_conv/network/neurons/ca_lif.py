"""Calcium-gated bipolar leaky integrate-and-fire neuron (Gao et al. 2023, Front. Neurosci. 17:1141701).

The abstract is the source; the equation below is our reconstruction, chosen so that the settled count is the
quantised activation exactly (v_neg = 0).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import RangeError
from lava_conv.network.fixedpoint import (
    BOUND_LIMIT,
    DECAY_BITS,
    DECAY_ONE,
    MAX_SHIFT,
    STATE_MAX,
    STATE_MIN,
    is_float,
    saturate,
)
from lava_conv.network.neurons.base import Array, Bounds, Coded, IntegerStaircase, Neuron, Range, out_of_ranges


class Params(NamedTuple):
    """Parameters of CALIF; potentials in units of the shifted input, 24 bits.

    Fields:
        theta: int per channel, > 0.
        bias: int per channel, added once at the start of a sample.
        leak: int per channel, added at each of the first `leak_steps` steps.
        v_init: int per channel, initial potential.
        v_neg: per channel 0, or -theta for the symmetrical form.
        shift: left shift of the input.
        max_count: largest count, 0 = unlimited.
        dv: 12-bit decay, v keeps the share (4096 - dv) / 4096 a step; 0 = none.
        leak_steps: steps with a leak, 0 = every one.
        unipolar: 1 = no negative spikes, which is the integrate-and-fire neuron with soft reset of most conversions (Li
            et al. 2021).
    """

    theta: Array
    bias: Array = 0
    leak: Array = 0
    v_init: Array = 0
    v_neg: Array = 0
    shift: int = 0
    max_count: int = 0
    dv: int = 0
    leak_steps: int = 0
    unipolar: int = 0


class State(NamedTuple):
    """State of CALIF.

    Fields:
        v: membrane potential.
        ca: calcium, the net number of spikes sent.
        k: steps since the sample began.
    """

    v: Array
    ca: Array
    k: Array


def spread(bias: NDArray[np.int64], steps: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(what comes at the start, leak): a bias spread evenly over `steps` steps; together they are the bias."""
    leak = np.sign(bias) * (np.abs(bias) // steps)
    return bias - leak * steps, leak


def initial_state(params: Params, zeros: Array) -> State:
    """v = sat24(v_init + bias), ca = 0, k = 0, in the shape of `zeros`."""
    return State(saturate(zeros + params.v_init + params.bias), zeros, zeros)


def _decay(v: Array, dv: int) -> Array:
    """sign(v) * ((|v| * (4096 - dv)) >> 12), in two 12-bit halves so that 32-bit integers do not overflow.

    A float v (Lava's floating_pt models) is not truncated.
    """
    keep = DECAY_ONE - dv
    if is_float(v):
        return v * (keep / DECAY_ONE)
    size = abs(v)
    size = (size >> DECAY_BITS) * keep + (((size & (DECAY_ONE - 1)) * keep) >> DECAY_BITS)
    return size - (v < 0) * (size + size)


def integrate(state: State, a_in: Array, params: Params) -> Array:
    """decay(v) + (a_in << shift) + the leak while it lasts, before saturation."""
    v = _decay(state.v, params.dv) if params.dv else state.v
    return v + a_in * (1 << params.shift) + params.leak * ((params.leak_steps == 0) | (state.k < params.leak_steps))


def step(state: State, a_in: Array, params: Params) -> tuple[Array, State]:
    """One time step. At the start of a sample v = v_init + bias, ca = 0, k = 0.

        v <- sat24(decay(v) + (a_in << shift) + (leak if leak_steps == 0 or k < leak_steps));  k <- k + 1
        s = +1 if v >= theta and (max_count == 0 or ca < max_count)
        s = -1 if v < v_neg and ca > 0 and not unipolar     (v <= v_neg where v_neg = -theta, the symmetrical form)
        v <- v - s*theta;  ca <- ca + s

    The gate ca > 0 is the ReLU: the net count never becomes negative.
    """
    theta, v_neg, ca = params.theta, params.v_neg, state.ca
    v = saturate(integrate(state, a_in, params))
    up = (v >= theta) & ((params.max_count == 0) | (ca < params.max_count))
    down = ((v < v_neg) | ((v == v_neg) & (v_neg < 0))) & (ca > 0) & (params.unipolar == 0)
    s = (ca + up) - (ca + down)  # see dynamic_threshold.step
    return s, State(v - s * theta, ca + s, state.k + 1)


def settle(drive: NDArray[np.int64], params: Params) -> NDArray[np.int64]:
    """N = clip(floor(((drive << shift) + v_init + bias + leak * leak_steps) / theta), 0, max_count).

    Exact for v_neg = 0, dv = 0 and a leak that ends (or is absent); the other forms settle near it, and a unipolar
    neuron, which takes no spike back, only if its running sum never passes its last value by a threshold.
    """
    total = (drive << params.shift) + params.v_init + params.bias + params.leak * params.leak_steps
    count = np.maximum(total // params.theta, 0)
    return np.minimum(count, params.max_count) if params.max_count else count


def bounds(params: Params, drive_min: NDArray[np.int64], drive_max: NDArray[np.int64], steps: int) -> Bounds:
    """Without decay `u = v + ca*theta` is the running sum, and ca rises only where `u >= theta*(ca + 1)`."""
    start = np.asarray(params.v_init) + params.bias
    low, high = drive_min << params.shift, drive_max << params.shift
    limit = min(params.max_count, steps) if params.max_count else steps
    if params.dv:  # a decay never enlarges |v|, but the sum no longer telescopes: add every step's largest change
        jump = steps * np.minimum((high - low) + np.abs(params.leak) + params.theta, BOUND_LIMIT)
        return Bounds(start - jump, start + jump, np.full_like(low, limit))
    leak = np.asarray(params.leak) * (params.leak_steps if params.leak_steps else steps)
    u_min, u_max = low + start + np.minimum(leak, 0), high + start + np.maximum(leak, 0)
    count = np.clip(u_max // params.theta, 0, limit)
    return Bounds(np.minimum(u_min, start) - count * params.theta, np.maximum(u_max, start), count)


RANGES = (
    Range("theta", 1, STATE_MAX),
    Range("bias", STATE_MIN, STATE_MAX),
    Range("leak", STATE_MIN, STATE_MAX),
    Range("v_init", STATE_MIN, STATE_MAX),
    Range("v_neg", -STATE_MAX, 0),
    Range("shift", 0, MAX_SHIFT),
    Range("max_count", 0, STATE_MAX),
    Range("dv", 0, DECAY_ONE - 1),
    Range("leak_steps", 0, STATE_MAX),
    Range("unipolar", 0, 1),
)


def check(params: Params) -> str | None:
    """What is out of range, as a sentence, or None."""
    v_neg = np.broadcast_to(params.v_neg, np.shape(params.theta))
    if not np.logical_or(v_neg == 0, v_neg == -np.asarray(params.theta)).all():
        return f"v_neg is {int(v_neg[(v_neg != 0) & (v_neg != -np.asarray(params.theta))][0])}, allowed is 0 or -theta"
    return out_of_ranges(params, RANGES)


def _encode_form(params: Params) -> int:
    """1 for the symmetrical form, v_neg = -theta; 0 for v_neg = 0."""
    flags = np.unique(np.asarray(params.v_neg) != 0)
    if len(flags) != 1:
        raise ValueError("v_neg is 0 in some channels and -theta in others; the format holds one form a layer")
    return int(flags[0])


def _decode_form(flag: int, values: dict[str, Array]) -> Array:
    """v_neg of a form."""
    if flag not in (0, 1):
        raise ValueError(f"v_neg_is_theta is {flag}, allowed is 0 or 1")
    return -flag * np.asarray(values["theta"])


def from_staircase(staircase: IntegerStaircase) -> Params:
    """v(0) = -theta of the staircase, of which delta / 2 and `initial` are the initial potential and the rest is bias.

    Raises:
        RangeError: a bias exceeds 24 bits.
    """
    v_init = staircase.delta // 2 + staircase.initial
    bias, leak, leak_steps = -staircase.theta - v_init, 0 * v_init, 0
    if staircase.repeats > 1:
        (bias, leak), leak_steps = spread(bias, staircase.repeats), staircase.repeats
    if bias.max() > STATE_MAX or bias.min() < STATE_MIN:
        raise RangeError(f"a bias of {bias[np.abs(bias).argmax()]} exceeds 24 bits; use fewer inputs or levels")
    return Params(
        staircase.delta, bias, leak, v_init, 0 * v_init, staircase.shift, staircase.max_count,
        leak_steps=leak_steps, unipolar=staircase.unipolar,
    )  # fmt: skip


def to_staircase(params: Params) -> IntegerStaircase:
    """The staircase of its theorem (see `settle`), and what keeps these parameters from it."""
    problem = None
    if np.any(params.v_neg):
        problem = "fires negative spikes at -theta only"
    elif params.dv:
        problem = f"its potential decays by {params.dv}/4096 a step"
    elif np.any(params.leak) and not params.leak_steps:
        problem = "has a leak without an end"
    total = params.v_init + params.bias + params.leak * params.leak_steps
    return IntegerStaircase(
        -total, params.theta, params.shift, params.max_count, params.unipolar, max(params.leak_steps, 1),
        params.v_init - params.theta // 2, problem,
    )  # fmt: skip


def random_params(rng: np.random.Generator, channels: int) -> Params:
    """Random valid parameters, of both forms, with and without decay and leak."""
    theta = rng.integers(1, 60, channels)
    return Params(
        theta, rng.integers(-50, 50, channels), rng.integers(-9, 9, channels), theta // 2,
        -theta * int(rng.integers(0, 2)), shift=int(rng.integers(0, 4)), max_count=int(rng.integers(0, 6)),
        dv=int(rng.integers(0, 2)) * int(rng.integers(0, 4096)), leak_steps=int(rng.integers(0, 5)),
        unipolar=int(rng.integers(0, 2)),
    )  # fmt: skip


NEURON: Neuron = Neuron(
    type="CALIF",
    Params=Params,
    State=State,
    channel_fields=("theta", "bias", "leak", "v_init", "v_neg"),
    scalar_fields=("shift", "max_count", "dv", "leak_steps", "unipolar"),
    initial_state=initial_state,
    integrate=integrate,
    step=step,
    settle=settle,
    bounds=bounds,
    ranges=RANGES,
    check=check,
    required=("theta",),
    later_fields=("unipolar",),
    coded=(Coded("v_neg", "v_neg_is_theta", _encode_form, _decode_form),),
    file_names=(("max_count", "ca_max"),),
    provable=True,
    from_staircase=from_staircase,
    to_staircase=to_staircase,
    random_params=random_params,
)
