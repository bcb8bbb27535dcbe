"""Run one graph on two backends and name the first difference."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lava_conv.backends import BACKENDS, PART, part_size, run
from lava_conv.errors import DataError
from lava_conv.memory import check_memory, record_bytes
from lava_conv.network.graph import Graph
from lava_conv.network.reference import check_images
from lava_conv.progress import Progress, within
from lava_conv.record import Record

REFERENCE = "reference"
SETTLED = (REFERENCE, "sdnn", "loihi2")  # whose records hold no spikes


@dataclass(frozen=True)
class Comparison:
    """The outcome of a comparison; as text it is one sentence.

    Fields:
        first: what the first record is called.
        second: what the second one is called.
        values: how many values were compared.
        difference: layer, sample, step and neuron of the first value that differs, with both values; None: all equal.
        records: both, in this order; of `compare_parts` those of the last part.
    """

    first: str
    second: str
    values: int
    difference: str | None
    records: tuple[Record, Record]

    @property
    def equal(self) -> bool:
        """Whether no value differs."""
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
    progress: Progress | None = None,
) -> Comparison:
    """Run `graph` on two backends and compare every spike, count and logit, layer by layer and step by step.

    Args:
        graph: the network.
        images: uint8 (N, C, H, W).
        steps: time steps a sample, default graph.steps.
        first: a backend, or "reference": the settled counts of the quantised ANN, with which "sdnn" is to be compared.
        second: another one.
        progress: called with the images finished, counted once for each of the two, and their total.

    Returns:
        Comparison with both records whole; it does not raise where they differ.

    Raises:
        DataError: the images are not the network's, the two have different numbers of steps, or both records are larger
            than the free memory: then use `compare_parts`.
        RangeError: a state could leave 24 bits within so many steps.
        BackendError: a backend is unknown, not installed, or failed.
    """
    images = check_images(graph, images)
    kept = [record_bytes(graph, len(images), steps or graph.steps, name not in SETTLED) for name in (first, second)]
    check_memory(sum(kept), f"both records of {len(images):,} images", "use compare_parts, or fewer images")
    return _compare(graph, images, slice(None), steps, first, second, progress)


def compare_parts(
    graph: Graph,
    images: NDArray[np.uint8],
    steps: int | None = None,
    first: str = "torch",
    second: str = "lava",
    progress: Progress | None = None,
    size: int | None = None,
) -> Iterator[Comparison]:
    """As `compare`, part by part: the memory does not grow with the number of images. It ends at the first difference.

    Args:
        graph: the network.
        images: uint8 (N, C, H, W).
        steps: time steps a sample, default graph.steps.
        first: as `compare` takes it.
        second: as `compare` takes it.
        progress: called with the images finished, counted once for each of the two, and their total.
        size: images of a part, default: by the size of their records. Each part starts Lava's processes anew.

    Yields:
        Comparison of all images so far, after each part; `records` are of this part.

    Raises:
        As `compare` does.
    """
    images, values = check_images(graph, images), 0
    sizes = [part_size(graph, steps, name, name not in SETTLED) for name in (first, second) if name in BACKENDS]
    size = size or min(sizes, default=PART)
    for start in range(0, len(images), size):
        found = _compare(graph, images, slice(start, start + size), steps, first, second, progress)
        values += found.values
        yield replace(found, values=values)
        if not found.equal:
            return


def _compare(
    graph: Graph, images: NDArray[np.uint8], part: slice, steps: int | None, first: str, second: str,
    progress: Progress | None,
) -> Comparison:  # fmt: skip
    """Compare a part of the images; progress counts all of them, on both."""
    some, start = images[part], part.start or 0
    a = _record(graph, some, steps, first, within(progress, 2 * start, 2 * len(images)))
    b = _record(graph, some, steps, second, within(progress, 2 * start + len(some), 2 * len(images)))
    return compare_records(a, b, first, second, start)


def _record(
    graph: Graph, images: NDArray[np.uint8], steps: int | None, backend: str, progress: Progress | None
) -> Record:
    if backend == REFERENCE:
        return graph.reference(images, progress)
    return run(graph, images, steps, backend, record_spikes=backend not in SETTLED, progress=progress)


def compare_records(a: Record, b: Record, first: str = "first", second: str = "second", start: int = 0) -> Comparison:
    """Compare two records of the same graph, images and steps: spikes where both have them, else counts, and logits.

    Args:
        a: a record.
        b: the other one.
        first: what to call `a`.
        second: what to call `b`.
        start: number of their first sample, for the sentence.

    Raises:
        DataError: they have different numbers of steps.
    """
    if a.steps != b.steps:
        raise DataError(
            f"{first} has {a.steps} steps and {second} {b.steps}, so that they cannot be compared step by step; "
            f"compare what settles at once with {REFERENCE!r}"
        )
    pairs: list[tuple[str, NDArray[np.integer], NDArray[np.integer], str]] = []
    if a.has_spikes and b.has_spikes:
        both = sorted(a.spikes.keys() & b.spikes.keys())
        pairs = [(f"layer {i}", a.spikes[i], b.spikes[i], "sends") for i in both]
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
                f"{place}, sample {start + sample}, step {step}, neuron {tuple(neuron)} {verb} {int(x[at])} in {first} "
                f"and {int(y[at])} in {second} ({int((x != y).sum())} of {x.size} values of this layer differ)"
            )
    return Comparison(first, second, values, difference, (a, b))
