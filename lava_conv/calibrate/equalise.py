"""Thresholds per channel: each channel of an activation is brought to the same range before one threshold serves all.

ReLU lets a positive factor pass, so a channel may be divided by a number where it is made and multiplied by it in the
weights that read it, and the float network stays the same. With one threshold for all channels afterwards that is a
threshold of its own for each of them. An activation that a shortcut reads keeps its scale: a shortcut has no weights.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn

from lava_conv.calibrate.segments import Segments
from lava_conv.qat.layers import QuantisedWeight
from lava_conv.qat.prepare import NORMS

SMALLEST_SHARE = 1 / 64  # of the largest range: quieter channels count as so loud, for their noise is not worth spikes


def equalise(segments: Segments, ranges: dict[str, Tensor]) -> list[str]:
    """Rescale the channels of every activation that only weights read.

    Args:
        segments: its modules change; the float network stays the same.
        ranges: by module path of the activation, the range (C,) of each channel.

    Returns:
        The module paths that were rescaled.
    """
    done = []
    for end in segments.quantisers:
        path = str(end.target)
        makers, readers = _makers(segments, end), _readers(segments, end)
        if makers is None or readers is None or path not in ranges or _shared(segments, path):
            continue
        size = ranges[path] / ranges[path].max().clamp_min(1e-30)
        size = size.clamp_min(SMALLEST_SHARE)
        with torch.no_grad():
            for module in makers:
                _divide(module, size)
            for layer in readers:
                _multiply(layer, size)
        done.append(path)
    return done


def _shared(segments: Segments, path: str) -> bool:
    return sum(str(end.target) == path for end in segments.quantisers) > 1


def _makers(segments: Segments, end: fx.Node) -> list[Any] | None:
    """The modules whose output is the summands of `end`: normalisations, or weight layers without one."""
    found: list[Any] = []

    def visit(node: fx.Node) -> bool:
        module = segments.module(node)
        if (isinstance(module, NORMS) and module.affine) or isinstance(module, QuantisedWeight):
            found.append(module)
            return len(node.users) == 1
        if node in segments.needs[end] or module is not None:
            return False
        return all(visit(before) for before in node.all_input_nodes)  # an addition or a concatenation

    joined = any(n.op == "call_function" and "cat" in str(n.target) for n in segments.inside(end))
    return found if not joined and visit(end.all_input_nodes[0]) else None


def _readers(segments: Segments, end: fx.Node) -> list[Any] | None:
    """The weight layers that read `end`, if nothing else does; averages and flattening may stand between."""
    found: list[Any] = []

    def visit(node: fx.Node) -> bool:
        for user in node.users:
            module = segments.module(user)
            if isinstance(module, QuantisedWeight):
                if getattr(module, "groups", 1) != 1:
                    return False
                found.append(module)
            elif module is None or isinstance(module, NORMS) or user in segments.ends or not visit(user):
                return False
        return True

    return found if visit(end) and found else None


def _divide(module: Any, size: Tensor) -> None:
    weight = module.weight
    weight /= size.reshape(-1, *[1] * (weight.ndim - 1))
    if module.bias is not None:
        module.bias /= size


def _multiply(layer: Any, size: Tensor) -> None:
    weight = layer.weight
    if isinstance(layer, nn.Linear):  # a flattened channel is a stretch of inputs
        weight *= size.repeat_interleave(weight.shape[1] // len(size))
    else:
        weight *= size.reshape(1, -1, *[1] * (weight.ndim - 2))
