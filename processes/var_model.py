"""Base of the process models with Vars: each keeps the array that Lava gave it, whoever writes to it."""

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.type import LavaPyType
from numpy.typing import DTypeLike

from lava_conv.errors import RangeError
from lava_conv.lava.fit import misfit
from lava_conv.lava.types import LavaObject, ModelInPort, ProcParams


class VarModel(PyLoihiProcessModel):
    """A RefPort puts an array of its own in the place of a Var's. Here the values go into the Var's array instead.

    So what was laid over that array (views, compiled arguments) stays valid, its dtype too, and `on_var_update` is
    called as after `Var.set`. A value that the dtype does not hold raises RangeError and is not cut.
    """

    label: str

    def __init__(self, proc_params: ProcParams) -> None:
        super().__init__(proc_params)
        self.label = proc_params["label"]

    def __setattr__(self, key: str, value: LavaObject) -> None:
        held: LavaObject = self.__dict__.get(key)
        array = isinstance(held, np.ndarray) and held is not value
        if not array or not isinstance(getattr(type(self), key, None), LavaPyType):
            return super().__setattr__(key, value)
        if problem := misfit(value, held.dtype):
            raise RangeError(f"{self.label}: {key} was written to in step {self.time_step}, but {problem}")
        held[...] = value
        self.on_var_update()

    def received(self, port: ModelInPort, name: str, kind: DTypeLike = np.int32) -> np.ndarray:
        """What arrives at an InPort, in an integer type that holds it.

        Args:
            port: the InPort.
            name: of the port, for the message.
            kind: the type.

        Raises:
            RangeError: a fraction, or a number out of range.
        """
        values = port.recv()
        if values.dtype == kind:
            return values
        if problem := misfit(values, kind):
            raise RangeError(
                f"{self.label}: what arrives at {name} in step {self.time_step} does not fit the fixed_pt model: "
                f"{problem}; choose floating_pt in the run configuration, or send less"
            )
        return values.astype(kind)
