"""The accuracy ledger: one row a stage, and between neighbours how many predictions differ."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_conv.classes import accuracy
from lava_conv.record import Record, differing_counts

if TYPE_CHECKING:
    from lava_conv.calibration import LayerError


@dataclass(frozen=True)
class Stage:
    """One row of the ledger.

    Fields:
        name: of the stage, in words.
        accuracy: 0..1.
        samples: images that the stage has seen.
        differ: predictions unlike those of the stage before, on the images of both; None for the first stage.
    """

    name: str
    accuracy: float
    samples: int
    differ: int | None


@dataclass(frozen=True)
class Ledger:
    """The stages from the trained model to the last backend, and what was checked between them.

    Fields:
        stages: in order.
        checks: a sentence for each comparison of spikes and counts.
        exact: whether reference, simulator and Lava agree in every value compared.
    """

    stages: tuple[Stage, ...]
    checks: tuple[str, ...]
    exact: bool


class Unlike(NamedTuple):
    """How many spike counts differ, of how many, and in how many images."""

    differ: int = 0
    of: int = 0
    images: int = 0

    def plus(self, other: "Unlike") -> "Unlike":
        """Of both together."""
        return Unlike(*(a + b for a, b in zip(self, other, strict=True)))


def unlike_counts(pairs: Iterable[tuple[Record, Record]]) -> Unlike:
    """Counts of the second record unlike the first's, over all pairs (a run in parts has several)."""
    total = Unlike()
    for reference, record in pairs:
        differ = differing_counts(reference, record)
        of = sum(counts.size for counts in reference.counts.values())
        total = total.plus(Unlike(int(differ.sum()), of, int((differ > 0).sum())))
    return total


def unlike_values(simulator: Record, lava: Record) -> Unlike:
    """Spikes and potentials of `lava` unlike those of the simulator, whose record has its images or more."""
    n = lava.logits.shape[1]
    pairs = [(simulator.spikes[i], spikes) for i, spikes in lava.spikes.items()]
    differ = of = 0
    for mine, other in (*pairs, (simulator.logits, lava.logits)):
        differ, of = differ + int((mine[:, :n] != other).sum()), of + other.size
    return Unlike(differ, of)


def build_ledger(
    labels: NDArray[np.int64],
    reference: Record,
    simulator: Record,
    model_predictions: NDArray[np.int64] | None = None,
    lava: Record | None = None,
    counted: Unlike | None = None,
    model_name: str = "quantised model (float)",
    settling: str = "",
    streamed: Unlike | None = None,
) -> Ledger:
    """Put the stages side by side.

    Args:
        labels: (N,), see `lava_conv.classes.check_labels`.
        reference: record of all N images.
        simulator: record of all N images, with spikes if `lava` is given without `streamed`.
        model_predictions: int64 (N,), of the model that the network was made of.
        lava: record of the first images, as many as it holds; the simulator's spikes may be of these only.
        counted: `unlike_counts` of both, if the records do not hold the counts.
        model_name: what to call the model.
        settling: what differences between them mean, see `lava_conv.analysis.settling`.
        streamed: `unlike_values` of simulator and Lava, if the records do not hold the spikes.
    """
    stages: list[Stage] = []
    previous: NDArray[np.int64] | None = None

    def add(name: str, predictions: NDArray[np.int64]) -> None:
        nonlocal previous
        known = labels[: len(predictions)]
        differ = None if previous is None else int((predictions != previous[: len(predictions)]).sum())
        right = float(accuracy(predictions, known, reference.logits.shape[2]))
        stages.append(Stage(name, right, len(known), differ))
        previous = predictions

    if model_predictions is not None:
        add(model_name, model_predictions)
    add("integer reference", reference.predictions[0])
    settled = previous
    for step, predictions in enumerate(simulator.predictions):
        previous = settled
        add(f"simulator, T = {step + 1}", predictions)
    wrong, counts, images = counted or unlike_counts([(reference, simulator)])
    checks = [
        f"reference and simulator after {simulator.steps} steps: {wrong:,} of {counts:,} spike counts differ"
        + (f", in {images:,} of {reference.logits.shape[1]:,} images" if wrong else ""),
    ]
    if settling:
        checks.append(settling)
    exact = wrong == 0 and stages[-1].differ == 0
    if lava is not None:
        add(f"Lava, T = {lava.steps}", lava.predictions[-1])
        n = lava.logits.shape[1]
        unlike = streamed or unlike_values(simulator, lava)
        checks.append(
            f"simulator and Lava on {n} streamed samples: {unlike.differ:,} of {unlike.of:,} spikes and potentials "
            f"differ"
        )
        exact = exact and unlike.differ == 0
    return Ledger(tuple(stages), tuple(checks), exact)


def spike_table(record: Record) -> list[tuple[int, float, float]]:
    """(layer index, positive, negative) spikes per neuron and sample, from a record with spikes."""
    rows = []
    for index, spikes in sorted(record.spikes.items()):
        neurons = spikes.shape[1] * int(np.prod(spikes.shape[2:]))
        rows.append((index, float((spikes > 0).sum() / neurons), float((spikes < 0).sum() / neurons)))
    return rows


def worst_first(layers: Iterable["LayerError"]) -> list["LayerError"]:
    """Errors by layer, the largest after calibration first."""
    return sorted(layers, key=lambda row: -row.after)
