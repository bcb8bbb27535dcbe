"""Quantisation-aware training: the layers, `prepare` for models of one's own, and their exact evaluation."""

from typing import TYPE_CHECKING

from lava_conv.lazy import exports

if TYPE_CHECKING:
    from lava_conv.qat.evaluation import evaluate as evaluate
    from lava_conv.qat.evaluation import exact as exact
    from lava_conv.qat.layers import Int8Conv1d as Int8Conv1d
    from lava_conv.qat.layers import Int8Conv2d as Int8Conv2d
    from lava_conv.qat.layers import Int8Linear as Int8Linear
    from lava_conv.qat.layers import LearnedStep as LearnedStep
    from lava_conv.qat.layers import MedianQuant as MedianQuant
    from lava_conv.qat.layers import Pixels as Pixels
    from lava_conv.qat.layers import Readout as Readout
    from lava_conv.qat.layers import TernaryConv1d as TernaryConv1d
    from lava_conv.qat.layers import TernaryConv2d as TernaryConv2d
    from lava_conv.qat.layers import TernaryLinear as TernaryLinear
    from lava_conv.qat.options import Preparation as Preparation
    from lava_conv.qat.options import Quantisation as Quantisation
    from lava_conv.qat.preparation import prepare as prepare

_LAYERS = (
    "Int8Conv1d", "Int8Conv2d", "Int8Linear", "LearnedStep", "MedianQuant", "Pixels", "Readout", "TernaryConv1d",
    "TernaryConv2d", "TernaryLinear",
)  # fmt: skip
_HOME: dict[str, str] = dict.fromkeys(_LAYERS, "lava_conv.qat.layers")
_HOME |= dict.fromkeys(("evaluate", "exact"), "lava_conv.qat.evaluation") | {"prepare": "lava_conv.qat.preparation"}

_HOME |= dict.fromkeys(("Preparation", "Quantisation"), "lava_conv.qat.options")

__all__ = ["Preparation", "Quantisation", "evaluate", "exact", "prepare"]
__all__ += list(_LAYERS)

__getattr__, __dir__ = exports(__name__, _HOME)
