"""Delay line for skip paths: both summands of an addition must arrive in the same window."""

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from lava_conv.errors import RangeError
from lava_conv.lava.types import LavaObject
from lava_conv.network.fixedpoint import STATE_MAX, STATE_MIN
from processes.arguments import numbers, shape_of, whole


class Delay(AbstractProcess):
    """s_out(t) = scale * s_in(t - steps), 0 before.

    The fixed_pt model takes whole numbers of 32 bits, the floating_pt model any.

    Parameters:
        shape: shape of the population, channels last.
        steps: delay in time steps, >= 1.
        scale: factor within 24 bits, 1 = a pure delay; an integer, or a float for floating_pt.
        name: of the process, None: Lava's own.

    Ports: s_in, s_out, both of `shape`. Vars: scale, and `line`, the frames under way.

    Raises:
        RangeError: an argument is out of range.
    """

    _runtime: LavaObject = None  # see NeuronProcess

    def __init__(self, *, shape: tuple[int, ...], steps: int, scale: float = 1, name: str | None = None) -> None:
        label = name or "Delay"
        shape, steps = shape_of(label, shape), whole(label, "steps", steps, 1)
        factor = numbers(label, "scale", scale)
        if factor.size != 1 or not STATE_MIN <= float(factor.reshape(())) <= STATE_MAX:
            raise RangeError(f"{label}: scale is {scale}, allowed is one number within {STATE_MIN}..{STATE_MAX}")
        super().__init__(shape=shape, steps=steps, scale=scale, name=name, label=label)
        self.s_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.scale = Var(shape=(1,), init=factor.reshape(1))
        self.line = Var(shape=(steps, *shape), init=np.zeros((steps, *shape), np.int64))
