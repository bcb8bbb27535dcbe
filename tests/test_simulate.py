"""The simulator against plain loops, and its promises about batches, memory and kernels."""

import numpy as np
import pytest
from plain import naive_run, write_random_net

import lava_conv as lc
from lava_conv import simulate


@pytest.mark.parametrize("code", ["flash", "constant"])
@pytest.mark.parametrize("skips", [False, True])
def test_hand_written_file_equals_plain_numpy(tmp_path, rng, code, skips):
    path = write_random_net(tmp_path / "a.net", rng, code=code, skips=skips)
    images = rng.integers(0, 256, (3, 2, 9, 7), dtype=np.uint8)
    record = lc.run(lc.load(path), images)
    for n, image in enumerate(images):
        expected = naive_run(path, image, record.steps)
        for index, spikes in record.spikes.items():
            assert np.array_equal(spikes[:, n], expected[index]), f"layer {index}"
            assert np.array_equal(record.counts[index][n], expected[index].sum(0))
        assert np.array_equal(record.logits[:, n], expected[max(expected)])
    assert all(np.abs(s).sum() > 0 for s in record.spikes.values()), "a silent network proves nothing"


def test_geometries_equal_the_oracle(rng):
    """The simulator's convolution against the numpy one of the oracle, on random shapes."""
    from lava_conv.synapses import Conv

    torch = pytest.importorskip("torch")
    with simulate._exact_kernels():
        for _ in range(150):
            groups = int(rng.integers(1, 4))
            c, o = groups * rng.integers(1, 5), groups * rng.integers(1, 5)
            kernel, size = rng.integers(1, 5, 2), rng.integers(8, 14, 2)
            conv = Conv(
                rng.integers(-128, 128, (o, c // groups, *kernel)), tuple(rng.integers(1, 4, 2)),
                tuple(rng.integers(0, 3, 2)), tuple(rng.integers(1, 3, 2)), groups,
            )  # fmt: skip
            x = rng.integers(0, 256, (2, c, *size))
            got = simulate._apply(conv, torch.tensor(x, dtype=torch.uint8), 255)
            assert np.array_equal(got.numpy(), conv.apply(x))


def test_sums_beyond_float32_are_exact(rng):
    from lava_conv.synapses import Dense

    torch = pytest.importorskip("torch")
    dense = Dense(rng.choice([-128, 127], (3, 4000)))
    x = rng.choice([254, 255], (2, 4000))
    assert simulate._exact_type(dense, 255) == torch.float64
    assert np.array_equal(simulate._apply(dense, torch.tensor(x, dtype=torch.uint8), 255).numpy(), dense.apply(x))


def test_batch_split_and_order_change_nothing(tmp_path, rng, monkeypatch):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng))
    images = rng.integers(0, 256, (10, 2, 9, 7), dtype=np.uint8)
    whole = lc.run(graph, images)
    monkeypatch.setattr(simulate, "CHUNK_ELEMENTS", 3 * 6 * 300)
    seen = []
    split = lc.run(graph, images, progress=seen.append)
    assert len(seen) > 2 and sum(seen) == 10
    order = rng.permutation(10)
    shuffled = lc.run(graph, images[order])
    for i, spikes in whole.spikes.items():
        assert np.array_equal(spikes, split.spikes[i])
        assert np.array_equal(spikes[:, order], shuffled.spikes[i])
    assert np.array_equal(whole.logits, split.logits)


def test_record_off_keeps_counts(tmp_path, rng):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng))
    images = rng.integers(0, 256, (2, 2, 9, 7), dtype=np.uint8)
    record = lc.run(graph, images, record=())
    assert record.spikes == {}
    assert all(np.array_equal(c, lc.run(graph, images).counts[i]) for i, c in record.counts.items())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 2, 9, 7)), "dtype float64"),
        (np.zeros((2, 9, 7, 2), np.uint8), r"shape \(2, 9, 7, 2\)"),
        (np.zeros((2, 9, 7), np.uint8), r"shape \(2, 9, 7\)"),
        (np.zeros((0, 2, 9, 7), np.uint8), "empty"),
    ],
)
def test_wrong_images(tmp_path, rng, images, message):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng))
    for call in (lambda: lc.run(graph, images), lambda: graph.reference(images)):
        with pytest.raises(lc.DataError, match=message):
            call()


def test_odd_memory_layouts(tmp_path, rng):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng))
    images = rng.integers(0, 256, (4, 2, 9, 7), dtype=np.uint8)
    expected = lc.run(graph, images).logits
    locked = images.copy()
    locked.flags.writeable = False
    assert np.array_equal(lc.run(graph, locked).logits, expected)
    assert np.array_equal(lc.run(graph, np.asfortranarray(images)).logits, expected)


def test_wrong_calls(tmp_path, rng):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng))
    image = np.zeros((1, 2, 9, 7), np.uint8)
    with pytest.raises(lc.BackendError, match="'gpu'"):
        lc.run(graph, image, backend="gpu")
    with pytest.raises(lc.BackendError, match="not to be had"):
        lc.run(graph, image, device="cuda:7")
    with pytest.raises(lc.DataError, match="steps is 0"):
        lc.run(graph, image, steps=0)
    with pytest.raises(lc.DataError, match="'voltages'"):
        lc.run(graph, image, record=("voltages",))
