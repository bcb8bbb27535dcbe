"""Settle detection and early exit: exact where promised, cheaper where not."""

from dataclasses import replace

import numpy as np
import pytest
from plain import write_random_net

import lava_conv as lc
from lava_conv.analysis.early_exit import decided_after, leave, silent_after
from lava_conv.network.neurons import NEURONS, dynamic_threshold


@pytest.fixture(scope="module")
def case(trained_digits):
    data, trained = trained_digits
    graph = lc.convert(trained.model, data.x_train[:8])
    return graph, lc.run(graph, data.x_test, steps=12, record_spikes=True), data.y_test


def test_silence_is_final(case):
    graph, record, _ = case
    silent = silent_after(record)
    assert silent.max() < 12 and silent.min() >= 1, "all samples settle within the record"
    reference = graph.reference(load_images())
    for sample, step in enumerate(silent[:50]):
        assert np.array_equal(record.logits[step - 1, sample], reference.logits[0, sample])
        before = any(record.spikes[i][step - 1, sample].any() for i in record.spikes)
        assert before, "the step before was not silent"
    decided = decided_after(record)
    assert (decided <= silent).all()
    for sample in range(50):
        predictions = record.predictions[:, sample]
        assert (predictions[decided[sample] - 1 :] == predictions[-1]).all()
        assert decided[sample] == 1 or predictions[decided[sample] - 2] != predictions[-1]


def load_images():
    from lava_conv.training.data import load_dataset

    return load_dataset("digits").x_test


def test_margin_never_changes_a_prediction(case, tmp_path, rng):
    graph, record, labels = case
    exit = leave(graph, record)
    assert np.array_equal(exit.predictions, record.predictions[-1])
    assert exit.steps.mean() < 10 and (exit.steps <= 12).all()
    assert exit.accuracy(labels) == record.accuracy(labels)[-1]
    # not settled: then only the bound on what remains may stop
    short = lc.run(graph, load_images(), steps=5, record_spikes=True)
    assert np.array_equal(leave(graph, short).predictions, short.predictions[-1])
    for number in range(10):
        graph = lc.load(write_random_net(tmp_path / f"{number}.net", rng))
        x = rng.integers(0, 256, (20, *graph.input_shape), dtype=np.uint8)
        record = lc.run(graph, x, steps=6, record_spikes=True)
        assert np.array_equal(leave(graph, record).predictions, record.predictions[-1])


def test_confidence_trades_steps_for_accuracy(case):
    graph, record, labels = case
    exits = [leave(graph, record, "confidence", threshold) for threshold in (0.0, 2.0, 1e9)]
    assert exits[0].steps.max() == 1 and exits[2].steps.min() == 12
    assert exits[1].steps.mean() < 6 and exits[1].accuracy(labels) > exits[0].accuracy(labels)
    assert exits[2].accuracy(labels) == record.accuracy(labels)[-1]


def test_what_cannot_be_decided_is_refused(case, tmp_path, rng, monkeypatch):
    graph, record, _ = case
    with pytest.raises(lc.DataError, match="policy is 'luck'"):
        leave(graph, record, "luck")
    with pytest.raises(lc.DataError, match="holds no spikes"):
        leave(graph, lc.run(graph, load_images()[:2]))
    tired = dynamic_threshold.NEURON._replace(type="TIRED")  # for all that `leave` knows it may spike after a silence
    monkeypatch.setitem(NEURONS, "TIRED", tired)
    layers = (graph.layers[0], replace(graph.layers[1], neuron="TIRED"), *graph.layers[2:])
    own = replace(graph, layers=layers)
    some = lc.run(own, load_images()[:20], steps=12, record_spikes=True)
    with pytest.raises(lc.ConversionError, match="layer 1: neuron is TIRED, policy 'margin' is proven for DTB, CALIF"):
        leave(own, some)
    assert leave(own, some, "confidence", 1e9).steps.min() == 12
    constant = lc.load(write_random_net(tmp_path / "c.net", rng, code="constant"))
    x = rng.integers(0, 256, (2, *constant.input_shape), dtype=np.uint8)
    with pytest.raises(lc.ConversionError, match="needs input_code 'flash'"):
        leave(constant, lc.run(constant, x, record_spikes=True))
