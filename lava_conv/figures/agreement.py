"""Activations of an ANN against the spike counts of the network, layer by layer, the worst one named."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lava_conv.errors import DataError
from lava_conv.figures.style import BLUE, INK, MUTED, SMALL, bare, dress, fading, new_figure

BINS = 48  # of an axis, where counts are too many to have one each
PANELS, COLUMNS = 12, 3
HALF = 0.5
Numbers: TypeAlias = NDArray[np.int64] | NDArray[np.float64]


class Agreement(NamedTuple):
    """Of one layer: how many of its `values` are not what the ANN says (by more than half a count), and the error's
    power over the activation's power."""

    layer: int
    differ: int
    values: int
    error: float


def agreement(ann: Mapping[int, Numbers], snn: Mapping[int, Numbers]) -> list[Agreement]:
    """How far counts (layer index -> (N, ...)) are from activations in counts of the same layers, the worst first.

    Raises:
        DataError: a layer has another shape on one side.
    """
    rows = []
    for index in sorted(set(ann) & set(snn)):
        x, y = np.asarray(ann[index], np.float64), np.asarray(snn[index], np.float64)
        if x.shape != y.shape:
            raise DataError(f"layer {index}: the activations have shape {x.shape}, the spike counts {y.shape}")
        error, power = float(((y - x) ** 2).sum()), float((x**2).sum())
        rows.append(Agreement(index, int((np.abs(y - x) > HALF).sum()), x.size, error / power if power else error))
    return sorted(rows, key=lambda row: (-row.error, row.layer))


def agreement_by_layer(ann: Mapping[int, Numbers], snn: Mapping[int, Numbers], name: str = "reference count") -> Figure:
    """A panel a layer: the ANN's activation in counts from left to right, the network's count upwards, darker where
    more neurons are; on the diagonal both are equal.

    Of a network with more than PANELS layers the worst are shown.

    Args:
        ann: layer index -> (N, ...), activations in counts, for instance `graph.reference(x).counts`.
        snn: layer index -> (N, ...), spike counts, for instance `record.counts`.
        name: what the ANN's values are called.

    Raises:
        DataError: the two have no layer in common, or a layer of another shape.
    """
    ranked = agreement(ann, snn)
    if not ranked:
        raise DataError("no layer has both activations and spike counts; pass the counts of the same graph's layers")
    worst = ranked[0] if ranked[0].error > 0 else None
    shown = sorted(ranked[:PANELS])
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(0.6 + 1.62 * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    for ax in panels.flat[len(shown) :]:
        bare(ax)
    for ax, row in zip(panels.flat, shown, strict=False):
        x, y = (np.asarray(values[row.layer], np.float64).ravel() for values in (ann, snn))
        _panel(ax, row, x, y, row is worst)
    figure.supxlabel(name, color=INK, fontsize=SMALL)
    figure.supylabel("spike count", color=INK, fontsize=SMALL)
    figure.suptitle(
        "every count is equal" if worst is None else f"worst: layer {worst.layer}, error {100 * worst.error:.2g} %",
        color=INK, fontsize=SMALL, x=0.02, ha="left",
    )  # fmt: skip
    return figure


def _panel(ax: Axes, row: Agreement, x: NDArray[np.float64], y: NDArray[np.float64], worst: bool) -> None:
    low, high = float(min(x.min(), y.min(), 0)), float(max(x.max(), y.max(), 1))
    stride = max(1, -(-int(high - low + 1) // BINS))
    edges = np.arange(np.floor(low) - HALF, high + stride + HALF, stride)
    bins: Any = [edges, edges]  # the stubs know whole numbers only
    found, _, _ = np.histogram2d(x, y, bins=bins)
    dress(ax, f"{row.layer}: {100 * row.differ / row.values:.2g} % differ" if row.differ else f"{row.layer}: equal")
    ax.title.set_fontsize(SMALL)
    if worst:
        ax.title.set_fontweight("bold")
    shade = np.log1p(found.T) / np.log1p(found.max())
    box = (edges[0], edges[-1], edges[0], edges[-1])
    ax.imshow(
        np.where(shade > 0, 0.25 + 0.75 * shade, 0), cmap=fading(BLUE), vmin=0, vmax=1, origin="lower", extent=box,
        aspect="auto", interpolation="nearest",
    )  # fmt: skip
    ax.plot(box[:2], box[2:], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    ticks = sorted({int(np.ceil(low)), 0, int(high)})
    ax.set_xticks(ticks)
    ax.set_yticks(ticks)
