"""The recipe that trains the shipped networks: data, loop, augmentation, distillation, several processes."""

from typing import TYPE_CHECKING

from lava_conv.lazy import exports

if TYPE_CHECKING:
    from lava_conv.training.data import Dataset as Dataset
    from lava_conv.training.data import load_dataset as load_dataset
    from lava_conv.training.loop import Trained as Trained
    from lava_conv.training.loop import load_trained as load_trained
    from lava_conv.training.loop import train as train
    from lava_conv.training.recipe import Augmentation as Augmentation
    from lava_conv.training.recipe import Distillation as Distillation
    from lava_conv.training.recipe import Model as Model
    from lava_conv.training.recipe import Optimiser as Optimiser
    from lava_conv.training.recipe import Recipe as Recipe

_RECIPE = ("Augmentation", "Distillation", "Model", "Optimiser", "Recipe")
_HOME: dict[str, str] = dict.fromkeys(("Trained", "load_trained", "train"), "lava_conv.training.loop")
_HOME |= dict.fromkeys(_RECIPE, "lava_conv.training.recipe")
_HOME |= dict.fromkeys(("Dataset", "load_dataset"), "lava_conv.training.data")

__all__ = ["Dataset", "Trained", "load_dataset", "load_trained", "train"]
__all__ += list(_RECIPE)

__getattr__, __dir__ = exports(__name__, _HOME)
