"""The accuracy ledger: one row a stage, and between neighbours how many predictions differ."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_conv.record import Record


@dataclass(frozen=True)
class Stage:
    """One row: accuracy (0..1) over `samples` images; `differ`: predictions unlike those of the stage before."""

    name: str
    accuracy: float
    samples: int
    differ: int | None


@dataclass(frozen=True)
class Ledger:
    """The stages from the trained model to the last backend, and what was checked between them."""

    stages: tuple[Stage, ...]
    checks: tuple[str, ...]
    exact: bool


def build_ledger(
    labels: NDArray[np.int64],
    reference: Record,
    simulator: Record,
    model_predictions: NDArray[np.int64] | None = None,
    lava: Record | None = None,
) -> Ledger:
    """Put the stages side by side.

    Args:
        labels: int64 (N,).
        reference, simulator: records of all N images; the simulator's with spikes if `lava` is given.
        model_predictions: int64 (N,), of the quantised model in float.
        lava: record of the first images, as many as it holds.
    """
    stages: list[Stage] = []
    previous: NDArray[np.int64] | None = None

    def add(name: str, predictions: NDArray[np.int64]) -> None:
        nonlocal previous
        known = labels[: len(predictions)]
        differ = None if previous is None else int((predictions != previous[: len(predictions)]).sum())
        stages.append(Stage(name, float((predictions == known).mean()), len(known), differ))
        previous = predictions

    if model_predictions is not None:
        add("quantised model (float)", model_predictions)
    add("integer reference", reference.predictions[0])
    settled = previous
    for step, predictions in enumerate(simulator.predictions):
        previous = settled
        add(f"simulator, T = {step + 1}", predictions)
    counts = sum(c.size for c in reference.counts.values())
    wrong = sum(int((simulator.counts[i] != c).sum()) for i, c in reference.counts.items())
    checks = [
        f"reference and simulator after {simulator.steps} steps: {wrong:,} of {counts:,} spike counts differ",
    ]
    exact = wrong == 0 and stages[-1].differ == 0
    if lava is not None:
        add(f"Lava, T = {lava.steps}", lava.predictions[-1])
        n = lava.logits.shape[1]
        values = sum(s.size for s in lava.spikes.values()) + lava.logits.size
        unlike = sum(int((simulator.spikes[i][:, :n] != s).sum()) for i, s in lava.spikes.items())
        unlike += int((simulator.logits[:, :n] != lava.logits).sum())
        checks.append(
            f"simulator and Lava on {n} streamed samples: {unlike:,} of {values:,} spikes and potentials differ"
        )
        exact = exact and unlike == 0
    return Ledger(tuple(stages), tuple(checks), exact)


def spike_table(record: Record) -> list[tuple[int, float, float]]:
    """(layer index, positive, negative) spikes per neuron and sample, from a record with spikes."""
    rows = []
    for index, spikes in sorted(record.spikes.items()):
        neurons = spikes.shape[1] * int(np.prod(spikes.shape[2:]))
        rows.append((index, float((spikes > 0).sum() / neurons), float((spikes < 0).sum() / neurons)))
    return rows


def worst_first(layers: Any) -> list[Any]:
    """Errors by layer (`lava_conv.calibrate.LayerError`), the largest after calibration first."""
    return sorted(layers, key=lambda row: -row.after)
