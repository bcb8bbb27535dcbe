"""Source of a stream of images, one every `interval` steps."""

from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess

from lava_conv.errors import DataError
from lava_conv.lava.types import LavaObject, Numbers
from processes.arguments import numbers, whole


class SampleInput(AbstractProcess):
    """Sends image n as one graded frame at step n*interval ("flash"), or at every step of its window ("constant").

    The fixed_pt model takes whole numbers of 32 bits, the floating_pt model any.

    Parameters:
        images: numbers (N, ...), mostly uint8 (N, H, W, C); the shape of one image becomes that of the port.
        interval: steps a sample takes, >= 1.
        constant: repeat the frame at every step.
        name: of the process, None: Lava's own.

    Port: s_out. After the last image it sends zeros.

    Raises:
        DataError: the images are no numbers, or a single image.
        RangeError: `interval` is below 1, or an image is not finite.
    """

    _runtime: LavaObject = None  # see NeuronProcess

    def __init__(self, *, images: Numbers, interval: int, constant: bool = False, name: str | None = None) -> None:
        label = name or "SampleInput"
        frames = numbers(label, "images", images)
        if frames.ndim < 2 or 0 in frames.shape[1:]:
            raise DataError(f"{label}: images has the shape {frames.shape}, it takes (N, ...), image after image")
        interval = whole(label, "interval", interval, 1)
        super().__init__(images=frames, interval=interval, constant=bool(constant), name=name, label=label)
        self.s_out = OutPort(shape=frames.shape[1:])
