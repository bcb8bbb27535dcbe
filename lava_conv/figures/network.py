"""The network itself: a box a layer, from the image down to the readout, with skips at the side."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from lava_conv.arguments import graph_of
from lava_conv.figures.style import BLUE, GREEN, GREY, INK, MUTED, ORANGE, PURPLE, SMALL, WIDTH, bare, new_figure
from lava_conv.network.graph import Graph, Layer, Skip

COLOURS = {"input": GREY, "conv": BLUE, "dense": PURPLE, "flatten": GREY}
READOUT = GREEN
HEIGHT = {"input": 0.26, "flatten": 0.26}
BOX, SPACE = 0.42, 0.17  # inches
LANE = 0.11


def network(graph: Graph) -> Figure:
    """Layers with their kernels, shapes, neurons and number of weights; arrows are what a layer reads, those at the
    right side reach over other layers (skips and branches)."""
    heights = [HEIGHT.get(layer.kind, BOX) for layer in graph_of(graph).layers]
    tops = np.cumsum([0.0, *(h + SPACE for h in heights[:-1])])
    far = _far_feeds(graph)
    lanes = _lanes([(source, index) for source, index, _ in far])
    side = 0.1 + LANE * (max(lanes, default=-1) + 2)
    total = float(tops[-1] + heights[-1])
    figure = new_figure(total + 0.2)
    figure.set_layout_engine("none")
    ax = bare(figure.add_axes((0, 0, 1, 1)))
    ax.set_xlim(0, WIDTH)
    ax.set_ylim(total + 0.1, -0.1)
    left, right = 0.06, WIDTH - side
    for index, layer in enumerate(graph.layers):
        _box(ax, index, layer, left, right, tops[index], heights[index], index == len(graph.layers) - 1)
        if index and graph.source(index) == index - 1:
            _arrow(ax, (left + right) / 2, tops[index] - SPACE, (left + right) / 2, tops[index])
    for (source, index, feed), lane in zip(far, lanes, strict=True):
        _bridge(
            ax, right, right + LANE * (lane + 1), tops[source] + 0.6 * heights[source],
            tops[index] + 0.4 * heights[index], feed is not None and feed.synapse.kernel is not None,
        )  # fmt: skip
    return figure


def _far_feeds(graph: Graph) -> list[tuple[int, int, Skip | None]]:
    """(source, layer, feed) of everything that a layer reads beside the layer right before it."""
    found: list[tuple[int, int, Skip | None]] = []
    for index, layer in enumerate(graph.layers[1:], 1):
        if graph.source(index) != index - 1:
            found.append((graph.source(index), index, None))
        found += [(skip.source, index, skip) for skip in layer.skips]
    return found


def _lanes(spans: list[tuple[int, int]]) -> list[int]:
    """For each (first, last) the lowest lane in which it touches no other."""
    ends: list[list[tuple[int, int]]] = []
    lanes = []
    for first, last in spans:
        free = (n for n, taken in enumerate(ends) if all(last <= a or first >= b for a, b in taken))
        lane = next(free, len(ends))
        if lane == len(ends):
            ends.append([])
        ends[lane].append((first, last))
        lanes.append(lane)
    return lanes


def _words(layer: Layer) -> str:
    return layer.synapse.label if layer.synapse else layer.kind


def _box(
    ax: Axes, index: int, layer: Layer, left: float, right: float, top: float, height: float, last: bool
) -> None:  # fmt: skip
    colour = READOUT if last else COLOURS[layer.kind]
    shape = "boxstyle=round,pad=0,rounding_size=0.06"
    patch = FancyBboxPatch((left, top), right - left, height, shape.partition("=")[2], linewidth=1.1)
    patch.set(facecolor=(*_rgb(colour), 0.13), edgecolor=colour)
    ax.add_patch(patch)
    one_line = height < BOX
    first = top + (0.5 if one_line else 0.3) * height
    text = {"va": "center", "fontsize": SMALL, "parse_math": False}
    ax.text(left + 0.08, first, f"{index}", color=MUTED, **text)
    ax.text(left + 0.34, first, _words(layer), color=INK, fontweight="normal" if one_line else "bold", **text)
    ax.text(right - 0.08, first, "×".join(map(str, layer.shape)), color=INK, ha="right", **text)
    if layer.synapse is not None:
        second = top + 0.71 * height
        ax.text(left + 0.34, second, layer.neuron, color=INK, **text)
        ax.text(right - 0.08, second, f"{layer.synapse.weight.size:,} weights", color=MUTED, ha="right", **text)


def _rgb(colour: str) -> tuple[float, float, float]:
    return int(colour[1:3], 16) / 255, int(colour[3:5], 16) / 255, int(colour[5:7], 16) / 255


def _arrow(ax: Axes, x0: float, y0: float, x1: float, y1: float, colour: str = MUTED) -> None:
    style = {"arrowstyle": "-|>,head_length=0.25,head_width=0.13", "color": colour, "linewidth": 1.1}
    ax.annotate("", (x1, y1), (x0, y0), arrowprops={**style, "shrinkA": 0, "shrinkB": 0})


def _bridge(ax: Axes, edge: float, lane: float, start: float, end: float, weighted: bool) -> None:
    """From the right edge of one box, down its lane, into the right edge of another; dashed if it has weights."""
    line = (0, (3, 1.5)) if weighted else "-"
    ax.plot([edge, lane, lane], [start, start, end], color=ORANGE, linewidth=1.1, linestyle=line)
    _arrow(ax, lane, end, edge, end, ORANGE)
