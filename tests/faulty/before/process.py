"""A process whose model misbehaves, for the fault tests."""

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess


class Faulty(AbstractProcess):
    def __init__(self, *, at: int, name: str = "faulty") -> None:
        super().__init__(at=at, name=name)
        self.a_in = InPort(shape=(3,))
        self.s_out = OutPort(shape=(3,))
