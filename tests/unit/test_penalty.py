"""Penalties on spikes: what they cost, and that they make networks sparser and sooner settled."""

import numpy as np
import pytest
import torch
from torch import nn

import lava_conv as lc
from lava_conv import qat
from lava_conv.training.data import load_dataset
from lava_conv.training.loop import Recipe, train
from lava_conv.training.penalty import SpikePenalty

PLAIN = Recipe(epochs=6, batch=64)


@pytest.fixture(scope="module")
def plain(kept):
    return kept(PLAIN)


def measured(trained, data):
    """(net spikes a neuron, delays a neuron, share of neurons settled after two steps) of the integer network."""
    graph = lc.convert(trained.model, data.x_train[:16], steps=12)
    reference, record = graph.reference(data.x_test), lc.run(graph, data.x_test, 2)
    counts = np.concatenate([c.ravel() for c in reference.counts.values()]).astype(float)
    after = np.concatenate([record.counts[i].ravel() for i in reference.counts])
    return counts.mean(), (counts * (counts - 1) / 2).mean(), (after == counts).mean()


@pytest.mark.parametrize("options", [{"method": "dynamic_threshold"}, {"method": "ca_lif", "levels": 6}], ids=str)
def test_the_cost_is_that_of_the_counts_of_the_integer_network(options):
    data = load_dataset("digits")
    trained = train(data, PLAIN.changed(epochs=1, **options))
    model, x = qat.exact(trained.model), torch.tensor(data.x_test[:50], dtype=torch.float64)
    graph = lc.convert(trained.model, data.x_train[:16])
    counts = np.concatenate([c.reshape(50, -1) for c in graph.reference(data.x_test[:50]).counts.values()], 1)
    counts = counts.astype(float)
    for spikes, late in ((1.0, 0.0), (0.0, 1.0), (0.3, 0.2)):
        penalty = SpikePenalty(model, spikes, late)
        for _ in range(2):  # nothing is left of the first one
            with penalty.watching():
                model(x)
            expected = spikes * counts.mean() + late * (counts * (counts - 1) / 2).mean()
            assert np.isclose(penalty.cost().item(), expected, rtol=1e-9) and expected > 0.01
    assert not any(module._forward_hooks for module in model.modules())


def test_gradients_reach_the_weights_and_no_hooks_stay():
    torch.manual_seed(0)
    model = qat.prepare(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)), "ca_lif", levels=4
    )
    penalty = SpikePenalty(model, 1.0, 1.0)
    with penalty.watching():
        model(torch.rand(5, 1, 8, 8) * 255)
    penalty.cost().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    with pytest.raises(RuntimeError), penalty.watching():
        model(torch.rand(5, 2, 8, 8))
    assert not any(module._forward_hooks for module in model.modules())


def test_penalties_make_networks_sparser_and_sooner_settled(plain):
    data, free = plain
    spikes, delays, settled = measured(free, data)
    sparse = measured(train(data, PLAIN.changed(spike_penalty=3.0)), data)
    soon = measured(train(data, PLAIN.changed(late_penalty=2.0)), data)
    assert sparse[0] < 0.8 * spikes and sparse[2] > settled
    assert soon[1] < 0.7 * delays and soon[2] > settled


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spike_penalty": -1.0}, "spike_penalty is -1.0, allowed is a number, 0 or more"),
        ({"late_penalty": np.inf}, "late_penalty is inf, allowed is a number, 0 or more"),
        ({"late_penalty": np.nan}, "late_penalty is nan, allowed is a number, 0 or more"),
        ({"late_penalty": 0.1, "method": "float"}, "does not go together with method float"),
        ({"spike_penalty": 0.1, "unroll": 2}, "does not go together with unroll"),
    ],
)
def test_wrong_penalties(options, message):
    with pytest.raises(lc.DataError, match=message):
        train(load_dataset("digits"), PLAIN.changed(**options))
