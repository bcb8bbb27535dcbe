"""What a neuron is made of: a table entry of plain functions, no base class."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import ConversionError
from lava_conv.network.fixedpoint import Array

Values: TypeAlias = Any  # the Params or the State of a neuron: each has NamedTuples of its own
ValuesType: TypeAlias = type[Any]


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


class IntegerStaircase(NamedTuple):
    """What a neuron settles on: clip(floor(((z << shift) - theta) / delta), 0, max_count) of a sample's whole input z.

    Of a readout: (z << shift) - theta, and delta = 1.

    Fields:
        theta: int64 (channels,), the potential from which counting begins.
        delta: int64 (channels,), > 0, the step of the thresholds.
        shift: left shift of the input.
        max_count: largest count, 0 = unlimited.
        unipolar: 1 = no negative spikes.
        repeats: steps over which the input of a sample is spread evenly, and -theta with it; 1: all comes at once.
        initial: int64 (channels,), the part of -theta beyond delta / 2 that is there when the sample begins and is not
            spread over the repeats.
        problem: why the neuron does not settle on this staircase, None: it does.
    """

    theta: NDArray[np.int64]
    delta: NDArray[np.int64]
    shift: int
    max_count: int = 0
    unipolar: int = 0
    repeats: int = 1
    initial: NDArray[np.int64] | int = 0
    problem: str | None = None


class Range(NamedTuple):
    """The least and the largest value of a field of Params."""

    name: str
    low: int
    high: int


class Coded(NamedTuple):
    """A field that the `.net` file holds as one whole number under another name.

    Fields:
        name: in Params.
        stored: in the file.
        encode: (params) -> the number; ValueError, with a sentence, if the file cannot hold the field.
        decode: (number, the values of the other fields) -> the field; ValueError if the number is not allowed.
    """

    name: str
    stored: str
    encode: Callable[[Values], int]
    decode: Callable[[int, dict[str, Array]], Array]


def no_random_params(rng: np.random.Generator, channels: int) -> Values:
    """The neuron gives no random parameters, so the contract tests cannot try it."""
    raise NotImplementedError("give the neuron random_params to run the contract tests on it")


def no_params(staircase: IntegerStaircase) -> Values:
    """The neuron settles on no staircase, so no quantised activation can be converted to it."""
    raise ConversionError("its neuron settles on no staircase of thresholds; choose one that has from_staircase")


def largest_count(params: Values) -> int:
    """The largest count as Params says it, 0 = unlimited."""
    return getattr(params, "max_count", 0)


class Neuron(NamedTuple):
    """One neuron type. `Params` and `State` are NamedTuples; every function is pure and works on integer arrays.

    Fields:
        type: name in the `.net` file.
        Params: type of the parameters.
        State: type of the state, the membrane potential first; what follows are counts, of spikes or steps.
        channel_fields: the fields of Params that hold a value for each channel.
        scalar_fields: the others, one value a layer.
        initial_state: (params, zeros) -> State at the start of a sample, with the shape of `zeros`.
        integrate: (state, a_in, params) -> the membrane potential after this step's input, before saturation.
        step: (state, a_in, params) -> (spikes, State), one time step.
        settle: (drive, params) -> what the neuron settles on, given the whole input of a sample (unshifted sum).
        bounds: (params, drive_min, drive_max, steps) -> Bounds, for a running sum within the given range.
        ranges: of every field of Params, each by itself.
        check: (params) -> a sentence that says what is out of range, or None.
        spiking: False for the readout, whose output is its membrane potential.
        required: the fields that a `.net` file must hold; any other that is absent is 0.
        later_fields: the scalar fields that are written only where they are not 0, so that earlier releases read the
            other files.
        coded: the channel fields that the file holds as one number.
        file_names: (field, name) of those that the file holds under another name.
        max_count: (params) -> the largest count, 0 = unlimited.
        provable: whether the neuron, without leak and decay, rests without input, counts within 0..max_count and sends
            at most one spike per step; the exit policy "margin" is proven for these.
        from_staircase: (staircase) -> Params with which the neuron settles on it; RangeError if they leave 24 bits.
        to_staircase: (params) -> the staircase that it settles on; None: it settles on none, so it cannot be lowered.
        random_params: (rng, channels) -> valid Params for the contract tests, int64 (channels,) per channel field.
    """

    type: str
    Params: ValuesType
    State: ValuesType
    channel_fields: tuple[str, ...]
    scalar_fields: tuple[str, ...]
    initial_state: Callable[[Values, Array], Values]
    integrate: Callable[[Values, Array, Values], Array]
    step: Callable[[Values, Array, Values], tuple[Array, Values]]
    settle: Callable[[NDArray[np.int64], Values], NDArray[np.int64]]
    bounds: Callable[[Values, NDArray[np.int64], NDArray[np.int64], int], Bounds]
    ranges: tuple[Range, ...]
    check: Callable[[Values], str | None]
    spiking: bool = True
    required: tuple[str, ...] = ()
    later_fields: tuple[str, ...] = ()
    coded: tuple[Coded, ...] = ()
    file_names: tuple[tuple[str, str], ...] = ()
    max_count: Callable[[Values], int] = largest_count
    provable: bool = False
    from_staircase: Callable[[IntegerStaircase], Values] = no_params
    to_staircase: Callable[[Values], IntegerStaircase] | None = None
    random_params: Callable[[np.random.Generator, int], Values] = no_random_params


def map_channels(neuron: Neuron, params: Values, convert: Callable[[Array], Array]) -> Values:
    """Params with `convert` applied to every per-channel field (reshape for broadcasting, move to a device)."""
    return params._replace(**{name: convert(getattr(params, name)) for name in neuron.channel_fields})


def out_of_ranges(params: Values, ranges: tuple[Range, ...]) -> str | None:
    """A sentence if any element of a field leaves its range."""
    found = (out_of_range(name, getattr(params, name), low, high) for name, low, high in ranges)
    return next(filter(None, found), None)


def out_of_range(name: str, value: Array, low: int, high: int) -> str | None:
    """A sentence if any element of `value` leaves low..high."""
    values = np.asarray(value)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return f"{name} is {values[~np.isfinite(values)][0]}, allowed is {low}..{high}"
    if values.size and (values.min() < low or values.max() > high):
        worst = values.min() if values.min() < low else values.max()
        told = int(worst) if worst == np.rint(worst) else float(worst)
        return f"{name} is {told}, allowed is {low}..{high}"
    return None
