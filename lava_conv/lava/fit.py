"""Whether an integer or float type holds numbers as they are: checked before anything is written to a Var."""

import numpy as np
from numpy.typing import ArrayLike, DTypeLike


def misfit(values: ArrayLike, kind: DTypeLike) -> str | None:
    """Why a numpy dtype does not hold these numbers as they are, or None if it does.

    Args:
        values: numbers, any shape.
        kind: boolean, integer or float dtype; a float may round them, but not to infinity.

    Returns:
        The first number that does not fit, its place and the limit: "300 at (4,) is outside -128..127".
    """
    values, kind = np.asarray(values), np.dtype(kind)
    if values.dtype.kind not in "biuf":
        return f"{values.dtype} is no type of number"
    fractions = values.dtype.kind == "f"
    if not fractions and np.can_cast(values.dtype, kind):
        return None
    bad, what = (~np.isfinite(values), "is not finite") if fractions else (np.zeros((), bool), "")
    if kind.kind == "f":
        if fractions and not bad.any():
            limit = float(np.finfo(kind).max)
            bad, what = np.abs(values.astype(np.float64)) > limit, f"is outside {-limit:.4g}..{limit:.4g}"
        elif not fractions:  # a float of 24 bits, say, holds no count beyond them
            bad, what = values.astype(kind).astype(np.float64) != values, f"cannot be written exactly in {kind}"
    else:
        if fractions and not bad.any():
            bad, what = values != np.rint(values), f"is no whole number, and {kind} holds no others"
        if not bad.any():
            low, high = (0, 1) if kind.kind == "b" else (int(np.iinfo(kind).min), int(np.iinfo(kind).max))
            bad, what = (values < low) | (values > high), f"is outside {low}..{high}, the range of {kind}"
    if not bad.any():
        return None
    where = tuple(int(i) for i in np.argwhere(bad)[0])
    return f"{values[where]}{f' at {where}' if where else ''} {what}"
