"""Images that a model takes, found by trying sizes, for whoever gave no example."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from lava_conv.arguments import copied
from lava_conv.frontends.effective import evaluating
from lava_conv.network.fixedpoint import INPUT_MAX

USUAL = (32, 28, 24, 64, 96, 128, 224, 299, 16, 8)
LARGEST = 128  # sizes that are tried beyond the usual ones
LONGEST = 512  # the same for 1-D signals
EXAMPLES = 2


def probe(model: nn.Module, traced: fx.GraphModule) -> Tensor | None:
    """Random images float32 (2, C, H, W) of whole numbers 0..255 that `model` takes, or (2, C, L); None if none fit.

    Args:
        model: tried with zeros, at unusual sizes without data (on the meta device of torch).
        traced: the same, traced: its first weight layer tells the channels.
    """
    nodes: Any = traced.graph.nodes
    modules = [traced.get_submodule(str(n.target)) for n in nodes if n.op == "call_module"]
    first = next((m for m in modules if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Linear)), None)
    if first is None:
        return None
    shape = _fitting(copied(model).cpu(), _usual(first), "cpu")
    if shape is None:
        with contextlib.suppress(Exception):  # a module of the user's that cannot be without data
            shape = _fitting(copied(model).to("meta"), _all(first), "meta")
    if shape is None:
        return None
    return torch.randint(INPUT_MAX + 1, (EXAMPLES, *shape), generator=torch.Generator().manual_seed(0)).float()


def _usual(first: Any) -> Iterator[tuple[int, ...]]:
    if isinstance(first, nn.Linear):
        yield (1, 1, first.in_features)
    elif isinstance(first, nn.Conv1d):
        yield from ((first.in_channels, size) for size in USUAL)
    else:
        yield from ((first.in_channels, size, size) for size in USUAL)


def _all(first: Any) -> Iterator[tuple[int, ...]]:
    if isinstance(first, nn.Conv1d):
        yield from ((first.in_channels, size) for size in range(LONGEST, 0, -1))
    elif isinstance(first, nn.Conv2d):
        for height, width in ((1, 1), (1, 0), (0, 1)):  # square, and one pixel wide or high
            yield from ((first.in_channels, size**height, size**width) for size in range(1, LARGEST + 1))


def _fitting(model: nn.Module, shapes: Iterator[tuple[int, ...]], device: str) -> tuple[int, ...] | None:
    """The first of the shapes that the model takes."""
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    with evaluating(model), torch.no_grad():
        for shape in shapes:
            with contextlib.suppress(Exception):
                model(torch.zeros(EXAMPLES, *shape, dtype=dtype, device=device))
                return shape
    return None
