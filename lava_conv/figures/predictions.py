"""What the network says: the confusion matrix, and the images on which two stages say different things."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lava_conv.classes import check_labels
from lava_conv.errors import DataError
from lava_conv.figures.style import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    SMALL,
    WIDTH,
    bare,
    dress,
    fading,
    names_of,
    new_figure,
)

NUMBERED = 16  # up to so many classes every cell has its number
THUMBNAILS, COLUMNS = 12, 3
SHORT = 4  # letters; with longer names two thumbnails stand side by side


def confusion(
    predictions: NDArray[np.integer], labels: NDArray[np.integer], classes: int, names: Sequence[str] = ()
) -> Figure:
    """How often an image of each class (row) was taken for each class (column); blue is right, orange is wrong.

    Args:
        predictions: int64 (N,).
        labels: (N,), see `lava_conv.classes.check_labels`.
        classes: how many; rows and columns of the matrix.
        names: of the classes, () for their numbers.

    Raises:
        DataError: labels or predictions are no such classes.
    """
    labels = check_labels(labels, len(predictions), classes)
    predictions = check_labels(predictions, len(labels), classes)
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (labels, predictions), 1)
    words = names_of(classes, names)
    figure = new_figure(WIDTH * 0.96)
    ax = dress(figure.subplots(), x="predicted", y="label")
    right = np.eye(classes, dtype=bool)
    for mask, colour in ((right, BLUE), (~right, ORANGE)):
        part = np.where(mask, table, 0)
        # of errors the square root is shown: most cells hold one or two, and they should be seen
        shade = np.sqrt(part / max(1, part.max())) * (0.85 if colour == ORANGE else 1)
        ax.imshow(shade, cmap=fading(colour), vmin=0, vmax=1, interpolation="nearest")
    if classes <= NUMBERED:
        for row, column in zip(*np.nonzero(table), strict=True):
            strong = row == column and table[row, column] > 0.4 * table.max()
            ax.text(
                column, row, f"{table[row, column]}", ha="center", va="center", fontsize=SMALL - 1,
                color="#ffffff" if strong else INK,
            )  # fmt: skip
    ticks = np.arange(0, classes, 1 if classes <= 2 * NUMBERED else -(-classes // 10))
    long = max(len(words[i]) for i in ticks) > 2
    ax.set_xticks(ticks, [_short(words[i]) for i in ticks], rotation=90 if long else 0, parse_math=False)
    ax.set_yticks(ticks, [_short(words[i]) for i in ticks], parse_math=False)
    ax.tick_params(length=0)
    return figure


def _short(word: str, most: int = 12) -> str:
    return word if len(word) <= most else word[: most - 1] + "…"


def _shown(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(C, H, W) as matplotlib takes it: three channels are colours, of any other number the mean is grey."""
    return image.transpose(1, 2, 0) if len(image) == 3 else image.mean(0)


class Change(NamedTuple):
    """An image on which a stage says another class than the one before it: stages by name, classes by number."""

    sample: int
    before: str
    after: str
    was: int
    now: int


def find_changes(stages: Mapping[str, NDArray[np.integer]]) -> list[Change]:
    """Every change between neighbours of `stages` (name -> predictions int64 (N,)), the last pair of stages first.

    A stage may hold fewer images than the others: the first ones.
    """
    found = []
    pairs = list(zip(stages.items(), list(stages.items())[1:], strict=False))
    for (before, old), (after, new) in reversed(pairs):
        size = min(len(old), len(new))
        for sample in np.flatnonzero(old[:size] != new[:size]):
            found.append(Change(int(sample), before, after, int(old[sample]), int(new[sample])))
    return found


def changed(
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    changes: Sequence[Change],
    classes: int,
    names: Sequence[str] = (),
    most: int = THUMBNAILS,
) -> Figure:
    """Thumbnails of images whose prediction changed between two stages, with what was said before and after.

    Args:
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        changes: of `find_changes`; an image is shown once.
        classes: how many.
        names: of the classes, () for their numbers.
        most: thumbnails, at most.

    Raises:
        DataError: there are no changes, or labels are no such classes.
    """
    labels = check_labels(labels, len(images), classes)
    by_sample: dict[int, Change] = {}
    for change in changes:
        by_sample.setdefault(change.sample, change)
    first = list(by_sample.values())[:most]
    if not first:
        raise DataError("no prediction changed, so there is nothing to show")
    words = names_of(classes, names)
    columns = COLUMNS if max(map(len, words)) <= SHORT else COLUMNS - 1
    rows = -(-len(first) // columns)
    figure = new_figure(rows * (0.72 + WIDTH / columns))
    panels = figure.subplots(rows, columns, squeeze=False)
    for ax in panels.flat:
        bare(ax)
    for ax, change in zip(panels.flat, first, strict=False):
        ax.imshow(_shown(images[change.sample]), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        label = int(labels[change.sample])
        ax.set_title(f"label {_short(words[label])}", color=INK, fontsize=SMALL, parse_math=False)
        said = f"{change.before}: {_short(words[change.was])}\n{change.after}: {_short(words[change.now])}"
        ax.set_xlabel(said, color=MUTED, fontsize=SMALL, parse_math=False)
    return figure
