"""What does nothing when a trained network runs: Identity, Dropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx, nn
from torch.nn import functional

from lava_conv.frontends.nodes import argument
from lava_conv.frontends.operations.entry import Arriving, AsModule, Entry
from lava_conv.frontends.program import Operation, SameShape

if TYPE_CHECKING:
    from lava_conv.conversion.algebra import Value
    from lava_conv.conversion.builder import Builder
    from lava_conv.qat.walk import Walk

NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)


@dataclass(frozen=True)
class Nothing(SameShape):
    """What comes, as it comes."""

    def evaluate(self, *values: Tensor) -> Tensor:
        return values[0]

    def build(self, builder: Builder, *values: Value) -> Value:
        return values[0]


def _read(module: nn.Module, arriving: Arriving) -> Operation:
    return Nothing()


def _prepare(walk: Walk, node: fx.Node, module: nn.Module) -> None:
    walk.flows[node] = walk.flow_before(node)


def _dropout(kind: Any) -> AsModule:
    def make(node: fx.Node) -> nn.Module | None:
        if argument(node, 2, "training", True):  # traced as evaluation runs
            node.meta["remedy"] = "it drops values in evaluation mode, too; pass training=self.training"
            return None
        return kind(argument(node, 1, "p", 0.5))

    return make


def _nothing(node: fx.Node) -> nn.Module:
    return nn.Identity()


CALLS: dict[Any, AsModule] = {
    functional.dropout: _dropout(nn.Dropout),
    functional.dropout1d: _dropout(nn.Dropout1d),
    functional.dropout2d: _dropout(nn.Dropout2d),
    "contiguous": _nothing,
    "float": _nothing,
}
ENTRY = Entry(_read, _prepare, NOTHING, calls=CALLS)
