"""The shipped networks do what their cards and golden traces say."""

import hashlib
import json
import pathlib

import numpy as np
import pytest

import lava_conv as lc

ZOO = pathlib.Path(__file__).parent.parent / "netx_models"
NAMES = sorted(path.stem for path in ZOO.glob("*.net"))


def test_the_mnist_networks_of_both_papers_are_there():
    wanted = {f"mnist-lenet-dtb-k{k}" for k in (0, "0-fast", 1, 2)} | {f"mnist-lenet-calif-t{t}" for t in (8, 16, 32)}
    assert wanted <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_golden_trace(name):
    path = ZOO / f"{name}.net"
    card = json.loads((ZOO / f"{name}.json").read_text())
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() and card["bytes"] < 5_000_000
    graph = lc.load(path)
    graph.check()
    assert graph.steps == card["steps"]
    with np.load(ZOO / f"{name}.golden.npz", allow_pickle=False) as golden:
        record, reference = lc.run(graph, golden["images"]), graph.reference(golden["images"])
        assert np.array_equal(record.logits, golden["logits"])
        assert np.array_equal(reference.logits, golden["settled"])
        for index, counts in reference.counts.items():
            assert np.array_equal(counts, golden[f"count_{index}"])
        digests = [
            hashlib.sha256(np.ascontiguousarray(s).tobytes()).hexdigest() for _, s in sorted(record.spikes.items())
        ]
        assert digests == golden["spikes"].tolist()
        assert any(c.any() for c in reference.counts.values())
    exact = card["exactness"]
    assert exact["predictions of model and reference that differ"] == 0
    settled = [value for key, value in exact.items() if key.startswith("counts of reference")]
    assert settled == ([0] if graph.input_code == "flash" else [])


@pytest.mark.parametrize("name", NAMES)
def test_the_card_has_the_fit_report_that_fit_gives_now(name):
    graph = lc.load(ZOO / f"{name}.net")
    said = json.loads((ZOO / f"{name}.json").read_text())["fit"]
    assert sorted(said) == ["loihi1", "loihi2"]
    for chip, report in said.items():
        assert report == lc.fit(graph, chip).card(), f"refresh with: benchmarks/zoo.py fit {name}"


def test_a_golden_trace_on_lava():
    """Every spike of a shipped LeNet on Lava: the same digests as the simulator's."""
    pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")
    graph = lc.load(ZOO / "mnist-lenet-dtb-k0.net")
    with np.load(ZOO / "mnist-lenet-dtb-k0.golden.npz", allow_pickle=False) as golden:
        record = lc.run(graph, golden["images"], backend="lava")
        assert np.array_equal(record.logits, golden["logits"])
        digests = [
            hashlib.sha256(np.ascontiguousarray(s).tobytes()).hexdigest() for _, s in sorted(record.spikes.items())
        ]
        assert digests == golden["spikes"].tolist()
