#!/usr/bin/env python
"""Accuracy, steps and synaptic operations of the zoo's VGG-11 for CIFAR-10, beside the paper's.

LAVA_CONV_DATA=... python benchmarks/pareto.py [NAME ...] --out docs/pareto.png

Prints each network's accuracy after every step with what it has cost until then, and which points no other one beats.
Operations are counted as in the paper, see `lava_conv.analysis.activity`.
"""

import argparse
from pathlib import Path

import numpy as np

import lava_conv as lc
from lava_conv.analysis.activity import Activity, Meter
from lava_conv.figures.style import save_png
from lava_conv.figures.tradeoff import Published, Tradeoff, accuracy_by_operations, best_of
from lava_conv.training.data import centred, load_dataset

ZOO = Path(__file__).parent.parent / "netx_models"
NAMES = "cifar10-vgg11-[dc]*.net"  # full width; the half one has its own name
CHUNK = 100  # images a time
# Zou et al. 2024 (Front. Neurosci. 18:1449020), VGG-11, k = 0, T = 8: accuracy, and the ANN's operations over its own.
ACCURACY, ANN_ACCURACY, RATIO = 0.9315, 0.9332, 5.9


def measured(
    graph: lc.Graph, name: str, images: np.ndarray, labels: np.ndarray, steps: int
) -> tuple[Tradeoff, Activity]:
    """Its curve, and what it did in all steps."""
    images = centred(images, graph.input_shape)
    meters, right = [Meter(graph, t) for t in range(1, steps + 1)], np.zeros(steps)
    for start in range(0, len(images), CHUNK):
        record = lc.run(graph, images[start : start + CHUNK], steps, record_spikes=True)
        for meter in meters:
            meter.add(record)
        right += record.accuracy(labels[start : start + CHUNK]) * record.logits.shape[1]
    found = [meter.result() for meter in meters]
    curve = Tradeoff(name, (right / len(images)).tolist(), [a.synops for a in found])
    return curve, found[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--samples", type=int, default=1000, help="test images")
    parser.add_argument("--steps", type=int, help="default: each network's own, 8 at least")
    parser.add_argument("--out", help="picture to write")
    options = parser.parse_args()
    data = load_dataset("cifar10")
    images, labels = data.x_test[: options.samples], data.y_test[: options.samples]
    curves, ann = [], 0
    for name in options.names or sorted(path.stem for path in ZOO.glob(NAMES)):
        graph, short = lc.load(ZOO / f"{name}.net"), name.removeprefix("cifar10-vgg11-")
        curve, last = measured(graph, short, images, labels, options.steps or max(8, graph.steps))
        curves.append(curve)
        ann = last.ann
        print(f"{name}: {len(images):,} test images; at T = {last.steps} {last.positive + last.negative:.3f} spikes "
              f"a neuron, {100 * last.negative / last.positive:.0f} negative ones to 100 positive")  # fmt: skip
        for t, (accuracy, operations) in enumerate(zip(curve.accuracy, curve.operations, strict=True), 1):
            print(f"  T = {t}: {100 * accuracy:.2f} %, {operations / 1e6:7.1f} M operations, "
                  f"{ann / operations:.2f}x fewer than the ANN")  # fmt: skip
    print(f"Zou 2024, k = 0, T = 8: {100 * ACCURACY:.2f} %, {RATIO}x fewer than the ANN ({ann / RATIO / 1e6:.1f} M), "
          f"0.5 spikes a neuron, 23 negative ones to 100 positive")  # fmt: skip
    print(
        "not beaten by any other point: " + ", ".join(f"{100 * a:.2f} % at {o / 1e6:.1f} M" for o, a in best_of(curves))
    )
    if options.out:
        papers = [
            Published("Zou 2024, T = 8", ACCURACY, ann / RATIO),
            Published("its ANN", ANN_ACCURACY, ann),
        ]
        save_png(accuracy_by_operations(curves, papers, least=0.7), options.out)


if __name__ == "__main__":
    main()
