"""Quantised activations: what a neuron counts; and the ReLU that they stand for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from lava_conv.conversion import algebra
from lava_conv.conversion.algebra import Floats, Staircase
from lava_conv.conversion.builder import Neurons
from lava_conv.errors import ConversionError
from lava_conv.frontends.nodes import argument
from lava_conv.frontends.operations.entry import Arriving, AsModule, Entry
from lava_conv.frontends.operations.identity import Nothing
from lava_conv.frontends.operations.refused import NO_NEGATIVE_COUNT, unsupported
from lava_conv.frontends.program import Operation, SameShape
from lava_conv.qat.layers import LearnedStep, Quantiser, Stream, column, half_up
from lava_conv.qat.options import CA_LIF

if TYPE_CHECKING:
    from lava_conv.conversion.algebra import Value
    from lava_conv.conversion.builder import Builder
    from lava_conv.qat.walk import Walk

RELUS = (nn.ReLU, nn.ReLU6, nn.Hardtanh)
UNQUANTISED = "its output is not quantised; pass the model through lava_conv.qat.prepare and train it"


@dataclass(frozen=True)
class Quantise(SameShape):
    """y -> (N - zero) * unit, N = clip(round(y / unit) + zero, 0, n_max): what a neuron counts, in the model's units.

    Fields:
        unit: the value of one count, > 0.
        n_max: largest count, 0: no upper clip.
        zero: the count that stands for the value 0.
        tie: a half goes up, even if it is missed by so much; None: it goes to the even neighbour.
        neuron: its type in the table `lava_conv.network.neurons.NEURONS`.
        encoder: the neuron never sends negative spikes.
        offset: float64 (C,), what calibration adds to y; with a constant input it comes evenly over the sample. None:
            nothing.
        initial: the same, at the beginning of the sample.
    """

    unit: float
    n_max: int
    zero: int
    tie: float | None
    neuron: str
    encoder: bool
    offset: Floats | None = None
    initial: Floats | None = None

    def evaluate(self, *values: Tensor) -> Tensor:
        (y,) = values
        for extra in (self.offset, self.initial):
            y = y if extra is None else y + column(torch.from_numpy(extra), y[0])
        smooth = y / self.unit
        count = (torch.round(smooth) if self.tie is None else half_up(smooth, self.tie)) + self.zero
        return (count.clamp(0, self.n_max or None) - self.zero) * self.unit

    def build(self, builder: Builder, *values: Value) -> Value:
        half = 0.5 + (self.tie or 0.0)
        rounding = Staircase(self.unit, self.n_max, self.zero, half, half_even=self.tie is None)
        neurons = Neurons(self.neuron, self.encoder, self.offset, self.initial)
        return builder.neurons(algebra.as_sums(values[0]), rounding, neurons)


def _read(module: nn.Module, arriving: Arriving) -> Operation:
    if not isinstance(module, Quantiser):
        return unsupported(module, UNQUANTISED)
    unit = torch.as_tensor(module.unit()).item()
    if not np.isfinite(unit) or unit <= 0:
        raise ConversionError(f"has a step of {unit}; the training diverged, load an earlier checkpoint")
    offset, initial = (None if v is None else v.detach().double().numpy() for v in (module.offset, module.initial))
    return Quantise(unit, module.n_max, module.zero, module.tie, module.neuron, module.encoder, offset, initial)


def _prepare(walk: Walk, node: fx.Node, module: Any) -> None:
    """ReLU becomes a quantised one, with its clip; behind spikes it does nothing."""
    if not isinstance(module, RELUS):
        walk.refuse(node, module)
        return
    flow = walk.flow_before(node)
    low = module.min_val if isinstance(module, nn.Hardtanh) else 0
    if low != 0:
        walk.problem(node, f"clips at {low}; {NO_NEGATIVE_COUNT}")
    elif flow.kind == "spikes" and not flow.signed and not isinstance(module, nn.ReLU6 | nn.Hardtanh):
        walk.exchange(node, nn.Identity())  # counts are not negative
        walk.flows[node] = flow
    elif flow.kind == "pixels":
        walk.problem(node, "is applied to the image; a weight layer must come first")
    else:
        if flow.kind == "spikes":
            flow = replace(flow, kind="sum", summands=flow.addends())
        walk.exchange(node, walk.quantiser(flow, float(module.max_val) if isinstance(module, nn.Hardtanh) else None))
        walk.settle(node, flow)


def _read_stream(module: Stream, arriving: Arriving) -> Operation:
    return Nothing()


def _prepare_stream(walk: Walk, node: fx.Node, module: Stream) -> None:
    """A sum that branches: neurons whose counts stand for values of both signs, half of the levels each."""
    levels = walk.options.levels
    if walk.options.method != CA_LIF or levels < 2:
        walk.problem(node, "branches before an activation; use method='ca_lif' with 2 levels or more")
        return
    flow = walk.flow_before(node)
    walk.exchange(node, LearnedStep(levels, zero=levels // 2))
    walk.settle(node, flow)
    walk.flows[node].signed = True


def _relu(node: fx.Node) -> nn.Module:
    return nn.ReLU()


def _clamp(node: fx.Node) -> nn.Module | None:
    low, high = argument(node, 1, "min"), argument(node, 2, "max")
    if low != 0 or isinstance(high, fx.Node) or (high is not None and high <= 0):
        node.meta["remedy"] = (
            "only clamps from 0 to a number above 0 are spike counts; use nn.ReLU, or nn.Hardtanh(0, b)"
        )
        return None
    return nn.ReLU() if high is None else nn.Hardtanh(0.0, float(high))


def _hardtanh(node: fx.Node) -> nn.Module | None:
    low, high = argument(node, 1, "min_val", -1.0), argument(node, 2, "max_val", 1.0)
    return None if isinstance(low, fx.Node) or isinstance(high, fx.Node) else nn.Hardtanh(float(low), float(high))


CALLS: dict[Any, AsModule] = {
    functional.relu: _relu,
    torch.relu: _relu,
    torch.relu_: _relu,
    "relu": _relu,
    "relu_": _relu,
    functional.relu6: lambda node: nn.ReLU6(),
    functional.hardtanh: _hardtanh,
    torch.clamp: _clamp,
    "clamp": _clamp,
    "clamp_": _clamp,
}
ENTRY = Entry(_read, _prepare, RELUS, (Quantiser,), CALLS)
STREAM = Entry(_read_stream, _prepare_stream, own=(Stream,))
