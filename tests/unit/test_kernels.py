"""Compiled neurons: the same integers as the plain `step`, in both widths; and life where numba cannot follow."""

from importlib.util import find_spec

import numpy as np
import pytest
from multi_level import neuron as multi_level
from plain import write_random_net

import lava_conv as lc
from lava_conv.network.fixedpoint import STATE_MAX, STATE_MIN
from lava_conv.network.neurons import NEURONS, dynamic_threshold

pytestmark = pytest.mark.skipif(not find_spec("numba"), reason="numba is not installed")

SIZE, STEPS = 37, 9


def random_params(neuron, rng):
    if neuron is multi_level.NEURON:
        return neuron.random_params(rng, SIZE)
    values = {
        "theta": rng.integers(1, 300, SIZE), "delta": rng.integers(1, 100, SIZE), "bias": rng.integers(-50, 300, SIZE),
        "leak": rng.integers(-5, 30, SIZE), "v_init": rng.integers(0, 100, SIZE), "shift": rng.integers(0, 4),
        "max_count": rng.choice([0, 3, 4]), "unipolar": rng.integers(0, 2),
        "dv": rng.choice([0, 700]), "leak_steps": rng.integers(0, 5),
    }  # fmt: skip
    values["v_neg"] = rng.choice([0, 1]) * -values["theta"]
    return neuron.Params(**{name: values[name] for name in neuron.Params._fields})


def plain(neuron, params, drive, state):
    """Spikes (steps, n) and the last state, by the neuron's own step on numpy."""
    sent = []
    for a_in in drive:
        spikes, state = neuron.step(state, a_in, params)
        sent.append(spikes)
    return np.array(sent), state


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("neuron", [*NEURONS.values(), multi_level.NEURON], ids=lambda neuron: neuron.type)
def test_compiled_equals_the_plain_step(rng, neuron, narrow):
    from lava_conv.kernels.neuron import arguments, compiled

    moved = 0
    function = compiled(neuron, narrow)
    for number in range(60):
        params = random_params(neuron, rng)
        reach = (2**22 if number % 3 == 0 else 2**31 - 1) if not narrow and number % 2 else 200
        drive = rng.integers(-reach, reach, (STEPS, 2, SIZE)).astype(np.int32)
        out = np.zeros((STEPS, 3, SIZE), np.int8 if neuron.spiking else np.int32)
        states, channels, scalars = arguments(neuron, params, SIZE)
        function(drive, 1, 1, out, 2, 0, SIZE, True, states, channels, scalars)
        start = neuron.initial_state(params, np.zeros(SIZE, np.int64))
        expected, last = plain(neuron, params, drive[:, 1].astype(np.int64), start)
        assert np.array_equal(out[:, 2], expected) and not out[:, :2].any()
        assert all(np.array_equal(found, meant) for found, meant in zip(states, last, strict=True))
        part = slice(5, 20)  # go on, with some of them, from where they are; then one frame alone
        function(drive[:, :, part].copy(), 0, 0, out, 0, 5, 15, False, states, channels, scalars)
        going = [np.array(value)[part] for value in last]
        some = params._replace(**{n: np.broadcast_to(getattr(params, n), SIZE)[part] for n in neuron.channel_fields})
        expected, _ = plain(neuron, some, drive[:, 0, part].astype(np.int64), neuron.State(*going))
        assert np.array_equal(out[:, 0, part], expected)
        moved += bool(np.abs(expected).sum())
    assert moved > 20


@pytest.mark.parametrize("hold", [0, 1])
@pytest.mark.parametrize("kind", list(NEURONS))
def test_one_frame_stops_or_repeats_itself(rng, kind, hold):
    """Where nothing comes any more the rest of the steps may be left out, but not while anything moves."""
    from lava_conv.kernels.neuron import arguments, scan

    neuron, steps, late = NEURONS[kind], 40, 0
    for _ in range(20):
        params = random_params(neuron, rng)
        drive = rng.integers(-200, 900, (2, 1, 4, SIZE)).astype(np.float32)
        out = np.zeros((2, steps, 4, SIZE), np.int8 if neuron.spiking else np.int32)
        scan(neuron)(drive, hold, out, *arguments(neuron, params, SIZE))
        frames = np.repeat(drive.astype(np.int64), steps, axis=1)
        frames[:, 1:] *= hold
        start = neuron.initial_state(params, np.zeros((2, 4, SIZE), np.int64))
        expected, _ = plain(neuron, params, frames.swapaxes(0, 1), start)
        assert np.array_equal(out.swapaxes(0, 1), expected)
        late += bool(expected[8:].any())
    assert late > 5


@pytest.mark.parametrize("kind", list(NEURONS))
def test_leaving_24_bits_is_seen_at_the_very_edge(kind):
    from lava_conv.kernels.neuron import arguments, leaves_range

    neuron = NEURONS[kind]
    params = neuron.Params(**{name: 1 if name in ("theta", "delta") else 0 for name in neuron.Params._fields})
    values = arguments(neuron, params, 3)
    for value, leaves in ((STATE_MAX, False), (STATE_MAX + 1, True), (STATE_MIN, False), (STATE_MIN - 1, True)):
        drive = np.array([[[0, value, 0]]], np.int32)
        assert bool(leaves_range(neuron)(drive, True, *values)) is leaves
        assert bool(leaves_range(neuron)(drive, False, *values)) is leaves


def test_a_neuron_that_numba_cannot_compile_runs_uncompiled(tmp_path, rng, monkeypatch):
    from lava_conv.kernels.neuron import compiled

    graph = lc.load(write_random_net(tmp_path / "a.net", rng))
    images = rng.integers(0, 256, (4, 2, 9, 7), dtype=np.uint8)
    expected = lc.run(graph, images, record_spikes=True)
    own = NEURONS["DTB"]

    def odd(state, a_in, params):
        {}.setdefault("what", []).append(lambda: exec("pass"))
        return own.step(state, a_in, params)

    odd.__module__ = __name__
    other = own._replace(step=odd)
    assert compiled(other, True) is None
    monkeypatch.setitem(NEURONS, "DTB", other)
    found = lc.run(graph, images, record_spikes=True)
    assert np.array_equal(found.logits, expected.logits)
    assert all(np.array_equal(found.counts[i], counts) for i, counts in expected.counts.items())


def always_one(state, a_in, p):
    return a_in * 0 + 1, dynamic_threshold.State(state.v + a_in, state.n + 1)


def always_two(state, a_in, p):
    return a_in * 0 + 2, dynamic_threshold.State(state.v + a_in, state.n + 1)


@pytest.mark.parametrize("types", [("A-1", "A 1"), ("same", "same"), ("class", "def")])
def test_own_neurons_of_any_name_do_not_take_each_others_loop(types):
    """numba keeps loops on disk by their name, which no two neurons may share; a type may be no identifier."""
    from lava_conv.kernels.neuron import arguments, compiled

    drive = np.zeros((STEPS, 1, 1), np.int32)
    for kind, step, sent in zip(types, (always_one, always_two), (1, 2), strict=True):
        own = NEURONS["DTB"]._replace(type=kind, step=step)
        function, out = compiled(own, False), np.zeros((STEPS, 1, 1), np.int8)
        assert function is not None
        function(drive, 0, 1, out, 0, 0, 1, True, *arguments(own, own.Params(1, 1), 1))
        assert np.array_equal(out[:, 0, 0], np.full(STEPS, sent))
