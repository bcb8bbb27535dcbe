"""One contract for every neuron in the table, and the theorems about each."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from multi_level import neuron as multi_level
from nets import multi_level_graph

import lava_conv as lc
from lava_conv.errors import ConversionError, RangeError
from lava_conv.network.fixedpoint import STATE_MAX, STATE_MIN
from lava_conv.network.neurons import NEURONS, IntegerStaircase, ca_lif, map_channels
from lava_conv.network.neurons.base import out_of_range

KINDS = [*NEURONS, multi_level.NEURON.type]  # the contract, also for one that only the tests know


@pytest.fixture(autouse=True)
def another_neuron(monkeypatch):
    monkeypatch.setitem(NEURONS, multi_level.NEURON.type, multi_level.NEURON)


def play(neuron, params, inputs):
    state, out = neuron.initial_state(params, inputs[0] * 0), []
    for a_in in inputs:
        spikes, state = neuron.step(state, a_in, params)
        out.append(spikes)
    return out, state


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_numpy_equals_torch(kind, dtype, rng):
    neuron = NEURONS[kind]
    for size in (20, 3_000_000):  # the second one saturates
        params = map_channels(neuron, NEURONS[kind].random_params(rng, 40), lambda p: np.asarray(p, dtype))
        inputs = rng.integers(-size, size, (12, 40)).astype(dtype) >> (3 if size > 20 else 0)
        kept = inputs.copy()
        spikes, state = play(neuron, params, list(inputs))
        tensors = map_channels(neuron, params, torch.tensor)
        spikes_t, state_t = play(neuron, tensors, list(torch.tensor(inputs)))
        assert np.array_equal(inputs, kept), "inputs are not mutated"
        for a, b in zip([*spikes, *state], [*spikes_t, *state_t], strict=True):
            assert np.array_equal(a, np.asarray(b))
            if np.ndim(a):
                assert a.dtype == dtype and str(b.dtype) == f"torch.{np.dtype(dtype)}"
        for value in state[:1]:
            assert value.min() >= 2 * STATE_MIN and value.max() <= 2 * STATE_MAX


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_a_batch_equals_a_single_run(kind, rng):
    neuron, n = NEURONS[kind], 10
    params, inputs = NEURONS[kind].random_params(rng, n), rng.integers(-30, 30, (9, 6, n))
    together, _ = play(neuron, params, list(inputs))
    for row in range(6):
        alone, _ = play(neuron, params, list(inputs[:, row]))
        assert np.array_equal(np.array(together)[:, row], np.array(alone))


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_hold_for_random_input(kind, rng):
    neuron = NEURONS[kind]
    for _ in range(50):
        params = NEURONS[kind].random_params(rng, 15)
        inputs = rng.integers(-20, 20, (10, 15))
        running = inputs.cumsum(0)
        low, high = np.minimum(running.min(0), 0), np.maximum(running.max(0), 0)
        b = neuron.bounds(params, low, high, 10)
        state, count = neuron.initial_state(params, inputs[0] * 0), 0
        for a_in in inputs:
            v = neuron.integrate(state, a_in, params)
            assert (b.v_min <= v).all() and (v <= b.v_max).all()
            spikes, state = neuron.step(state, a_in, params)
            if neuron.spiking:
                count = count + spikes
                assert (count >= 0).all() and (count <= b.count_max).all()


STAIRCASES = [kind for kind, neuron in NEURONS.items() if neuron.to_staircase]


@pytest.mark.parametrize("kind", STAIRCASES)
def test_a_neuron_settles_on_its_staircase(kind, rng):
    """Whatever of its parameters are on a staircase; the equation is written out here."""
    neuron, exact = NEURONS[kind], 0
    for _ in range(100):
        params = neuron.random_params(rng, 15)
        theta, delta, shift, max_count, *_, problem = neuron.to_staircase(params)
        drive = rng.integers(-300, 300, 15)
        count = ((drive << shift) - theta) // delta
        if neuron.spiking:
            count = np.clip(count, 0, max_count or None)
        if problem is None:
            exact += 1
            assert np.array_equal(neuron.settle(drive, params), count)
    assert exact > 10


@pytest.mark.parametrize("kind", STAIRCASES)
@pytest.mark.parametrize("repeats", [1, 6])
def test_a_staircase_becomes_parameters_and_back(kind, repeats, rng):
    neuron = NEURONS[kind]
    for _ in range(50):
        theta, initial = rng.integers(-5000, 5000, 15), rng.integers(-99, 99, 15)
        delta = rng.integers(1, 900, 15) if neuron.spiking else np.ones(15, np.int64)
        options = (int(rng.integers(0, 9)), int(rng.integers(0, 2)), repeats, initial) if neuron.spiking else ()
        staircase = IntegerStaircase(theta, delta, int(rng.integers(0, 4)), *options)
        params = neuron.from_staircase(staircase)
        assert neuron.check(params) is None
        again = neuron.to_staircase(params)
        assert again.problem is None
        for name in ("theta", "delta", "shift", "max_count", "unipolar"):
            assert np.array_equal(getattr(again, name), getattr(staircase, name)), name
        for a, b in zip(params, neuron.from_staircase(again), strict=True):
            assert np.array_equal(a, b)


def test_a_repeated_input_spreads_the_bias_alone():
    staircase = IntegerStaircase(np.array([-107]), np.array([10]), 0, repeats=20, initial=np.array([2]))
    params = NEURONS["CALIF"].from_staircase(staircase)
    assert params == (10, 0, 5, 7, 0, 0, 0, 0, 20, 0)
    assert NEURONS["CALIF"].from_staircase(staircase._replace(repeats=1)) == (10, 100, 0, 7, 0, 0, 0, 0, 0, 0)
    assert NEURONS["CALIF"].to_staircase(params) == staircase


def test_a_bias_beyond_24_bits_is_refused():
    staircase = IntegerStaircase(np.array([STATE_MIN, 0]), np.array([2, 2]), 0, initial=np.array([-1, 0]))
    with pytest.raises(RangeError, match=r"a bias of 8388608 exceeds 24 bits; use fewer inputs or levels"):
        NEURONS["CALIF"].from_staircase(staircase)


def test_a_neuron_without_a_staircase_says_so():
    from lava_conv.network.neurons.base import no_params

    with pytest.raises(ConversionError, match="its neuron settles on no staircase of thresholds"):
        NEURONS["DTB"]._replace(from_staircase=no_params).from_staircase(IntegerStaircase(0, 1, 0))


@settings(max_examples=200, deadline=None)
@given(
    inputs=st.lists(st.integers(-40, 40), min_size=1, max_size=12),
    theta=st.integers(-50, 50),
    delta=st.integers(1, 30),
    max_count=st.integers(0, 5),
    shift=st.integers(0, 3),
)
def test_dynamic_threshold_equals_soft_reset_and_settles(inputs, theta, delta, max_count, shift):
    neuron = NEURONS["DTB"]
    params = neuron.Params(np.array([theta]), np.array([delta]), shift, max_count)
    state, total, soft = neuron.initial_state(params, np.zeros(1, np.int64)), 0, 0
    drive = np.array([sum(inputs)])
    for a_in in inputs + [0] * (sum(map(abs, inputs)) * 8 // delta + 60):
        spikes, state = neuron.step(state, np.array([a_in]), params)
        total += a_in << shift
        u = max(total, theta) - theta - soft * delta  # the soft-reset form with count gate
        expected = 1 if u >= delta and (max_count == 0 or soft < max_count) else -1 if u < 0 and soft > 0 else 0
        soft += expected
        assert spikes[0] == expected
    assert state.n[0] == neuron.settle(drive, params)[0]


@settings(max_examples=200, deadline=None)
@given(
    inputs=st.lists(st.integers(-40, 40), min_size=1, max_size=12),
    theta=st.integers(1, 40),
    bias=st.integers(-40, 40),
    max_count=st.integers(0, 6),
    spread=st.booleans(),
)
def test_ca_lif_with_v_neg_zero_settles_exactly(inputs, theta, bias, max_count, spread):
    neuron = NEURONS["CALIF"]
    leak, rest = (bias // 4, bias - 4 * (bias // 4)) if spread else (0, bias)
    arrays = {k: np.array([v]) for k, v in dict(theta=theta, bias=rest, leak=leak, v_init=theta // 2, v_neg=0).items()}
    params = neuron.Params(**arrays, max_count=max_count, leak_steps=4)
    state = neuron.initial_state(params, np.zeros(1, np.int64))
    for a_in in inputs + [0] * (sum(map(abs, inputs)) // theta + 60):
        _, state = neuron.step(state, np.array([a_in]), params)
    assert state.ca[0] == neuron.settle(np.array([sum(inputs)]), params)[0]


def test_ca_lif_without_the_gate_does_not_settle_on_the_relu():
    """The ablation of benchmarks/ablation.py: same inputs, no gate, and the count leaves the quantised activation."""
    import importlib.util
    import pathlib

    path = pathlib.Path(__file__).parents[2] / "benchmarks" / "ablation.py"
    spec = importlib.util.spec_from_file_location("ablation", path)
    assert spec is not None and spec.loader is not None
    ablation = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ablation)
    neuron = NEURONS["CALIF"]
    params = neuron.Params(np.array([4]), 0, 0, np.array([2]))
    gated = ungated = neuron.initial_state(params, np.zeros(1, np.int64))
    for a_in in (-9, -8, 0, 0, 0, 0, 0, 0, 0):
        _, gated = neuron.step(gated, np.array([a_in]), params)
        _, ungated = ablation.no_gate(ungated, np.array([a_in]), params)
    assert gated.ca[0] == neuron.settle(np.array([-17]), params)[0] == 0
    assert ungated.ca[0] < 0


def test_unipolar_ca_lif_is_integrate_and_fire_with_soft_reset(rng):
    """Against the equation of Li et al. 2021, written out: v += a; s = v >= theta; v -= s * theta."""
    neuron, theta = NEURONS["CALIF"], rng.integers(5, 40, 50)
    params = neuron.Params(theta=theta, leak=rng.integers(-3, 9, 50), v_init=theta // 2, unipolar=1)
    inputs = rng.integers(-30, 40, (40, 50))
    spikes, _ = play(neuron, params, list(inputs))
    v = theta // 2
    for a_in, sent in zip(inputs, spikes, strict=True):
        v = v + a_in + params.leak
        fires = v >= theta
        v = v - fires * theta
        assert np.array_equal(sent, fires)


def test_unipolar_dynamic_threshold_is_the_same_neuron(rng):
    theta = rng.integers(5, 40, 50)
    inputs = list(rng.integers(-30, 40, (40, 50)))
    calif = NEURONS["CALIF"].Params(theta=theta, bias=-7, v_init=theta // 2, max_count=6, unipolar=1)
    dtb = NEURONS["DTB"].Params(theta=7 - theta // 2, delta=theta, max_count=6, unipolar=1)
    one, two = play(NEURONS["CALIF"], calif, inputs)[0], play(NEURONS["DTB"], dtb, inputs)[0]
    assert np.array_equal(one, two)


STATE, COUNT, FLAG, SHIFT = (STATE_MIN, STATE_MAX), (0, STATE_MAX), (0, 1), (0, 23)
ENDS = {
    "DTB": {"theta": STATE, "delta": (1, STATE_MAX), "shift": SHIFT, "max_count": COUNT, "unipolar": FLAG},
    "CALIF": {
        "theta": (1, STATE_MAX), "bias": STATE, "leak": STATE, "v_init": STATE, "shift": SHIFT, "max_count": COUNT,
        "dv": (0, 4095), "leak_steps": COUNT, "unipolar": FLAG,
    },
    "ACC": {"bias": STATE, "shift": SHIFT},
}  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, ends in ENDS.items() for name in ends])
def test_each_parameter_is_refused_just_beyond_its_ends(kind, name):
    neuron, (low, high) = NEURONS[kind], ENDS[kind][name]
    plain = neuron.Params(**{n: 1 for n in ENDS[kind]})
    for value in (low, high):
        assert neuron.check(plain._replace(**{name: value})) is None
    for value in (low - 1, high + 1):
        assert neuron.check(plain._replace(**{name: value})) == f"{name} is {value}, allowed is {low}..{high}"


def test_the_value_beyond_the_range_is_the_one_that_is_told():
    for values, told in (([-5, 300], "-5"), ([5, 300], "300"), ([-5, 5], "-5"), ([0, 255.5], "255.5"), (256, "256")):
        assert out_of_range("x", np.array(values), 0, 255) == f"x is {told}, allowed is 0..255"
    for values in ([0, 255], [], 7):
        assert out_of_range("x", np.array(values), 0, 255) is None


def test_the_first_wrong_v_neg_is_the_one_that_is_told():
    plain = NEURONS["CALIF"].Params(theta=np.array([4, 5, 6]), bias=0, leak=0, v_init=0, v_neg=np.array([-4, -7, 8]))
    assert NEURONS["CALIF"].check(plain) == "v_neg is -7, allowed is 0 or -theta"
    for sign in (0, -1):
        assert NEURONS["CALIF"].check(plain._replace(v_neg=sign * plain.theta)) is None


def test_a_float_potential_decays_without_truncation():
    """As Lava's floating-point models compute; integers lose what 12 bits cut off."""
    params = NEURONS["CALIF"].Params(theta=1 << 20, bias=0, leak=0, v_init=0, v_neg=0, dv=1024)
    zero = np.zeros(2)
    state = ca_lif.State(np.array([101.0, -7.0]), zero, zero)
    assert ca_lif.step(state, zero, params)[1].v.tolist() == [75.75, -5.25]
    whole = ca_lif.State(np.array([101, -7]), *[zero.astype(int)] * 2)
    assert ca_lif.step(whole, zero.astype(int), params)[1].v.tolist() == [75, -5]


def test_a_check_says_what_leaves_its_range_field_by_field():
    """`ranges` and `check` are of one mind, for every field of every neuron."""
    for kind in KINDS:
        neuron = NEURONS[kind]
        assert {r.name for r in neuron.ranges} == set(neuron.Params._fields)
        plain = neuron.random_params(np.random.default_rng(0), 1)
        for name, low, high in neuron.ranges:
            for value in (low - 1, high + 1):
                assert neuron.check(plain._replace(**{name: np.array([value])})).startswith(name), (kind, name)


def test_a_neuron_with_other_thresholds_settles_in_any_order(rng):
    neuron = multi_level.NEURON
    for _ in range(100):
        params, inputs = neuron.random_params(rng, 20), rng.integers(-20, 30, (9, 20))
        _, state = play(neuron, params, [*inputs, *np.zeros((4, 20), np.int64)])
        u = inputs.sum(0) << params.shift
        expected = sum((u >= threshold).astype(int) for threshold in (params.first, params.second, params.third))
        assert np.array_equal(state.n, expected) and np.array_equal(neuron.settle(inputs.sum(0), params), expected)


def test_a_network_of_another_neuron_is_saved_loaded_and_run(tmp_path, rng):
    """Nothing but its table entry knows it; the expected counts are computed without the package."""
    graph, images = multi_level_graph(rng), rng.integers(0, 256, (20, 1, 6, 6), dtype=np.uint8)
    lc.save(graph, tmp_path / "a.net")
    again = lc.load(tmp_path / "a.net")
    assert again == graph and {layer.neuron for layer in again.layers[1:]} == {"LEVELS", "", "ACC"}
    graph.check()
    record = lc.run(again, images, steps=12, record_spikes=True)
    tensors = lc.run(again, images, steps=12, record_spikes=True, method="tensors")
    first, second = graph.layers[1], graph.layers[3]
    drive = torch.nn.functional.conv2d(torch.tensor(images).double(), torch.tensor(first.synapse.weight).double())
    thresholds = [threshold[:, None, None] for threshold in first.params[:3]]
    counts = sum((drive.numpy() >= threshold).astype(int) for threshold in thresholds)
    assert np.array_equal(record.counts[1], counts) and 0 < counts.mean() < 3
    drive = counts.reshape(len(images), -1) @ second.synapse.weight.T.astype(int)
    assert np.array_equal(record.counts[3], sum((drive >= threshold).astype(int) for threshold in second.params[:3]))
    assert all(np.array_equal(record.spikes[index], spikes) for index, spikes in tensors.spikes.items())
    assert np.array_equal(record.logits, tensors.logits)
    for index, count in graph.reference(images).counts.items():
        assert np.array_equal(record.counts[index], count)
    with pytest.raises(lc.ConversionError, match="layer 1: neuron LEVELS has no lowered form"):
        lc.lower(graph)
    del NEURONS["LEVELS"]
    with pytest.raises(lc.NetFormatError, match=r"/layer/1/neuron/type is 'LEVELS', allowed are DTB, CALIF, ACC"):
        lc.load(tmp_path / "a.net")
