"""A process whose model misbehaves, for the fault tests."""

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess


class Faulty(AbstractProcess):
    """mode: what its model does at step `at`. "before": raises before it sends; "after": raises after; "stuck": never
    answers. With at=None the model cannot even be built."""

    def __init__(self, *, mode: str, at: int | None, name: str = "faulty") -> None:
        super().__init__(mode=mode, at=at, name=name)
        self.a_in = InPort(shape=(3,))
        self.s_out = OutPort(shape=(3,))
