"""The same seed gives the same bytes and the same spikes, on any number of threads and in any order of samples."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from plain import write_random_net

import lava_conv as lc
from lava_conv.training.data import load_dataset
from lava_conv.training.loop import Recipe, train

QUICK = Recipe(epochs=1, batch=128, seed=5)
FOUR = pytest.param(4, marks=pytest.mark.slow)  # more than there are cores wait for each other
METHODS = ("auto", "events", "dense", "tensors")


def state(trained):
    return {name: value.clone() for name, value in trained.model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.fixture
def threads():
    """Set torch's threads; afterwards there are as many as before."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def twice():
    data = load_dataset("digits")
    return data, train(data, QUICK), train(data, QUICK)


def test_training_twice_gives_equal_weights(twice):
    data, one, two = twice
    assert same(state(one), state(two)) and one.losses == two.losses
    torch.manual_seed(99)  # whatever happened before in the process
    np.random.seed(3)  # noqa: NPY002
    assert same(state(one), state(train(data, QUICK)))
    assert not same(state(one), state(train(data, Recipe(epochs=1, batch=128, seed=6))))


@pytest.mark.parametrize("count", [1, 2, FOUR])
def test_conversion_gives_the_same_bytes_on_any_threads(twice, tmp_path, threads, count):
    data, one, two = twice
    lc.save(lc.convert(one.model, data.x_train[:16]), tmp_path / "a.net")
    threads(count)
    lc.save(lc.convert(two.model, data.x_train[:16]), tmp_path / "b.net")
    lc.save(lc.convert(two.model, data.x_train[:16][::-1].copy()), tmp_path / "c.net")  # examples only check it
    written = [(tmp_path / f"{name}.net").read_bytes() for name in "abc"]
    assert written[0] == written[1] == written[2]


@pytest.mark.parametrize("count", [1, FOUR])
def test_calibration_gives_the_same_bytes_twice(tmp_path, threads, count):
    data = load_dataset("digits")
    model = train(data, Recipe.flat(method="float", epochs=1)).model
    threads(count)
    for name in "ab":
        lc.save(lc.calibrate(model, data.x_train[:64], steps=8), tmp_path / f"{name}.net")
    assert (tmp_path / "a.net").read_bytes() == (tmp_path / "b.net").read_bytes()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("skips", [False, True])
def test_threads_order_and_split_change_no_spike(tmp_path, rng, threads, method, skips):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng, skips=skips))
    images = rng.integers(0, 256, (23, 2, 9, 7), dtype=np.uint8)
    expected = lc.run(graph, images, method=method, threads=1, record_spikes=True)

    def check(record, rows):
        assert np.array_equal(record.logits, expected.logits[:, rows])
        assert all(np.array_equal(record.spikes[i], spikes[:, rows]) for i, spikes in expected.spikes.items())
        assert all(np.array_equal(record.counts[i], counts[rows]) for i, counts in expected.counts.items())

    for count in (1, 2, 4):
        threads(count)
        check(lc.run(graph, images, method=method, record_spikes=True), slice(None))
        check(lc.run(graph, images, method=method, threads=count, record_spikes=True), slice(None))
        order = rng.permutation(len(images))
        check(lc.run(graph, images[order], method=method, threads=count, record_spikes=True), order)
        cut = int(rng.integers(1, len(images)))
        for rows in (slice(0, cut), slice(cut, None)):
            check(lc.run(graph, images[rows], method=method, threads=count, record_spikes=True), rows)
        check(lc.run(graph, images[[4, 4, 4]], method=method, threads=count, record_spikes=True), [4, 4, 4])
    reference = graph.reference(images)
    order = rng.permutation(len(images))
    assert np.array_equal(graph.reference(images[order]).logits, reference.logits[:, order])


ELSEWHERE = """
import sys, hashlib, numpy as np
sys.path.insert(0, sys.argv[1])
from plain import write_random_net
import lava_conv as lc
write_random_net(sys.argv[2], np.random.default_rng(8), skips=True)
graph = lc.load(sys.argv[2])
lc.save(graph, sys.argv[2])
images = np.random.default_rng(9).integers(0, 256, (9, 2, 9, 7), dtype=np.uint8)
record = lc.run(graph, images, record_spikes=True)
print(hashlib.sha256(open(sys.argv[2], "rb").read()).hexdigest())
print(hashlib.sha256(b"".join(record.spikes[i].tobytes() for i in sorted(record.spikes))).hexdigest())
"""


def test_another_process_gives_the_same(tmp_path, request):
    words = [str(request.path.parents[1]), str(tmp_path / "a.net")]
    elsewhere = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *words], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "4"},
    ).stdout  # fmt: skip
    write_random_net(tmp_path / "b.net", np.random.default_rng(8), skips=True)
    graph = lc.load(tmp_path / "b.net")
    lc.save(graph, tmp_path / "b.net")
    images = np.random.default_rng(9).integers(0, 256, (9, 2, 9, 7), dtype=np.uint8)
    record = lc.run(graph, images, threads=1, record_spikes=True)
    spikes = b"".join(record.spikes[i].tobytes() for i in sorted(record.spikes))
    expected = [hashlib.sha256(data).hexdigest() for data in ((tmp_path / "b.net").read_bytes(), spikes)]
    assert elsewhere.split() == expected
