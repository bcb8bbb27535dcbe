"""The readout: an integrator without spikes, whose membrane potential is the logit."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_conv.network.fixedpoint import MAX_SHIFT, STATE_MAX, STATE_MIN, saturate
from lava_conv.network.neurons.base import Array, Bounds, IntegerStaircase, Neuron, Range, out_of_ranges


class Params(NamedTuple):
    """Parameters of ACC.

    Fields:
        bias: int per channel, the potential at the start of a sample.
        shift: left shift of the input.
    """

    bias: Array = 0
    shift: int = 0


class State(NamedTuple):
    """State of ACC.

    Fields:
        v: membrane potential.
    """

    v: Array


def initial_state(params: Params, zeros: Array) -> State:
    """v(0) = bias, in the shape of `zeros`."""
    return State(zeros + params.bias)


def integrate(state: State, a_in: Array, params: Params) -> Array:
    """v + (a_in << shift), before saturation."""
    return state.v + a_in * (1 << params.shift)


def step(state: State, a_in: Array, params: Params) -> tuple[Array, State]:
    """One time step: v <- sat24(v + (a_in << shift)), v(0) = bias. What it hands out is v itself, never a spike."""
    v = saturate(integrate(state, a_in, params))
    return v, State(v)


def settle(drive: NDArray[np.int64], params: Params) -> NDArray[np.int64]:
    """The logit: (drive << shift) + bias, for the whole input `drive` of a sample."""
    return (drive << params.shift) + params.bias


def bounds(params: Params, drive_min: NDArray[np.int64], drive_max: NDArray[np.int64], steps: int) -> Bounds:
    """v is the shifted running sum and the bias; there are no spikes, so the count is 0."""
    low, high = (drive_min << params.shift) + params.bias, (drive_max << params.shift) + params.bias
    return Bounds(low, high, np.zeros_like(high))


RANGES = (Range("bias", STATE_MIN, STATE_MAX), Range("shift", 0, MAX_SHIFT))


def check(params: Params) -> str | None:
    """What is out of range, as a sentence, or None."""
    return out_of_ranges(params, RANGES)


def from_staircase(staircase: IntegerStaircase) -> Params:
    """The readout of a staircase whose steps are 1."""
    return Params(-staircase.theta, staircase.shift)


def to_staircase(params: Params) -> IntegerStaircase:
    """The logit as a staircase without limits whose steps are 1."""
    return IntegerStaircase(-params.bias, np.ones_like(params.bias), params.shift)


def random_params(rng: np.random.Generator, channels: int) -> Params:
    """Random valid parameters."""
    return Params(rng.integers(-50, 50, channels), int(rng.integers(0, 4)))


NEURON: Neuron = Neuron(
    type="ACC",
    Params=Params,
    State=State,
    channel_fields=("bias",),
    scalar_fields=("shift",),
    initial_state=initial_state,
    integrate=integrate,
    step=step,
    settle=settle,
    bounds=bounds,
    ranges=RANGES,
    check=check,
    spiking=False,
    provable=True,
    from_staircase=from_staircase,
    to_staircase=to_staircase,
    random_params=random_params,
)
