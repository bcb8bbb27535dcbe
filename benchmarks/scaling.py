#!/usr/bin/env python
"""How the simulator's time grows: python benchmarks/scaling.py [--picture scaling.png]

Against time steps, batch, spikes and width, one at a time, on random VGG-11 networks of the dynamic-threshold neuron.
Printed are medians of microseconds an image and the ratio to the first row of each block; with --picture the same as a
figure (needs matplotlib).
"""

import argparse
from typing import Any

from common import images, machine, network, side_by_side, spikes_a_neuron

import lava_conv as lc

WIDTH = 48  # of the first layer, half of the paper's, so that the whole sweep takes a minute or two


def sweep(rounds: int) -> dict[str, list[tuple[str, float, float]]]:
    """Block -> rows (setting, its number, microseconds an image)."""
    pixels = images("vgg11", 256)
    base = network("vgg11", width=WIDTH)

    def timed(jobs: dict[str, tuple[lc.Graph, int, int]]) -> dict[str, float]:
        actions: Any = {
            key: lambda g=graph, t=steps, n=count: lc.run(g, pixels[:n], t)
            for key, (graph, steps, count) in jobs.items()
        }
        return {key: 1e6 * taken / jobs[key][2] for key, taken in side_by_side(actions, rounds).items()}

    found: dict[str, list[tuple[str, float, float]]] = {}
    steps = {str(t): (base, t, 128) for t in (1, 2, 4, 8, 16, 32)}
    found["time steps T (128 images)"] = [(key, float(key), t) for key, t in timed(steps).items()]
    batch = {str(n): (base, 8, n) for n in (1, 4, 16, 64, 256)}
    found["images at once (T = 8)"] = [(key, float(key), t) for key, t in timed(batch).items()]
    levels = {f"{bias:+.1f}": network("vgg11", bias=bias, width=WIDTH) for bias in (-1.0, -0.6, -0.3, 0.1, 0.6)}
    sent = {key: spikes_a_neuron(graph, "vgg11") for key, graph in levels.items()}
    taken = timed({key: (graph, 8, 256) for key, graph in levels.items()})
    found["spikes a neuron (T = 8, 256 images)"] = [(f"{sent[key]:.2f}", sent[key], t) for key, t in taken.items()]
    widths = {str(w): (network("vgg11", width=w), 8, 128) for w in (12, 24, 48, 96)}
    found["channels of the first layer (T = 8, 128 images)"] = [(k, float(k), t) for k, t in timed(widths).items()]
    return found


def draw(found: dict[str, list[tuple[str, float, float]]], path: str) -> None:
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(1, len(found), figsize=(3.2 * len(found), 3), layout="constrained")
    for axis, (title, rows) in zip(axes, found.items(), strict=True):
        axis.loglog([number for _, number, _ in rows], [taken for _, _, taken in rows], "o-")
        axis.minorticks_off()
        axis.set_xticks([number for _, number, _ in rows], [setting for setting, _, _ in rows])
        axis.yaxis.set_major_formatter("{x:,.0f}")
        axis.yaxis.set_major_locator(ticker.LogLocator(10, (1, 2, 5)))
        axis.set_xlabel(title, fontsize=8)
        axis.grid(True, alpha=0.3)
    axes[0].set_ylabel("microseconds an image")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--picture", help="file to draw into")
    options = parser.parse_args()
    print(machine())
    found = sweep(options.rounds)
    for title, rows in found.items():
        print(f"\n{title}")
        for setting, _, taken in rows:
            print(f"{setting:>8}{taken:12,.0f} us an image{taken / rows[0][2]:8.2f}")
    if options.picture:
        draw(found, options.picture)


if __name__ == "__main__":
    main()
