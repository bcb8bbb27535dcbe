"""CPU models of `SampleInput`."""

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel

from lava_conv.errors import RangeError
from lava_conv.lava.fit import misfit
from lava_conv.lava.types import ModelOutPort, ProcParams
from processes.declarations import cpu_model, out_port
from processes.sample_input.process import SampleInput


class _Stream(PyLoihiProcessModel):
    """Sends frames; which one follows from the time step alone."""

    free_running = True
    kind: type
    s_out: ModelOutPort

    def __init__(self, proc_params: ProcParams) -> None:
        super().__init__(proc_params)
        self._images: np.ndarray = proc_params["images"]
        self._interval: int = proc_params["interval"]
        self._constant: bool = proc_params["constant"]
        if problem := misfit(self._images, self.kind):
            raise RangeError(
                f"{proc_params['label']}: images: {problem}; give integers, or choose floating_pt in the run "
                f"configuration"
            )

    def run_spk(self) -> None:
        sample, step = divmod(self.time_step - 1, self._interval)
        if sample < len(self._images) and (step == 0 or self._constant):
            self.s_out.send(self._images[sample].astype(self.kind))
        else:
            self.s_out.send(np.zeros(self._images.shape[1:], self.kind))


@cpu_model(SampleInput, "fixed_pt")
class PySampleInputFixed(_Stream):
    """Sends int32 frames. Tag fixed_pt."""

    kind = np.int32
    s_out = out_port(np.int32, precision=24)


@cpu_model(SampleInput, "floating_pt")
class PySampleInputFloat(_Stream):
    """Sends float frames. Tag floating_pt."""

    kind = np.float64
    s_out = out_port(float)
