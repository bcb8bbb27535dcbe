"""The report's sections: each a function from the findings to pictures, tables and sentences, or to nothing.

A further section is one function more, and its place in SECTIONS.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from lava_conv import figures
from lava_conv.analysis.early_exit import decided_after
from lava_conv.classes import class_names
from lava_conv.figures.agreement import PANELS
from lava_conv.figures.predictions import THUMBNAILS, find_changes
from lava_conv.report.findings import Findings

WORST = 10  # rows of the table of layers
SAME = 1e-12  # of the power; what float64 loses when activations are divided by the value of a count


class Picture(NamedTuple):
    """slug: its name in files and links. alt: what is to be seen, for those who cannot. caption: what it means."""

    slug: str
    figure: Figure
    alt: str
    caption: str


class Table(NamedTuple):
    """Cells as they are to be printed; numbers: which columns are set flush right."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()


class Section(NamedTuple):
    """A heading and what stands below it. wide: it takes the whole width of the page."""

    slug: str
    title: str
    parts: tuple[Picture | Table | str, ...]
    wide: bool = False


def sections(found: Findings) -> list[Section]:
    """All sections that the findings have something for, in order."""
    made = (make(found) for make in SECTIONS)
    return [section for section in made if section is not None]


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _ledger(found: Findings) -> Section:
    rows = tuple(
        (s.name, f"{s.samples:,}", _percent(s.accuracy), "" if s.differ is None else f"{s.differ:,}")
        for s in found.ledger.stages
    )
    caption = (
        "Every stage on the same images. The last column counts predictions that differ from the row above, those of "
        "the simulator from the reference."
    )
    head = ("stage", "samples", "accuracy", "differ")
    checks = tuple(f"{check[0].upper()}{check[1:]}." for check in found.ledger.checks)
    return Section("ledger", "Accuracy ledger", (Table(caption, head, rows, frozenset({1, 2, 3})), *checks), wide=True)


def _accuracy(found: Findings) -> Section:
    accuracy = found.record.accuracy(found.labels)
    last = int(decided_after(found.record).max())
    settled = "Some predictions still change at the last step." if last == len(accuracy) else (
        f"After step {last} no prediction changes any more: the network has settled."
    )  # fmt: skip
    picture = Picture(
        "accuracy",
        figures.accuracy_by_step(found.record, found.labels, found.reference),
        f"Line chart: accuracy rises from {_percent(accuracy[0])} at T = 1 to {_percent(accuracy[-1])} at T = "
        f"{len(accuracy)}.",
        f"Accuracy after each time step, and the share of predictions that already equal the quantised network's. "
        f"{settled}",
    )
    return Section("accuracy", "Accuracy against time", (picture,))


def _raster(found: Findings) -> Section:
    sent = sum(int((spikes != 0).sum()) for spikes in found.shown.spikes.values())
    picture = Picture(
        "raster",
        figures.raster(found.graph, found.shown),
        f"Raster: the spikes of image {found.sample} by layer and time step, {sent:,} in all.",
        f"The spikes that image {found.sample} of the data set causes, a row a neuron, the first layer at the top. "
        f"Negative spikes take back what was sent too early; {sent:,} spikes in all.",
    )
    return Section("raster", "Spikes of one image", (picture,))


def _activity(found: Findings) -> Section:
    total = found.activity
    spiking = [layer for layer in total.layers if found.graph.neuron(layer.index).spiking]
    busiest = max(spiking, key=lambda layer: (layer.positive + layer.negative) / layer.neurons)
    picture = Picture(
        "activity",
        figures.activity_by_step(found.graph, total),
        f"Bars: positive and negative spikes a neuron sends, by layer and time step; layer {busiest.index} sends most.",
        f"Spikes a neuron sends in each step, as a mean over {total.samples:,} images; the number at the right is the "
        f"sum over the sample. A neuron sends {total.positive:.2f} positive and {total.negative:.2f} negative spikes. "
        f"Against an ANN: {total}.",
    )
    return Section("activity", "Activity by layer and step", (picture,))


def _agreement(found: Findings) -> Section:
    steps = found.record.steps
    parts: list[Picture | Table | str] = []
    reference, first = found.first_reference.counts, found.first.counts
    pairs: list[tuple[str, str, str, Any]] = [("agreement", "reference", "reference count", reference)]
    if found.activations:
        axis = f"activation of the {found.model_name}"
        if any(row.error > SAME for row in figures.agreement(found.activations, reference)):
            pairs.append(("agreement-model", found.model_name, axis, found.activations))
        else:
            parts.append(f"In counts, the activations of the {found.model_name} are exactly the reference's.")
    for slug, who, axis, ann in pairs:
        ranked = figures.agreement(ann, first)
        worst = ranked[0]
        which = f"; of {len(ranked)} layers the {PANELS} worst" if len(ranked) > PANELS else ""
        told = (
            f"Worst is layer {worst.layer}: {worst.differ:,} of {worst.values:,} counts differ, their error has "
            f"{100 * worst.error:.2g} % of the activation's power."
            if worst.error
            else "Every count is equal."
        )
        parts.append(
            Picture(
                slug,
                figures.agreement_by_layer(ann, first, axis),
                f"Scatter by layer: {axis} against spike count after {steps} steps. {told}",
                f"What each neuron counts in {steps} steps (upwards) against the {axis} (to the right), on the first "
                f"{len(found.first.logits[0])} images{which}; on the diagonal both are equal. {told}",
            )
        )
        rows = tuple((str(r.layer), f"{r.differ:,}", f"{r.values:,}", f"{100 * r.error:.3g} %") for r in ranked[:WORST])
        if worst.error:
            head = ("layer", "counts that differ", "of", "error / power")
            parts.append(Table(f"The worst layers against the {who}.", head, rows, frozenset({0, 1, 2, 3})))
    return Section("agreement", "ANN against SNN", tuple(parts))


def _confusion(found: Findings) -> Section:
    said, names = found.record.predictions[-1], class_names(found.graph.classes, found.graph.labels)
    wrong = np.flatnonzero(said != found.labels)
    told = "No image is taken for another class."
    if len(wrong):
        pairs, times = np.unique(np.stack([found.labels[wrong], said[wrong]]), axis=1, return_counts=True)
        label, taken = (names[i] for i in pairs[:, times.argmax()])
        told = f"Most often {label} is taken for {taken}: {int(times.max())} of them."
    picture = Picture(
        "confusion",
        figures.confusion(said, found.labels, len(names), names),
        f"Confusion matrix: {len(wrong):,} of {len(said):,} images are wrong. {told}",
        f"How often an image of each class (row) was taken for each class (column) after {found.record.steps} steps: "
        f"{len(wrong):,} of {len(said):,} are wrong. {told}",
    )
    return Section("confusion", "Confusion matrix", (picture,))


def _changed(found: Findings) -> Section | None:
    """Time first, then what the network settles on, then the model: the pairs that should not differ come last, and
    `find_changes` shows them first."""
    stages = {f"T = {step}": said for step, said in enumerate(found.record.predictions, 1)}
    stages["reference"] = found.reference.predictions[0]
    if found.model is not None:
        stages["model"] = found.model
    changes = find_changes(stages)
    rows = []
    for before, after in pairwise(stages):
        here = [c for c in changes if (c.before, c.after) == (before, after)]
        better = sum(c.now == found.labels[c.sample] for c in here)
        worse = sum(c.was == found.labels[c.sample] for c in here)
        rows.append((f"{before} → {after}", f"{len(here):,}", f"{better:,}", f"{worse:,}"))
    head = ("from → to", "changed", "now right", "now wrong")
    table = Table("How many predictions change between neighbouring stages.", head, tuple(rows), frozenset({1, 2, 3}))
    if not changes:
        return Section("changed", "Changed predictions", (table,))
    names = class_names(found.graph.classes, found.graph.labels)
    shown = min(THUMBNAILS, len({c.sample for c in changes}))
    picture = Picture(
        "changed",
        figures.changed(found.images, found.labels, changes, len(names), names),
        f"Thumbnails of {shown} images whose prediction changed between two stages.",
        f"Images whose prediction changed between two neighbouring stages, the latest stages first, {shown} of "
        f"{len({c.sample for c in changes}):,}; below each what was said before and after.",
    )
    return Section("changed", "Changed predictions", (picture, table))


def _chips(found: Findings) -> Section | None:
    if not found.fits:
        return None
    rows = []
    parts: list[Picture | Table | str] = []
    for laid in found.fits:
        verdict = "fits" if laid.ok else "does not fit"
        scarcest = max(laid.shares().items(), key=lambda pair: pair[1])
        rows.append((laid.chip.name, verdict, f"{laid.cores:,}", f"{laid.chip['cores']:,}", scarcest[0]))
        parts += [f"{laid.chip.name}: {group}." for group in laid.groups()]
    last = found.fits[-1]
    picture = Picture(
        "cores",
        figures.occupancy(last, figures.WIDTH, most=1),
        f"Grid of cores: {last.cores:,} of {last.chip['cores']:,} of {last.chip.name} are used.",
        f"The cores of {last.chip.name} that the layers take, as a simple partitioner lays them out on the limits that "
        f"are public.",
    )
    table = Table(
        "Every limit of a chip description is checked for every layer; the last column names the one most used.",
        ("chip", "", "cores", "of", "scarcest"), tuple(rows), frozenset({2, 3}),
    )  # fmt: skip
    return Section("chips", "Loihi-class chips", (picture, table, *parts))


def _cost(found: Findings) -> Section | None:
    spent = found.cost
    if spent is None:
        return None
    rows = tuple(
        (str(x.layer), f"{x.spikes:,.0f}", f"{x.operations:,.0f}", f"{x.updates:,}", f"{x.messages:,.0f}")
        for x in spent.layers
    )
    head = ("layer", "spikes", "operations on the chip", "neuron updates", "messages")
    caption = f"Per image, as a mean over {spent.samples:,} images and over {spent.steps} steps, on {spent.chip}."
    words = [
        "Operations on the chip count the image once per pixel that is not 0, and pass weights of 0 only where the "
        "chip stores them. How the network compares with an ANN stands under Activity."
    ]
    if spent.energy_pj is not None and spent.latency_ns is not None:
        words.append(
            f"On {spent.chip} that is {sum(spent.energy_pj.values()) / 1e6:,.1f} microjoules and "
            f"{spent.latency_ns / 1e3:,.0f} microseconds an image ({spent.label}), as if it fitted. For Loihi 2 no "
            f"such figures are public."
        )
    return Section("cost", "Cost", (Table(caption, head, rows, frozenset(range(5))), *words))


def _network(found: Findings) -> Section:
    skips = sum(len(layer.skips) for layer in found.graph.layers)
    arrows = "Orange lines are skips, dashed where they have weights. " if skips else ""
    picture = Picture(
        "network",
        figures.network(found.graph),
        f"Diagram of {len(found.graph.layers)} layers from the image to the readout, {skips} skips.",
        f"Each layer with its kernel, output shape, neuron and number of weights. {arrows}"
        f"The last one adds up and sends nothing; the largest potential is the prediction.",
    )
    return Section("network", "The network", (picture,))


SECTIONS: tuple[Callable[[Findings], Section | None], ...] = (
    _ledger,
    _accuracy,
    _confusion,
    _activity,
    _raster,
    _agreement,
    _changed,
    _chips,
    _cost,
    _network,
)
