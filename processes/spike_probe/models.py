"""CPU model of `SpikeProbe`."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from processes.spike_probe.process import SpikeProbe


@implements(proc=SpikeProbe, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "floating_pt")
class PySpikeProbe(PyLoihiProcessModel):
    """Writes into the memory-mapped file, whose dtype the values must fit."""

    free_running = True
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        self._start: int = proc_params["start"]
        self._interval: int = proc_params["interval"]
        self._rows = np.lib.format.open_memmap(proc_params["path"], "r+")
        self._sum = np.zeros(self._rows.shape[1:], self._rows.dtype)

    def run_spk(self) -> None:
        spikes = self.s_in.recv()
        row, step = divmod(self.time_step - 1 - self._start, self._interval)
        if not 0 <= row < len(self._rows):
            return
        if self._interval == 1:
            self._rows[row] = spikes
            return
        np.add(self._sum, spikes, out=self._sum, casting="unsafe")
        if step == self._interval - 1:
            self._rows[row] = self._sum
            self._sum[...] = 0
