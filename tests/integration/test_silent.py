"""Random networks in every style, through each front end: nothing is wrong without a word; `benchmarks/silent.py`."""

import copy
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import silent

import lava_conv as lc
from lava_conv import qat
from lava_conv.qat.layers import QuantisedWeight

CONVERTS = (
    30006,
    30011,
    30030,
    30036,
    30056,
    30066,
    30080,
    30084,
    30097,
    30104,
    30107,
    30112,
    30119,
    30121,
    30146,
    30156,
)
REFUSED = (30003, 30005, 30017, 30028, 30041, 30053, 30068, 30082, 30105, 30131, 30173, 30209)
# a hook, a replaced forward, batch statistics, dropout that is always on, NaN, other clips: each was silently wrong
ONCE_SILENT = (7, 79, 84, 88, 165, 180, 1211, 1329, 1330, 1377, 3042, 3559, 4607)


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
    plain = (c for c in cases if c.front == "prepare" and c.kinds() == ["plain"] and c.options["method"] == "ca_lif")
    return next(c.seed for c in plain if silent.judge(c.seed).verdict == "exact")


@pytest.mark.parametrize("seed", CONVERTS)
def test_converts(seed):
    found = silent.judge(seed)
    assert found.verdict == "exact", found


@pytest.mark.parametrize("seed", (*REFUSED, *ONCE_SILENT))
def test_nothing_wrong_without_a_word(seed):
    found = silent.judge(seed)
    assert found.verdict in ("exact", "refused") and not found.flaw, found


def test_brevitas():
    pytest.importorskip("brevitas", reason="an optional extra")
    assert silent.judge(30061).verdict == "exact"


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
