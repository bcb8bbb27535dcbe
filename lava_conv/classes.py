"""From logits to classes, and from classes to accuracy: the one place where both are defined.

A network with several outputs names the class of its largest logit; the lower index wins a tie. A network with one
output tells two classes apart by its sign: class 1 above 0, else class 0, as `BCEWithLogitsLoss` trains it. Neither
torch nor Lava is needed here.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_conv.errors import DataError

Number = TypeVar("Number", bound=np.number)


def class_count(outputs: int) -> int:
    """How many classes this number of logits tells apart: 2 for one logit, else as many."""
    return max(2, outputs)


def class_names(outputs: int, labels: Sequence[str] = ()) -> list[str]:
    """A name for each class: those given, else their numbers; one name for one output is that of class 1."""
    if outputs == 1 and len(labels) == 1:
        return [f"not {labels[0]}", str(labels[0])]
    return [str(label) for label in labels] or [str(number) for number in range(class_count(outputs))]


def class_scores(logits: NDArray[Number]) -> NDArray[Number]:
    """One score per class, (..., classes), whose largest is the prediction: the logits, and 0 for class 0 of one."""
    if logits.shape[-1] != 1:
        return logits
    return np.concatenate([np.zeros_like(logits), logits], axis=-1)


def predictions(logits: ArrayLike) -> NDArray[np.int64]:
    """The class that each row of logits names.

    Args:
        logits: (..., outputs), integers or floats; an array or a tensor.

    Returns:
        int64 (...), see the module for one output.

    Raises:
        DataError: there is no axis of outputs, or a logit is not finite.
    """
    found = _array(logits)
    if found.ndim < 2 or not found.shape[-1] or found.dtype.kind not in "iuf":
        raise DataError(
            f"logits have shape {found.shape} and dtype {found.dtype}, needed are numbers (N, outputs); keep the axis "
            f"of the outputs, also of a single one"
        )
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(found))[0])
        raise DataError(f"logit {at} is {found[at]}; a model whose logits are not finite names no class")
    return class_scores(found).argmax(-1).astype(np.int64)


def check_labels(labels: ArrayLike, count: int, outputs: int) -> NDArray[np.int64]:
    """The labels of `count` images as class numbers, int64 (count,).

    Args:
        labels: (count,) or (count, 1) integers in 0..classes - 1; for two classes also booleans; for one output also
            the floats 0.0 and 1.0.
        count: of the images, 1 or more.
        outputs: how many logits the network has.

    Raises:
        DataError: they are anything else; says what they look like (one-hot, several classes per image, values to
            regress to) and what to do.
    """
    given = _array(labels)
    classes = class_count(outputs)
    if not count:
        raise DataError("there are no images, so there is no accuracy; pass one image at least")
    y = given[:, 0] if given.ndim == 2 and given.shape[1] == 1 else given
    if y.ndim == 2 and len(y) == count and y.dtype.kind in "biuf":
        raise DataError(_several_columns(y, outputs))
    wanted = f"needed are {count} integers, the number of the class of each image"
    if y.shape != (count,) or y.dtype.kind not in "biuf":
        raise DataError(f"labels have shape {given.shape} and dtype {given.dtype}, {wanted}")
    if y.dtype.kind == "b" and classes > 2:
        raise DataError(f"labels are booleans, the network has {classes} classes; {wanted}")
    if y.dtype.kind == "f" and not (outputs == 1 and np.isin(y, (0, 1)).all()):
        odd = next((value for value in y if not np.isfinite(value) or value != np.round(value)), None)
        if odd is None:
            dtype = f"labels have shape {given.shape} and dtype {given.dtype}"
            raise DataError(f"{dtype}, {wanted}; pass labels.astype(int)")
        raise DataError(
            f"labels hold {odd:g}, which is no class but a value, as in regression; accuracy needs class numbers, so "
            f"compare the logits with the values yourself"
        )
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        what = "one output, which tells classes 0 and 1 apart" if outputs == 1 else f"classes 0 to {classes - 1}"
        raise DataError(
            f"labels go from {low} to {high}, the network has {what}; use its own data set, or number the classes so"
        )
    return y.astype(np.int64)


def accuracy(predicted: NDArray[np.integer], labels: ArrayLike, outputs: int) -> NDArray[np.float64]:
    """Share of correct predictions, float64 (...) of 0..1.

    Args:
        predicted: of `predictions`, (..., N).
        labels: (N,), see `check_labels`.
        outputs: how many logits the network has.

    Raises:
        DataError: see `check_labels`.
    """
    predicted = np.asarray(predicted)
    return (predicted == check_labels(labels, predicted.shape[-1], outputs)).mean(axis=-1)


def _several_columns(labels: NDArray[np.generic], outputs: int) -> str:
    """What labels (N, columns) look like, and what to do."""
    shape = f"labels have shape {labels.shape}"
    if np.isin(labels, (0, 1)).all() and labels.shape[1] == class_count(outputs):
        if (labels.sum(1) == 1).all():
            return f"{shape}, one column per class (one-hot); pass the class numbers, labels.argmax(1)"
        return (
            f"{shape}, several classes per image; accuracy is of one class per image, so compare "
            f"record.logits[-1] > 0 with the labels, column by column"
        )
    return f"{shape}, needed is one class number per image, (N,); compare logits with other targets yourself"


def _array(values: ArrayLike) -> NDArray[np.number]:
    """An array of what may be a list, an array, or a tensor on any device."""
    if detach := getattr(values, "detach", None):
        values = detach().cpu().numpy()
    try:
        return np.asarray(values)
    except ValueError:
        raise DataError("labels are of different lengths; pass one class number per image, (N,)") from None
