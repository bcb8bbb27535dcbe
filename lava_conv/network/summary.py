"""A Graph as a table of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lava_conv.network.bounds import bounds as layer_bounds
from lava_conv.network.fixedpoint import STATE_BITS
from lava_conv.network.neurons import NEURONS

if TYPE_CHECKING:
    from lava_conv.network.graph import Graph


def summary(graph: Graph) -> str:
    """A table of the layers as text: shape, neuron, weights, fan-in, sources, and the proven bounds of the largest
    |v| and count for the default steps."""
    bounds = layer_bounds(graph)
    rows: list[tuple[str, ...]] = [
        ("layer", "type", "shape", "neuron", "weights", "fan-in", "from", "max |v|", "max count")
    ]
    for index, layer in enumerate(graph.layers):
        row = [str(index), layer.kind, "x".join(map(str, layer.shape)), layer.neuron or "-"]
        if layer.synapse is None:
            row += ["-"] * 5
        else:
            b = bounds[index]
            size = int(max(np.abs(b.v_min).max(), np.abs(b.v_max).max()))
            sources = ",".join(str(s.source) for s in graph.inputs(index))
            row += [f"{layer.synapse.weights:,}", str(layer.synapse.fan_in), sources, f"{size:,}"]
            row += [str(int(b.count_max.max())) if NEURONS[layer.neuron].spiking else "-"]
        rows.append(tuple(row))
    head = f"{len(graph.layers)} layers, {graph.steps} steps, input {graph.input_code}, {STATE_BITS}-bit state"
    return f"{head}\n{aligned(rows)}"


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of cells as text, in columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    cells = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join("  ".join(row).rstrip() for row in cells)
