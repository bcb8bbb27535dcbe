"""Cheap recording: `Var.get()` sends one message per scalar; this writes whole frames into a memory-mapped file."""

from typing import Any

import numpy as np
from lava.magma.core.process.ports.ports import InPort
from lava.magma.core.process.process import AbstractProcess


class SpikeProbe(AbstractProcess):
    """Writes what arrives at `s_in` in step t to row (t - start) // interval of a `.npy` file.

    Parameters:
        shape: shape of the recorded population.
        path: the `.npy` file, created by `SpikeProbe.allocate`; rows outside it are not recorded.
        start: first step to record, counted from 0.
        interval: so many steps are added up in one row; the steps of a sample give its net spike counts.
        name: of the process, None: Lava's own.

    Port: s_in.
    """

    def __init__(
        self, *, shape: tuple[int, ...], path: str, start: int = 0, interval: int = 1, name: str | None = None
    ) -> None:
        super().__init__(shape=shape, path=path, start=int(start), interval=int(interval), name=name)
        self.s_in = InPort(shape=shape)

    @staticmethod
    def allocate(path: str, rows: int, shape: tuple[int, ...], dtype: Any = np.int8) -> np.ndarray:
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
