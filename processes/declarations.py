"""What a process model declares to Lava, in one line each; the types are those of what Lava puts in its place."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_conv.lava.types import LavaObject, ModelInPort, ModelOutPort, Numbers

Model = TypeVar("Model", bound=type[PyLoihiProcessModel])


def cpu_model(process: type[AbstractProcess], *tags: str) -> Callable[[Model], Model]:
    """The decorated class implements `process` on a CPU; run configurations find it by its tags."""

    def decorate(model: Model) -> Model:
        for declare in (implements(proc=process, protocol=LoihiProtocol), requires(CPU), tag(*tags)):
            declare(model)
        return model

    return decorate


def in_port(kind: type, precision: int | None = None) -> ModelInPort:
    """An InPort whose values arrive as `kind`."""
    return _declared(PyInPort.VEC_DENSE, kind, precision)


def out_port(kind: type, precision: int | None = None) -> ModelOutPort:
    """An OutPort that sends `kind`."""
    return _declared(PyOutPort.VEC_DENSE, kind, precision)


def var(kind: type, precision: int | None = None) -> Numbers:
    """A Var, held as an array of `kind`."""
    return _declared(np.ndarray, kind, precision)


def _declared(holder: type, kind: type, precision: int | None) -> LavaObject:
    declared: LavaObject = LavaPyType  # whose annotations leave out that precision may be None
    return declared(holder, kind, precision)
