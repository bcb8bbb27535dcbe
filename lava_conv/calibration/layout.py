"""Channels first, as torch has them, to and from (m, P, C), pixels and channels, as the compiled neurons read them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def to_rows(values: Tensor) -> NDArray[Any]:
    """(m, C, ...) -> (m, P, C), contiguous."""
    return np.ascontiguousarray(values.reshape(len(values), values.shape[1], -1).permute(0, 2, 1).numpy())


def from_rows(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(m, P, C) -> (m, C, ...), channels last in memory, or (m, n)."""
    if len(shape) == 1:
        return values[:, 0]
    return values.reshape(len(values), *shape[1:], shape[0]).movedim(-1, 1)
