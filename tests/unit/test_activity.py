"""Spikes and synaptic operations, against counting by hand."""

import numpy as np
import pytest
from plain import write_random_net

import lava_conv as lc
from lava_conv.analysis.activity import MAC, measure
from lava_conv.network.synapses import Conv, Dense, Identity


@pytest.mark.parametrize("stored", [False, True])
def test_fan_out_is_the_number_of_outputs_reached(rng, stored):
    for _ in range(40):
        groups, kernel = int(rng.choice([1, 2])), tuple(rng.integers(1, 4, 2))
        weight = rng.integers(-1, 2, (2 * groups, 2, *kernel))
        synapse = Conv(
            weight, tuple(rng.integers(1, 4, 2)), tuple(rng.integers(0, 3, 2)), tuple(rng.integers(1, 3, 2)), groups
        )
        used = Conv(
            np.abs(weight) if stored else np.ones_like(weight),
            synapse.stride, synapse.padding, synapse.dilation, groups,
        )  # fmt: skip
        shape = (2 * groups, 7, 6)
        one_by_one = np.eye(int(np.prod(shape)), dtype=np.int64).reshape(-1, *shape)
        reached = used.apply(one_by_one).sum((1, 2, 3)).reshape(shape)
        assert np.array_equal(synapse.fan_out(shape, stored), reached)
    dense = Dense(rng.integers(-1, 2, (5, 9)))
    assert np.array_equal(dense.fan_out((9,), stored), (dense.weight != 0).sum(0) if stored else np.full(9, 5))
    assert np.array_equal(Identity(3).fan_out((2, 2, 2)), np.ones((2, 2, 2)))


def test_measure_counts_every_spike_and_synapse(tmp_path, rng, monkeypatch):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng, skips=True))
    x = rng.integers(0, 256, (5, *graph.input_shape), dtype=np.uint8)
    record = lc.run(graph, x, record_spikes=True)
    assert any((s < 0).any() for s in record.spikes.values()) and any((s > 0).any() for s in record.spikes.values())
    monkeypatch.setattr("lava_conv.analysis.activity.CHUNK_SPIKES", 1)  # one image a time: the means are the same
    found = {layer.index: layer for layer in measure(graph, x).layers}
    for index, spikes in record.spikes.items():
        assert found[index].positive == (spikes > 0).sum() / 5 and found[index].negative == (spikes < 0).sum() / 5
    for index, _, _ in graph.neuron_layers():
        synops = 0
        for feed in graph.inputs(index):
            source = feed.source - 1 if graph.layers[feed.source].kind == "flatten" else feed.source
            if source:
                synops += np.abs(record.spikes[source]).reshape(-1, *graph.layers[feed.source].shape).sum(0).ravel() @ (
                    feed.synapse.fan_out(graph.layers[feed.source].shape).ravel()
                )
        assert np.isclose(found[index].synops, synops / 5)
        assert found[index].stored <= found[index].synops
    activity = measure(graph, x)
    assert activity.ann == MAC * sum(x.macs for x in activity.layers)
    assert activity.synops == sum(MAC * x.macs if x.graded else x.synops for x in activity.layers)
