#!/usr/bin/env python
"""Lava's CPU simulation with stock and with fast models, side by side: python benchmarks/lava_speed.py [lenet vgg11]

Networks with random ternary weights and thresholds that give a realistic share of spikes; the same graph, the same
images, run in turns in one session. Printed are medians of ms a time step, ratios, and the spikes a neuron sends.
"""

import argparse
import os
import platform
import time

import numpy as np
import torch
from torch import nn

import lava_conv as lc
from lava_conv import qat
from lava_conv.qat import models

SHAPES = {"lenet": (1, 28, 28), "vgg11": (3, 24, 24)}


def network(name: str) -> lc.Graph:
    """The structure with random weights, its normalisation fitted to random images."""
    torch.manual_seed(0)
    shape = SHAPES[name]
    model = qat.prepare(models.MODELS[name](channels=shape[0], size=shape[1]), n_max=8)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.bias, -0.3, 0.2)
            module.momentum = None
    model.train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randint(0, 256, (16, *shape)).float())
    return lc.convert(model.eval(), images(name, 2), steps=8)


def images(name: str, count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPES[name]), dtype=np.uint8)


def per_step(graph: lc.Graph, name: str, samples: int, stock: bool) -> tuple[float, lc.Record]:
    """ms a time step: the difference of a long and a short run, so that compiling and starting do not count."""
    seconds, record = [], None
    for count in (1, 1 + samples):
        start = time.perf_counter()
        record = lc.run(graph, images(name, count), backend="lava", stock=stock, record=(), timeout=600.0)
        seconds.append(time.perf_counter() - start)
    assert record is not None
    return 1000 * (seconds[1] - seconds[0]) / (samples * graph.steps), record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["lenet"])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, numpy {np.__version__}")
    for name in options.names:
        graph = network(name)
        activity = lc.run(graph, images(name, 4))
        neurons = sum(c[0].size for c in activity.counts.values())
        sent = sum(int(np.abs(s).sum()) for s in activity.spikes.values()) / 4 / neurons
        slow, fast = [], []
        for _ in range(options.rounds):
            stock = per_step(graph, name, 8 if name == "lenet" else 1, stock=True)
            quick = per_step(graph, name, 400 if name == "lenet" else 50, stock=False)
            slow.append(stock[0])
            fast.append(quick[0])
            assert np.array_equal(stock[1].logits, quick[1].logits[:, : stock[1].logits.shape[1]])
        print(
            f"{name}, {len(graph.layers)} layers, {sent:.2f} spikes a neuron in {graph.steps} steps: stock "
            f"{np.median(slow):,.1f} ms a step, fast {np.median(fast):.2f}, {np.median(slow) / np.median(fast):,.0f}x "
            f"(rounds {', '.join(f'{s / f:,.0f}x' for s, f in zip(slow, fast, strict=True))})",
            flush=True,
        )


if __name__ == "__main__":
    main()
