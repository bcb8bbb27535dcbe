"""A neuron whose three thresholds are not evenly spaced; nothing in it is called theta, and its potential is u."""

from typing import NamedTuple

import numpy as np

from lava_conv.network.fixedpoint import MAX_SHIFT, STATE_MAX, STATE_MIN, saturate
from lava_conv.network.neurons import Bounds, Neuron
from lava_conv.network.neurons.base import Array, Range, out_of_ranges


class Params(NamedTuple):
    """Parameters of LEVELS: the potentials from which it counts 1, 2 and 3, and the left shift of the input."""

    first: Array
    second: Array
    third: Array
    shift: int = 0


class State(NamedTuple):
    """u: membrane potential, n: net number of spikes sent."""

    u: Array
    n: Array


def initial_state(params, zeros):
    return State(zeros, zeros)


def integrate(state, a_in, params):
    return state.u + a_in * (1 << params.shift)


def level(u, params):
    """How many thresholds the potential has reached."""
    return (u - u) + (u >= params.first) + (u >= params.second) + (u >= params.third)


def step(state, a_in, params):
    """u <- sat24(u + (a_in << shift)); s = sign(level(u) - n); n <- n + s"""
    u = saturate(integrate(state, a_in, params))
    wanted = level(u, params)
    n = state.n
    s = (n + (wanted > n)) - (n + (wanted < n))
    return s, State(u, n + s)


def settle(drive, params):
    return level(drive << params.shift, params)


def bounds(params, drive_min, drive_max, steps):
    count = np.minimum(settle(drive_max, params), steps)
    return Bounds(drive_min << params.shift, drive_max << params.shift, count)


RANGES = (
    *(Range(name, STATE_MIN, STATE_MAX) for name in ("first", "second", "third")),
    Range("shift", 0, MAX_SHIFT),
)


def check(params):
    rises = np.all(params.first <= params.second) and np.all(params.second <= params.third)
    return out_of_ranges(params, RANGES) or (None if rises else "first, second and third must rise")


def max_count(params):
    return 3


def random_params(rng, channels):
    return Params(*np.sort(rng.integers(-60, 90, (3, channels)), axis=0), int(rng.integers(0, 3)))


NEURON = Neuron(
    type="LEVELS",
    Params=Params,
    State=State,
    channel_fields=("first", "second", "third"),
    scalar_fields=("shift",),
    initial_state=initial_state,
    integrate=integrate,
    step=step,
    settle=settle,
    bounds=bounds,
    ranges=RANGES,
    check=check,
    required=("first", "second", "third"),
    max_count=max_count,
    random_params=random_params,
)
