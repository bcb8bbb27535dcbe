"""A lowered network as a file for stock netx."""

import os

import numpy as np

from lava_conv.errors import DataError
from lava_conv.lowering.lowered import Lowered
from lava_conv.netx import save_stock


def write_stock(lowered: Lowered, path: str | os.PathLike[str]) -> None:
    """Write it as a `.net` that unmodified lava-dl netx loads.

    Raises:
        NetFormatError: the file cannot be written.
    """
    if not isinstance(lowered, Lowered):
        raise DataError(f"lowered is of type {type(lowered).__name__}; pass what lava_conv.lower gives")
    layers = [(stage.synapse, stage.shape) for stage in lowered.stages]
    save_stock(path, lowered.input_shape, layers, constants=np.array(lowered.constants, np.int64), version=1)
