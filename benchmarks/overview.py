#!/usr/bin/env python
"""Draw docs/overview.png: the way of a network, one digit's spikes in it, and what the zoo's networks reach.

LAVA_CONV_DATA=... python benchmarks/overview.py

Figures come from the cards in netx_models/, the digit from MNIST.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

import lava_conv as lc
from lava_conv.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SMALL,
    TEXT,
    bare,
    dress,
    new_figure,
    save_png,
)
from lava_conv.training.data import load_dataset

ROOT = Path(__file__).parent.parent
ZOO = ROOT / "netx_models"
SHOWN = "mnist-lenet-dtb-k0"
CURVES = {
    "mnist-lenet-dtb-k0-fast": ("k = 0, trained on 4 steps", GREEN),
    "mnist-lenet-dtb-k0": ("k = 0", BLUE),
    "mnist-lenet-dtb-k1": ("k = 1", PURPLE),
    "mnist-lenet-calif-t8": ("Ca-LIF", ORANGE),
}
PAPER = (4, 99.45)  # Zou et al. 2024, LeNet, k = 0
NEURONS = 70  # shown of each layer
DIGIT = 0
STEPS = 8


def flow(ax: Any, equal: int) -> None:
    """The boxes from PyTorch to the backends."""
    bare(ax).set(xlim=(0, 1), ylim=(0, 1))

    def box(x: float, y: float, words: str, colour: str) -> None:
        ax.text(
            x, y, words, ha="center", va="center", color=INK, fontsize=TEXT, linespacing=1.35,
            bbox={"boxstyle": "round,pad=0.5,rounding_size=0.4", "fc": "#ffffff", "ec": colour, "lw": 1.6},
        )  # fmt: skip

    def arrow(start: tuple[float, float], end: tuple[float, float], style: str = "-|>") -> None:
        ax.annotate("", end, start, arrowprops={"arrowstyle": style, "color": MUTED, "lw": 1.2})

    box(0.5, 0.92, "PyTorch model: own layers,\ntorch.ao, Brevitas, or pretrained", GREY)
    arrow((0.5, 0.83), (0.5, 0.69))
    ax.text(0.53, 0.765, "convert / calibrate", color=MUTED, fontsize=SMALL, va="center", style="italic")
    box(0.5, 0.60, "integer network, one .net file\n24-bit bounds proven", BLUE)
    for x, words in ((0.16, "simulator"), (0.5, "Lava"), (0.84, "stock netx")):
        arrow((0.5, 0.51), (x, 0.345))
        box(x, 0.28, words, GREEN)
    told = "simulator and Lava: every spike the same;\nall settle exactly on the quantised network"
    ax.text(0.5, 0.12, told, color=INK, fontsize=TEXT, ha="center", va="center")
    ax.text(0.5, 0.0, f"0 of {equal:,} counts differ on MNIST", color=MUTED, fontsize=SMALL, ha="center", va="center")


def spikes(figure: Any) -> None:
    """The digit, and below it a line a neuron: its spikes at each step."""
    graph = lc.load(ZOO / f"{SHOWN}.net")
    image = load_dataset("mnist").x_test[DIGIT : DIGIT + 1]
    record = lc.run(graph, image, STEPS, record_spikes=True)
    layers = sorted(record.spikes)
    axes = figure.subplots(len(layers) + 1, 1, height_ratios=[1.5] + [1] * len(layers))
    bare(axes[0]).imshow(255 - image[0, 0], cmap="gray", interpolation="nearest")
    axes[0].set_title("one digit, its spikes by layer (k = 0)", fontsize=TEXT, color=INK, loc="center")
    for number, (ax, layer) in enumerate(zip(axes[1:], layers, strict=True), 1):
        sent = record.spikes[layer].reshape(STEPS, -1)
        lively = np.argsort(-np.abs(sent).sum(0), kind="stable")
        chosen = np.sort(lively[: max(1, len(lively) // 2)][:: max(1, len(lively) // 2 // NEURONS)][:NEURONS])
        dress(ax)
        for sign, colour in ((1, BLUE), (-1, ORANGE)):
            step, neuron = np.nonzero(sent[:, chosen] == sign)
            ax.scatter(neuron, step + 1, s=5, marker="s", color=colour, linewidths=0)
        ax.set(ylim=(STEPS + 0.7, 0.3), yticks=(1, STEPS), xticks=())
        ax.set_ylabel(f"layer {number}", rotation=0, ha="right", va="center", fontsize=SMALL, color=INK, labelpad=8)
    axes[-1].set_xlabel("neurons (some); steps downwards; blue +1, orange -1", fontsize=SMALL, color=MUTED)


def accuracy(ax: Any) -> None:
    """Accuracy after each step, of the zoo's LeNets on 10,000 images."""
    dress(ax, "MNIST LeNets, 10,000 images, all integer", "time steps T", "accuracy, %", "y")
    for name, (words, colour) in CURVES.items():
        card = json.loads((ZOO / f"{name}.json").read_text())
        values = 100 * np.array(card["accuracy"]["spiking, after each step"][:STEPS])
        ax.plot(np.arange(1, len(values) + 1), values, color=colour, lw=2, marker="o", ms=4, label=words)
    ax.plot(*PAPER, marker="D", color=INK, ms=6, ls="", label="Zou 2024, k = 0")
    ax.set(ylim=(97.9, 99.75), xlim=(0.8, STEPS + 0.2), xticks=range(1, STEPS + 1))
    ax.legend(loc="lower right", fontsize=SMALL, labelcolor=INK, handlelength=1.6, edgecolor="none", framealpha=1)


def main() -> None:
    card = json.loads((ZOO / f"{SHOWN}.json").read_text())
    figure = new_figure(3.7, 11.5)
    left, middle, right = figure.subfigures(1, 3, width_ratios=[1.05, 1, 1], wspace=0.04)
    flow(left.subplots(), card["exactness"]["counts compared"])
    spikes(middle)
    accuracy(right.subplots())
    target = ROOT / "docs" / "overview.png"
    target.parent.mkdir(exist_ok=True)
    save_png(figure, target)
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
