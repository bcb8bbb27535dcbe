"""Source of a stream of images, one every `interval` steps."""

import numpy as np
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess


class SampleInput(AbstractProcess):
    """Sends image n as one graded frame at step n*interval ("flash"), or at every step of its window ("constant").

    Parameters:
        images: integers (N, ...), mostly uint8 (N, H, W, C); the shape of one image becomes that of the port.
        interval: steps a sample takes.
        constant: repeat the frame at every step.
        name: of the process, None: Lava's own.

    Port: s_out. After the last image it sends zeros.
    """

    def __init__(self, *, images: np.ndarray, interval: int, constant: bool = False, name: str | None = None) -> None:
        super().__init__(images=images, interval=int(interval), constant=bool(constant), name=name)
        self.s_out = OutPort(shape=images.shape[1:])
