"""A look at the bytes of an HDF5 file before libhdf5 reads it: lists of free space that run in a circle.

libhdf5 (2.0.0 at the latest) follows the free list of a group's local heap without counting, and takes memory for each
turn; one wrong byte there would fill the machine. HDF5 File Format Specification 3.0, section III.D.
"""

import mmap
import os
import struct

from lava_conv.errors import NetFormatError

HEAP = b"HEAP\0\0\0\0"  # signature, version 0, three bytes that are 0
HEADER = struct.Struct("<QQQ")  # after it: size of the data segment, head of its free list, address of the segment
FREE = struct.Struct("<QQ")  # a free block begins with the offset of the next one and its own size


def check_heaps(path: str | os.PathLike[str]) -> None:
    """Raise NetFormatError if a local heap's free list in the file `path` comes back to where it was."""
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:  # which cannot be mapped, and is no HDF5 file either
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            at = data.find(HEAP)
            while at >= 0:
                if at + len(HEAP) + HEADER.size <= len(data) and _circular(
                    data, *HEADER.unpack_from(data, at + len(HEAP))
                ):
                    raise NetFormatError(f"byte {at}: the free list of a group's names runs in a circle")
                at = data.find(HEAP, at + 1)


def _circular(data: mmap.mmap, size: int, free: int, address: int) -> bool:
    """Whether a free list does not end; one that leaves its segment or the file does, with an error of libhdf5."""
    seen = set()
    while free + FREE.size <= size and address + free + FREE.size <= len(data):
        if free in seen:
            return True
        seen.add(free)
        free = FREE.unpack_from(data, address + free)[0]
    return False
