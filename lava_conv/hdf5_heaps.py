"""A look at the bytes of an HDF5 file before libhdf5 reads it: lists that run in a circle.

libhdf5 (2.0.0 at the latest) follows the free list of a group's names, and the objects of a heap of strings, without
noticing that it stands still: one wrong byte there takes all time, or all memory. Both layouts are in the HDF5 File
Format Specification 3.0, sections III.D and III.E.
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
OBJECT = struct.Struct("<HHIQ")  # number (0: the space that is left), references, reserved, size


def check_heaps(path: str | os.PathLike[str]) -> None:
    """Raise NetFormatError if a heap in the file `path` cannot be read to its end."""
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:  # which cannot be mapped, and is no HDF5 file either
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for signature, circular in HEAPS.items():
                at = data.find(signature)
                while at >= 0:
                    if circular(data, at + PREFIX):
                        raise NetFormatError(
                            f"byte {at}: a list of the file's heap runs in a circle; the file is damaged"
                        )
                    at = data.find(signature, at + 1)


def _circular_names(data: mmap.mmap, at: int) -> bool:
    if at + LOCAL.size > len(data):
        return False
    size, free, address = LOCAL.unpack_from(data, at)
    seen = set()
    while free + FREE.size <= size and address + free + FREE.size <= len(data):  # else libhdf5 stops with an error
        if free in seen:
            return True
        seen.add(free)
        free = FREE.unpack_from(data, address + free)[0]
    return False


def _circular_strings(data: mmap.mmap, at: int) -> bool:
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


# signature and version (three bytes follow that nobody looks at) -> whether what comes after it has no end
HEAPS: dict[bytes, Callable[[mmap.mmap, int], bool]] = {
    b"HEAP\0": _circular_names,
    b"GCOL\1": _circular_strings,
}
