"""Calibration of pretrained float networks: quantisers set from images, layers adjusted one after the other."""

from typing import TYPE_CHECKING

from lava_conv.lazy import exports

if TYPE_CHECKING:
    from lava_conv.calibration.procedure import Calibration as Calibration
    from lava_conv.calibration.procedure import Comparison as Comparison
    from lava_conv.calibration.procedure import calibrate as calibrate
    from lava_conv.calibration.tuning import LayerError as LayerError

_PROCEDURE = ("Calibration", "Comparison", "calibrate")
_HOME: dict[str, str] = dict.fromkeys(_PROCEDURE, "lava_conv.calibration.procedure")
_HOME["LayerError"] = "lava_conv.calibration.tuning"

__all__ = ["Calibration", "Comparison", "LayerError", "calibrate"]

__getattr__, __dir__ = exports(__name__, _HOME)
