"""CPU model of `SampleInput`."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from processes.sample_input.process import SampleInput


@implements(proc=SampleInput, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "floating_pt")
class PySampleInput(PyLoihiProcessModel):
    """Sends int32 frames; which one follows from the time step alone."""

    free_running = True
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        self._images: np.ndarray = proc_params["images"]
        self._interval: int = proc_params["interval"]
        self._constant: bool = proc_params["constant"]

    def run_spk(self) -> None:
        sample, step = divmod(self.time_step - 1, self._interval)
        if sample < len(self._images) and (step == 0 or self._constant):
            self.s_out.send(self._images[sample].astype(np.int32))
        else:
            self.s_out.send(np.zeros(self._images.shape[1:], np.int32))
