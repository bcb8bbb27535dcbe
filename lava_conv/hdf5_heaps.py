"""A look at the bytes of an HDF5 file before libhdf5 reads it: lists that run in a circle, strings of gigabytes.

libhdf5 (2.0.0 at the latest) follows the free list of a group's names, and the objects of a heap of strings, without
noticing that it stands still, and clears as much memory as a string claims to need before it looks for the string: one
wrong byte takes all time, or all memory. HDF5 File Format Specification 3.0, sections III.D, III.E and VIII.B.
"""

import mmap
import os
import struct
from collections.abc import Callable

from lava_conv.errors import NetFormatError

PREFIX = 8  # bytes of signature, version and what is reserved
LOCAL = struct.Struct("<QQQ")  # size of the data segment, head of its free list, address of the segment
FREE = struct.Struct("<QQ")  # a free block begins with the offset of the next one and its own size
COLLECTION = struct.Struct("<Q")  # its size, this header included
REFERENCE = struct.Struct("<IQI")  # to a string: its length, the address of its collection, its number there
NEGATIVE = (1 << 32) - 1  # what a length would be where the address is but a number that comes after a negative one
MAX_STRING = 1 << 20
MAX_FREE = 100  # blocks in the heap of a group's names: we leave one, whoever deletes names a few
OBJECT = struct.Struct("<HHIQ")  # number (0: the space that is left), references, reserved, size


def check_heaps(path: str | os.PathLike[str]) -> None:
    """Raise NetFormatError if a heap in the file `path` has no end that libhdf5 would come to."""
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:  # which cannot be mapped, and is no HDF5 file either
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for signature, (endless, most) in HEAPS.items():
                at, count = data.find(signature), 0
                while at >= 0:
                    count += 1
                    if count > most or endless(data, at + PREFIX):
                        raise NetFormatError(
                            f"byte {at}: a list of the file's heap runs in a circle, or a string in it is too long; "
                            f"the file is damaged"
                        )
                    at = data.find(signature, at + 1)


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
    return _long_string(data, start)


def _long_string(data: mmap.mmap, collection: int) -> bool:
    """Whether anything that looks like a reference into a collection claims a string that no file here has."""
    address = collection.to_bytes(8, "little")
    at = data.find(address)
    while at >= 0:
        if 4 <= at <= len(data) - 12:
            length, _, number = REFERENCE.unpack_from(data, at - 4)
            aligned = at % 8 == 4  # as references in attributes are, and whole numbers are not
            if length > MAX_STRING and 0 < number < 1 << 16 and (aligned or length != NEGATIVE):
                return True
        at = data.find(address, at + 1)
    return False


# signature and version (three bytes follow that nobody looks at) -> whether what comes after it has no end, and how many to look at
HEAPS: dict[bytes, tuple[Callable[[mmap.mmap, int], bool], int]] = {
    b"HEAP\0": (_endless_names, 100_000),
    b"GCOL\1": (_endless_strings, 1000),
}
