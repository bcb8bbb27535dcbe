"""Calibration of pretrained float networks: quantisers set from images, layers adjusted one after the other."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lava_conv.calibration.procedure import Calibration as Calibration
    from lava_conv.calibration.procedure import Comparison as Comparison
    from lava_conv.calibration.procedure import calibrate as calibrate
    from lava_conv.calibration.procedure import calibrated as calibrated
    from lava_conv.calibration.tuning import LayerError as LayerError

_PROCEDURE = ("Calibration", "Comparison", "calibrate", "calibrated")
_HOME: dict[str, str] = dict.fromkeys(_PROCEDURE, "lava_conv.calibration.procedure")
_HOME["LayerError"] = "lava_conv.calibration.tuning"

__all__ = ["Calibration", "Comparison", "LayerError", "calibrate", "calibrated"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lava_conv.calibration' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
