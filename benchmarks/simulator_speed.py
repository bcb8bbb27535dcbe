#!/usr/bin/env python
"""The batched simulator against ANN passes and other simulators: python benchmarks/simulator_speed.py [lenet vgg11]

T = 8, the same images, everything run in turns and warmed up just before it is timed; printed are medians of
microseconds an image and ratios. Peers run where they are installed (the extra `peers`): the same structure with their
integrate-and-fire neurons, normalisation folded into the weights, which is to their advantage. Their time does not
depend on the spikes.
"""

import argparse
import copy
import subprocess
import sys
import warnings
from collections.abc import Callable

import torch
from common import SHAPES, images, known, machine, network, side_by_side, spikes_a_neuron
from torch import nn
from torch.fx.experimental.optimization import fuse

import lava_conv as lc
from lava_conv.training import models

STEPS = 8
IMAGES = {"lenet": 1024, "vgg11": 128}
ANN_BATCH = {"lenet": 256, "vgg11": 64}
LEVELS = {"lenet": (-0.2, 0.2), "vgg11": (-0.25, 0.15)}  # bias of the normalisation: fewer and more spikes

MEMORY = """
import sys
import numpy as np, lava_conv as lc
def most():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 2**20
graph = lc.load(sys.argv[1])
images = np.random.default_rng(0).integers(0, 256, (10_000, 1, 28, 28), dtype=np.uint8)
lc.run(graph, images[:8], 8)
before = most()
record = lc.run(graph, images, 8)
print(most(), before)
"""


def ann(name: str) -> nn.Module:
    """The float network, normalisation folded into the weights."""
    return fuse(models.MODELS[name](channels=SHAPES[name][0], size=SHAPES[name][1]).eval())


def ann_passes(name: str, x: torch.Tensor) -> dict[str, Callable[[], object]]:
    plain = models.MODELS[name](channels=SHAPES[name][0], size=SHAPES[name][1]).eval()
    batches = x.split(ANN_BATCH[name])
    frozen = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(ann(name), batches[0])))
    return {
        "ANN float32, default": lambda: [plain(b) for b in batches],
        "ANN float32, optimised": lambda: [frozen(b) for b in batches],
    }


def spikingjelly(name: str, x: torch.Tensor) -> dict[str, Callable[[], object]]:
    from spikingjelly.activation_based import functional, layer, neuron

    def built(mode: str) -> nn.Module:
        swapped = copy.deepcopy(ann(name))
        layers = []
        for module in swapped.children():
            if isinstance(module, nn.ReLU):
                layers.append(neuron.IFNode(step_mode=mode))
            elif mode == "m":
                layers.append(layer.SeqToANNContainer(module))
            else:
                layers.append(module)
        return nn.Sequential(*layers).eval()

    single, multi = built("s"), built("m")
    multi_last = built("m").to(memory_format=torch.channels_last)
    batches = x.split(64)

    def step_by_step() -> None:
        for batch in batches:
            functional.reset_net(single)
            for _ in range(STEPS):
                single(batch)

    def folded(net: nn.Module, size: int) -> None:
        for batch in x.split(size):
            functional.reset_net(net)
            net(batch[None].expand(STEPS, *batch.shape))

    return {
        "SpikingJelly, step by step": step_by_step,
        "SpikingJelly, T folded": lambda: folded(multi, 64),
        "SpikingJelly, T folded, batch 16": lambda: folded(multi, 16),
        "SpikingJelly, T folded, batch 256": lambda: folded(multi, 256),
        "SpikingJelly, T folded, channels last": lambda: folded(multi_last, 64),
    }


def snntorch(name: str, x: torch.Tensor) -> dict[str, Callable[[], object]]:
    import snntorch

    stages = [
        snntorch.Leaky(beta=1.0, init_hidden=True) if isinstance(module, nn.ReLU) else module
        for module in copy.deepcopy(ann(name)).children()
    ]
    net = nn.Sequential(*stages).eval()

    def run() -> None:
        for batch in x.split(64):
            for stage in stages:
                if isinstance(stage, snntorch.Leaky):
                    stage.reset_hidden()
            for _ in range(STEPS):
                net(batch)

    return {"snnTorch, step by step": run}


def peers(name: str, x: torch.Tensor) -> dict[str, Callable[[], object]]:
    found: dict[str, Callable[[], object]] = {}
    for make in (spikingjelly, snntorch):
        try:
            found |= make(name, x)
        except ImportError:
            print(f"{make.__name__} is not installed (pip install lava-conv[peers])")
    return found


def compare(name: str, bias: float, rounds: int) -> None:
    graph, pixels = network(name, STEPS, bias), images(name, IMAGES[name])
    x = torch.from_numpy(pixels).float() / 255
    actions = ann_passes(name, x) | peers(name, x)
    for method in ("auto", "events", "dense"):
        actions[f"lava-conv, {method}"] = lambda m=method: lc.run(graph, pixels, STEPS, method=m)
    with torch.inference_mode():
        taken = {key: 1e6 * value / len(pixels) for key, value in side_by_side(actions, rounds).items()}
    ours, theirs = taken["lava-conv, auto"], [t for key, t in taken.items() if key.startswith("SpikingJelly")]
    sent = spikes_a_neuron(graph, name)
    print(f"\n{name}: {sent:.2f} spikes a neuron, T = {STEPS}, {len(pixels)} images, {rounds} rounds")
    print(f"{'':<40}{'us an image':>12}{'default':>10}{'optimised':>11} ANN passes")
    for key, t in taken.items():
        ratios = [t / taken[f"ANN float32, {kind}"] for kind in ("default", "optimised")]
        print(f"{key:<40}{t:>12,.0f}{ratios[0]:>10.2f}{ratios[1]:>11.2f}")
    if theirs:
        print(f"the best of SpikingJelly takes {min(theirs) / ours:.1f} times as long as lava-conv, auto")


def memory() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        lc.save(network("lenet"), f"{folder}/lenet.net")
        found = subprocess.run(
            [sys.executable, "-c", MEMORY, f"{folder}/lenet.net"], capture_output=True, text=True, check=True
        )
    peak, before = map(float, found.stdout.split()[-2:])
    print(f"\n10,000 images of 28x28 through LeNet: {peak:.2f} GiB at most, of which {before:.2f} before the run")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(SHAPES), type=known, metavar="NAME", help=" or ".join(SHAPES))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(machine())
    for name in options.names:
        for bias in LEVELS[name]:
            compare(name, bias, options.rounds)
    if "lenet" in options.names:
        memory()


if __name__ == "__main__":
    main()
