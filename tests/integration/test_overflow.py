"""At the edge of 24 bits: what interval analysis proves holds for every run, and beyond it a network is refused."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import lava_conv as lc
from lava_conv.network.fixedpoint import BOUND_LIMIT, STATE_MAX, STATE_MIN, STEPS_LIMIT
from lava_conv.network.graph import Graph, Layer, Skip
from lava_conv.network.neurons import NEURONS, map_channels
from lava_conv.network.synapses import Conv, Dense, Identity

DTB, CALIF, ACC = (NEURONS[name].Params for name in ("DTB", "CALIF", "ACC"))
STEPS = 5
SHAPE = (2, 3, 3)


def random_graph(seed, steps=STEPS):
    """Conv, conv with two skips, dense, readout; neurons and inputs of every kind, all weights up to 8 bits."""
    rng = np.random.default_rng(seed)
    code = ("flash", "constant")[seed % 2]

    def neuron(channels, scale):
        if rng.random() < 0.5:
            theta = rng.integers(-scale, scale, channels)
            return "DTB", DTB(theta, rng.integers(1, scale, channels), 0, rng.integers(0, 5), rng.integers(0, 2))
        theta = rng.integers(1, scale, channels)
        start, leak = rng.integers(-scale, scale, (2, channels))
        v_neg = -theta * rng.integers(0, 2)
        options = {"max_count": rng.integers(0, 5), "unipolar": rng.integers(0, 2), "leak_steps": rng.integers(0, 4)}
        dv = int(rng.choice([0, 0, 100, 4095]))
        return "CALIF", CALIF(theta, start, leak, rng.integers(-scale, scale, channels), v_neg, dv=dv, **options)

    def conv(out, into):
        return Conv(rng.integers(-128, 128, (out, into, 3, 3)), padding=(1, 1))

    layers = (
        Layer("input", SHAPE),
        Layer("conv", (3, 3, 3), conv(3, 2), *neuron(3, 40_000)),
        Layer(
            "conv", (3, 3, 3), conv(3, 3), *neuron(3, 900),
            (Skip(1, Identity(int(rng.integers(1, 300)))), Skip(0, conv(3, 2))),
        ),
        Layer("flatten", (27,)),
        Layer("dense", (4,), Dense(rng.integers(-128, 128, (4, 27))), *neuron(4, 900)),
        Layer("dense", (3,), Dense(rng.integers(-128, 128, (3, 4))), "ACC", ACC(rng.integers(-999, 999, 3))),
    )  # fmt: skip
    return Graph(layers, steps, code)


def shifted(graph, shifts):
    """The same network with other shifts."""
    layers = list(graph.layers)
    for index, shift in shifts.items():
        layers[index] = dataclasses.replace(layers[index], params=layers[index].params._replace(shift=shift))
    return Graph(tuple(layers), graph.steps, graph.input_code)


def fits(graph):
    try:
        graph.check()
    except lc.RangeError:
        return False
    return True


def pushed(graph):
    """Every layer at the largest shift that `check` lets through, front to back."""
    shifts = {index: 0 for index, _, _ in graph.neuron_layers()}
    for index in list(shifts):
        while shifts[index] < 23 and fits(shifted(graph, {**shifts, index: shifts[index] + 1})):
            shifts[index] += 1
    return shifted(graph, shifts), shifts


def potentials(graph, images, steps):
    """The extremes of v before saturation of every layer, and the counts, by the neurons' own equations in int64."""
    states, found, spikes = {}, {}, {}
    for t in range(steps):
        values = [images.astype(np.int64) * (t == 0 or graph.input_code == "constant")]
        for index, layer in enumerate(graph.layers[1:], 1):
            if layer.kind == "flatten":
                values.append(values[graph.source(index)].reshape(len(images), -1))
                continue
            neuron = NEURONS[layer.neuron]
            a_in = sum(s.synapse.apply(values[s.source]) for s in graph.inputs(index))
            column = (-1,) + (1,) * (a_in.ndim - 2)
            params = map_channels(neuron, layer.params, lambda x, c=column: x.reshape(c))
            before = states.get(index) or neuron.initial_state(params, np.zeros_like(a_in))
            v = neuron.integrate(before, a_in, params)
            axes = (0, *range(2, v.ndim))
            low, high = found.get(index, (v.min(axes), v.max(axes)))
            found[index] = np.minimum(low, v.min(axes)), np.maximum(high, v.max(axes))
            out, states[index] = neuron.step(before, a_in, params)
            low, high = found[index]
            found[index] = np.minimum(low, states[index].v.min(axes)), np.maximum(high, states[index].v.max(axes))
            spikes.setdefault(index, []).append(out)
            values.append(out)
    return found, {index: np.array(rows) for index, rows in spikes.items()}


def assert_within(graph, images):
    bounds = graph.bounds()
    found, spikes = potentials(graph, images, graph.steps)
    for index, (low, high) in found.items():
        b = bounds[index]
        assert (b.v_min <= low).all() and (high <= b.v_max).all(), f"layer {index}"
        assert low.min() >= STATE_MIN and high.max() <= STATE_MAX
        if NEURONS[graph.layers[index].neuron].spiking:
            running = spikes[index].cumsum(0)
            most = b.count_max.reshape(-1, *[1] * (running.ndim - 3))
            assert running.min() >= 0 and (running <= most).all(), f"layer {index}"
    return found, spikes


def greedy(graph, rng):
    """Images that are worst for some channel by the signs of the weights behind it, and both extremes."""
    weight = graph.layers[1].synapse.weight.astype(np.int64)
    images = [np.zeros(SHAPE), np.full(SHAPE, 255)]
    for channel in range(len(weight)):
        for sign in (1, -1):
            images.append(255 * (sign * weight[channel] > 0))
    images += list(255 * rng.integers(0, 2, (20, *SHAPE)))
    return np.array(images, np.uint8)


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10_000))
def test_bounds_hold_and_the_simulator_agrees_at_the_edge(seed):
    assume(fits(random_graph(seed)))
    graph, shifts = pushed(random_graph(seed))
    images = greedy(graph, np.random.default_rng(seed))
    _, spikes = assert_within(graph, images)
    record = lc.run(graph, images, threads=1, record_spikes=True)
    assert all(np.array_equal(record.spikes[i], rows) for i, rows in spikes.items() if i in record.spikes)
    assert np.array_equal(record.logits, spikes[len(graph.layers) - 1])
    assert np.array_equal(lc.run(graph, images, method="tensors").logits, record.logits)
    index = max(shifts)
    if shifts[index] < 23:  # one more and nothing runs it
        wide = shifted(graph, {**shifts, index: shifts[index] + 1})
        for call in (wide.check, lambda: lc.run(wide, images), lambda: lc.run(wide, images, method="tensors")):
            with pytest.raises(lc.RangeError, match="the limit is 24 bits"):
                call()


@pytest.mark.parametrize("seed", range(2))
def test_hill_climbing_never_leaves_the_bounds(seed):
    """Pixels change wherever that takes the largest potential of a layer further towards its bound."""
    rng = np.random.default_rng(seed)
    graph = pushed(random_graph(seed))[0]
    last = len(graph.layers) - 1
    images = greedy(graph, rng)[:16]
    best = None
    for _ in range(25):
        tries = images.copy()
        at = rng.integers(0, SHAPE[0] * SHAPE[1] * SHAPE[2], len(tries))
        tries.reshape(len(tries), -1)[np.arange(len(tries)), at] = rng.choice([0, 255, 128, 1], len(tries))
        assert_within(graph, tries)
        logits = np.abs(lc.run(graph, tries, threads=1).logits).max((0, 2))
        if best is None:
            best = logits * 0
        images[logits >= best] = tries[logits >= best]
        best = np.maximum(best, logits)
    bounds = graph.bounds()[last]
    assert best.max() <= max(-bounds.v_min.min(), bounds.v_max.max())


@pytest.mark.parametrize("kind", ["DTB", "CALIF", "ACC"])
@pytest.mark.parametrize("seed", range(3))
def test_no_order_of_inputs_leaves_the_bounds_of_a_neuron(kind, seed):
    """One neuron, inputs whose running sum stays within a range, ordered to do the worst; climbing by swaps."""
    rng = np.random.default_rng(seed)
    neuron, count, steps = NEURONS[kind], 200, 8
    low, high = np.full(count, -(1 << 21)), np.full(count, 1 << 21)
    theta = rng.integers(1, 1 << 18, count)
    extra = {
        "leak": rng.integers(-(1 << 16), 1 << 16, count),
        "v_neg": -theta * (seed % 2),
        "max_count": 3 * (seed % 2),
    }
    params = {
        "DTB": lambda: DTB(rng.integers(-(1 << 20), 1 << 20, count), theta, 1, 4 * (seed % 2)),
        "CALIF": lambda: CALIF(theta, rng.integers(-9999, 9999, count), **extra, shift=1),
        "ACC": lambda: ACC(rng.integers(-9999, 9999, count), 1),
    }[kind]()
    bounds = neuron.bounds(params, low, high, steps)

    def play(sums):
        state, least, most, n = neuron.initial_state(params, np.zeros(count, np.int64)), 0, 0, 0
        for a_in in np.diff(sums, axis=0, prepend=0):
            v = neuron.integrate(state, a_in, params)
            s, state = neuron.step(state, a_in, params)
            n = n + (s if neuron.spiking else 0 * s)
            least, most = np.minimum(least, np.minimum(v, state.v)), np.maximum(most, np.maximum(v, state.v))
            assert (n >= 0).all() and (n <= bounds.count_max).all()
        assert (least >= np.minimum(bounds.v_min, 0)).all() and (most <= np.maximum(bounds.v_max, 0)).all()
        return most - least

    sums = rng.choice([low[0], high[0], 0], (steps, count))
    span = play(sums)
    for _ in range(60):
        tried = sums.copy()
        tried[rng.integers(steps, size=count), np.arange(count)] = rng.choice([low[0], high[0], 0, 1, -1], count)
        found = play(tried)
        better = found >= span
        sums[:, better], span = tried[:, better], np.maximum(span, found)


@pytest.mark.parametrize("code", ["flash", "constant"])
def test_the_bound_of_the_first_layer_is_met_exactly(code):
    """An image by the signs of the weights reaches the very bound, and STATE_MAX fits where one more does not."""
    rng = np.random.default_rng(3)
    weight = rng.integers(-128, 128, (3, 18))
    steps = 4

    def graph(bias):
        layers = (Layer("input", SHAPE), Layer("flatten", (18,)), Layer("dense", (3,), Dense(weight), "ACC", ACC(bias)))
        return Graph(layers, steps, code)

    repeats = steps if code == "constant" else 1
    highest = 255 * repeats * np.maximum(weight, 0).sum(1)
    image = (255 * (weight > 0)).reshape(3, *SHAPE).astype(np.uint8)
    whole = graph(STATE_MAX - highest)
    record = lc.run(whole, image)
    assert (np.diagonal(record.logits[-1]) == STATE_MAX).all() and (whole.bounds()[2].v_max == STATE_MAX).all()
    assert np.array_equal(whole.reference(image).logits[0], record.logits[-1])
    for channel in range(3):
        with pytest.raises(lc.RangeError, match=f"channel {channel}: the membrane potential can reach 8388608 within"):
            graph(STATE_MAX - highest + np.eye(3, dtype=int)[channel]).check()


@pytest.mark.parametrize("seed", range(12))
def test_reference_equals_the_settled_simulator_at_the_edge(seed):
    """Dynamic thresholds with an upper clip settle once every count has had the steps for it."""
    rng = np.random.default_rng(seed)
    steps, dense = 12, lambda out, into: Dense(rng.integers(-128, 128, (out, into)))
    layers = (
        Layer("input", SHAPE),
        Layer("flatten", (18,)),
        Layer(
            "dense", (9,), dense(9, 18), "DTB", DTB(rng.integers(-9999, 99_999, 9), rng.integers(1, 99_999, 9), 0, 3)
        ),
        Layer("dense", (9,), dense(9, 9), "DTB", DTB(rng.integers(-99, 999, 9), rng.integers(1, 999, 9), 0, 2)),
        Layer("dense", (4,), dense(4, 9), "ACC", ACC(rng.integers(-99, 99, 4))),
    )
    graph, shifts = pushed(Graph(layers, steps))
    assert min(shifts.values()) > 0
    images = np.concatenate([255 * rng.integers(0, 2, (20, *SHAPE)), rng.integers(0, 256, (20, *SHAPE))]).astype(
        np.uint8
    )
    record, reference = lc.run(graph, images), graph.reference(images)
    assert np.array_equal(record.logits[-1], reference.logits[0])
    assert all(np.array_equal(record.counts[i], counts) for i, counts in reference.counts.items())


@pytest.mark.parametrize("seed", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_lava_agrees_at_the_edge(seed):
    pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")
    graph = pushed(random_graph(seed))[0]
    result = lc.compare(graph, greedy(graph, np.random.default_rng(seed))[:6])
    assert result.equal, result.difference


def test_bounds_beyond_64_bits_are_refused_too():
    """Sums, shifts and steps whose bounds do not even fit int64 do not come round to numbers that fit."""
    wide = Dense(np.full((1, 1 << 18), 127))
    deep = Layer("dense", (1,), wide, "ACC", ACC(0, 23))
    first = (Layer("input", (1, 1 << 9, 1 << 9)), Layer("flatten", (1 << 18,)))
    for neuron in ("CALIF", "DTB"):
        for dv in (0, 1):
            params = CALIF(1, shift=23, dv=dv) if neuron == "CALIF" else DTB(0, 1, 23)
            middle = Layer("dense", (1,), wide, neuron, params)
            out = Layer("dense", (1,), Dense([[1]]), "ACC", ACC(0))
            for graph in (
                Graph((*first, middle, out), STEPS_LIMIT, "constant"),
                Graph((*first, deep), STEPS_LIMIT, "constant"),
            ):
                with pytest.raises(lc.RangeError, match="the limit is 24 bits"):
                    graph.check()


def test_steps_have_a_limit():
    graph = random_graph(0)
    image = np.zeros((1, *SHAPE), np.uint8)
    for steps in (STEPS_LIMIT + 1, 1 << 40, 1 << 70):
        with pytest.raises(lc.RangeError, match=rf"steps is {steps}, allowed is 1 or more, up to {STEPS_LIMIT}"):
            lc.run(graph, image, steps)
        with pytest.raises(lc.ConversionError, match=f"steps is {steps}"):
            Graph(graph.layers, steps)


def test_the_oracle_does_not_count_beyond_64_bits():
    """Settled counts know no steps; where they feed sums beyond the limit the oracle says so."""
    layers = [Layer("input", (1, 1, 1)), Layer("flatten", (1,))]
    layers.append(Layer("dense", (1,), Dense([[127]]), "DTB", DTB(0, 1, 8)))
    layers += [Layer("dense", (1,), Dense([[127]]), "DTB", DTB(0, 1, 8)) for _ in range(3)]
    layers.append(Layer("dense", (1,), Dense([[127]]), "ACC", ACC(0)))
    graph = Graph(tuple(layers), 4)
    with pytest.raises(lc.RangeError, match=f"the settled input is .*, the limit is {BOUND_LIMIT}"):
        graph.reference(np.full((1, 1, 1, 1), 255, np.uint8))


def test_conversion_refuses_what_does_not_fit():
    """A layer whose sums leave 24 bits for any threshold: refused in `convert`, not in the first run."""
    import torch
    from nets import images
    from torch import nn

    from lava_conv import qat

    torch.manual_seed(0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3 * 120 * 120, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    model = qat.prepare(plain, method="ca_lif", levels=8)
    x = images((3, 120, 120), 2)
    with torch.no_grad():
        model.train()(torch.tensor(x).float())
    with pytest.raises(lc.RangeError, match="24"):
        lc.convert(model.eval(), x)
