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
    free_running = True
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        self._start: int = proc_params["start"]
        self._rows = np.lib.format.open_memmap(proc_params["path"], "r+")

    def run_spk(self) -> None:
        spikes = self.s_in.recv()
        row = self.time_step - 1 - self._start
        if 0 <= row < len(self._rows):
            self._rows[row] = spikes
