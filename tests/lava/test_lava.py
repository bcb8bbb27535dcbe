"""Lava against the simulator and plain numpy, spike for spike, and a runtime that ends."""

import dataclasses
import subprocess
import sys

import leaks
import numpy as np
import pytest
from plain import naive_run, write_random_net

import lava_conv as lc

pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")
pytestmark = pytest.mark.xdist_group("shared memory")  # they look at what is left there, and one leaves some


@pytest.fixture(autouse=True)
def nothing_left_behind():
    before = leaks.segments()
    yield
    import multiprocessing

    assert multiprocessing.active_children() == []
    assert not leaks.new_segments(before)


@pytest.mark.parametrize("code", ["flash", "constant"])
@pytest.mark.parametrize("skips", [False, True])
def test_hand_written_file_equals_plain_numpy_and_simulator(tmp_path, rng, code, skips):
    path = write_random_net(tmp_path / "a.net", rng, code=code, skips=skips)
    graph = lc.load(path)
    images = rng.integers(0, 256, (5, 2, 9, 7), dtype=np.uint8)
    result = lc.compare(graph, images)
    assert result.equal, result.difference
    record = result.records[1]
    expected = naive_run(path, images[3], record.steps)
    for index, spikes in record.spikes.items():
        assert np.array_equal(spikes[:, 3], expected[index])
    assert np.array_equal(record.logits[:, 3], expected[6])


def test_a_stream_of_100_samples_of_a_trained_network(trained_digits):
    data, trained = trained_digits
    graph = lc.convert(trained.model, data.x_train[:8], steps=6)
    seen = []
    lava = lc.run(graph, data.x_test[:100], backend="lava", progress=lambda *x: seen.append(x), record_spikes=True)
    torch = lc.run(graph, data.x_test[:100], record_spikes=True)
    assert seen == sorted(set(seen)) and seen[-1] == (100, 100)
    for index, spikes in torch.spikes.items():
        assert np.array_equal(lava.spikes[index], spikes)
        assert np.array_equal(lava.counts[index], torch.counts[index])
    assert np.array_equal(lava.logits, torch.logits)


def test_ca_lif_graph(tmp_path, rng):
    from lava_conv.network.graph import Graph, Layer
    from lava_conv.network.neurons import NEURONS
    from lava_conv.network.synapses import Conv, Dense

    theta = rng.integers(200, 2000, 3)
    one = NEURONS["CALIF"].Params(theta, rng.integers(-99, 99, 3), rng.integers(-9, 9, 3), theta // 2, 0, 1, 5, 0, 3)
    two = NEURONS["CALIF"].Params(np.full(6, 7), 1, -20, 3, np.full(6, -7), 0, 0, 40)
    layers = (
        Layer("input", (1, 5, 4)),
        Layer("conv", (3, 5, 4), Conv(rng.integers(-9, 20, (3, 1, 3, 3)), padding=(1, 1)), "CALIF", one),
        Layer("flatten", (60,)),
        Layer("dense", (6,), Dense(rng.integers(-3, 4, (6, 60))), "CALIF", two),
        Layer("dense", (3,), Dense(rng.integers(-9, 9, (3, 6))), "ACC", NEURONS["ACC"].Params(2)),
    )
    graph = Graph(layers, 14)
    result = lc.compare(graph, rng.integers(0, 256, (6, 1, 5, 4), dtype=np.uint8))
    assert result.equal, result.difference
    assert (result.records[1].spikes[3] < 0).any() and (result.records[1].spikes[3] > 0).any()


def test_compare_names_the_first_difference(tmp_path, rng):
    from lava_conv.analysis.comparison import compare_records

    graph = lc.load(write_random_net(tmp_path / "a.net", rng))
    images = rng.integers(0, 256, (4, 2, 9, 7), dtype=np.uint8)
    a, b = lc.run(graph, images, record_spikes=True), lc.run(graph, images, record_spikes=True)
    b.spikes[3][2, 1, 4, 0, 1] ^= 1
    result = compare_records(a, b, "one", "two")
    assert not result.equal and "layer 3, sample 1, step 2, neuron (4, 0, 1)" in str(result)


def test_checked_neuron_names_process_and_neuron():
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.source import RingBuffer

    from lava_conv.lava import watched
    from processes import DynamicThreshold

    source = RingBuffer(data=np.full((3, 4), 1 << 20))
    neuron = DynamicThreshold(shape=(3,), theta=0, delta=1 << 22, shift=4, checked=True, name="edge")
    source.s_out.connect(neuron.a_in)
    with (
        pytest.raises(lc.RangeError, match=r"edge, neuron \(0,\), step 1: .* 16777216"),
        watched(neuron, Loihi2SimCfg(select_tag="fixed_pt"), timeout=20) as runtime,
    ):
        runtime.run(4)


def test_var_access_and_saturation():
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.source import RingBuffer

    from lava_conv.lava import watched
    from lava_conv.network.fixedpoint import STATE_MAX
    from processes import DynamicThreshold

    source = RingBuffer(data=np.full((3, 4), 1 << 20))
    neuron = DynamicThreshold(shape=(3,), theta=[0, 5, STATE_MAX], delta=1, shift=4)
    source.s_out.connect(neuron.a_in)
    with watched(neuron, Loihi2SimCfg(select_tag="fixed_pt"), timeout=20) as runtime:
        runtime.run(3)
        assert np.array_equal(neuron.v.get(), [STATE_MAX] * 3)
        assert np.array_equal(neuron.n.get(), [3, 3, 0])
        neuron.delta.set(np.full(3, STATE_MAX))
        runtime.run(1)
        assert np.array_equal(neuron.n.get(), [2, 2, 0])


def test_a_killed_child_ends_the_run():
    from lava.magma.core.run_configs import Loihi2SimCfg

    from lava_conv.lava import watched
    from processes import DynamicThreshold

    neuron = DynamicThreshold(shape=(3,), theta=0, delta=1, name="victim")
    with (
        pytest.raises(lc.BackendError, match=r"process victim died \(signal 9\)"),
        watched(neuron, Loihi2SimCfg(select_tag="fixed_pt"), timeout=20) as runtime,
    ):
        runtime.run(2)
        runtime._messaging_infrastructure.actors[0].kill()
        runtime.run(2)


def test_user_error_inside_the_block_and_run_after_stop():
    from lava.magma.core.run_configs import Loihi2SimCfg

    from lava_conv.lava import watched
    from processes import DynamicThreshold

    neuron = DynamicThreshold(shape=(3,), theta=0, delta=1)
    with pytest.raises(ZeroDivisionError), watched(neuron, Loihi2SimCfg(select_tag="fixed_pt")) as runtime:
        runtime.run(2)
        raise ZeroDivisionError
    with pytest.raises(lc.BackendError, match="was stopped"):
        runtime.run(1)
    runtime.stop()


def test_bounds_are_checked_before_lava_starts(tmp_path, rng):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng))
    layers = list(graph.layers)
    layers[1] = dataclasses.replace(layers[1], params=layers[1].params._replace(shift=12))
    with pytest.raises(lc.RangeError, match="layer 1"):
        lc.run(dataclasses.replace(graph, layers=tuple(layers)), np.zeros((1, 2, 9, 7), np.uint8), backend="lava")


@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
def test_float_models_equal_fixed_ones_on_integers(tag, rng):
    """On integer input without decay the two models must agree; both call the one step."""
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.source import RingBuffer

    from lava_conv.lava import watched
    from lava_conv.network.neurons import NEURONS
    from processes import CaLIF, DynamicThreshold

    data = rng.integers(-9, 12, (5, 8)).astype(float if tag == "floating_pt" else int)
    cases = [
        (DynamicThreshold, "DTB", {"theta": np.arange(5), "delta": 3, "shift": 1, "max_count": 4}),
        (
            CaLIF,
            "CALIF",
            {"theta": np.arange(7, 12), "bias": 2, "leak": 1, "v_init": 3, "max_count": 3, "leak_steps": 2},
        ),
    ]
    for process, kind, values in cases:
        source, neuron = RingBuffer(data=data), process(shape=(5,), **values)
        source.s_out.connect(neuron.a_in)
        with watched(neuron, Loihi2SimCfg(select_tag=tag), timeout=20) as runtime:
            runtime.run(8)
            seen = [getattr(neuron, name).get() for name in NEURONS[kind].State._fields]
        params = NEURONS[kind].Params(**values)
        state = NEURONS[kind].initial_state(params, np.zeros(5, np.int64))
        for t in range(8):
            _, state = NEURONS[kind].step(state, data[:, t].astype(np.int64), params)
        for a, b in zip(seen, state, strict=True):
            assert np.array_equal(a, np.broadcast_to(b, a.shape))


@pytest.mark.parametrize(
    ("before", "ending"),
    [
        ("multiprocessing.Lock(); import numba", "ok"),
        ("multiprocessing.set_start_method('spawn')", "Lava needs 'fork'"),
    ],
)
def test_lava_imports_after_a_look_at_the_start_method(before, ending):
    code = f"""
import multiprocessing
{before}
import lava_conv as lc
try:
    from lava_conv.backends import lava
    import processes
    print("ok")
except lc.BackendError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ending in done.stdout and "Traceback" not in done.stderr
