"""A look at the bytes of an HDF5 file before libhdf5 reads it: lists that run in a circle, strings of gigabytes.

libhdf5 (2.0.0 at the latest) follows the free list of a group's names, and the objects of a heap of strings, without
noticing that it stands still, and clears as much memory as a string claims to need before it looks for the string: one
wrong byte takes all time, or all memory. HDF5 File Format Specification 3.0, sections III.D, III.E and IV.A.2.m.
"""

import mmap
import os
import struct
from collections.abc import Callable, Iterable

from lava_conv.errors import NetFormatError

PREFIX = 8  # bytes of signature, version and what is reserved
LOCAL = struct.Struct("<QQQ")  # size of the data segment, head of its free list, address of the segment
FREE = struct.Struct("<QQ")  # a free block begins with the offset of the next one and its own size
COLLECTION = struct.Struct("<Q")  # its size, this header included
REFERENCE = struct.Struct("<IQI")  # to a string: its length, the address of its collection, its number there
SIZES = struct.Struct("<HHH")  # of an attribute's name, type and space
DIMENSION = struct.Struct("<Q")
VARIABLE = 9  # class of types of variable length
MAX_STRING = 1 << 20
MAX_NAMES = 1000  # of attributes that are called alike; one or two are ours
MAX_FREE = 100  # blocks in the heap of a group's names: we leave one, whoever deletes names a few
OBJECT = struct.Struct("<HHIQ")  # number (0: the space that is left), references, reserved, size


def check_heaps(path: str | os.PathLike[str], attributes: Iterable[str] = ()) -> None:
    """Raise NetFormatError if a heap in the file `path` has no end, or a string in one of these attributes."""
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:  # which cannot be mapped, and is no HDF5 file either
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for signature, (endless, most) in HEAPS.items():
                at, count = data.find(signature), 0
                while at >= 0:
                    count += 1
                    if count > most or endless(data, at + PREFIX):
                        raise NetFormatError(f"byte {at}: a list of the file's heap runs in a circle; it is damaged")
                    at = data.find(signature, at + 1)
            for name in attributes:
                if _long_strings(data, name.encode()):
                    raise NetFormatError(f"/@{name} claims a string of more than {MAX_STRING:,} bytes; it is damaged")


def _endless_names(data: mmap.mmap, at: int) -> bool:
    if at + LOCAL.size > len(data):
        return False
    size, free, address = LOCAL.unpack_from(data, at)
    seen = set()
    while free + FREE.size <= size and address + free + FREE.size <= len(data):  # else libhdf5 stops with an error
        if free in seen or len(seen) > MAX_FREE:
            return True
        seen.add(free)
        free = FREE.unpack_from(data, address + free)[0]
    return False


def _endless_strings(data: mmap.mmap, at: int) -> bool:
    start = at - PREFIX
    at += COLLECTION.size
    end = min(start + COLLECTION.unpack_from(data, at - COLLECTION.size)[0], len(data)) if at <= len(data) else 0
    while at + OBJECT.size <= end:
        number, _, _, size = OBJECT.unpack_from(data, at)
        need = (size if number == 0 else OBJECT.size + -(-size // 8) * 8) % (1 << 64)
        if need == 0:
            return True
        at += need
    return False


def _long_strings(data: mmap.mmap, name: bytes) -> bool:
    """Whether a file holds an attribute of this name made of strings, one of which claims to be far too long."""
    at = data.find(name + b"\0")
    for _ in range(MAX_NAMES):
        if at < 0:
            return False
        for version, before, pad in ((1, 8, 8), (3, 9, 1)):
            if at >= before and data[at - before] == version and _claims(data, at, len(name) + 1, before, pad):
                return True
        at = data.find(name + b"\0", at + 1)
    return True


def _claims(data: mmap.mmap, at: int, length: int, before: int, pad: int) -> bool:
    """For an attribute message with its name at `at`, its header so far before, its parts padded to `pad` bytes."""
    name_size, type_size, space_size = SIZES.unpack_from(data, at - before + 2)
    kind = at - (-name_size // pad) * pad
    space = kind - (-type_size // pad) * pad
    first = space - (-space_size // pad) * pad
    if name_size != length or first + REFERENCE.size > len(data) or data[kind] % 16 != VARIABLE:
        return False
    count = 1
    if data[space + 1]:  # its rank; a scalar is one string
        count = DIMENSION.unpack_from(data, space + (8 if data[space] == 1 else 4))[0]
    most = min(first + min(count, MAX_STRING // REFERENCE.size) * REFERENCE.size, len(data) - REFERENCE.size + 1)
    return any(REFERENCE.unpack_from(data, i)[0] > MAX_STRING for i in range(first, most, REFERENCE.size))


# signature and version (three bytes follow that nobody looks at) -> whether it has no end, and how many to look at
HEAPS: dict[bytes, tuple[Callable[[mmap.mmap, int], bool], int]] = {
    b"HEAP\0": (_endless_names, 100_000),
    b"GCOL\1": (_endless_strings, 1000),
}


def string_length(path: str | os.PathLike[str], at: int) -> int:
    """What a string of variable length claims to be long, from its reference at byte `at` of the file `path`."""
    with open(path, "rb") as file:
        file.seek(at)
        reference = file.read(REFERENCE.size)
    return REFERENCE.unpack(reference)[0] if len(reference) == REFERENCE.size else 0
