"""What the benchmarks share: networks of the source papers with random weights, medians, the machine in a line."""

import argparse
import os
import platform
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

import lava_conv as lc
from lava_conv import qat
from lava_conv.training import models

SHAPES = {"lenet": (1, 28, 28), "vgg11": (3, 24, 24)}


def known(name: str) -> str:
    """The name of a network, for argparse."""
    if name not in SHAPES:
        raise argparse.ArgumentTypeError(f"{name!r} is no network of this benchmark; allowed are {', '.join(SHAPES)}")
    return name


def network(name: str, steps: int = 8, bias: float = -0.3, **options: int) -> lc.Graph:
    """The structure with random ternary weights, normalised on random images; a larger bias makes more spikes."""
    torch.manual_seed(0)
    shape = SHAPES[name]
    model = qat.prepare(models.MODELS[name](channels=shape[0], size=shape[1], **options), n_max=8)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.bias, bias, 0.2)
            module.momentum = None
    model.train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randint(0, 256, (16, *shape)).float())
    return lc.convert(model.eval(), images(name, 2), steps=steps)


def images(name: str, count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPES[name]), dtype=np.uint8)


def spikes_a_neuron(graph: lc.Graph, name: str) -> float:
    """Positive and negative, in graph.steps steps, on average over the hidden neurons."""
    record = lc.run(graph, images(name, 4), record_spikes=True)
    neurons = sum(counts[0].size for counts in record.counts.values())
    return sum(np.count_nonzero(s) for s in record.spikes.values()) / 4 / neurons


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def side_by_side(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, run in turns, each warmed up just before it is timed."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            action()
            taken[name].append(seconds(action))
    return {name: float(np.median(times)) for name, times in taken.items()}


def machine() -> str:
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), name)
    except OSError:
        pass
    return (
        f"{name}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
        f"torch {torch.__version__} with {torch.get_num_threads()} threads, numpy {np.__version__}"
    )
