"""Accuracy against time steps, and the step from which nothing changes any more."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lava_conv.analysis.early_exit import decided_after
from lava_conv.arguments import record_of
from lava_conv.figures.style import BLUE, GREEN, INK, MUTED, SMALL, dress, legend, new_figure, step_ticks
from lava_conv.record import Record


def accuracy_by_step(record: Record, labels: NDArray[np.integer], reference: Record | None = None) -> Figure:
    """Accuracy after each step; the settle point is the first step from which no prediction changes until the end.

    Args:
        record: of a run of N images.
        labels: int64 (N,).
        reference: of `graph.reference`, for its accuracy and the share of predictions that equal its.
    """
    steps = np.arange(1, record_of(record).steps + 1)
    accuracy = 100 * record.accuracy(labels)
    figure = new_figure(3.1)
    ax = dress(figure.subplots(), x="time steps T", y="%", grid="y")
    low = float(accuracy.min())
    if reference is not None:
        settled = 100 * float(reference.accuracy(labels)[0])
        same = 100 * (record.predictions == reference.predictions[0]).mean(axis=1)
        low = min(low, settled, float(same.min()))
        ax.plot(steps, same, color=GREEN, linewidth=5, alpha=0.4, label="predictions as the reference's")
        ax.axhline(settled, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label=f"reference, {settled:.2f} %")
    ax.plot(steps, accuracy, color=BLUE, linewidth=2, marker="o", markersize=4, label=f"accuracy, {accuracy[-1]:.2f} %")
    ax.set_ylim(max(0.0, low - 0.08 * (100 - low) - 0.2), 100 + 0.04 * (100 - low) + 0.1)
    ax.set_xlim(1 - 0.03 * record.steps, record.steps * 1.03)
    step_ticks(ax, record.steps)
    _mark_settled(ax, record)
    legend(ax, loc="lower right")
    return figure


def _mark_settled(ax: Axes, record: Record) -> None:
    last = int(decided_after(record).max())
    if last == record.steps:
        ax.set_title(f"predictions still change at T = {last}", color=INK, fontsize=SMALL, loc="left")
        return
    ax.axvline(last, color=INK, linewidth=1, linestyle=(0, (1, 2)))
    ax.set_title(f"settled after T = {last}: no prediction changes later", color=INK, fontsize=SMALL, loc="left")
