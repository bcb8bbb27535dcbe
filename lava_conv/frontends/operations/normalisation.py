"""Batch normalisation with the statistics of the training: a factor and a shift per channel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from lava_conv.conversion import algebra
from lava_conv.conversion.algebra import Floats
from lava_conv.errors import ConversionError
from lava_conv.frontends.operations.entry import Arriving, Entry
from lava_conv.frontends.program import Operation, Shape
from lava_conv.qat.layers import column

if TYPE_CHECKING:
    from lava_conv.conversion.algebra import Value
    from lava_conv.conversion.builder import Builder
    from lava_conv.qat.walk import Walk

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class Affine(Operation):
    """y = factor * x + shift, per channel.

    Fields:
        factor: float64 (C,).
        shift: float64 (C,).
    """

    factor: Floats
    shift: Floats

    def evaluate(self, *values: Tensor) -> Tensor:
        (x,) = values
        factor, shift = (column(torch.from_numpy(v), x[0]) for v in (self.factor, self.shift))
        return x * factor + shift

    def output_shape(self, *shapes: Shape) -> Shape:
        if shapes[0][0] != len(self.factor):
            raise ConversionError(
                f"has {len(self.factor)} channels, but {shapes[0][0]} arrive; check the images' shape"
            )
        return shapes[0]

    def build(self, builder: Builder, *values: Value) -> Value:
        return algebra.normalise(algebra.as_sums(values[0]), self.factor, self.shift)


def _read(module: Any, arriving: Arriving) -> Operation:
    if module.running_mean is None or module.running_var is None:
        raise ConversionError("keeps no running statistics; train with track_running_stats=True")
    mean, var = module.running_mean.numpy(), module.running_var.numpy()
    weight = module.weight.detach().numpy() if module.affine else np.ones_like(mean)
    shift = module.bias.detach().numpy() if module.affine else np.zeros_like(mean)
    factor = weight / np.sqrt(var + module.eps)
    shift = shift - mean * factor
    if not (np.isfinite(factor).all() and np.isfinite(shift).all()):
        raise ConversionError("holds NaN or infinity; the training diverged, load an earlier checkpoint")
    return Affine(factor.astype(np.float64), shift.astype(np.float64))


def _prepare(walk: Walk, node: fx.Node, module: Any) -> None:
    """It stays, and its factors go into the integer grid of the neuron behind it."""
    flow = walk.flow_before(node)
    if getattr(module, "running_mean", None) is None:
        walk.problem(node, "keeps no running statistics; train with track_running_stats=True")
    elif flow.kind in ("sum", "spikes"):
        behind = [replace(s, norms=(*s.norms, module)) for s in flow.addends()]
        walk.flows[node] = replace(flow, kind="sum", summands=behind)
    else:
        walk.problem(node, f"normalises {flow.kind}; batch normalisation must follow a weight layer")


ENTRY = Entry(_read, _prepare, NORMS)
