"""Thresholds per channel: each channel of an activation is brought to the same range before one threshold serves all.

ReLU lets a positive factor pass, so a channel may be divided by a number where it is made and multiplied by it in the
weights that read it, and the float network stays the same. With one threshold for all channels afterwards that is a
threshold of its own for each of them. Activations that a shortcut joins share their numbers, for it has no weights.
"""

from typing import TypeAlias

import torch
from torch import Tensor, fx, nn

from lava_conv.calibration.segments import Segments
from lava_conv.frontends.operations.addition import is_add
from lava_conv.frontends.operations.identity import NOTHING
from lava_conv.frontends.operations.normalisation import NORMS
from lava_conv.qat.layers import QuantisedWeight

Linear: TypeAlias = QuantisedWeight | nn.BatchNorm1d | nn.BatchNorm2d  # multiplies its channels, and adds to them

SMALLEST_SHARE = 1 / 64  # of the largest range: quieter channels count as so loud, for their noise is not worth spikes


def equalise(segments: Segments, ranges: dict[str, Tensor]) -> list[str]:
    """Rescale the channels of every activation that only weights, and shortcuts to others of the kind, read.

    Args:
        segments: its modules change; the float network stays the same.
        ranges: by module path of the activation, the range (C,) of each channel, 0 where it is not known.

    Returns:
        The module paths that were rescaled.
    """
    done: list[str] = []
    for members in _joined(segments):
        paths = [str(end.target) for end in members]
        makers, readers = [_makers(segments, end) for end in members], [_readers(segments, end) for end in members]
        if None in makers or None in readers or not all(p in ranges for p in paths) or len(set(paths)) < len(paths):
            continue
        largest = torch.stack([ranges[path] / ranges[path].max().clamp_min(1e-30) for path in paths]).amax(0)
        size = torch.where(largest > 0, largest.clamp_min(SMALLEST_SHARE), 1.0)  # what no image moved stays as it is
        with torch.no_grad():
            for module in {id(m): m for found in makers for m in found or ()}.values():
                _divide(module, size)
            for layer in {id(m): m for found in readers for m in found or ()}.values():
                _multiply(layer, size)
        done += paths
    return done


def _joined(segments: Segments) -> list[list[fx.Node]]:
    """The quantisers in groups that shortcuts join."""
    groups: list[set[fx.Node]] = []
    for end in segments.quantisers:
        mine = {end, *(n for n in _shortcuts(segments, end))}
        touching = [g for g in groups if g & mine]
        groups = [g for g in groups if not g & mine] + [mine.union(*touching)]
    return [sorted(g & set(segments.quantisers), key=segments.quantisers.index) for g in groups]


def _shortcuts(segments: Segments, end: fx.Node) -> list[fx.Node]:
    """The sources whose spikes are added as they are."""
    found = []
    todo = [end.all_input_nodes[0]]
    while todo:
        node = todo.pop()
        if node in segments.needs[end]:
            found.append(node)
        elif is_add(node) or isinstance(segments.module(node), NOTHING):
            todo += node.all_input_nodes
    return found


def _makers(segments: Segments, end: fx.Node) -> list[Linear] | None:
    """The modules whose output is the summands of `end`: normalisations behind weights, or weight layers without one;
    None if something else is added, shortcuts apart."""
    found: list[Linear] = []
    shortcuts = _shortcuts(segments, end)

    def visit(node: fx.Node) -> bool:
        module = segments.module(node)
        if node in shortcuts:
            return node is not segments.image
        if is_add(node) or isinstance(module, NOTHING):
            return all(visit(before) for before in node.all_input_nodes)
        if isinstance(module, QuantisedWeight):
            found.append(module)
            return len(node.users) == 1
        if not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            return False
        found.append(module)
        behind = segments.module(node.all_input_nodes[0])
        return module.affine and isinstance(behind, QuantisedWeight) and len(node.users) == 1

    return found if visit(end.all_input_nodes[0]) else None


def _readers(segments: Segments, end: fx.Node) -> list[QuantisedWeight] | None:
    """The weight layers that read `end`, None if something else does; averages and flattening may stand between, and
    additions are shortcuts."""
    found: list[QuantisedWeight] = []

    def visit(node: fx.Node, whole: bool = True) -> bool:
        for user in node.users:
            module = segments.module(user)
            if isinstance(module, QuantisedWeight):
                if getattr(module, "groups", 1) != 1:
                    return False
                found.append(module)
            elif not (is_add(user) and whole):
                passes = module is not None and not isinstance(module, NORMS) and user not in segments.ends
                if not passes or not visit(user, whole and isinstance(module, NOTHING)):
                    return False
        return True

    return found if visit(end) else None


def _divide(module: Linear, size: Tensor) -> None:
    weight = module.weight
    weight /= size.reshape(-1, *[1] * (weight.ndim - 1))
    if module.bias is not None:
        module.bias /= size


def _multiply(layer: QuantisedWeight, size: Tensor) -> None:
    weight = layer.weight
    if isinstance(layer, nn.Linear):  # a flattened channel is a stretch of inputs
        weight *= size.repeat_interleave(weight.shape[1] // len(size))
    else:
        weight *= size.reshape(1, -1, *[1] * (weight.ndim - 2))
