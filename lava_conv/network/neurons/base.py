"""What a neuron is made of: a table entry of plain functions, no base class."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = Any  # a numpy array or a torch tensor of integers; `step` must not care which


class Bounds(NamedTuple):
    """Proven ranges of one layer for any input and every step up to the last; int64 (channels,) each.

    Fields:
        v_min: least membrane potential before saturation.
        v_max: largest.
        count_max: the net spike count lies in 0..count_max at every moment.
    """

    v_min: NDArray[np.int64]
    v_max: NDArray[np.int64]
    count_max: NDArray[np.int64]


class Neuron(NamedTuple):
    """One neuron type. `Params` and `State` are NamedTuples; every function is pure and works on integer arrays.

    Fields:
        type: name in the `.net` file.
        Params: type of the parameters.
        State: type of the state.
        channel_fields: the fields of Params that hold a value for each channel.
        scalar_fields: the others, one value a layer.
        initial_state: (params, zeros) -> State at the start of a sample, with the shape of `zeros`.
        integrate: (state, a_in, params) -> the membrane potential after this step's input, before saturation.
        step: (state, a_in, params) -> (spikes, State), one time step.
        settle: (drive, params) -> what the neuron settles on, given the whole input of a sample (unshifted sum).
        bounds: (params, drive_min, drive_max, steps) -> Bounds, for a running sum within the given range.
        check: (params) -> a sentence that says what is out of range, or None.
        spiking: False for the readout, whose output is its membrane potential.
    """

    type: str
    Params: Callable[..., Any]
    State: Callable[..., Any]
    channel_fields: tuple[str, ...]
    scalar_fields: tuple[str, ...]
    initial_state: Callable[[Any, Array], Any]
    integrate: Callable[[Any, Array, Any], Array]
    step: Callable[[Any, Array, Any], tuple[Array, Any]]
    settle: Callable[[NDArray[np.int64], Any], NDArray[np.int64]]
    bounds: Callable[[Any, NDArray[np.int64], NDArray[np.int64], int], Bounds]
    check: Callable[[Any], str | None]
    spiking: bool = True


def map_channels(neuron: Neuron, params: Any, convert: Callable[[Any], Any]) -> Any:
    """Params with `convert` applied to every per-channel field (reshape for broadcasting, move to a device)."""
    return params._replace(**{name: convert(getattr(params, name)) for name in neuron.channel_fields})


def out_of_range(name: str, value: Any, low: int, high: int) -> str | None:
    """A sentence if any element of `value` leaves low..high."""
    values = np.asarray(value)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return f"{name} is {values[~np.isfinite(values)][0]}, allowed is {low}..{high}"
    if values.size and (values.min() < low or values.max() > high):
        worst = values.min() if values.min() < low else values.max()
        told = int(worst) if worst == np.rint(worst) else float(worst)
        return f"{name} is {told}, allowed is {low}..{high}"
    return None
