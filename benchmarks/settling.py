#!/usr/bin/env python
"""What each part of settle-aware training buys: one short training for each, from the same weights, side by side.

LAVA_CONV_DATA=... python benchmarks/settling.py runs/cifar10-vgg11-k0-final.pt

Each variant trains for one epoch on the first images without a teacher; "none" shows what that alone does.
"""

import argparse
from dataclasses import replace
from typing import Any

from pareto import measured

import lava_conv as lc
from lava_conv.training.data import centred, load_dataset
from lava_conv.training.loop import load_trained, train


def variants(late: float, spikes: float) -> dict[str, dict[str, Any]]:
    """Name -> what it changes in the recipe."""
    penalties = {"late_penalty": late, "spike_penalty": spikes}
    return {
        "none": {},
        f"late spikes cost {late:g}": {"late_penalty": late},
        f"spikes cost {spikes:g}": {"spike_penalty": spikes},
        "encoder of 2 levels": {"encoder_levels": 2},
        "all three": penalties | {"encoder_levels": 2},
        "counts up to 2": {"n_max": 2},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="of method dynamic_threshold")
    parser.add_argument("--train", type=int, default=12_500, help="training images")
    parser.add_argument("--samples", type=int, default=2000, help="test images")
    parser.add_argument("--late", type=float, default=0.3, help="weight of the penalty on late spikes")
    parser.add_argument("--spikes", type=float, default=0.1, help="weight of the penalty on spikes")
    parser.add_argument("--only", type=int, nargs="+", help="numbers of variants, from 0 up")
    parser.add_argument("--lr", type=float, default=4e-4)
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    trained = load_trained(options.checkpoint)
    data = load_dataset(trained.data)
    some = replace(data, x_train=data.x_train[: options.train], y_train=data.y_train[: options.train])
    recipe = trained.recipe.changed(
        start=options.checkpoint, epochs=1, lr=options.lr, teachers=(), skip_easy=0.0, bf16=False
    )
    images, labels = data.x_test[: options.samples], data.y_test[: options.samples]
    print(f"{options.checkpoint}: one epoch of {options.train:,} images, {len(images):,} test images")
    for number, (name, variant) in enumerate(variants(options.late, options.spikes).items()):
        if options.only and number not in options.only:
            continue
        model = train(some, recipe.changed(**variant)).model
        graph = lc.convert(model, centred(data.x_train[:64], trained.shape), options.steps)
        curve, last = measured(graph, name, images, labels, options.steps)
        spikes, ratio = last.positive + last.negative, last.ratio
        by_step = "".join(f"{100 * accuracy:7.2f}" for accuracy in curve.accuracy)
        print(
            f"{name:22}{by_step}   {spikes:.3f} spikes a neuron, {ratio:.2f}x fewer operations than the ANN", flush=True
        )


if __name__ == "__main__":
    main()
