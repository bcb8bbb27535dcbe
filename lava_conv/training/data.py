"""Data sets as uint8 images N,C,H,W: digits (ships with scikit-learn), `.npz` files, and torchvision's."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_conv.arguments import whole
from lava_conv.errors import DataError, one_line
from lava_conv.files import file_name, kind_of, unreadable

FOLDER_VARIABLE = "LAVA_CONV_DATA"
TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
NAMES = ("digits", *TORCHVISION)
KEYS = ("x_train", "y_train", "x_test", "y_test")
OTHER_KINDS = {  # see `lava_conv.files.kind_of`
    "an HDF5 file": "networks stand in front of --data, images behind it",
    "a single array (.npy)": f"write all of it with numpy.savez: {', '.join(KEYS)}",
    "a pickle": f"write it with numpy.savez: {', '.join(KEYS)}",
}
DIGITS_SCALE = 15  # scikit-learn's digits hold 0..16; 15 * 16 = 240 fits a byte and stays a whole number
DIGITS_TEST = 0.2
MAX_SEED = (1 << 32) - 1  # that scikit-learn takes
MAX_CLASSES = 1 << 20  # a larger label is damage; the readout would have a neuron for each number below it


@dataclass(frozen=True)
class Dataset:
    """Images and labels for training and for test.

    Fields:
        name: of the data set; trained models keep it.
        x_train: uint8 (N, C, H, W), 0..255.
        y_train: int64 (N,), classes from 0 up.
        x_test: uint8 (M, C, H, W).
        y_test: int64 (M,).
    """

    name: str
    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            images, labels = getattr(self, f"x_{part}"), getattr(self, f"y_{part}")
            if not isinstance(images, np.ndarray) or not isinstance(labels, np.ndarray):
                found = type(images if not isinstance(images, np.ndarray) else labels).__name__
                raise DataError(f"{self.name}: the {part} part is of type {found}, needed are arrays of numpy")
            if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
                raise DataError(
                    f"{self.name}: x_{part} has shape {images.shape} and dtype {images.dtype}, needed are uint8 images "
                    f"(N, C, H, W), one at least"
                )
            _labels(labels, len(images), f"{self.name}: y_{part}")
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise DataError(
                f"{self.name}: x_train has images of {self.x_train.shape[1:]}, x_test of {self.x_test.shape[1:]}; cut "
                f"them to one size"
            )

    @property
    def classes(self) -> int:
        """How many: the largest label of both parts, and one more."""
        return int(max(self.y_train.max(), self.y_test.max())) + 1

    @property
    def shape(self) -> tuple[int, ...]:
        """C, H, W of one image."""
        return self.x_train.shape[1:]

    def some(self, count: int, shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
        """Training images, chosen at random without replacement: examples for `convert`, `calibrate` or a cost.

        Args:
            count: how many; all if there are fewer.
            shape: C, H, W; of larger images the middle is taken, see `centred`.
            seed: the same seed chooses the same images.

        Returns:
            uint8 (count, C, H, W).
        """
        whole(count, "count")
        chosen = np.random.default_rng(whole(seed, "seed", 0)).permutation(len(self.x_train))[:count]
        return centred(self.x_train[chosen], shape)


def load_dataset(
    name: str | os.PathLike[str] = "digits", folder: str | os.PathLike[str] | None = None, seed: int = 0
) -> Dataset:
    """A data set by name or path.

    Args:
        name: digits, mnist, fashion-mnist, cifar10, cifar100, or the path of an `.npz` with x_train, y_train, x_test,
            y_test (uint8 images N,H,W or N,H,W,C).
        folder: where `<name>.npz` or torchvision's files lie; default: the variable LAVA_CONV_DATA, then ./data.
        seed: of the stratified 80/20 split of digits; the other sets have a fixed split.

    Raises:
        DataError: unknown, missing or damaged; says which and what to do.
    """
    name = file_name(name)
    if name == "digits":
        return _digits(whole(seed, "seed", 0, MAX_SEED))
    if name.endswith(".npz"):
        return _npz(Path(name))
    if name not in TORCHVISION:
        raise DataError(f"data set is {name!r}, allowed are {', '.join(NAMES)} or the path of an .npz file")
    root = Path(folder or os.environ.get(FOLDER_VARIABLE) or "data")
    for candidate in (root / f"{name}.npz", root / name / f"{name}.npz"):
        if candidate.is_file():
            return _npz(candidate, name)
    return _torchvision(name, root)


def centred(images: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The middle of images (N, C, H, W) in the size of `shape` (C, H, W); as they are where they are no larger."""
    images = np.asarray(images)
    if images.ndim != 4 or len(shape) != 3:
        raise DataError(f"images have shape {images.shape}, cut to {tuple(shape)}; needed are N,C,H,W and C,H,W")
    height, width = shape[1:]
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    if top < 0 or left < 0 or images.shape[2:] == (height, width):
        return images
    return np.ascontiguousarray(images[:, :, top : top + height, left : left + width])


def _digits(seed: int) -> Dataset:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch: Any = load_digits()
    images = (bunch.images * DIGITS_SCALE).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    parts: Any = train_test_split(images, labels, test_size=DIGITS_TEST, random_state=seed, stratify=labels)
    x_train, x_test, y_train, y_test = parts
    return Dataset("digits", x_train, y_train, x_test, y_test)


def _npz(path: Path, name: str | None = None) -> Dataset:
    if problem := unreadable(path, ending=".npz"):
        raise DataError(f"{path}: {problem}")
    if (kind := kind_of(path)) in OTHER_KINDS:
        raise DataError(f"{path}: is {kind}, not an .npz data set; {OTHER_KINDS[kind]}")
    try:
        # numpy leaves the file open when it is no archive, so it is opened here
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = [key for key in KEYS if key not in archive.files]
            if missing:
                raise DataError(f"{path}: lacks {', '.join(missing)}; an .npz data set holds {', '.join(KEYS)}")
            arrays = {key: archive[key] for key in KEYS}
    except DataError:
        raise
    except Exception as error:  # numpy, zipfile and zlib have a dozen kinds for damaged bytes, MemoryError among them
        raise DataError(f"{path}: not a readable .npz file ({' '.join(str(error).split())}); copy it again") from None
    parts = [_images(arrays[f"x_{s}"], f"{path}: x_{s}") for s in ("train", "test")]
    labels = [
        _labels(arrays[f"y_{s}"], len(x), f"{path}: y_{s}") for s, x in zip(("train", "test"), parts, strict=True)
    ]
    if parts[0].shape[1:] != parts[1].shape[1:]:
        raise DataError(f"{path}: x_train has images of {parts[0].shape[1:]}, x_test of {parts[1].shape[1:]}")
    return Dataset(name or path.stem, parts[0], labels[0], parts[1], labels[1])


def _images(x: NDArray[np.generic], place: str) -> NDArray[np.uint8]:
    if x.dtype != np.uint8:
        raise DataError(f"{place} has dtype {x.dtype}, allowed is uint8 (0..255); scale it and write it again as uint8")
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or x.shape[-1] not in (1, 3) or 0 in x.shape:
        first = x.ndim == 4 and x.shape[1] in (1, 3)
        remedy = "; transpose it, x.transpose(0, 2, 3, 1)" if first else ""
        raise DataError(f"{place} has shape {x.shape}, allowed is (N, H, W) or (N, H, W, C) with C = 1 or 3{remedy}")
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.uint8)


def _labels(y: NDArray[np.generic], count: int, place: str) -> NDArray[np.int64]:
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if (
        y.shape != (count,)
        or y.dtype.kind not in "iu"
        or not (count and 0 <= int(y.min()) <= int(y.max()) < MAX_CLASSES)
    ):
        raise DataError(
            f"{place} has shape {y.shape} and dtype {y.dtype}, needed are {count} integers in 0..{MAX_CLASSES - 1}"
        )
    return y.astype(np.int64)


def _torchvision(name: str, root: Path) -> Dataset:
    try:
        from torchvision import datasets
    except ImportError:
        raise DataError(
            f"{root / (name + '.npz')} does not exist and torchvision is not installed; set {FOLDER_VARIABLE} to a "
            f"folder with {name}.npz, or install torchvision"
        ) from None
    kind = getattr(datasets, TORCHVISION[name])
    parts: list[Any] = []
    for train in (True, False):
        try:
            found = _stored_or_downloaded(kind, root, train)
        except Exception as error:
            raise DataError(
                f"data set {name} is not in {root} and cannot be downloaded ({one_line(error)}); "
                f"set {FOLDER_VARIABLE} to a folder with {name}.npz"
            ) from None
        images = np.asarray(found.data)
        parts += [_images(images, f"{name} images"), _labels(np.asarray(found.targets), len(images), f"{name} labels")]
    return Dataset(name, *parts)


class _Stored(Protocol):
    """A part of a data set of torchvision."""

    data: ArrayLike
    targets: ArrayLike


def _stored_or_downloaded(kind: Callable[..., _Stored], root: Path, train: bool) -> _Stored:
    try:
        return kind(str(root), train=train, download=False)
    except RuntimeError:  # torchvision's word for files that are not there
        return kind(str(root), train=train, download=True)
