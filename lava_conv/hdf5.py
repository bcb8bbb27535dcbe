"""Pieces of an HDF5 file, each checked before it is read: links, type, rank, size, dtype, finite and whole numbers.

Every error is a NetFormatError that names the path inside the file.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import NetFormatError

MAX_ELEMENTS = 1 << 27  # of one dataset (512 MiB of float32): a larger one is refused before it is read
MAX_LAYERS = 10_000
UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)  # what h5py raises


@contextmanager
def opened(path: str | os.PathLike[str], remedy: str) -> Iterator[h5py.File]:
    """The file, open for reading; what goes wrong inside the block becomes one sentence with the file's name."""
    name = os.fspath(path)
    if not os.path.isfile(name):
        raise NetFormatError(f"{name}: there is no such file")
    try:
        with h5py.File(name, "r") as file:
            yield file
    except NetFormatError as error:
        raise NetFormatError(f"{name}: {error}") from None
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise NetFormatError(f"{name}: not a readable HDF5 file ({reason}); {remedy}") from None


def read_layers(file: h5py.File) -> list[h5py.Group]:
    """The groups /layer/0, /layer/1 and so on."""
    if "layer" not in file:
        raise NetFormatError("/layer is missing")
    root = read_group(file, "layer", "/layer")
    count = len(root)
    if not 2 <= count <= MAX_LAYERS:
        raise NetFormatError(f"/layer holds {count} layers, allowed is 2..{MAX_LAYERS}")
    if odd := sorted(set(root) - {str(i) for i in range(count)}):
        raise NetFormatError(
            f"/layer/{odd[0]} is not one of the layers 0..{count - 1}, which must be numbered in order"
        )
    return [read_group(root, str(i), f"/layer/{i}") for i in range(count)]


def only_keys(group: h5py.Group, path: str, allowed: set[str]) -> None:
    """Refuse members of a group that the format does not know."""
    if odd := sorted(set(group) - allowed):
        place = path.rstrip("/")
        raise NetFormatError(
            f"{place}/{odd[0]} is not part of the format; allowed here are {', '.join(sorted(allowed))}"
        )


def _member(group: h5py.Group, name: str, path: str) -> Any:
    """An object stored in the file itself: links out of it are never followed."""
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise NetFormatError(
            f"{path} is {'missing' if link is None else 'a link'}, allowed are only objects stored in place"
        )
    return group[name]


def read_group(parent: h5py.Group, name: str, path: str) -> h5py.Group:
    """A group stored in place."""
    member = _member(parent, name, path)
    if not isinstance(member, h5py.Group):
        raise NetFormatError(f"{path} is a dataset, expected a group")
    return member


def read_dataset(group: h5py.Group, name: str, path: str) -> h5py.Dataset:
    """A dataset stored in place, of a size that may be read."""
    place = f"{path}/{name}"
    if name not in group:
        raise NetFormatError(f"{place} is missing")
    member = _member(group, name, place)
    if not isinstance(member, h5py.Dataset):
        raise NetFormatError(f"{place} is a group, expected a dataset")
    if member.shape is None or member.size is None or member.size > MAX_ELEMENTS:
        size = "no" if member.shape is None else f"{member.size:,}"
        raise NetFormatError(f"{place} declares {size} elements, allowed is 1..{MAX_ELEMENTS:,}")
    if member.external or member.is_virtual:
        raise NetFormatError(f"{place} keeps its data outside the file, which is not allowed")
    return member


def read_values(group: h5py.Group, name: str, path: str, ranks: tuple[int, ...]) -> NDArray[Any]:
    """A numeric dataset of one of the given ranks, without NaN and infinity."""
    data, place = read_dataset(group, name, path), f"{path}/{name}"
    if data.ndim not in ranks:
        raise NetFormatError(f"{place} has rank {data.ndim}, allowed is {' or '.join(map(str, ranks))}")
    if data.dtype.kind not in "iuf":
        raise NetFormatError(f"{place} has dtype {data.dtype}, expected numbers")
    if data.size == 0:
        raise NetFormatError(f"{place} is empty (shape {data.shape})")
    value = np.asarray(data[()])
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise NetFormatError(f"{place} holds NaN or infinity; the training diverged or the file is damaged")
    return value


def read_numbers(group: h5py.Group, name: str, path: str, ranks: tuple[int, ...]) -> NDArray[np.int64]:
    """A numeric dataset of one of the given ranks with integer values, as int64."""
    value, place = read_values(group, name, path, ranks), f"{path}/{name}"
    if value.dtype.kind == "f" and not (np.rint(value) == value).all():
        raise NetFormatError(f"{place} holds values that are not integers; export quantised values without their scale")
    if np.abs(value.astype(np.float64)).max() >= 2.0**62:
        raise NetFormatError(f"{place} holds values beyond 62 bits")
    return value.astype(np.int64)


def read_scalar(group: h5py.Group, name: str, path: str, default: int) -> int:
    """One integer, `default` where there is none."""
    return int(read_numbers(group, name, path, ranks=(0,))) if name in group else default


def read_pair(group: h5py.Group, name: str, path: str, default: int) -> tuple[int, int]:
    """Two integers (H, W), stored as two or as one; `default` where there are none."""
    if name not in group:
        return (default, default)
    value = np.atleast_1d(read_numbers(group, name, path, ranks=(0, 1)))
    if value.size not in (1, 2):
        raise NetFormatError(f"{path}/{name} has {value.size} values, allowed are 2 (H, W) or a scalar")
    return (int(value[0]), int(value[-1]))


def read_shape(group: h5py.Group, path: str) -> tuple[int, ...]:
    """(C, H, W) or (n,)."""
    value = np.atleast_1d(read_numbers(group, "shape", path, ranks=(0, 1)))
    if value.min() < 1 or value.size > 3:
        raise NetFormatError(
            f"{path}/shape is {tuple(value.tolist())}, allowed is (C, H, W) or (n,) with sizes above 0"
        )
    return tuple(int(v) for v in value)


def read_text(group: h5py.Group, name: str, path: str) -> str:
    """One string."""
    data = read_dataset(group, name, path)
    if data.size != 1 or data.ndim > 1 or data.dtype.kind not in "SO":
        raise NetFormatError(f"{path}/{name} has shape {data.shape} and dtype {data.dtype}, expected one string")
    value = data[()] if data.ndim == 0 else data[0]
    if not isinstance(value, bytes):
        raise NetFormatError(f"{path}/{name} is not a string")
    return value.decode("utf-8", "replace")
