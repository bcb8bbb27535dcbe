"""Runs a network on a data set, in parts that fit the memory, and keeps what the report tells about it."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lava_conv.analysis.activity import Activity, Meter
from lava_conv.analysis.ledger import Ledger, Unlike, build_ledger, unlike_counts, unlike_values
from lava_conv.analysis.settling import LOOKED, run_on
from lava_conv.arguments import whole
from lava_conv.backends import run, run_parts
from lava_conv.classes import check_labels
from lava_conv.errors import DataError
from lava_conv.loihi.cost import Cost, cost
from lava_conv.loihi.fitting import Fit, fit
from lava_conv.network.graph import Graph
from lava_conv.network.reference import check_images
from lava_conv.progress import Progress
from lava_conv.record import Record, differing_counts

PART_SPIKES = 1 << 26  # spikes of all layers held at once (64 MiB)
PART = 128  # images a part at most, so that the bar moves
CHIPS = ("loihi1", "loihi2")
COST_SAMPLES = 100
LAVA_SAMPLES = 100  # a stream of Lava's is much slower than the simulator


class Source(NamedTuple):
    """The model that the network was made of.

    Fields:
        name: what to call it.
        predictions: (uint8 images (N, C, H, W), progress) -> int64 (N,).
        activations: (images, counts of the network) -> layer index -> activation in counts.
    """

    name: str
    predictions: Callable[[NDArray[np.uint8], Progress], NDArray[np.int64]]
    activations: Callable[[NDArray[np.uint8], Mapping[int, NDArray[np.int64]]], dict[int, NDArray[np.float64]]]


@dataclass(frozen=True)
class Findings:
    """Everything that the sections show.

    Fields:
        name: of the file.
        data: of the data set.
        graph: the network.
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        record: of all images, logits only.
        reference: of all images, logits only.
        ledger: of all images.
        activity: of all images.
        first: record of the first images, with counts and spikes.
        first_reference: reference of the first images, with counts.
        sample: number of the image whose spikes are shown.
        shown: its record, with spikes.
        model_name: name of the model that the network was made of, "" where it was not given.
        model: its predictions, int64 (N,).
        activations: its activations on the first images, in counts.
        lava: record of the stream through Lava, logits only, if asked for.
        fits: on each chip of CHIPS.
        cost: what the first images cost on the first of them.
    """

    name: str
    data: str
    graph: Graph
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    record: Record
    reference: Record
    ledger: Ledger
    activity: Activity
    first: Record
    first_reference: Record
    sample: int
    shown: Record
    model_name: str = ""
    model: NDArray[np.int64] | None = None
    activations: Mapping[int, NDArray[np.float64]] | None = None
    lava: Record | None = None
    fits: tuple[Fit, ...] = ()
    cost: Cost | None = None


class Advance(Progress, Protocol):
    """Moves a bar."""

    def show(self, figures: str) -> None:
        """Set what stands beside the bar."""
        ...


Bar = Callable[[str, int], AbstractContextManager[Advance]]


class _Unseen:
    def __call__(self, done: int, total: int) -> None:
        pass

    def show(self, figures: str) -> None:
        pass


@contextlib.contextmanager
def _no_bar(text: str, total: int) -> Iterator[Advance]:
    yield _Unseen()


def collect(
    name: str,
    data: str,
    graph: Graph,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    steps: int | None = None,
    sample: int = 0,
    source: Source | None = None,
    lava: bool = False,
    bar: Bar = _no_bar,
) -> Findings:
    """Run simulator and reference on all images, Lava on the first ones if asked for, and the model if there is one.

    Args:
        name: what to call the network.
        data: what to call the data set.
        graph: the network.
        images: uint8 (N, C, H, W).
        labels: (N,), see `lava_conv.classes.check_labels`.
        steps: time steps a sample, default the graph's.
        sample: number of the image whose spikes are shown.
        source: the model that the network was made of, None: not given.
        lava: whether the first LAVA_SAMPLES images are streamed through Lava too.
        bar: (text, total) -> a context that gives what to call with the images done and their total.

    Raises:
        DataError: no such sample, or labels that the network has no class for.
        BackendError: Lava, if asked for, is not installed or failed.
    """
    images = check_images(graph, images)
    steps = graph.steps if steps is None else whole(steps, "steps")
    if not 0 <= sample < len(images):
        raise DataError(f"sample is {sample}, allowed is 0..{len(images) - 1}")
    labels = check_labels(labels, len(images), graph.classes)
    spikes = sum(int(np.prod(layer.shape)) for layer in graph.layers) * steps
    size = max(1, min(PART, PART_SPIKES // spikes))
    meter, parts, unlike, odd, right = Meter(graph, steps), [], Unlike(), [], 0
    first: tuple[Record, Record] | None = None
    with bar("simulator and reference", len(images)) as advance:
        for start in range(0, len(images), size):
            part = images[start : start + size]
            record, reference = run(graph, part, steps, record_spikes=True), graph.reference(part)
            meter.add(record)
            unlike = unlike.plus(unlike_counts([(reference, record)]))
            odd += (start + np.flatnonzero(differing_counts(reference, record))[: LOOKED - len(odd)]).tolist()
            parts.append((reference.logits, record.logits))
            first = first or (reference, record)
            right += int((record.predictions[-1] == labels[start : start + size]).sum())
            done = start + len(part)
            advance.show(f"{100 * right / done:.2f} % right after step {steps}")
            advance(done, len(images))
    assert first is not None
    settled, stepped = (np.concatenate(p, axis=1) for p in zip(*parts, strict=True))
    reference, record = Record(settled, {}), Record(stepped, {}, backend=first[1].backend)
    meaning = ""
    if odd:
        with bar("running on until settled", len(odd)) as advance:
            meaning = str(run_on(graph, images[odd], steps, odd))
            advance(len(odd), len(odd))
    streamed = values = None
    if lava:
        some = images[:LAVA_SAMPLES]
        with bar("streaming through Lava", len(some)) as advance:
            streamed, values = _streamed(graph, some, steps, advance)
    said = activations = None
    if source is not None:
        with bar(source.name, len(images)) as advance:
            said = source.predictions(images, advance)
        activations = source.activations(images[: len(first[1].logits[0])], first[1].counts)
    fits = tuple(fit(graph, chip, steps) for chip in CHIPS)
    model_name = "" if source is None else source.name
    ledger = build_ledger(labels, reference, record, said, streamed, unlike, model_name, meaning, values)
    some = images[:COST_SAMPLES]
    with bar(f"cost on {CHIPS[0]}", len(some)) as advance:
        spent = cost(graph, some, fits[0], progress=advance)
    shown = run(graph, images[sample : sample + 1], steps, record_spikes=True)
    return Findings(
        name, data, graph, images, labels, record, reference, ledger, meter.result(), first[1], first[0], sample,
        shown, model_name, said, activations, streamed, fits, spent,
    )  # fmt: skip


def _streamed(graph: Graph, images: NDArray[np.uint8], steps: int, advance: Progress) -> tuple[Record, Unlike]:
    """Lava's record, without counts and spikes, and how many of its values are unlike the simulator's."""
    logits, unlike, name = [], Unlike(), ""
    for part, record in run_parts(graph, images, steps, "lava", record_spikes=True, progress=advance):
        unlike = unlike.plus(unlike_values(run(graph, images[part], steps, record_spikes=True), record))
        logits.append(record.logits)
        name = record.backend
    return Record(np.concatenate(logits, axis=1), {}, backend=name), unlike
