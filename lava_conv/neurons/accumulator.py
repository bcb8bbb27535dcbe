"""The readout: an integrator without spikes, whose membrane potential is the logit."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_conv.fixedpoint import MAX_SHIFT, STATE_MAX, STATE_MIN, saturate
from lava_conv.neurons.base import Array, Bounds, Neuron, out_of_range


class Params(NamedTuple):
    """bias: int per channel, the potential at the start of a sample. shift: left shift of the input."""

    bias: Array = 0
    shift: int = 0


class State(NamedTuple):
    """v: membrane potential."""

    v: Array


def initial_state(params: Params, zeros: Array) -> State:
    return State(zeros + params.bias)


def integrate(state: State, a_in: Array, params: Params) -> Array:
    return state.v + a_in * (1 << params.shift)


def step(state: State, a_in: Array, params: Params) -> tuple[Array, State]:
    """One time step: v <- sat24(v + (a_in << shift)), v(0) = bias. What it hands out is v itself, never a spike."""
    v = saturate(integrate(state, a_in, params))
    return v, State(v)


def settle(drive: NDArray[np.int64], params: Params) -> NDArray[np.int64]:
    return (drive << params.shift) + params.bias


def bounds(params: Params, drive_min: NDArray[np.int64], drive_max: NDArray[np.int64], steps: int) -> Bounds:
    low, high = (drive_min << params.shift) + params.bias, (drive_max << params.shift) + params.bias
    return Bounds(low, high, np.zeros_like(high))


def check(params: Params) -> str | None:
    return out_of_range("bias", params.bias, STATE_MIN, STATE_MAX) or out_of_range("shift", params.shift, 0, MAX_SHIFT)


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
    check=check,
    spiking=False,
)
