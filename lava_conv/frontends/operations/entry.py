"""What is known of one operation of users' models, in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx, nn

from lava_conv.errors import ConversionError, Problem
from lava_conv.frontends.program import Operation, Shape

if TYPE_CHECKING:
    from lava_conv.conversion.algebra import Value
    from lava_conv.conversion.builder import Builder
    from lava_conv.qat.walk import Walk

Arriving = Sequence[Shape | None]  # shapes of a sample of each input, as far as they are known
AsModule = Callable[[fx.Node], nn.Module | None]  # the module that does the same as a call


@dataclass(frozen=True)
class Entry:
    """One operation, from the user's module to the integer network.

    Fields:
        read: (module, shapes that arrive) -> the Operation that a module is, trained with quantisation; None for the
            module of an operation that stays a call. A ConversionError, "what; remedy" without the place, becomes part
            of the list of everything that is refused.
        prepare: (walk, node, module): what `lava_conv.qat.prepare` puts in the place of a float module.
        modules: torch's modules that mean it.
        calls: functions and methods that mean it, with the module that does the same; one that gives None may leave a
            remedy in `node.meta["remedy"]`.
        own: modules outside torch that mean it; tracing keeps them whole.
        tensors: of an operation that stays a call, the tensors that a node joins; None: the node is something else.
    """

    read: Callable[[Any, Arriving], Operation]
    prepare: Callable[[Walk, fx.Node, Any], None]
    modules: tuple[type, ...] = ()
    own: tuple[type, ...] = ()
    calls: Mapping[Any, AsModule] = field(default_factory=dict)
    tensors: Callable[[fx.Node], list[fx.Node] | None] = lambda node: None


@dataclass(frozen=True)
class Unsupported(Operation):
    """Something that has no integer form.

    Fields:
        what: what is wrong, as a verb that follows its place: "is a PReLU".
        remedy: what to do about it.
    """

    what: str
    remedy: str

    def refusal(self) -> Problem:
        return Problem("", self.what, self.remedy)

    def evaluate(self, *values: Tensor) -> Tensor:
        raise ConversionError(f"{self.what}; {self.remedy}")

    def output_shape(self, *shapes: Shape) -> Shape:
        raise ConversionError(f"{self.what}; {self.remedy}")

    def build(self, builder: Builder, *values: Value) -> Value:
        raise ConversionError(f"{self.what}; {self.remedy}")
