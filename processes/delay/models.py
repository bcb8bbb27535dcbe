"""CPU models of `Delay`."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_conv.errors import RangeError
from lava_conv.lava.fit import misfit
from lava_conv.lava.types import ProcParams
from processes.delay.process import Delay
from processes.var_model import VarModel


@implements(proc=Delay, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyDelayFixed(VarModel):
    """Keeps the last `steps` frames and hands on the oldest, in integers of 32 bits. Tag fixed_pt."""

    free_running = True
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    scale: np.ndarray = LavaPyType(np.ndarray, np.int32)
    line: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def __init__(self, proc_params: ProcParams) -> None:
        super().__init__(proc_params)
        if problem := misfit(proc_params["scale"], np.int32):
            raise RangeError(f"{self.label}: scale: {problem}; choose floating_pt in the run configuration")

    def run_spk(self) -> None:
        at = (self.time_step - 1) % len(self.line)
        self.s_out.send(self._scaled(self.line[at]))
        self.line[at] = self.received(self.s_in, "s_in")

    def _scaled(self, frame: np.ndarray) -> np.ndarray:
        if self.scale[0] == 1:
            return frame
        out = frame * np.int64(self.scale[0])
        if problem := misfit(out, np.int32):
            raise RangeError(
                f"{self.label}: what is sent in step {self.time_step} does not fit: {problem}; use a smaller scale"
            )
        return out


@implements(proc=Delay, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyDelayFloat(VarModel):
    """Keeps the last `steps` frames and hands on the oldest, in floats. Tag floating_pt."""

    free_running = True
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    scale: np.ndarray = LavaPyType(np.ndarray, float)
    line: np.ndarray = LavaPyType(np.ndarray, float)

    def run_spk(self) -> None:
        at = (self.time_step - 1) % len(self.line)
        self.s_out.send(self.scale[0] * self.line[at])
        self.line[at] = self.s_in.recv()
