"""Cheap recording: `Var.get()` sends one message per scalar; this writes whole frames into a memory-mapped file."""

import numpy as np
from lava.magma.core.process.ports.ports import InPort
from lava.magma.core.process.process import AbstractProcess


class SpikeProbe(AbstractProcess):
    """Writes what arrives at `s_in` in step t to row t - start of a `.npy` file.

    Parameters:
        shape: shape of the recorded population.
        path: the `.npy` file, created by `SpikeProbe.allocate`; rows outside it are not recorded.
        start: first step to record, counted from 0.
    """

    def __init__(self, *, shape: tuple[int, ...], path: str, start: int = 0, name: str | None = None) -> None:
        super().__init__(shape=shape, path=path, start=int(start), name=name)
        self.s_in = InPort(shape=shape)

    @staticmethod
    def allocate(path: str, steps: int, shape: tuple[int, ...], dtype: type = np.int8) -> np.ndarray:
        """Create the file for `steps` rows; the memory map returned shows what the probe has written."""
        return np.lib.format.open_memmap(path, "w+", dtype, (steps, *shape))
