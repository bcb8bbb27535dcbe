"""Checks of what a process is constructed with: a sentence names the process, the argument and what is allowed."""

import numpy as np

from lava_conv.errors import DataError, RangeError
from lava_conv.lava.types import Numbers


def whole(label: str, name: str, value: object, least: int) -> int:
    """`value` as an int.

    Args:
        label: of the process.
        name: of the argument.
        value: an integer, Python's or numpy's.
        least: the smallest that is allowed.

    Raises:
        RangeError: no integer, or below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise RangeError(f"{label}: {name} is {value!r}, allowed is an integer of {least} or more")
    return int(value)


def shape_of(label: str, shape: object) -> tuple[int, ...]:
    """`shape` as a tuple of ints; a single integer is the shape of a flat population.

    Args:
        label: of the process.
        shape: integers of 1 or more.

    Raises:
        RangeError: something else.
    """
    axes = tuple(shape) if isinstance(shape, tuple | list | np.ndarray) else (shape,)
    sizes = [int(n) for n in axes if isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= 1]
    if not axes or len(sizes) < len(axes):
        raise RangeError(f"{label}: shape is {shape!r}, allowed is a tuple of integers of 1 or more")
    return tuple(sizes)


def numbers(label: str, name: str, value: object) -> Numbers:
    """`value` as an array of finite numbers; of booleans as integers.

    Args:
        label: of the process.
        name: of the argument.
        value: a number or an array of them.

    Raises:
        DataError: no numbers.
        RangeError: not all of them are finite.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        told = repr(value)
        raise DataError(f"{label}: {name} is {told if len(told) < 60 else f'{told[:57]}...'}, it takes numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise RangeError(f"{label}: {name} is {array[~np.isfinite(array)][0]}, allowed are finite numbers")
    return array.astype(np.int64) if array.dtype.kind == "b" else array
