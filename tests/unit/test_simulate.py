"""The simulator against plain loops, and its promises about batches, memory and kernels."""

import copy
import pickle
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from plain import naive_run, write_random_net

import lava_conv as lc
from lava_conv import kernels
from lava_conv import simulation as simulate
from lava_conv.network.graph import Graph, Layer, Skip
from lava_conv.network.neurons import NEURONS
from lava_conv.network.synapses import Conv, Dense, Identity
from lava_conv.simulation import dense, tensors
from lava_conv.simulation.fire import fire

ACC = NEURONS["ACC"].Params(0)
METHODS = ("auto", "events", "dense", "tensors")
needs_numba = pytest.mark.skipif(not find_spec("numba"), reason="numba is not installed")


@pytest.mark.parametrize("code", ["flash", "constant"])
@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_hand_written_file_equals_plain_numpy(tmp_path, code, skips, method):
    rng = np.random.default_rng(3)
    path = write_random_net(tmp_path / "a.net", rng, code=code, skips=skips)
    images = rng.integers(0, 256, (3, 2, 9, 7), dtype=np.uint8)
    record = lc.run(lc.load(path), images, method=method, record_spikes=True)
    for n, image in enumerate(images):
        expected = naive_run(path, image, record.steps)
        for index, spikes in record.spikes.items():
            assert np.array_equal(spikes[:, n], expected[index]), f"layer {index}"
            assert np.array_equal(record.counts[index][n], expected[index].sum(0))
        assert np.array_equal(record.logits[:, n], expected[max(expected)])
    assert all(np.abs(s).sum() > 0 for s in record.spikes.values()), "a silent network proves nothing"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("code", ["flash", "constant"])
@pytest.mark.parametrize("steps", [1, 2])
def test_the_shortest_samples(tmp_path, rng, code, method, steps):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng, code=code))
    images = rng.integers(0, 256, (3, 2, 9, 7), dtype=np.uint8)
    found = lc.run(graph, images, steps=steps, method=method, record_spikes=True)
    for n, image in enumerate(images):
        expected = naive_run(tmp_path / "a.net", image, steps)
        assert np.array_equal(found.logits[:, n], expected[max(expected)])


@pytest.mark.parametrize("wrong", ["sums", "always"])
def test_wrong_int8_kernels_are_found_out(monkeypatch, wrong):
    """One that saturates large sums, and one that is wrong everywhere."""

    class Wrong(dense.Int8):
        def ready(self, x):
            exact = dense.sums(self.synapse, x.double(), 1).float()
            return lambda: exact.clamp(-3000, 3000) if wrong == "sums" else exact + 1

        def __init__(self, synapse):
            self.synapse = synapse

    monkeypatch.setattr(dense, "Int8", Wrong)
    tried = dense._tried.__wrapped__
    assert not tried((24, 40, 3, 3), ((1, 1), (1, 1), (1, 1), 1), (40, 6, 6))
    monkeypatch.setattr(Wrong, "ready", lambda self, x: lambda: dense.sums(self.synapse, x.double(), 1).float())
    assert tried((24, 40, 3, 3), ((1, 1), (1, 1), (1, 1), 1), (40, 6, 6))


def test_float32_is_left_as_soon_as_a_sum_could_reach_2_to_24():
    for total, payload, kind in (
        ((1 << 24) - 1, 1, torch.float32), (1 << 24, 1, torch.float64),
        ((1 << 24) // 255, 255, torch.float32), ((1 << 24) // 255 + 1, 255, torch.float64),
    ):  # fmt: skip
        row = np.full((2, -(-total // 127)), 127)
        row[:, 0] -= 127 * row.shape[1] - total
        row[0] = 0
        row[1, 1::2] *= -1
        assert dense.exact_type(Dense(row), payload) == kind
    assert dense.exact_type(Identity(-(1 << 20)), 15) == torch.float32
    assert dense.exact_type(Identity(-(1 << 20)), 16) == torch.float64


def random_conv(rng, groups, low=-128):
    c, o = groups * rng.integers(1, 20), groups * rng.integers(1, 40)
    kernel = rng.integers(1, 5, 2)
    return c, Conv(
        rng.integers(low, 128 if low < -1 else 2, (o, c // groups, *kernel)), tuple(rng.integers(1, 4, 2)),
        tuple(rng.integers(0, 3, 2)), tuple(rng.integers(1, 3, 2)), groups,
    )  # fmt: skip


def test_geometries_equal_the_oracle(rng):
    """The dense convolutions against the numpy one of the oracle, on random shapes."""
    assert dense.int8_works() or "onednn" not in dir(torch.ops)
    narrow = 0
    for _ in range(150):
        channels, conv = random_conv(rng, int(rng.integers(1, 4)))
        size = rng.integers(8, 14, 2)
        x = rng.integers(0, 256, (2, channels, *size))
        got = dense.sums(conv, torch.tensor(x, dtype=torch.uint8), 255)
        assert np.array_equal(got.to(torch.int64).numpy(), conv.apply(x))
        if dense.int8_exact(conv, (channels, *size)):
            narrow += 1
            x = rng.integers(-1, 2, (2, *size, channels), dtype=np.int8)
            got = dense.Int8(conv).ready(torch.from_numpy(x).permute(0, 3, 1, 2))()
            assert np.array_equal(got.to(torch.int64).numpy(), conv.apply(x.transpose(0, 3, 1, 2).astype(np.int64)))
    assert narrow > 130 or not dense.int8_works()


def test_paddings_as_large_as_the_kernel_are_exact(rng):
    """An int8 kernel of torch 2.15 is not: the network says what the oracle says all the same."""
    dtb = NEURONS["DTB"].Params
    for kernel, padding in (((2, 1), (2, 2)), ((2, 1), (0, 1)), ((2, 4), (2, 2)), ((1, 1), (3, 3))):
        height, width = (9 + 2 * p - k + 1 for k, p in zip(kernel, padding, strict=True))
        first = Conv(rng.integers(-9, 20, (16, 1, 3, 3)), padding=(1, 1))
        second = Conv(rng.integers(-128, 128, (32, 1, *kernel)), padding=padding, groups=16)
        graph = Graph(
            (
                Layer("input", (1, 9, 9)),
                Layer("conv", (16, 9, 9), first, "DTB", dtb(0, 900, 0, 3)),
                Layer("conv", (32, height, width), second, "DTB", dtb(0, 90, 0, 3)),
                Layer("flatten", (32 * height * width,)),
                Layer("dense", (3,), Dense(rng.integers(-9, 9, (3, 32 * height * width))), "ACC", ACC),
            ),
            16,
        )
        images = rng.integers(0, 256, (6, 1, 9, 9), dtype=np.uint8)
        want = graph.reference(images)
        for method in METHODS:
            found = lc.run(graph, images, method=method, record_spikes=True)
            assert np.array_equal(found.logits[-1], want.logits[0]), (kernel, padding, method)
            assert all(np.array_equal(found.counts[i], c) and c.any() for i, c in want.counts.items())


def test_several_synapses_into_one_layer_are_exact(rng):
    """A main path and two shortcuts, all read as events where that is asked for."""
    dtb = NEURONS["DTB"].Params

    def conv(low, high, channels):
        return Conv(rng.integers(low, high, (24, channels, 3, 3)), padding=(1, 1))

    graph = Graph(
        (
            Layer("input", (2, 9, 9)),
            Layer("conv", (24, 9, 9), conv(-9, 20, 2), "DTB", dtb(0, 900, 0, 3)),
            Layer("conv", (24, 9, 9), conv(-2, 3, 24), "DTB", dtb(-3, 9)),
            Layer(
                "conv", (24, 9, 9), conv(-2, 3, 24), "DTB", dtb(-3, 9),
                (Skip(1, Conv(rng.integers(-5, 6, (24, 24, 1, 1)))), Skip(2, Identity(4))),
            ),
            Layer("flatten", (24 * 81,)),
            Layer("dense", (3,), Dense(rng.integers(-9, 9, (3, 24 * 81))), "ACC", ACC),
        ),
        16,
    )  # fmt: skip
    images = rng.integers(0, 256, (6, 2, 9, 9), dtype=np.uint8)
    plain = lc.run(graph, images, method="tensors", record_spikes=True)
    assert all(spikes.any() and (spikes < 0).any() for layer, spikes in plain.spikes.items() if layer > 1)
    for method in METHODS:
        found = lc.run(graph, images, method=method, record_spikes=True)
        assert np.array_equal(found.logits, plain.logits)
        assert all(np.array_equal(found.spikes[i], spikes) for i, spikes in plain.spikes.items()), method


@needs_numba
def test_gathered_events_equal_the_oracle(rng):
    """Sums of listed spikes against the oracle's convolution: every block width, both accumulators, any density."""
    from lava_conv.kernels import events

    seen = set()
    for number in range(120):
        channels, conv = random_conv(rng, 1, low=-1 if number % 2 else -127)
        if number % 10 == 0:
            channels, conv = 300, Dense(np.full((rng.integers(1, 300), 300), 127))
        shape = (channels, 1, 1) if isinstance(conv, Dense) else (channels, *map(int, rng.integers(8, 14, 2)))
        plan = events.plan(conv, shape if isinstance(conv, Conv) else shape[:1])
        seen.add((plan.block, plan.acc, plan.bits))
        density = rng.choice([0.0, 0.02, 0.3, 1.0])
        x = rng.choice([-1, 1, 1], (2, 3, *shape)) * (rng.random((2, 3, *shape)) < density)
        pixels = shape[1] * shape[2]
        spikes = x.reshape(2, 3, channels, pixels).transpose(0, 1, 3, 2).reshape(2, -1, channels).astype(np.int8)
        out = np.full((2, 3, plan.output[0] * plan.output[1], plan.output[2]), 77, np.int32)
        events.gather(None, plan.block, plan.bits)(
            spikes, *events.room(2, 3 * pixels, spikes.size), plan.weight, plan.geometry, 1, out,
            np.empty((3, 1, plan.block), plan.acc), (), (), (),
        )  # fmt: skip
        flat = x.reshape(6, *shape) if isinstance(conv, Conv) else x.reshape(6, channels)
        expected = conv.apply(flat).reshape(2, 3, plan.output[2], -1).transpose(0, 1, 3, 2)
        assert np.array_equal(out, expected)
    assert len({block for block, _, _ in seen}) == len(events.BLOCKS)
    assert {(acc, bits) for _, acc, bits in seen} >= {(np.int16, 8), (np.int16, 16), (np.int32, 32)}


@needs_numba
def test_what_events_cannot_do_runs_dense(rng):
    from lava_conv.kernels import events

    assert events.plan(Conv(np.full((4, 1, 2, 2), -128)), (1, 4, 4)) is None
    assert events.plan(Conv(np.ones((4, 1, 2, 2)), groups=2), (2, 4, 4)) is None


def test_sums_beyond_float32_are_exact(rng):
    layer = Dense(rng.choice([-128, 127], (3, 4000)))
    x = rng.choice([254, 255], (2, 4000))
    assert dense.exact_type(layer, 255) == torch.float64
    assert np.array_equal(dense.sums(layer, torch.tensor(x, dtype=torch.uint8), 255).numpy(), layer.apply(x))


@pytest.mark.parametrize("method", METHODS)
def test_batch_split_order_and_threads_change_nothing(tmp_path, rng, monkeypatch, method):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng))
    images = rng.integers(0, 256, (10, 2, 9, 7), dtype=np.uint8)
    whole = lc.run(graph, images, method=method, threads=1, record_spikes=True)
    monkeypatch.setattr(tensors, "CHUNK_ELEMENTS", 3 * 6 * 300)
    monkeypatch.setattr(simulate, "CHUNK", 3)
    seen, before = [], torch.get_num_threads()
    split = lc.run(graph, images, progress=lambda *x: seen.append(x), method=method, threads=4, record_spikes=True)
    assert len(seen) > 2 and seen == sorted(set(seen)) and seen[-1] == (10, 10) and {of for _, of in seen} == {10}
    assert torch.get_num_threads() == before
    order = rng.permutation(10)
    shuffled = lc.run(graph, images[order], method=method, threads=2, record_spikes=True)
    for i, spikes in whole.spikes.items():
        assert np.array_equal(spikes, split.spikes[i])
        assert np.array_equal(whole.counts[i], split.counts[i])
        assert np.array_equal(spikes[:, order], shuffled.spikes[i])
    assert np.array_equal(whole.logits, split.logits)


def test_without_numba_the_result_is_the_same(tmp_path, rng, monkeypatch):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng))
    images = rng.integers(0, 256, (4, 2, 9, 7), dtype=np.uint8)
    expected = lc.run(graph, images, record_spikes=True)
    monkeypatch.setattr(kernels, "AVAILABLE", False)
    assert np.array_equal(lc.run(graph, images).logits, expected.logits)


@pytest.mark.parametrize("code", ["flash", "constant"])
def test_neurons_that_numba_cannot_compile_run_in_numpy(tmp_path, rng, monkeypatch, code):
    path = write_random_net(tmp_path / "a.net", rng, code=code, skips=True)
    images = rng.integers(0, 256, (3, 2, 9, 7), dtype=np.uint8)
    if kernels.AVAILABLE:
        monkeypatch.setattr("lava_conv.kernels.neuron.compiled", lambda *_, **__: False)
    found = lc.run(lc.load(path), images, threads=1, record_spikes=True)
    for n, image in enumerate(images):
        expected = naive_run(path, image, found.steps)
        assert np.array_equal(found.logits[:, n], expected[max(expected)])
        assert all(np.array_equal(spikes[:, n], expected[index]) for index, spikes in found.spikes.items())


@pytest.mark.parametrize("kind", NEURONS)
def test_samples_fired_side_by_side_are_those_of_one_thread(rng, kind):
    neuron = NEURONS[kind]
    params = neuron.Params(theta=9, **({"delta": 5} if kind == "DTB" else {})) if kind != "ACC" else ACC
    drive = rng.integers(-20, 30, (7, 2, 3, 4)).astype(np.int32)
    for hold in (0, 1):
        alone = fire(neuron, params, drive, 5, hold)
        assert np.abs(alone).sum() > 0
        for threads in (2, 3, 20):
            assert np.array_equal(fire(neuron, params, drive, 5, hold, threads=threads), alone)


def test_without_int8_kernels_the_result_is_the_same(tmp_path, rng, monkeypatch):
    from lava_conv.simulation import compiled

    graph = lc.load(write_random_net(tmp_path / "a.net", rng))
    images = rng.integers(0, 256, (4, 2, 9, 7), dtype=np.uint8)
    expected = lc.run(graph, images, record_spikes=True)
    monkeypatch.setattr(compiled, "int8_works", lambda: False)
    assert np.array_equal(lc.run(graph, images, method="dense").logits, expected.logits)


def test_a_result_larger_than_the_memory_is_refused_at_once(tmp_path, rng):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng))
    many = np.broadcast_to(np.zeros((1, 2, 9, 7), np.uint8), (10, 2, 9, 7))
    lc.run(graph, many)
    with pytest.raises(lc.DataError, match=r"takes .* GiB, free are .* GiB; use fewer samples or"):
        simulate._check_memory(graph, 10**9, 8, True)
    neurons = sum(int(np.prod(layer.shape)) for _, layer, neuron in graph.neuron_layers() if neuron.spiking)
    need = 10**9 * (neurons * (1 + 8) + 8 * 8 * graph.classes)
    with pytest.raises(lc.DataError, match=f"takes {need / 2**30:.1f} GiB"):
        simulate._check_memory(graph, 10**9, 8, True)


def test_counts_are_int64_whatever_holds_them(tmp_path, rng):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng))
    record = lc.run(graph, rng.integers(0, 256, (2, 2, 9, 7), dtype=np.uint8), record_spikes=True)
    assert all(counts.dtype == np.int64 for counts in record.counts.values())
    assert list(record.counts) == sorted(record.spikes) and "layer 1: (2, " in repr(record.counts)


LOOKS = {
    "one": lambda spikes: spikes[1],
    "loop": list,
    "length": len,
    "truth": bool,
    "in": lambda spikes: 1 in spikes,
    "keys": lambda spikes: spikes.keys(),
    "values": lambda spikes: spikes.values(),
    "items": lambda spikes: spikes.items(),
    "get": lambda spikes: spikes.get(1, default=None),
    "equal": lambda spikes: spikes == {},
    "dictionary": dict,
    "sorted": sorted,
}


def test_spikes_that_were_not_recorded_refuse_every_look(tmp_path, rng):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng))
    images = rng.integers(0, 256, (2, 2, 9, 7), dtype=np.uint8)
    record, kept = lc.run(graph, images), lc.run(graph, images, record_spikes=True)
    assert kept.has_spikes and not record.has_spikes and not graph.reference(images).has_spikes
    assert all(np.array_equal(c, kept.counts[i]) for i, c in record.counts.items())
    for bare in (record, copy.deepcopy(record), pickle.loads(pickle.dumps(record)), replace(record, backend="another")):
        assert repr(bare.spikes) == "NoSpikes()"
        for name, look in LOOKS.items():
            with pytest.raises(lc.DataError, match="holds no spikes; run with record_spikes=True"):
                look(bare.spikes)
                pytest.fail(name)


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
    with pytest.raises(lc.DataError, match="method is 'magic'"):
        lc.run(graph, image, method="magic")
    with pytest.raises(lc.DataError, match="threads is 0"):
        lc.run(graph, image, threads=0)
    with pytest.raises(lc.DataError, match="no option record; pass record_spikes=True to keep every spike"):
        lc.run(graph, image, record=("spikes",))
    with pytest.raises(lc.DataError, match="record_spikes is 1, allowed are True and False"):
        lc.run(graph, image, record_spikes=1)
    with pytest.raises(lc.DataError, match=r"no option timeout; it takes device, threads, method$"):
        lc.run(graph, image, timeout=3)
    with pytest.raises(lc.DataError, match="backend 'torch' has no option interval; it takes device"):
        next(lc.run_parts(graph, image, interval=2))
