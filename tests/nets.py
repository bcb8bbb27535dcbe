"""Small helpers for tests of conversion: random weights with lively statistics, and the exactness check itself."""

import numpy as np
import torch
from torch import nn

import lava_conv as lc
from lava_conv import qat
from lava_conv.network.graph import Graph, Layer
from lava_conv.network.neurons import NEURONS
from lava_conv.network.synapses import Conv, Dense


def lively(model, shape, batches=2, seed=0):
    """Random normalisation (negative and zero gammas too) and running statistics, steps set from data."""
    torch.manual_seed(seed)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        nn.init.normal_(norm.weight, 1.0, 0.3)
        norm.weight.data[0], norm.weight.data[1] = 0, -0.7
        nn.init.normal_(norm.bias, 0.0, 0.3)
        norm.momentum = None
    model.train()
    with torch.no_grad():
        for _ in range(batches):
            model(torch.randint(0, 256, (16, *shape)).float())
    return model.eval()


def images(shape, count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def assert_exact(model, shape, steps, count=6, converted=None, **options):
    """The integer oracle equals the float64 model, and the simulator settles on the oracle in every count."""
    x = images(shape, count)
    graph = converted or lc.convert(model, x[:2], **options)
    x4 = x if x.ndim == 4 else x[:, :, None]
    reference = graph.reference(x4)
    assert np.array_equal(reference.predictions[0], qat.evaluate(model, x).argmax(1))
    record = lc.run(graph, x4, steps)
    for index, counts in reference.counts.items():
        assert np.array_equal(record.counts[index], counts), f"layer {index}"
    assert max(int(c.max()) for c in reference.counts.values()) >= 2, "a network without spikes proves nothing"
    return graph


def multi_level_graph(rng):
    """A small network of the neurons of tests/multi_level, which must be in the table; shifts are 0."""

    def levels(channels, size):
        return NEURONS["LEVELS"].Params(*np.sort(rng.integers(-size, size, (3, channels)), axis=0))

    layers = (
        Layer("input", (1, 6, 6)),
        Layer("conv", (4, 4, 4), Conv(rng.integers(-9, 10, (4, 1, 3, 3))), "LEVELS", levels(4, 3000)),
        Layer("flatten", (64,)),
        Layer("dense", (9,), Dense(rng.integers(-9, 10, (9, 64))), "LEVELS", levels(9, 300)),
        Layer("dense", (3,), Dense(rng.integers(-9, 10, (3, 9))), "ACC", NEURONS["ACC"].Params(0)),
    )
    return Graph(layers, steps=12)
