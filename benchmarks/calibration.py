#!/usr/bin/env python
"""Calibration methods and neurons side by side, against the float network they come from.

python benchmarks/calibration.py runs/cifar10-resnet20-float.pt --data cifar10 --samples 1000 --steps 8 16 32

Every row is one calibrated network, run on the integer simulator: its accuracy, the gap to the float network on the
same images, the share of images on which both say the same, and the seconds that conversion and calibration took. With
--layers the errors by layer of each follow, the worst first.
"""

import argparse
import time

import numpy as np
import torch
from common import machine

import lava_conv as lc
from lava_conv.analysis.ledger import worst_first
from lava_conv.calibration.procedure import KINDS, METHODS, float_predictions
from lava_conv.classes import accuracy
from lava_conv.training.data import centred, load_dataset
from lava_conv.training.loop import load_trained

# What the papers report on CIFAR-10, float network -> spiking network (other networks, other copies of the data).
PAPERS = (
    "Li et al. 2021, advanced, unipolar, T = 32: VGG-16 95.72 -> 93.71, ResNet-20 (64-256 channels) 95.46 -> 94.78",
    "QCFS (Bu et al. 2022), trained with quantisation, unipolar: VGG-16 95.52 -> 94.95 at T = 8",
)
CHUNK = 250  # images a time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="of lava-conv train --method float")
    parser.add_argument("--data")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--neurons", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--per-channel", action="store_true")
    parser.add_argument("--images", type=int, default=256, help="to calibrate with")
    parser.add_argument("--samples", type=int, default=1000, help="to test with")
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--layers", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    trained = load_trained(options.checkpoint)
    data = load_dataset(options.data or trained.data)
    images = data.some(options.images, trained.shape)
    x, y = centred(data.x_test[: options.samples], trained.shape), data.y_test[: options.samples]
    said = float_predictions(trained.model, x)
    ann = 100 * accuracy(said, y, trained.outputs)
    print(machine())
    print(
        f"{options.checkpoint}: {trained.recipe.model.name}, {len(trained.losses)} epochs on {trained.data}, float "
        f"{ann:.2f} % on {len(x):,} test images; calibrated on {len(images)} unlabelled training images"
    )
    print("   T neuron method     accuracy    gap  agree seconds", flush=True)
    for steps in options.steps:
        for neuron in options.neurons:
            for method in options.methods:
                began = time.perf_counter()
                graph = lc.calibrate(
                    trained.model, images, steps, method, neuron=neuron, per_channel=options.per_channel,
                    iterations=options.iterations,
                )  # fmt: skip
                seconds = time.perf_counter() - began
                parts = [lc.run(graph, x[i : i + CHUNK]).predictions[-1] for i in range(0, len(x), CHUNK)]
                found = np.concatenate(parts)
                right, agree = 100 * accuracy(found, y, graph.classes), 100 * (found == said).mean()
                row = f"{steps:4d} {neuron:6} {method:10} {right:8.2f} {right - ann:+6.2f} {agree:6.2f} {seconds:7.1f}"
                print(row, flush=True)
                if options.layers:
                    for row in worst_first(graph.layer_errors):
                        print(
                            f"       {row.layer:24} {100 * row.before:7.3f} -> {100 * row.after:7.3f} %: quantisation "
                            f"{100 * row.quantisation:.3f}, clipping {100 * row.clipping:.3f}, inherited "
                            f"{100 * row.inherited:.3f}, deviation {100 * row.deviation:.3f}"
                        )
    print("\n".join(PAPERS))


if __name__ == "__main__":
    main()
