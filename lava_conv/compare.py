"""Run one graph on two backends and name the first difference."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_conv.backends import run
from lava_conv.errors import DataError
from lava_conv.graph import Graph
from lava_conv.record import Record

REFERENCE = "reference"


@dataclass(frozen=True)
class Comparison:
    """The outcome: how many values were compared, and the first one that differs (None: all are equal)."""

    first: str
    second: str
    values: int
    difference: str | None
    records: tuple[Record, Record]

    @property
    def equal(self) -> bool:
        return self.difference is None

    def __str__(self) -> str:
        if self.equal:
            return f"equal: {self.values:,} values of {self.first} and {self.second}"
        return f"different: {self.difference}"


def compare(
    graph: Graph,
    images: NDArray[np.uint8],
    steps: int | None = None,
    first: str = "torch",
    second: str = "lava",
    progress: Callable[[int], Any] | None = None,
) -> Comparison:
    """Run `graph` on two backends and compare every spike, count and logit, layer by layer and step by step.

    "reference" is taken for a backend too: its settled counts are what "sdnn" is to be compared with. `progress` is
    called with the number of images that one of the two has just finished.
    """
    a, b = (_record(graph, images, steps, backend, progress) for backend in (first, second))
    return compare_records(a, b, first, second)


def _record(graph: Graph, images: Any, steps: int | None, backend: str, progress: Any) -> Record:
    if backend == REFERENCE:
        return graph.reference(images, progress)
    return run(graph, images, steps, backend=backend, record=("spikes",), progress=progress)


def compare_records(a: Record, b: Record, first: str = "first", second: str = "second") -> Comparison:
    """Compare two records of the same graph, images and steps: spikes where both have them, else counts, and logits.

    Raises:
        DataError: they have different numbers of steps.
    """
    if a.steps != b.steps:
        raise DataError(
            f"{first} has {a.steps} steps and {second} {b.steps}, so that they cannot be compared step by step; "
            f"compare what settles at once with {REFERENCE!r}"
        )
    pairs: list[tuple[str, NDArray[Any], NDArray[Any], str]] = [
        (f"layer {i}", a.spikes[i], b.spikes[i], "sends") for i in sorted(a.spikes.keys() & b.spikes.keys())
    ]
    if not pairs:
        both = sorted(a.counts.keys() & b.counts.keys())
        pairs = [(f"layer {i}", a.counts[i][None], b.counts[i][None], "counts") for i in both]
    pairs.append(("the readout", a.logits, b.logits, "holds"))
    values, difference = 0, None
    for place, x, y, verb in pairs:
        values += x.size
        if x.shape != y.shape:
            difference = difference or f"{place} has shape {x.shape} in {first} and {y.shape} in {second}"
        elif difference is None and not np.array_equal(x, y):
            step, sample, *neuron = (int(i) for i in np.argwhere(x != y)[0])
            at = (step, sample, *neuron)
            difference = (
                f"{place}, sample {sample}, step {step}, neuron {tuple(neuron)} {verb} {int(x[at])} in {first} "
                f"and {int(y[at])} in {second} ({int((x != y).sum())} of {x.size} values of this layer differ)"
            )
    return Comparison(first, second, values, difference, (a, b))
