"""Bounds are proven, and the oracle is where the simulator settles."""

import dataclasses

import numpy as np
import pytest
from plain import write_random_net

import lava_conv as lc


def test_bounds_are_never_violated(tmp_path, rng):
    """Random and adversarial images (pixels at 0 and 255 chosen by the sign of the weights)."""
    for seed in range(8):
        graph = lc.load(write_random_net(tmp_path / f"{seed}.net", np.random.default_rng(seed), skips=seed % 2 == 1))
        images = np.concatenate(
            [rng.integers(0, 256, (8, *graph.input_shape)), 255 * rng.integers(0, 2, (24, *graph.input_shape))]
        ).astype(np.uint8)
        record, bounds = lc.run(graph, images), graph.bounds()
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


def test_simulator_settles_on_the_reference(trained_digits):
    data, trained = trained_digits
    graph = lc.convert(trained.model, data.x_train[:16], steps=24)
    record, reference = lc.run(graph, data.x_test, record=()), graph.reference(data.x_test)
    assert reference.logits.shape == (1, len(data.x_test), 10)
    for index, counts in reference.counts.items():
        assert np.array_equal(record.counts[index], counts)
    assert np.array_equal(record.logits[-1], reference.logits[0])


def test_summary_shows_every_layer(tmp_path, rng):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng, skips=True))
    lines = graph.summary().splitlines()
    assert len(lines) == len(graph.layers) + 2 and "24-bit" in lines[0]
