"""A model that raises before or after it sends, or never answers, at step `at`."""

import time

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from faulty.process import Faulty


@implements(proc=Faulty, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyFaulty(PyLoihiProcessModel):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int64)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int64)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.mode, self.at = proc_params["mode"], proc_params["at"]
        if self.at is None:
            raise ValueError("cannot be built")

    def run_spk(self):
        a_in = self.a_in.recv()
        now = self.time_step == self.at
        if now and self.mode == "before":
            raise ValueError("broken on purpose")
        if now and self.mode == "stuck":
            time.sleep(1000)
        self.s_out.send(a_in)
        if now and self.mode == "after":
            raise ValueError("broken on purpose")
