"""The entrance: the image, and what one grey level is worth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor, fx

from lava_conv.conversion.algebra import Spikes
from lava_conv.frontends.operations.entry import Arriving, Entry
from lava_conv.frontends.program import Operation, SameShape
from lava_conv.qat.layers import Pixels

if TYPE_CHECKING:
    from lava_conv.conversion.algebra import Value
    from lava_conv.conversion.builder import Builder
    from lava_conv.qat.walk import Walk


@dataclass(frozen=True)
class Image(SameShape):
    """The image itself, whole numbers 0..255."""

    def evaluate(self, *values: Tensor) -> Tensor:
        return values[0]

    def build(self, builder: Builder, *values: Value) -> Value:
        return builder.image()


@dataclass(frozen=True)
class Scale(SameShape):
    """The image times what one grey level is worth."""

    factor: float

    def evaluate(self, *values: Tensor) -> Tensor:
        return values[0] * self.factor

    def build(self, builder: Builder, *values: Value) -> Value:
        (image,) = values
        assert isinstance(image, Spikes), "nothing stands before it but the image"
        return Spikes(tuple(replace(part, unit=part.unit * self.factor) for part in image.parts))


def _read(module: Pixels, arriving: Arriving) -> Operation:
    return Scale(module.scale)


def _prepare(walk: Walk, node: fx.Node, module: Pixels) -> None:
    if walk.flow_before(node).kind == "pixels":
        walk.enter(node)
    else:
        walk.refuse(node, module)


ENTRY = Entry(_read, _prepare, own=(Pixels,))
