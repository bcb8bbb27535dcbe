"""Accuracy against synaptic operations, step by step: which network to run for how long."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from lava_conv.figures.style import BLUE, GREEN, GREY, INK, MUTED, ORANGE, PURPLE, SMALL, dress, legend, new_figure

COLOURS = (BLUE, GREEN, ORANGE, PURPLE, GREY)
MARKERS = "os^Dv"  # another one each time that the colours are used up


class Tradeoff(NamedTuple):
    """What a network reaches after each step, and what it has cost until then.

    Fields:
        name: as the legend calls it.
        accuracy: after step 1, 2 and so on, 0..1.
        operations: synaptic operations an image until then.
    """

    name: str
    accuracy: Sequence[float]
    operations: Sequence[float]


class Published(NamedTuple):
    """A point of a paper: accuracy 0..1, synaptic operations an image, and what it is."""

    name: str
    accuracy: float
    operations: float


def best_of(curves: Sequence[Tradeoff]) -> list[tuple[float, float]]:
    """(operations, accuracy) of all points that no other one beats in both, by rising operations."""
    points = sorted((o, -a) for curve in curves for o, a in zip(curve.operations, curve.accuracy, strict=True))
    front: list[tuple[float, float]] = []
    for operations, lost in points:
        if not front or -lost > front[-1][1]:
            front.append((operations, -lost))
    return front


def accuracy_by_operations(curves: Sequence[Tradeoff], published: Sequence[Published] = (), least: float = 0) -> Figure:
    """A curve for each network, a mark for each step with its number, and the points of papers.

    Args:
        curves: the networks.
        published: points of papers.
        least: accuracy at which the axis begins, 0..1.
    """
    figure = new_figure(3.6)
    ax = dress(figure.subplots(), x="synaptic operations an image", y="accuracy, %", grid="both")
    ax.set_xscale("log")
    front = np.array([point for point in best_of(curves) if point[1] >= least]).reshape(-1, 2)
    ax.plot(front[:, 0], 100 * front[:, 1], color=MUTED, linewidth=7, alpha=0.18, solid_joinstyle="round")
    for number, curve in enumerate(curves):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number // len(COLOURS) % len(MARKERS)]
        shown = [t for t, a in enumerate(curve.accuracy) if a >= least]
        operations, accuracy = [curve.operations[t] for t in shown], [100 * curve.accuracy[t] for t in shown]
        ax.plot(operations, accuracy, color=colour, linewidth=1.6, marker=marker, markersize=3.5, label=curve.name)
        before = 0.0
        for t, x, y in zip(shown, operations, accuracy, strict=True):
            if x > 1.02 * before:  # else the letters would lie upon each other
                before = x
                ax.annotate(str(t + 1), (x, y), (2, 3), textcoords="offset points", color=colour, fontsize=SMALL - 2)
    for point in published:
        ax.plot(point.operations, 100 * point.accuracy, color=INK, marker="*", markersize=9, linestyle="none")
        ax.annotate(
            point.name, (point.operations, 100 * point.accuracy), (0, -11), textcoords="offset points", ha="center",
            color=INK, fontsize=SMALL - 1,
        )  # fmt: skip
    legend(ax, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=3)
    return figure
