"""Spikes: every one of a sample, and how many a layer sends in each step."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from lava_conv.analysis.activity import Activity, LayerActivity
from lava_conv.arguments import graph_of, record_of
from lava_conv.errors import DataError
from lava_conv.figures.style import (
    GRID,
    MUTED,
    NEGATIVE,
    POSITIVE,
    SMALL,
    dress,
    legend,
    new_figure,
    step_ticks,
)
from lava_conv.network.graph import Graph
from lava_conv.record import Record

ROWS = 320  # neurons that a raster shows in all; more cannot be told apart
GAP = 6  # rows between layers
SHOWN_LAYERS = 24  # of a raster; of deeper networks as many are shown, evenly spread


def raster(graph: Graph, record: Record, sample: int = 0) -> Figure:
    """Every spike of one sample: time from left to right, a row a neuron, layers from top to bottom.

    Of a layer with more neurons than there is room for, those that spike are shown, evenly picked.

    Raises:
        DataError: the record holds no spikes, or no such sample.
    """
    graph_of(graph)
    if not record_of(record).has_spikes or not 0 <= sample < record.logits.shape[1]:
        raise DataError(f"a raster needs a record with spikes that has a sample {sample}; run with record_spikes=True")
    indices = sorted(record.spikes)
    if len(indices) > SHOWN_LAYERS:
        indices = [indices[i] for i in np.linspace(0, len(indices) - 1, SHOWN_LAYERS).astype(int)]
    room = max(8, ROWS // len(indices))
    figure = new_figure(min(7.5, 1.5 + 0.55 * len(indices)))
    ax = dress(figure.subplots(), x="time step", y="layer")
    top, ticks, names, marks = 0, [], [], {1: [], -1: []}
    for index in indices:
        spikes = record.spikes[index][:, sample].reshape(record.steps, -1)
        shown = spikes[:, _picked(spikes, room)]
        for sign, found in marks.items():
            time, row = np.nonzero(shown == sign)
            found.append(np.stack([time + 1.0, top + row], 1))
        ticks.append(top + shown.shape[1] / 2)
        names.append(f"{index}\n{graph.layers[index].kind}" if len(indices) <= 8 else str(index))
        top += shown.shape[1] + GAP
        ax.axhline(top - GAP / 2, color=GRID, linewidth=0.8)
    for sign, colour, word in ((1, POSITIVE, "positive"), (-1, NEGATIVE, "negative")):
        at = np.concatenate(marks[sign])
        ax.add_patch(_ticks(at, colour, min(5.0, 120 / record.steps)))
        ax.plot([], [], "s", color=colour, markersize=6, label=f"{word} ({len(at):,} shown)")
    ax.set_xlim(0.5, record.steps + 0.5)
    ax.set_ylim(top, -GAP)
    ax.set_yticks(ticks, names)
    ax.tick_params(axis="y", length=0)
    step_ticks(ax, record.steps)
    legend(ax, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, columnspacing=1.0)
    return figure


def _picked(spikes: NDArray[np.int8], room: int) -> NDArray[np.int64]:
    """Columns of (steps, n): all if there is room, else of those that spike, evenly picked."""
    if spikes.shape[1] <= room:
        return np.arange(spikes.shape[1])
    busy = np.flatnonzero(spikes.any(0))
    pool = busy if len(busy) >= room else np.arange(spikes.shape[1])
    return pool[np.linspace(0, len(pool) - 1, room).astype(int)]


def _ticks(at: NDArray[np.float64], colour: str, width: float) -> PathPatch:
    """One short upright stroke for each (time, row); a single path, because thousands of marks make a heavy file."""
    ends = np.repeat(at, 2, 0)
    ends[0::2, 1] -= 0.1
    ends[1::2, 1] += 1.1
    codes = np.tile([Path.MOVETO, Path.LINETO], len(at))
    path = Path(ends, codes) if len(at) else Path([(0, 0)])
    return PathPatch(path, facecolor="none", edgecolor=colour, linewidth=width, capstyle="butt")


def activity_by_step(graph: Graph, activity: Activity) -> Figure:
    """Spikes a neuron sends in each step, on average: upwards the positive, downwards the negative ones.

    All layers share one scale.
    """
    layers = [layer for layer in activity.layers if graph.neuron(layer.index).spiking]
    rates = np.array([[layer.positive_by_step, layer.negative_by_step] for layer in layers])
    rates = rates / np.array([layer.neurons for layer in layers])[:, None, None]
    largest = float(rates.max()) or 1.0
    spread = float(rates[:, 0].max() + rates[:, 1].max()) / largest or 1.0
    row = float(np.clip(11 / len(layers), 0.24, 0.62))
    figure = new_figure(1.1 + row * len(layers))
    ax = dress(figure.subplots(), x="time step", y="layer")
    steps = np.arange(1, activity.steps + 1)
    base = []
    for number, (up, down) in enumerate(rates):
        zero = number * spread * 1.25
        base.append(zero)
        ax.axhline(zero, color=GRID, linewidth=0.8, zorder=0)
        for values, sign, colour, word in ((up, -1, POSITIVE, "positive"), (down, 1, NEGATIVE, "negative")):
            label = f"{word}, up to {float(rates[:, 0 if sign < 0 else 1].max()):.2f}" if number == 0 else None
            ax.bar(steps, sign * values / largest, bottom=zero, width=0.8, color=colour, label=label)
    ax.set_yticks(base, [str(layer.index) for layer in layers])
    ax.set_ylim(base[-1] + spread * 0.5, base[0] - 1.15)
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(0.4, activity.steps + 0.6)
    step_ticks(ax, activity.steps)
    _totals(ax, layers, base)
    legend(ax, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, columnspacing=1.0)
    return figure


def _totals(ax: Axes, layers: list[LayerActivity], base: list[float]) -> None:
    """At the right edge, the spikes a neuron sends in a whole sample."""
    for layer, zero in zip(layers, base, strict=True):
        total = (layer.positive + layer.negative) / layer.neurons
        ax.annotate(
            f"{total:.2f}", (1.01, zero), xycoords=("axes fraction", "data"), color=MUTED, fontsize=SMALL, va="center"
        )
