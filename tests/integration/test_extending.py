"""docs/extending.md, done: an operation, a front end and a backend that only this file knows."""

import sys
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
import torch
from nets import assert_exact, images, lively
from torch import nn

import lava_conv as lc
from lava_conv import backends, qat
from lava_conv.conversion import algebra
from lava_conv.frontends import frontend, operations
from lava_conv.frontends.frontend import Opened
from lava_conv.frontends.module import open_model
from lava_conv.frontends.operations.entry import Entry
from lava_conv.frontends.program import Operation
from lava_conv.simulation import simulate

SHAPE = (1, 8, 8)


class Halve(nn.Module):
    def forward(self, x):
        return x / 2


@dataclass(frozen=True)
class Half(Operation):
    """x / 2."""

    def evaluate(self, *values):
        return values[0] / 2

    def output_shape(self, *shapes):
        return shapes[0]

    def build(self, builder, *values):
        sums = algebra.as_sums(values[0])
        channels = sum(total.channels for total in sums)
        return algebra.normalise(sums, np.full(channels, 0.5), np.zeros(channels))


def prepare_half(walk, node, module):
    walk.flows[node] = walk.flow_before(node)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), Halve(), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )  # fmt: skip


def test_an_operation_is_one_entry(monkeypatch):
    with pytest.raises(lc.ConversionError, match="calls truediv"):
        qat.prepare(network(), "dynamic_threshold")
    own = Entry(lambda module, arriving: Half(), prepare_half, own=(Halve,))
    monkeypatch.setattr(operations, "ENTRIES", (own, *operations.ENTRIES))
    model = lively(qat.prepare(network(), "dynamic_threshold", k=1), SHAPE)
    assert isinstance(model.get_submodule("2"), Halve)
    assert_exact(model, SHAPE, 24)
    model.get_submodule("2").forward = lambda x: x
    with pytest.raises(lc.ConversionError, match=r"2 .*differs from the model"):
        lc.convert(model, images(SHAPE, 4), 24)


class Bundle(nn.Module):
    """What a toolkit hands out: a network that takes pixels times 0.5."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x * 2)


def test_a_front_end_is_one_file(monkeypatch):
    own = ModuleType("toolkit_front_end")
    opened = []

    def open_bundle(model, shape, input_scale):
        opened.append((shape, input_scale))
        return Opened(model, open_model(model.inner, shape, 1.0).program, 0.5, exact=True)

    own.accepts = lambda model: isinstance(model, Bundle)
    own.open_model = open_bundle
    monkeypatch.setitem(sys.modules, "toolkit", own)
    monkeypatch.setitem(sys.modules, "toolkit_front_end", own)
    monkeypatch.setattr(frontend, "FRONT_ENDS", {"toolkit": "toolkit_front_end", **frontend.FRONT_ENDS})
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    model, x = lively(qat.prepare(plain, "ca_lif", levels=8), SHAPE), images(SHAPE, 6)
    first, second = lc.convert(model, x, 16), lc.convert(Bundle(model), x, 16, input_scale=0.5)
    assert opened == [(SHAPE, 0.5)]
    assert np.array_equal(first.reference(x).logits, second.reference(x).logits)
    wrong = Bundle(model)
    wrong.forward = lambda x: model(x * 2).neg()
    with pytest.raises(lc.ConversionError, match="differs from the model"):
        lc.convert(wrong, x, 16, input_scale=0.5)


def test_a_backend_is_one_function(monkeypatch):
    own = ModuleType("slow_backend")
    asked = []

    def run_slowly(graph, images, steps=None, /, *, record_spikes=False, progress=None, patience=1):
        asked.append(patience)
        return simulate(graph, images, steps, record_spikes=record_spikes, progress=progress)

    own.run_slowly = run_slowly
    monkeypatch.setitem(sys.modules, "slow_backend", own)
    monkeypatch.setitem(backends.BACKENDS, "slow", ("slow_backend", "run_slowly"))
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    x = images(SHAPE, 6)
    graph = lc.convert(lively(qat.prepare(plain, "ca_lif", levels=8), SHAPE), x, 16)
    assert np.array_equal(lc.run(graph, x, backend="slow", patience=3).logits, lc.run(graph, x).logits)
    assert asked == [3] and lc.compare(graph, x, first="slow", second="torch").equal
    with pytest.raises(lc.DataError, match=r"'slow' has no option patients; it takes patience"):
        lc.run(graph, x, backend="slow", patients=3)
