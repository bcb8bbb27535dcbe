"""Cheap recording: `Var.get()` sends one message per scalar; this writes whole frames into a memory-mapped file."""

from pathlib import Path

import numpy as np
from lava.magma.core.process.ports.ports import InPort
from lava.magma.core.process.process import AbstractProcess
from numpy.typing import DTypeLike

from lava_conv.errors import DataError
from lava_conv.lava.types import LavaObject
from processes.arguments import shape_of, whole


class SpikeProbe(AbstractProcess):
    """Writes what arrives at `s_in` in step t to row (t - start) // interval of a `.npy` file.

    A value, or a sum, that the dtype of the file does not hold ends the run with a RangeError; nothing is cut or wraps.

    Parameters:
        shape: shape of the recorded population.
        path: the `.npy` file, created by `SpikeProbe.allocate`; rows outside it are not recorded.
        start: first step to record, counted from 0.
        interval: so many steps are added up in one row; the steps of a sample give its net spike counts.
        name: of the process, None: Lava's own.

    Port: s_in.

    Raises:
        DataError: the file is not there, cannot be read, or its rows have another shape.
        RangeError: `start` is below 0 or `interval` below 1.
    """

    _runtime: LavaObject = None  # see NeuronProcess

    def __init__(
        self, *, shape: tuple[int, ...], path: str, start: int = 0, interval: int = 1, name: str | None = None
    ) -> None:
        label, path = name or "SpikeProbe", str(path)
        shape, start = shape_of(label, shape), whole(label, "start", start, 0)
        interval = whole(label, "interval", interval, 1)
        if not Path(path).is_file():
            raise DataError(f"{label}: there is no file {path}; create it with SpikeProbe.allocate")
        try:
            rows = np.lib.format.open_memmap(path, "r")
        except (OSError, ValueError) as error:
            raise DataError(f"{label}: {path} cannot be read ({error}); create it with SpikeProbe.allocate") from error
        if rows.shape[1:] != shape or rows.dtype.kind not in "biuf":
            raise DataError(
                f"{label}: the rows of {path} are {rows.shape[1:]} of {rows.dtype}, the population has the shape "
                f"{shape}; create the file with SpikeProbe.allocate(path, rows, {shape})"
            )
        super().__init__(shape=shape, path=path, start=start, interval=interval, name=name, label=label)
        self.s_in = InPort(shape=shape)

    @staticmethod
    def allocate(path: str, rows: int, shape: tuple[int, ...], dtype: DTypeLike = np.int8) -> np.ndarray:
        """Create the file of a probe.

        Args:
            path: of the `.npy` file; what was there is overwritten.
            rows: how many.
            shape: of one row, that of the population.
            dtype: int8 for spikes; sums over an interval need what holds them.

        Returns:
            The memory map (rows, *shape), which shows what the probe has written.
        """
        return np.lib.format.open_memmap(path, "w+", dtype, (rows, *shape))
