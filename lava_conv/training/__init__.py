"""The recipe that trains the shipped networks: data, loop, augmentation, distillation, several processes."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lava_conv.training.data import Dataset as Dataset
    from lava_conv.training.data import load_dataset as load_dataset
    from lava_conv.training.loop import Recipe as Recipe
    from lava_conv.training.loop import Trained as Trained
    from lava_conv.training.loop import load_trained as load_trained
    from lava_conv.training.loop import train as train

_HOME: dict[str, str] = dict.fromkeys(("Recipe", "Trained", "load_trained", "train"), "lava_conv.training.loop")
_HOME |= dict.fromkeys(("Dataset", "load_dataset"), "lava_conv.training.data")

__all__ = ["Dataset", "Recipe", "Trained", "load_dataset", "load_trained", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lava_conv.training' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
