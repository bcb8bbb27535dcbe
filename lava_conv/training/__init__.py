"""The recipe that trains the shipped networks: data, loop, augmentation, distillation, several processes."""

from typing import TYPE_CHECKING

from lava_conv.lazy import exports

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

__getattr__, __dir__ = exports(__name__, _HOME)
