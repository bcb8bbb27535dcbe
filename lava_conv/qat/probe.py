"""Images that a model takes, found by trying sizes, for whoever gave no example."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from lava_conv.fixedpoint import INPUT_MAX
from lava_conv.qat.effective import copied, evaluating

USUAL = (32, 28, 24, 64, 96, 128, 224, 299, 16, 8)
LARGEST = 256  # sizes that are tried beyond the usual ones
LONGEST = 2048  # the same for 1-D signals
EXAMPLES = 2


def probe(model: nn.Module, traced: fx.GraphModule) -> Tensor | None:
    """Random images float32 (2, C, H, W) of whole numbers 0..255 that `model` takes, or (2, C, L); None if none fit.

    Args:
        model: tried without data (on torch's meta device), where it can be.
        traced: the same, traced: its first weight layer tells the channels.
    """
    nodes: Any = traced.graph.nodes
    modules = [traced.get_submodule(str(n.target)) for n in nodes if n.op == "call_module"]
    first = next((m for m in modules if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Linear)), None)
    if first is None:
        return None
    twins = [copied(model).cpu()]
    with contextlib.suppress(Exception):  # a module of the user's that cannot be without data
        twins.insert(0, copied(model).to("meta"))
    for twin, device in zip(twins, ("meta", "cpu")[-len(twins) :], strict=True):
        for shape in _shapes(first, brief=device == "cpu"):
            if _takes(twin, shape, device):
                generator = torch.Generator().manual_seed(0)
                return torch.randint(INPUT_MAX + 1, (EXAMPLES, *shape), generator=generator).float()
    return None


def _shapes(first: nn.Module, brief: bool) -> Iterator[tuple[int, ...]]:
    if isinstance(first, nn.Linear):
        yield (1, 1, first.in_features)
        return
    channels: Any = first.in_channels
    if isinstance(first, nn.Conv1d):
        yield from ((channels, size) for size in (*USUAL, *(() if brief else range(LONGEST, 0, -1))))
        return
    yield from ((channels, size, size) for size in (*USUAL, *(() if brief else range(1, LARGEST + 1))))
    if not brief:
        yield from ((channels, size, 1) for size in range(1, LARGEST + 1))
        yield from ((channels, 1, size) for size in range(1, LARGEST + 1))


def _takes(model: nn.Module, shape: tuple[int, ...], device: str) -> bool:
    try:
        dtype = next((p.dtype for p in model.parameters()), torch.float32)
        with evaluating(model), torch.no_grad():
            model(torch.zeros(EXAMPLES, *shape, dtype=dtype, device=device))
    except Exception:
        return False
    return True
