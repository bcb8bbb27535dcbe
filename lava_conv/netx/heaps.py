"""A look at the bytes of an HDF5 file before libhdf5 reads them: does a heap's list end, how long claim strings to be.

libhdf5 (2.0.0 at the latest) follows the free list of a group's names, and the objects of a heap of strings, without
noticing that it stands still, and clears as much memory as a string claims to need before it looks for the string: one
wrong byte takes all time, or all memory. HDF5 File Format Specification 3.0, sections II.A, III.D, III.E, IV.A.2.m.
"""

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress

from lava_conv.errors import NetFormatError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SIZES_AT = {0: 13, 1: 13, 2: 9, 3: 9}  # version of the superblock -> where it says how long addresses and lengths are
MAX_FILE = 1 << 30  # bytes; a look takes as much memory
MAX_PIECES = 200_000  # of all heaps; with them the look takes a fraction of a second
LOCAL = struct.Struct("<8xQQQ")  # size of the segment with the names, offset of its first free block, its address
FREE = struct.Struct("<Q")  # a free block begins with the offset of the next
LAST_FREE = 1
COLLECTION = struct.Struct("<8xQ")  # its size, this header included
OBJECT = struct.Struct("<H6xQ")  # number (0: the space that is left) and size
REFERENCE = struct.Struct("<I12x")  # to a string: its length, then where it is
ATTRIBUTE = {1: (8, 8), 3: (9, 1)}  # version -> bytes before the name, what the parts are padded to
PARTS = struct.Struct("<HHH")  # sizes of an attribute's name, type and space
DIMENSION = struct.Struct("<Q")
VARIABLE = 9  # class of types of variable length


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, min(os.fstat(descriptor).st_size, MAX_FILE), 0)


def check_heaps(path: str | os.PathLike[str]) -> None:
    """Raise NetFormatError if a heap in the file `path` has no end, OSError if its addresses are not the usual ones."""
    with open(path, "rb") as file:
        if (size := os.fstat(file.fileno()).st_size) > MAX_FILE:
            raise NetFormatError(f"the file has {size:,} bytes, allowed are {MAX_FILE:,}")
        data = _content(file.fileno())
    base = data.find(SIGNATURE)  # what addresses count from
    if base < 0:  # then libhdf5 reads nothing
        return
    head = data[base : base + 16].ljust(16, b"\0")
    at = SIZES_AT.get(head[8], 0)
    if at and head[at : at + 2] != b"\x08\x08":
        raise OSError("its addresses or lengths do not take 8 bytes")
    left = MAX_PIECES
    for signature, pieces in HEAPS.items():
        at = data.find(signature)
        while at >= 0:
            left -= 1 + _length(pieces(data, at, base), left)
            if left < 0:
                raise NetFormatError(f"byte {at}: a list of the file's heap has no end; the file is damaged")
            at = data.find(signature, at + 1)


def _length(pieces: Iterator[int], most: int) -> int:
    """How many pieces a list has; `most` where there are more of them or it comes back to one."""
    seen: set[int] = set()
    with suppress(struct.error, OverflowError):  # beyond the end of the file libhdf5 itself stops
        for piece in pieces:
            if piece in seen or len(seen) == most:
                return most
            seen.add(piece)
    return len(seen)


def _free_blocks(data: bytes, at: int, base: int) -> Iterator[int]:
    size, free, segment = LOCAL.unpack_from(data, at)
    while free != LAST_FREE and free < size:
        yield free
        (free,) = FREE.unpack_from(data, base + segment + free)


def _strings(data: bytes, at: int, base: int) -> Iterator[int]:
    end = at + COLLECTION.unpack_from(data, at)[0]
    at += COLLECTION.size
    while at + OBJECT.size <= end:
        yield at
        number, size = OBJECT.unpack_from(data, at)
        at += (size if number == 0 else OBJECT.size + -(-size // 8) * 8) % (1 << 64)  # as libhdf5 adds up


# signature and version, of which three more bytes are left out that nobody looks at
HEAPS: dict[bytes, Callable[[bytes, int, int], Iterator[int]]] = {b"HEAP\0": _free_blocks, b"GCOL\1": _strings}


def string_length(descriptor: int, at: int) -> int:
    """How many bytes the string claims that byte `at` of an open file refers to; 0 beyond its end."""
    with suppress(struct.error, OverflowError):
        return REFERENCE.unpack(os.pread(descriptor, REFERENCE.size, at))[0]
    return 0


def longest_string(descriptor: int, attribute: str, count: int) -> int:
    """How many bytes one of the `count` strings of an attribute claims at the most; its place is found by its name."""
    name, longest, data = attribute.encode() + b"\0", 0, _content(descriptor)
    at = data.find(name)
    while at >= 0:
        for version, (before, pad) in ATTRIBUTE.items():
            with suppress(struct.error, IndexError):
                if at >= before and data[at - before] == version:
                    first = _values(data, at, len(name), before, pad, count)
                    stored = data[first : first + count * REFERENCE.size] if first else b""
                    longest = max([longest, *(claim for (claim,) in REFERENCE.iter_unpack(stored))])
        at = data.find(name, at + 1)
    return longest


def _values(data: bytes, at: int, length: int, before: int, pad: int, count: int) -> int:
    """Where the `count` references to strings begin, of an attribute with its name at `at`; 0 if it is no such one."""
    name_size, type_size, space_size = PARTS.unpack_from(data, at - before + 2)
    kind = at - (-name_size // pad) * pad
    space = kind - (-type_size // pad) * pad
    first = space - (-space_size // pad) * pad
    if name_size != length or first > len(data) or data[kind] % 16 != VARIABLE:
        return 0
    version, rank = data[space], data[space + 1]
    stored = DIMENSION.unpack_from(data, space + (8 if version == 1 else 4))[0] if rank else 1
    return first if stored == count else 0
