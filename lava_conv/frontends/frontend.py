"""What a front end is: it takes a model as its owner made it, and gives a Program of it."""

import importlib
import sys
from typing import NamedTuple, Protocol, cast

from torch import nn

from lava_conv.frontends.program import Program, Shape


class Opened(NamedTuple):
    """A model, and what was read of it.

    Fields:
        model: runs as the user's does, and nothing in it changes while it runs.
        program: what was read.
        scale: the model takes the pixels (0..255) times this.
        exact: the model runs in float64 as well, and gives what the program gives. False: its kernels may know float32
            alone, and it may quantise its output once more.
    """

    model: nn.Module
    program: Program
    scale: float
    exact: bool


class FrontEnd(Protocol):
    """A module of `lava_conv.frontends`, one for each toolkit."""

    def accepts(self, model: nn.Module) -> bool:
        """Whether the model is of this toolkit."""
        ...

    def open_model(self, model: nn.Module, shape: Shape, input_scale: float) -> Opened:
        """Read a model, which is not changed.

        Args:
            model: trained.
            shape: of one image.
            input_scale: the model was trained on pixels (0..255) times this.

        Raises:
            ConversionError: what cannot be read.
        """
        ...


FRONT_ENDS = {  # the package whose import must have come before -> the front end; the first that accepts a model has it
    "torch.ao.quantization": "lava_conv.frontends.torch_ao",
    "brevitas": "lava_conv.frontends.brevitas",
    "torch": "lava_conv.frontends.module",
}


def open_model(model: nn.Module, shape: Shape, input_scale: float) -> Opened:
    """A model read by the front end that accepts it.

    Args:
        model: trained; not changed.
        shape: of one image.
        input_scale: a toolkit's model was trained on pixels (0..255) times this.

    Raises:
        ConversionError: what cannot be read.
    """
    for package, name in FRONT_ENDS.items():
        if package in sys.modules:  # nobody can hold a model of a toolkit that was never imported
            front_end = cast(FrontEnd, importlib.import_module(name))
            if front_end.accepts(model):
                return front_end.open_model(model, shape, input_scale)
    raise AssertionError("the last front end accepts any module")
