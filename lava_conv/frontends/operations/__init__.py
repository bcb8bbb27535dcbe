"""The operations that models are made of, one file each, with everything that is known of them (`entry.Entry`).

`ENTRIES` is the only list of them: tracing, reading, `lava_conv.qat.prepare` and the builder look here. The first
entry that knows a module has it.
"""

from typing import Any

from torch import fx, nn

from lava_conv.frontends.operations import (
    activation,
    addition,
    concatenation,
    identity,
    image,
    normalisation,
    pooling,
    refused,
    view,
    weights,
)
from lava_conv.frontends.operations.entry import AsModule, Entry

ENTRIES: tuple[Entry, ...] = (
    activation.STREAM,
    image.ENTRY,
    identity.ENTRY,
    weights.ENTRY,
    normalisation.ENTRY,
    activation.ENTRY,
    pooling.ENTRY,
    pooling.MAXIMUM,
    view.ENTRY,
    addition.ENTRY,
    concatenation.ENTRY,
    refused.ENTRY,
)
CALLS: dict[Any, AsModule] = {call: make for entry in ENTRIES for call, make in entry.calls.items()}


def entry_of(module: nn.Module) -> Entry:
    """The entry that knows a module; that of what is refused if none does."""
    return next(entry for entry in ENTRIES if isinstance(module, (*entry.modules, *entry.own)))


def is_leaf(module: nn.Module) -> bool:
    """Whether tracing keeps a module whole that is none of torch's."""
    return any(isinstance(module, entry.own) for entry in ENTRIES)


def entry_of_call(node: fx.Node) -> tuple[Entry, list[fx.Node]] | None:
    """The entry that knows a call, with the tensors that it joins; None if none does."""
    for entry in ENTRIES:
        if (tensors := entry.tensors(node)) is not None:
            return entry, tensors
    return None
