"""Random networks in every style, through each front end: nothing is wrong without a word; `benchmarks/silent.py`."""

import copy
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import silent

import lava_conv as lc
from lava_conv import qat
from lava_conv.qat.layers import QuantisedWeight

SEEDS = range(20000, 20040)


def made(monkeypatch, change):
    """`prepare`, whose result is changed on the way."""
    prepare = qat.prepare

    def changed(*args, **options):
        model = prepare(*args, **options)
        change(model)
        return model

    monkeypatch.setattr(qat, "prepare", changed)


def weights(model):
    return next(m for m in model.modules() if isinstance(m, QuantisedWeight))


@pytest.fixture
def plain():
    """The seed of a plain network that `prepare` and `convert` take."""
    cases = (silent.case(seed) for seed in range(1000))
    plain = (c for c in cases if c.front == "prepare" and c.kinds() == ["plain"] and c.options["method"] == "gao")
    return next(c.seed for c in plain if silent.judge(c.seed).verdict == "exact")


def test_subset():
    results = [silent.judge(seed) for seed in SEEDS]
    assert [(r.seed, r.verdict, r.detail) for r in results if r.verdict in ("silent", "crash")] == []
    assert not [r for r in results if r.detail.startswith("SWEEP")]
    assert sum(r.verdict == "exact" for r in results) >= 8


def test_the_sweep_sees_another_function(plain, monkeypatch):
    made(monkeypatch, lambda model: weights(model).weight.data.mul_(1.01))
    found = silent.judge(plain)
    assert found.verdict == "silent" and "prepare" in found.detail


def test_the_sweep_sees_other_counts(plain, monkeypatch):
    convert = lc.convert

    def other(model, *args, **options):
        model = copy.deepcopy(model)
        with torch.no_grad():
            weights(model).weight.neg_()
        return convert(model, *args, **options)

    monkeypatch.setattr(lc, "convert", other)
    found = silent.judge(plain)
    assert found.verdict == "silent" and "counts of quantiser 0" in found.detail


def test_the_sweep_sees_a_changed_model(plain, monkeypatch):
    prepare = qat.prepare

    def careless(model, *args, **options):
        made = prepare(model, *args, **options)
        model.train()
        return made

    monkeypatch.setattr(qat, "prepare", careless)
    found = silent.judge(plain)
    assert found.verdict == "silent" and "the user's model" in found.detail


def test_the_sweep_sees_a_crash(plain, monkeypatch):
    def fails(*args, **options):
        raise KeyError("conv")

    monkeypatch.setattr(qat, "prepare", fails)
    assert silent.judge(plain).verdict == "crash"
