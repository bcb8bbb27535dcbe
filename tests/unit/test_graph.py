"""Bounds are proven, and the oracle is where the simulator settles."""

import dataclasses

import numpy as np
import pytest
from plain import write_random_net

import lava_conv as lc
from lava_conv.network.fixedpoint import STATE_MIN
from lava_conv.network.graph import Graph, Layer
from lava_conv.network.neurons import NEURONS
from lava_conv.network.synapses import Conv, Dense, Identity


def test_bounds_are_never_violated(tmp_path, rng):
    """Random and adversarial images (pixels at 0 and 255 chosen by the sign of the weights)."""
    for seed in range(8):
        graph = lc.load(write_random_net(tmp_path / f"{seed}.net", np.random.default_rng(seed), skips=seed % 2 == 1))
        images = np.concatenate(
            [rng.integers(0, 256, (8, *graph.input_shape)), 255 * rng.integers(0, 2, (24, *graph.input_shape))]
        ).astype(np.uint8)
        record, bounds = lc.run(graph, images, record_spikes=True), graph.bounds()
        for index, spikes in record.spikes.items():
            running = spikes.cumsum(0, dtype=np.int64)
            most = bounds[index].count_max.reshape(-1, *[1] * (running.ndim - 3))
            assert running.min() >= 0 and (running <= most).all()
        last = bounds[len(graph.layers) - 1]
        assert (record.logits >= last.v_min).all() and (record.logits <= last.v_max).all()


def test_bound_above_24_bits_is_refused(tmp_path, rng):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng))
    layers = list(graph.layers)
    layers[1] = dataclasses.replace(layers[1], params=layers[1].params._replace(shift=12))
    wide = dataclasses.replace(graph, layers=tuple(layers))
    with pytest.raises(lc.RangeError, match=r"layer 1 \(conv\), channel \d+: .* can reach -?\d+ within 6 steps"):
        lc.run(wide, np.zeros((1, 2, 9, 7), np.uint8))


def readout(weights, shift=0, hidden=None):
    """A graph of a pixel for each column, hidden neurons of one spike if wanted, and a readout with these weights."""
    weights = np.atleast_2d(weights)
    layers = [Layer("input", (weights.shape[1], 1, 1)), Layer("flatten", weights.shape[1:])]
    if hidden:
        one = NEURONS["DTB"].Params(theta=0, delta=1, max_count=1)
        layers.append(Layer("dense", weights.shape[1:], Dense(np.eye(weights.shape[1])), "DTB", one))
    layers.append(Layer("dense", weights.shape[:1], Dense(weights), "ACC", NEURONS["ACC"].Params(0, shift)))
    return Graph(tuple(layers), steps=4)


def test_both_ends_of_the_24_bits_are_checked():
    """-2^23 fits and 2^23 does not, whichever channel or sign comes first."""
    readout([[-64, 63]], shift=17, hidden=True).check()
    for weights, channel in (([[-64, 64]], 0), ([[-64, 0], [0, 64]], 1), ([[0, 64], [-64, 0]], 0)):
        graph = readout(weights, shift=17, hidden=True)
        bounds = graph.bounds()[3]
        assert bounds.v_min.min() == STATE_MIN and bounds.v_max.max() == -STATE_MIN
        with pytest.raises(lc.RangeError, match=rf"layer 3 \(dense\), channel {channel}: .* can reach 8388608 within"):
            graph.check()
    with pytest.raises(lc.RangeError, match=r"channel 1: .* can reach -8519680 within 4 steps"):
        readout([[64, 0], [0, -65]], shift=17, hidden=True).check()


def test_input_of_one_step_above_24_bits_is_refused():
    weights = np.full((1, 500), 127)
    weights[:, ::2] = -127  # each sign alone stays within 24 bits
    with pytest.raises(lc.RangeError, match=r"layer 2 \(dense\): the input of one step can reach 16192500, the limit"):
        readout(weights).check()


def test_the_layers_given_are_left_alone():
    params = NEURONS["ACC"].Params(7)
    layer = Layer("dense", (3,), Dense(np.ones((3, 4))), "ACC", params)
    graph = Graph((Layer("input", (1, 2, 2)), Layer("flatten", (4,)), layer), steps=2)
    assert layer.params is params and params.bias == 7
    assert np.array_equal(graph.layers[-1].params.bias, [7, 7, 7])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((Layer("input", (1, 2, 2)),), "the network has 1 layers, allowed is 2 or more"),
        ((Layer("flatten", (4,)), Layer("flatten", (4,))), "layer 0: type is 'flatten', it must be the input"),
    ],
)
def test_wrong_beginnings(layers, message):
    with pytest.raises(lc.ConversionError, match=message):
        Graph(layers, steps=2)


@pytest.mark.parametrize("synapse", [None, np.ones((2, 4), np.int8), Identity(), Conv(np.ones((2, 1, 1, 1)))])
def test_a_layer_of_another_synapse_is_refused(synapse):
    layers = (Layer("input", (1, 2, 2)), Layer("flatten", (4,)), Layer("dense", (2,), synapse, "ACC"))
    with pytest.raises(lc.ConversionError, match="layer 2: type is 'dense', allowed are conv, dense and flatten"):
        Graph(layers, steps=2)


def test_the_size_of_a_padded_frame_does_not_wrap():
    conv = Conv(np.ones((1, 3, 1, 1)), padding=(1 << 40, 1 << 40))
    assert conv.padded_size((3, 2, 2)) == 3 * (2 + (1 << 41)) ** 2


def test_simulator_settles_on_the_reference(trained_digits):
    data, trained = trained_digits
    graph = lc.convert(trained.model, data.x_train[:16], steps=24)
    record, reference = lc.run(graph, data.x_test), graph.reference(data.x_test)
    assert reference.logits.shape == (1, len(data.x_test), 10)
    for index, counts in reference.counts.items():
        assert np.array_equal(record.counts[index], counts)
    assert np.array_equal(record.logits[-1], reference.logits[0])


def test_summary_shows_every_layer(tmp_path, rng):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng, skips=True))
    lines = graph.summary().splitlines()
    assert len(lines) == len(graph.layers) + 2 and "24-bit" in lines[0]
