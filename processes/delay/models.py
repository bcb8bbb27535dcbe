"""CPU model of `Delay`: a ring buffer."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from processes.delay.process import Delay


@implements(proc=Delay, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "floating_pt")
class PyDelay(PyLoihiProcessModel):
    """Keeps the last `steps` frames and hands on the oldest; integers and floats."""

    free_running = True
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int64)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int64)
    scale: np.ndarray = LavaPyType(np.ndarray, np.int64)
    line: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def run_spk(self) -> None:
        at = (self.time_step - 1) % len(self.line)
        self.s_out.send(self.scale[0] * self.line[at])
        self.line[at] = self.s_in.recv()
