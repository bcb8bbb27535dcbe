"""CPU models of `Delay`."""

import numpy as np

from lava_conv.errors import RangeError
from lava_conv.lava.fit import misfit
from lava_conv.lava.types import ProcParams
from processes.declarations import cpu_model, in_port, out_port, var
from processes.delay.process import Delay
from processes.var_model import VarModel


@cpu_model(Delay, "fixed_pt")
class PyDelayFixed(VarModel):
    """Keeps the last `steps` frames and hands on the oldest, in integers of 32 bits. Tag fixed_pt."""

    free_running = True
    s_in = in_port(np.int32)
    s_out = out_port(np.int32)
    scale = var(np.int32)
    line = var(np.int32)

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


@cpu_model(Delay, "floating_pt")
class PyDelayFloat(VarModel):
    """Keeps the last `steps` frames and hands on the oldest, in floats. Tag floating_pt."""

    free_running = True
    s_in = in_port(float)
    s_out = out_port(float)
    scale = var(float)
    line = var(float)

    def run_spk(self) -> None:
        at = (self.time_step - 1) % len(self.line)
        self.s_out.send(self.scale[0] * self.line[at])
        self.line[at] = self.s_in.recv()
