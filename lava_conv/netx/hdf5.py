"""Pieces of an HDF5 file, each checked before it is read: links, type, rank, size, dtype, finite and whole numbers.

Every error is a NetFormatError that names the path inside the file. What the limits leave out no network needs: it
would take all time or memory to read.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import NetFormatError
from lava_conv.files import file_name, kind_of, unreadable
from lava_conv.network.fixedpoint import WEIGHT_MAX, WEIGHT_MIN
from lava_conv.netx.heaps import check_heaps, longest_string, string_length

MAX_ELEMENTS = 1 << 27  # of one dataset (512 MiB of float32): a larger one is refused before it is read
MAX_LAYERS = 10_000
FREE_ELEMENTS = 1 << 22  # numbers that any file may declare
EXPANSION = 32  # and for each of its bytes so many (files of the zoo: 0.5 to 2.2): beyond, it is a bomb
MANY_ELEMENTS = 1 << 25  # from here on
EXPANSION_OF_MANY = 4  # so many
BLOCK = 1 << 20  # elements of a weight that are read at a time
# libhdf5 (2.0.0 at the latest) reads beyond its memory where a damaged file misleads its decoders of other filters
FILTERS = {1: "gzip", 2: "shuffle"}
MAX_CHUNK = 1 << 22  # elements; HDF5 unpacks a chunk as a whole
MAX_ITEM = 8  # bytes of a number
MAX_TEXT = 1000  # bytes of a word
MAX_ATTRIBUTE = 1 << 20  # bytes
MAX_PAIR = (1 << 16) - 1  # of stride, padding and dilation
FRACTIONS = "holds values that are not integers; export quantised values without their scale"
HDF5 = "an HDF5 file"
OTHER_KINDS = {  # see `lava_conv.files.kind_of`
    "a zip archive": "of a checkpoint `lava-conv convert` makes a network; an .npz holds a data set, for --data",
    "a pickle": "write weights with torch.save, and make a network of them with lava_conv.convert",
}
MAX_SHOWN = 80  # characters of what a file holds, in an error
Lower: TypeAlias = Any  # h5py's annotations leave its lower interface out
LOWER: Lower = h5py
Pair = tuple[int, int]
Number = TypeVar("Number", bound=np.generic)
Read = TypeVar("Read", int, str)
UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)  # what h5py raises


@contextmanager
def opened(path: str | os.PathLike[str], remedy: str) -> Iterator[h5py.File]:
    """The file, open for reading; what goes wrong inside the block becomes one sentence with the file's name."""
    name = file_name(path)
    if problem := unreadable(path, ending=".net"):
        raise NetFormatError(f"{name}: {problem}")
    if (kind := kind_of(name)) not in ("", HDF5):
        raise NetFormatError(f"{name}: not a readable HDF5 file, but {kind}; {OTHER_KINDS.get(kind, remedy)}")
    try:
        check_heaps(name)
        with h5py.File(name, "r") as file:
            yield file
    except NetFormatError as error:
        raise NetFormatError(f"{name}: {error}") from None
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise NetFormatError(f"{name}: not a readable HDF5 file ({reason}); {remedy}") from None


def shown(value: object) -> str:
    """What a file holds, in one short line that any terminal prints."""
    text = " ".join(repr(value).split())
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def shown_name(name: object) -> str:
    """The same for a name or a dtype, without quotes."""
    return shown(str(name)).replace("'", "")


def read_layers(file: h5py.File) -> list[h5py.Group]:
    """The groups /layer/0, /layer/1 and so on, if together they do not declare far more than the file can hold."""
    if "layer" not in file:
        raise NetFormatError(f"/layer is missing{whose(file)}")
    root = read_group(file, "layer", "/layer")
    count = len(root)
    if not 2 <= count <= MAX_LAYERS:
        raise NetFormatError(f"/layer holds {count} layers, allowed is 2..{MAX_LAYERS}")
    if odd := sorted(set(root) - {str(i) for i in range(count)}):
        raise NetFormatError(
            f"/layer/{shown_name(odd[0])} is not one of the layers 0..{count - 1}, which must be numbered in order"
        )
    groups = [read_group(root, str(i), f"/layer/{i}") for i in range(count)]
    size, declared = file.id.get_filesize(), 0
    most = most_elements(size)
    for index, group in enumerate(groups):
        declared += declared_elements(group.id)
        if declared > most:
            raise NetFormatError(
                f"/layer/{index}: the layers up to here declare {declared:,} elements, allowed are {most:,} in a file "
                f"of {size:,} bytes; it is damaged or made to fill the memory"
            )
    return groups


def whose(file: h5py.File) -> str:
    """Whose file it may be, judged by its names."""
    names = set(file)
    if "node" in names or "nodes" in names:
        return "; this looks like a NIR file: build its network in PyTorch, train or calibrate it, and convert that"
    if names & {"model_weights", "layers", "optimizer_weights"}:
        return "; this looks like a Keras file: build its network in PyTorch, and convert that"
    return "; the file holds no network, so name another one"


def most_elements(size: int) -> int:
    """How many elements the layers of a file of so many bytes may declare."""
    return max(FREE_ELEMENTS, min(EXPANSION * size, MANY_ELEMENTS), EXPANSION_OF_MANY * size)


def declared_elements(group: Lower, depth: int = 3) -> int:
    """How many elements the datasets of a layer declare, those of its neuron and skips included.

    What is not stored in place, or too large by itself, is left out: it is refused where it is read.

    Args:
        group: in h5py's lower interface, which is three times as fast as the other.
        depth: of the groups in it that are looked into.
    """
    total = 0
    for name in group:
        if group.links.get_info(name).type != LOWER.h5l.TYPE_HARD:
            continue
        member = LOWER.h5o.open(group, name)
        if isinstance(member, LOWER.h5g.GroupID):
            total += declared_elements(member, depth - 1) if depth else 0
        elif isinstance(member, LOWER.h5d.DatasetID) and not _virtual(member):
            size = math.prod(member.shape or ())
            total += size if size <= MAX_ELEMENTS else 0
    return total


def _virtual(dataset: Lower) -> bool:
    return dataset.get_create_plist().get_layout() == LOWER.h5d.VIRTUAL


def only_keys(group: h5py.Group, path: str, allowed: set[str]) -> None:
    """Refuse members of a group that the format does not know."""
    if odd := sorted(set(group) - allowed):
        place = path.rstrip("/")
        raise NetFormatError(
            f"{place}/{shown_name(odd[0])} is not part of the format; allowed here are {', '.join(sorted(allowed))}"
        )


def _member(group: h5py.Group, name: str, path: str) -> h5py.HLObject:
    """An object stored in the file itself, under this name only: links out of it are never followed."""
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise NetFormatError(
            f"{path} is {'missing' if link is None else 'a link'}, allowed are only objects stored in place"
        )
    member = group[name]
    if LOWER.h5o.get_info(member.id).rc != 1:  # read once for each name, it would cost what no file size tells
        raise NetFormatError(f"{path} has several names in the file, allowed is one")
    return member


def read_group(parent: h5py.Group, name: str, path: str) -> h5py.Group:
    """A group stored in place."""
    member = _member(parent, name, path)
    if not isinstance(member, h5py.Group):
        raise NetFormatError(f"{path} is a dataset, expected a group")
    return member


def read_dataset(group: h5py.Group, name: str, path: str) -> h5py.Dataset:
    """A dataset stored in place, of a size that may be read."""
    place = f"{path}/{shown_name(name)}"
    if name not in group:
        raise NetFormatError(f"{place} is missing")
    member = _member(group, name, place)
    if not isinstance(member, h5py.Dataset):
        raise NetFormatError(f"{place} is a group, expected a dataset")
    if member.is_virtual or member.external:  # asked first: for the size of a virtual one HDF5 opens other files
        raise NetFormatError(f"{place} keeps its data outside the file, which is not allowed")
    _check_filters(member, place)
    if member.shape is None or member.size is None or member.size > MAX_ELEMENTS:
        size = "no" if member.shape is None else f"{member.size:,}"
        raise NetFormatError(f"{place} declares {size} elements, allowed is 1..{MAX_ELEMENTS:,}")
    if member.chunks and math.prod(member.chunks) > MAX_CHUNK:
        size = f"{math.prod(member.chunks):,}"
        raise NetFormatError(f"{place} has chunks of {size} elements, allowed is 1..{MAX_CHUNK:,}")
    return member


def _check_filters(data: h5py.Dataset, place: str) -> None:
    packing = data.id.get_create_plist()
    for number in range(packing.get_nfilters()):
        code, _, _, name = packing.get_filter(number)
        if code not in FILTERS:
            raise NetFormatError(
                f"{place} is packed by HDF5 filter {code} ({shown_name(name.decode(errors='replace'))}), allowed are "
                f"{', '.join(FILTERS.values())}; write it again with gzip"
            )


def _numeric(group: h5py.Group, name: str, path: str, ranks: tuple[int, ...]) -> h5py.Dataset:
    data, place = read_dataset(group, name, path), f"{path}/{name}"
    if data.ndim not in ranks:
        raise NetFormatError(f"{place} has rank {data.ndim}, allowed is {' or '.join(map(str, ranks))}")
    if data.dtype.kind not in "iuf" or data.dtype.itemsize > MAX_ITEM:
        raise NetFormatError(f"{place} has dtype {shown_name(data.dtype)}, expected numbers")
    if data.size == 0:
        raise NetFormatError(f"{place} is empty (shape {data.shape})")
    return data


def _finite(value: NDArray[Number], place: str) -> NDArray[Number]:
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise NetFormatError(f"{place} holds NaN or infinity; the training diverged or the file is damaged")
    return value


def _blocks(data: h5py.Dataset) -> Iterator[tuple[slice, ...]]:
    """Parts of a dataset of whole chunks, along the axis that allows the smallest ones: about BLOCK elements each."""
    if not data.ndim:
        yield ()
        return
    chunks = data.chunks or (1,) * data.ndim
    axis = min(range(data.ndim), key=lambda n: chunks[n] / data.shape[n])
    rows = chunks[axis] * max(1, BLOCK * data.shape[axis] // (data.size * chunks[axis]))
    for start in range(0, data.shape[axis], rows):
        yield (slice(None),) * axis + (slice(start, start + rows),)


class Weight(NamedTuple):
    """What a dataset of weights holds. low, high: their range. whole: all are integers. values: as int8, None where
    they are not asked for, no integers, or out of range."""

    shape: tuple[int, ...]
    low: float
    high: float
    whole: bool
    values: NDArray[np.int8] | None

    @property
    def excess(self) -> float | None:
        """One that is out of range, None where all are within."""
        return next((end for end in (self.low, self.high) if not WEIGHT_MIN <= end <= WEIGHT_MAX), None)


def read_weight(group: h5py.Group, name: str, path: str, ranks: tuple[int, ...], keep: bool = True) -> Weight:
    """A numeric dataset of one of the given ranks, without NaN and infinity, in the memory that int8 takes."""
    data, place = _numeric(group, name, path, ranks), f"{path}/{name}"
    values = np.empty(data.shape, np.int8) if keep else None
    low, high, whole = math.inf, -math.inf, True
    for where in _blocks(data):
        block = _finite(np.asarray(data[where]), place)
        low, high = min(low, block.min().item()), max(high, block.max().item())
        whole = whole and (block.dtype.kind != "f" or bool((np.rint(block) == block).all()))
        if not whole or low < WEIGHT_MIN or high > WEIGHT_MAX:
            values = None
        if values is not None:
            values[where] = block
    return Weight(data.shape, low, high, whole, values)


def read_numbers(group: h5py.Group, name: str, path: str, ranks: tuple[int, ...]) -> NDArray[np.int64]:
    """A numeric dataset of one of the given ranks with integer values, as int64."""
    place = f"{path}/{name}"
    value = _finite(np.asarray(_numeric(group, name, path, ranks)[()]), place)
    if value.dtype.kind == "f" and not (np.rint(value) == value).all():
        raise NetFormatError(f"{place} {FRACTIONS}")
    if value.max().item() >= 1 << 62 or value.min().item() <= -(1 << 62):  # NumPy 2 would cast the limit to float16
        raise NetFormatError(f"{place} holds values beyond 62 bits")
    return value.astype(np.int64)


def read_scalar(group: h5py.Group, name: str, path: str, default: int) -> int:
    """One integer, `default` where there is none."""
    return int(read_numbers(group, name, path, ranks=(0,))) if name in group else default


def read_pair(group: h5py.Group, name: str, path: str, default: int) -> Pair:
    """Two integers (H, W), stored as two or as one; `default` where there are none."""
    if name not in group:
        return (default, default)
    value = np.atleast_1d(read_numbers(group, name, path, ranks=(0, 1)))
    if value.size not in (1, 2):
        raise NetFormatError(f"{path}/{name} has {value.size} values, allowed are 2 (H, W) or a scalar")
    if value.max() > MAX_PAIR:
        raise NetFormatError(f"{path}/{name} is {value.max()}, allowed is at most {MAX_PAIR}")
    return (int(value[0]), int(value[-1]))


def read_geometry(group: h5py.Group, path: str) -> tuple[Pair, Pair, Pair, int]:
    """stride, padding, dilation and groups of a convolution; what is absent is 1, padding 0."""
    stride, padding, dilation = (
        read_pair(group, name, path, default) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    return stride, padding, dilation, read_scalar(group, "groups", path, 1)


def read_shape(group: h5py.Group, path: str) -> tuple[int, ...]:
    """(C, H, W) or (n,)."""
    value = np.atleast_1d(read_numbers(group, "shape", path, ranks=(0, 1)))
    if value.min() < 1 or value.size > 3:
        raise NetFormatError(
            f"{path}/shape is {shown(tuple(value[:4].tolist()))}, allowed is (C, H, W) or (n,) with sizes above 0"
        )
    return tuple(int(v) for v in value)


def read_text(group: h5py.Group, name: str, path: str) -> str:
    """One string of up to MAX_TEXT bytes."""
    data, place = read_dataset(group, name, path), f"{path}/{shown_name(name)}"
    if data.size != 1 or data.ndim > 1 or not _is_text(data.dtype) or data.dtype.itemsize > MAX_TEXT:
        raise NetFormatError(f"{place} has shape {data.shape} and dtype {shown_name(data.dtype)}, expected one string")
    if data.dtype.kind == "O":  # libhdf5 clears as much memory as the string claims, before it looks for it
        at = data.id.get_offset()
        if at is None or string_length(_descriptor(data.file), at) > MAX_TEXT:
            raise NetFormatError(f"{place} is no string of up to {MAX_TEXT} bytes")
    value = data[()] if data.ndim == 0 else data[0]
    return value.decode("utf-8", "replace")


def _descriptor(file: h5py.File) -> int:
    """Of the open file: its name may be another one's by now."""
    return file.id.get_vfd_handle()


def _is_text(dtype: np.dtype[np.generic]) -> bool:
    return dtype.kind == "S" or h5py.check_string_dtype(dtype) is not None


def read_attribute(file: h5py.File, name: str, kind: type[Read], default: Read | None) -> Read:
    """An integer or a printable string of the file; the default, unless that is None, where there is none."""
    if name not in file.attrs:
        if default is None:
            raise NetFormatError(f"/@{name} is missing; the file was not written by lava-conv or lost its attributes")
        return default
    value = _attribute(file, name)
    if kind is str and isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if kind is int and isinstance(value, np.integer | int) and not isinstance(value, bool):
        return kind(value)
    if kind is str and isinstance(value, str):
        return kind(_printable(value, name))
    raise NetFormatError(f"/@{name} is {shown(value)}, expected {'an integer' if kind is int else 'a string'}")


def read_texts_attribute(file: h5py.File, name: str) -> tuple[str, ...]:
    """A list of printable strings, none where the attribute is missing."""
    if name not in file.attrs:
        return ()
    value = np.asarray(_attribute(file, name))
    if value.ndim != 1 or value.dtype.kind not in "OSU":
        raise NetFormatError(f"/@{name} has shape {value.shape} and dtype {value.dtype}, expected a list of strings")
    texts = (v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in value.tolist())
    return tuple(_printable(text, name) for text in texts)


def _attribute(file: h5py.File, name: str) -> object:
    stored = file.attrs.get_id(name)
    if stored.get_storage_size() > MAX_ATTRIBUTE:
        raise NetFormatError(f"/@{name} has {stored.get_storage_size():,} bytes, allowed are {MAX_ATTRIBUTE:,}")
    if stored.dtype.kind not in "biuf" and not _is_text(stored.dtype):
        raise NetFormatError(f"/@{name} has dtype {shown_name(stored.dtype)}, expected are numbers or strings")
    if stored.dtype.kind == "O" and stored.shape is not None:
        longest = longest_string(_descriptor(file), name, math.prod(stored.shape))
        if longest > MAX_ATTRIBUTE:
            raise NetFormatError(f"/@{name} claims a string of {longest:,} bytes, allowed are {MAX_ATTRIBUTE:,}")
    return file.attrs[name]


def _printable(text: str, name: str) -> str:
    """The text, if it could be written again: short, and without what HDF5 and UTF-8 do not hold."""
    if len(text) > MAX_TEXT or not text.isprintable():
        raise NetFormatError(f"/@{name} holds {shown(text)}, allowed are up to {MAX_TEXT} printable characters")
    return text
