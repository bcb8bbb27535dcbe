"""CPU model of `SpikeProbe`."""

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel

from lava_conv.errors import RangeError
from lava_conv.lava.fit import misfit
from lava_conv.lava.types import Numbers, ProcParams
from processes.declarations import cpu_model, in_port
from processes.spike_probe.process import SpikeProbe


@cpu_model(SpikeProbe, "fixed_pt", "floating_pt")
class PySpikeProbe(PyLoihiProcessModel):
    """Writes into the memory-mapped file what its dtype holds, integers and floats alike."""

    free_running = True
    s_in = in_port(np.int8)  # so that spikes are not widened on arrival

    def __init__(self, proc_params: ProcParams) -> None:
        super().__init__(proc_params)
        self._label: str = proc_params["label"]
        self._start: int = proc_params["start"]
        self._interval: int = proc_params["interval"]
        self._rows = np.lib.format.open_memmap(proc_params["path"], "r+")
        self._sum: Numbers | None = None

    def start(self) -> None:
        if len(self.s_in.csp_ports) > 1:  # then they are added up, in the type of the port
            self.s_in._d_type = np.int64
        super().start()

    def run_spk(self) -> None:
        spikes = self.s_in.recv()
        row, step = divmod(self.time_step - 1 - self._start, self._interval)
        if not 0 <= row < len(self._rows):
            return
        if self._interval > 1:
            if step == 0 or self._sum is None:
                self._sum = np.zeros(spikes.shape, np.float64 if spikes.dtype.kind == "f" else np.int64)
            total = self._sum
            total += spikes
            if step < self._interval - 1:
                return
            spikes = total
        if not np.can_cast(spikes.dtype, kind := self._rows.dtype) and (problem := misfit(spikes, kind)):
            raise RangeError(
                f"{self._label}, step {self.time_step}: the file's dtype does not hold what is to be recorded: "
                f"{problem}; give SpikeProbe.allocate a wider dtype"
            )
        self._rows[row] = spikes
