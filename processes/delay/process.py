"""Delay line for skip paths: both summands of an addition must arrive in the same window."""

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var


class Delay(AbstractProcess):
    """s_out(t) = scale * s_in(t - steps), 0 before.

    Parameters:
        shape: shape of the population, channels last.
        steps: delay in time steps, >= 1.
        scale: integer factor, 1 = a pure delay.
        name: of the process, None: Lava's own.

    Ports: s_in, s_out, both of `shape`. Vars: scale, and `line`, the frames under way.

    Raises:
        ValueError: steps is below 1.
    """

    def __init__(self, *, shape: tuple[int, ...], steps: int, scale: int = 1, name: str | None = None) -> None:
        if steps < 1:
            raise ValueError(f"Delay: steps is {steps}, allowed is 1 or more")
        super().__init__(shape=shape, steps=steps, scale=scale, name=name)
        self.s_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.scale = Var(shape=(1,), init=scale)
        self.line = Var(shape=(steps, *shape), init=np.zeros((steps, *shape), np.int64))
