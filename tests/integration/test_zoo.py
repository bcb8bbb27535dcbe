"""The shipped networks do what their cards and golden traces say."""

import hashlib
import json
import pathlib

import numpy as np
import pytest

import lava_conv as lc

ZOO = pathlib.Path(__file__).parents[2] / "netx_models"
NAMES = sorted(path.stem for path in ZOO.glob("*.net"))


def test_the_mnist_networks_of_both_papers_are_there():
    wanted = {f"mnist-lenet-dtb-k{k}" for k in (0, "0-fast", 1, 2)} | {f"mnist-lenet-calif-t{t}" for t in (8, 16, 32)}
    assert wanted <= set(NAMES)


def test_the_vgg11_of_the_dynamic_threshold_paper_is_there():
    """The integers are as accurate as the model that was trained; k = 0 within 0.1 point of it at T = 8."""
    wanted = {f"cifar10-vgg11-dtb-k{k}" for k in (0, "0-fast", 1, 2)}
    wanted |= {"cifar10-vgg11-calif-t8", "cifar10-vgg11-calif-t16"}
    assert wanted <= set(NAMES)
    for name in wanted:
        card = json.loads((ZOO / f"{name}.json").read_text())
        said, graph = card["accuracy"], lc.load(ZOO / f"{name}.net")
        assert said["quantised model (float64)"] == said["integer reference"]
        assert [layer.shape for layer in graph.layers if layer.kind != "flatten"][1:4] == [
            (96, 24, 24), (256, 24, 24), (256, 12, 12),
        ]  # fmt: skip
        if "k0" in name:
            assert abs(said["spiking, after each step"][7] - said["quantised model (float64)"]) <= 0.001


@pytest.mark.parametrize("name", NAMES)
def test_golden_trace(name):
    path = ZOO / f"{name}.net"
    card = json.loads((ZOO / f"{name}.json").read_text())
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() and card["bytes"] < 8_000_000
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


STOCK = ("mnist-lenet-sdnn", "mnist-lenet-sdnn-clip")


@pytest.mark.parametrize("name", STOCK)
def test_the_lowered_lenet_for_stock_netx(name):
    """The stock file is what lowering the graph writes; it computes the golden counts, in numpy and through netx."""
    base = ZOO / "stock" / name
    card = json.loads(base.with_suffix(".json").read_text())
    shipped = base.with_suffix(".net").read_bytes()
    assert card["sha256"] == hashlib.sha256(shipped).hexdigest() and card["accuracy"]["integer reference"] > 0.99
    assert [v for k, v in card["exactness"].items() if "differ" in k] == [0] * 5
    graph = lc.load(f"{base}.graph.net")
    with np.load(f"{base}.golden.npz", allow_pickle=False) as golden:
        lowered = lc.lower(graph, golden["images"])
        assert {chip: lc.fit(lowered, chip).card() for chip in card["fit"]} == card["fit"]
        record = lowered.run(golden["images"])
        for found in (record, graph.reference(golden["images"])):
            assert np.array_equal(found.logits, golden["logits"])
            assert all(np.array_equal(c, golden[f"count_{i}"]) for i, c in found.counts.items())


@pytest.mark.parametrize("name", STOCK)
def test_the_lowered_lenet_is_written_byte_for_byte(name, tmp_path):
    from lava_conv.lowering import write_stock

    base = ZOO / "stock" / name
    with np.load(f"{base}.golden.npz", allow_pickle=False) as golden:
        lowered = lc.lower(lc.load(f"{base}.graph.net"), golden["images"])
    write_stock(lowered, tmp_path / "again.net")
    assert (tmp_path / "again.net").read_bytes() == base.with_suffix(".net").read_bytes()


def test_the_lowered_lenet_on_stock_netx():
    pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")
    base = ZOO / "stock" / "mnist-lenet-sdnn"
    with np.load(f"{base}.golden.npz", allow_pickle=False) as golden:
        x = golden["images"][2:5]
        record = lc.run(lc.load(f"{base}.graph.net"), x, backend="sdnn", record=())
        assert np.array_equal(record.logits, golden["logits"][:, 2:5])
        assert all(np.array_equal(c, golden[f"count_{i}"][2:5]) for i, c in record.counts.items())
