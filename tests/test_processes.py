"""The contract of every neuron process: Lava = numpy, spike for spike and state for state, with stock neighbours."""

import numpy as np
import pytest
from test_neurons import random_params

pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")

from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source

import lava_conv as lc
from lava_conv.backends.lava_runtime import watched
from lava_conv.fixedpoint import STATE_MAX
from lava_conv.neurons import NEURONS, map_channels
from processes import Accumulator, CaLIF, DynamicThreshold

PROCESSES = {"DTB": DynamicThreshold, "CALIF": CaLIF, "ACC": Accumulator}
CFG = Loihi2SimCfg(select_tag="fixed_pt")
NEURON_COUNT, STEPS = 500, 40
compared = 0


def play_numpy(kind, params, inputs, interval=0, offset=0):
    """Spikes (neurons, steps) and the last state, with the reset schedule written out."""
    neuron = NEURONS[kind]
    whole = map_channels(neuron, params, lambda x: np.broadcast_to(np.asarray(x), inputs.shape[:1]).astype(np.int64))
    state, out = neuron.initial_state(whole, np.zeros(len(inputs), np.int64)), []
    for t in range(inputs.shape[1]):
        if interval and t >= offset and (t - offset) % interval == 0:
            state = neuron.initial_state(whole, np.zeros(len(inputs), np.int64))
        spikes, state = neuron.step(state, inputs[:, t], whole)
        out.append(spikes)
    return np.array(out).T, state


def play_lava(kind, params, inputs, pieces=(STEPS,), **options):
    neuron = PROCESSES[kind](shape=inputs.shape[:1], **params._asdict(), **options)
    source, sink = Source(data=inputs), Sink(shape=inputs.shape[:1], buffer=inputs.shape[1])
    source.s_out.connect(neuron.a_in)
    neuron.s_out.connect(sink.a_in)
    with watched(neuron, CFG, timeout=30) as runtime:
        for piece in pieces:
            runtime.run(piece)
        return sink.data.get().astype(np.int64), [getattr(neuron, f).get() for f in NEURONS[kind].State._fields]


@pytest.mark.parametrize("kind", PROCESSES)
@pytest.mark.parametrize("size", [12, 300, 1 << 23])
def test_lava_equals_numpy_spike_for_spike_and_state_for_state(kind, size, rng):
    """Small drive, large drive, and one that saturates the 24-bit state; runs in one piece and in three."""
    for trial in range(4):
        params = random_params(kind, rng, NEURON_COUNT)
        inputs = rng.integers(-size, size, (NEURON_COUNT, STEPS))
        kept = inputs.copy()
        interval, offset = (0, 0) if trial % 2 else (7, 3)
        expected, state = play_numpy(kind, params, inputs, interval, offset)
        pieces = (STEPS,) if trial < 2 else (1, 13, STEPS - 14)
        spikes, seen = play_lava(kind, params, inputs, pieces, reset_interval=interval, reset_offset=offset)
        assert np.array_equal(spikes, expected) and np.array_equal(inputs, kept)
        for a, b in zip(seen, state, strict=True):
            assert np.array_equal(a, np.broadcast_to(b, a.shape))
        global compared
        compared += inputs.size
    print(f"{compared:,} neuron-steps compared so far")


def test_extreme_parameters(rng):
    inputs = rng.integers(-3, 4, (4, STEPS))
    for params in (
        NEURONS["DTB"].Params(np.array([STATE_MAX, -STATE_MAX - 1, 0, 5]), np.array([STATE_MAX, 1, STATE_MAX, 1]), 23),
        NEURONS["CALIF"].Params(np.array([STATE_MAX, 1, 2, 3]), STATE_MAX, -STATE_MAX, STATE_MAX, 0, 23, 0, 4095),
    ):
        kind = "DTB" if hasattr(params, "delta") else "CALIF"
        expected, state = play_numpy(kind, params, inputs)
        spikes, seen = play_lava(kind, params, inputs)
        assert np.array_equal(spikes, expected) and np.array_equal(seen[0], state[0])


@pytest.mark.parametrize("kind", ["DTB", "CALIF"])
def test_with_stock_conv_dense_and_monitor(kind, rng):
    """Stock Conv -> neuron -> stock Dense -> neuron, watched by a stock Monitor."""
    from lava.proc.conv.process import Conv
    from lava.proc.dense.process import Dense
    from lava.proc.monitor.process import Monitor

    values = {"DTB": {"theta": 1, "delta": 2}, "CALIF": {"theta": 2, "v_init": 1}}[kind]
    image = rng.integers(0, 3, (4, 4, 1, 6))
    source = Source(data=image)
    conv = Conv(weight=rng.integers(-2, 3, (2, 3, 3, 1)), input_shape=(4, 4, 1), padding=1, num_message_bits=9)
    first = PROCESSES[kind](shape=(4, 4, 2), **values)
    dense = Dense(weights=2 * rng.integers(-2, 3, (3, 32)), weight_exp=-1, num_message_bits=2)
    second, monitor = PROCESSES[kind](shape=(3,), **values), Monitor()
    source.s_out.connect(conv.s_in)
    conv.a_out.connect(first.a_in)
    first.s_out.reshape((32,)).connect(dense.s_in)
    dense.a_out.connect(second.a_in)
    monitor.probe(second.v, 6)
    with watched(second, CFG, timeout=30) as runtime:
        runtime.run(6)
        seen, last = monitor.get_data()[second.name]["v"], second.v.get()
    assert seen.shape == (6, 3) and np.array_equal(seen[-1], last) and seen.any()


def test_through_stock_netx_blocks(rng):
    from lava.lib.dl.netx.blocks.process import Dense as DenseBlock

    weight = 2 * rng.integers(-9, 10, (5, 8))
    inputs = rng.integers(-1, 2, (8, 12))
    block = DenseBlock(
        shape=(5,),
        neuron_params={"neuron_proc": CaLIF, "theta": 4, "v_init": 2, "num_message_bits": 2},
        weight=weight,
        weight_exponent=0,
        input_message_bits=2,
    )
    source, sink = Source(data=inputs), Sink(shape=(5,), buffer=12)
    source.s_out.connect(block.inp)
    block.out.connect(sink.a_in)
    with watched(block, Loihi2SimCfg(select_tag="fixed_pt"), timeout=30) as runtime:
        runtime.run(12)
        seen = sink.data.get()
    drive = np.concatenate([np.zeros((5, 1), np.int64), (weight @ inputs)[:, :-1]], axis=1)  # Dense adds one step
    expected, _ = play_numpy("CALIF", NEURONS["CALIF"].Params(np.full(5, 4), 0, 0, 2), drive)
    assert np.array_equal(seen, expected) and expected.any()


def test_wrong_parameters_are_told_at_once():
    with pytest.raises(lc.RangeError, match="CaLIF: theta is 0, allowed is 1"):
        CaLIF(shape=(3,), theta=0)
    with pytest.raises(lc.RangeError, match="v_neg is -2"):
        CaLIF(shape=(3,), theta=5, v_neg=-2)
    with pytest.raises(lc.RangeError, match="mine: delta is 0"):
        DynamicThreshold(shape=(3,), theta=0, delta=0, name="mine")


def test_fractions_are_for_floating_pt_and_never_cut_off(rng):
    with pytest.raises(lc.RangeError, match=r"delta is 0.5, allowed is 1\.\."):
        DynamicThreshold(shape=(1,), theta=2, delta=0.5)
    for tag in ("fixed_pt", "floating_pt"):
        source, neuron = Source(data=np.array([[9.0, 0, 0]])), DynamicThreshold(shape=(1,), theta=2.5, delta=5)
        source.s_out.connect(neuron.a_in)
        if tag == "fixed_pt":
            with (
                pytest.raises(lc.RangeError, match=r"DynamicThreshold: theta is 2\.5, the fixed_pt model takes whole"),
                watched(neuron, Loihi2SimCfg(select_tag=tag)) as runtime,
            ):
                runtime.run(1)
        else:
            with watched(neuron, Loihi2SimCfg(select_tag=tag)) as runtime:
                runtime.run(3)
                assert neuron.theta.get()[0] == 2.5 and neuron.n.get()[0] == 1
