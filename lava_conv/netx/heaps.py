"""A look at the bytes of an HDF5 file before libhdf5 reads them: does a heap's list end, how long claim strings to be.

libhdf5 (2.0.0 at the latest) follows the free list of a group's names, and the objects of a heap of strings, without
noticing that it stands still, and clears as much memory as a string claims to need before it looks for the string: one
wrong byte takes all time, or all memory. HDF5 File Format Specification 3.0, sections II.A, III.D, III.E, IV.A.2.m.
"""

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import accumulate

from lava_conv.errors import NetFormatError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_FILE = 1 << 32  # bytes; no chip holds the network, and a hole in a file costs whoever makes it nothing
MAX_PIECES = 200_000  # of all heaps; with them the look takes a fraction of a second
BLOCK = 1 << 20  # bytes that are searched at a time
BEYOND = (
    struct.error,
    OverflowError,
    OSError,
)  # what reading beyond the ends of a file raises; there libhdf5 stops too
SUPERBLOCK = struct.Struct("<8xB7s")  # its version, and bytes 9 to 15
SIZES_AT = {0: 4, 1: 4, 2: 0, 3: 0}  # version -> where in those bytes it says how long addresses and lengths are
LOCAL = struct.Struct("<8xQQQ")  # size of the segment with the names, offset of its first free block, its address
FREE = struct.Struct("<Q")  # a free block begins with the offset of the next
LAST_FREE = 1
COLLECTION = struct.Struct("<8xQ")  # its size, this header included
OBJECT = struct.Struct("<H6xQ")  # number (0: the space that is left) and size
REFERENCE = struct.Struct("<I12x")  # to a string: its length, then where it is
ATTRIBUTE = struct.Struct("<BxHHH")  # version, sizes of its name, type and space, which follow
LAYOUTS = {1: (8, 8), 3: (9, 1)}  # version of an attribute -> bytes before its name, what the parts are padded to
KIND = struct.Struct("<B")  # of a type: version and class
VARIABLE = 9  # the class of types of variable length
SPACE = struct.Struct("<BB")  # version and rank, then at 4 or 8 the dimensions
DIMENSION = struct.Struct("<Q")


def check_heaps(path: str | os.PathLike[str]) -> None:
    """Raise NetFormatError if a heap in the file `path` has no end, OSError if its addresses are not the usual ones."""
    with open(path, "rb") as opened:
        file = opened.fileno()
        if (size := os.fstat(file).st_size) > MAX_FILE:
            raise NetFormatError(f"the file has {size:,} bytes, allowed are {MAX_FILE:,}")
        base = next(_places(file, SIGNATURE), 0)  # what addresses count from
        with suppress(struct.error):
            version, sizes = SUPERBLOCK.unpack(os.pread(file, SUPERBLOCK.size, base))
            if version in SIZES_AT and not sizes.startswith(b"\x08\x08", SIZES_AT[version]):
                raise OSError("its addresses or lengths do not take 8 bytes")
        left = MAX_PIECES
        for signature, pieces in HEAPS.items():
            for at in _places(file, signature):
                left -= 1 + _length(pieces(file, at, base), left)
                if left < 0:
                    raise NetFormatError(f"byte {at}: a list of the file's heap has no end; the file is damaged")


def _places(file: int, word: bytes) -> Iterator[int]:
    """Where a word stands in an open file."""
    start = 0
    while len(block := os.pread(file, BLOCK, start)) >= len(word):
        at = block.find(word)
        while at >= 0:
            yield start + at
            at = block.find(word, at + 1)
        start += len(block) - len(word) + 1


def _read(file: int, layout: struct.Struct, at: int) -> tuple[int, ...]:
    return layout.unpack(os.pread(file, layout.size, at))


def _length(pieces: Iterator[int], most: int) -> int:
    """How many pieces a list has; `most` where there are more of them or it comes back to one."""
    seen: set[int] = set()
    with suppress(*BEYOND):
        for piece in pieces:
            if piece in seen or len(seen) == most:
                return most
            seen.add(piece)
    return len(seen)


def _free_blocks(file: int, at: int, base: int) -> Iterator[int]:
    size, free, segment = _read(file, LOCAL, at)
    while free != LAST_FREE and free < size:
        yield free
        (free,) = _read(file, FREE, base + segment + free)


def _strings(file: int, at: int, base: int) -> Iterator[int]:
    end = at + _read(file, COLLECTION, at)[0]
    at += COLLECTION.size
    while at + OBJECT.size <= end:
        yield at
        number, size = _read(file, OBJECT, at)
        at += (size if number == 0 else OBJECT.size + -(-size // 8) * 8) % (1 << 64)  # as libhdf5 adds up


# signature and version, of which three more bytes are left out that nobody looks at
HEAPS: dict[bytes, Callable[[int, int, int], Iterator[int]]] = {b"HEAP\0": _free_blocks, b"GCOL\1": _strings}


def string_length(file: int, at: int) -> int:
    """How many bytes the string claims that byte `at` of an open file refers to; 0 beyond its end."""
    with suppress(*BEYOND):
        return _read(file, REFERENCE, at)[0]
    return 0


def longest_string(file: int, attribute: str, count: int) -> int:
    """How many bytes one of the `count` strings of an attribute claims at the most; its place is found by its name."""
    name, longest = attribute.encode() + b"\0", 0
    for at in _places(file, name):
        for version in LAYOUTS:
            with suppress(*BEYOND):
                longest = max([longest, *_claims(file, at, len(name), version, count)])
    return longest


def _claims(file: int, at: int, length: int, version: int, count: int) -> list[int]:
    """What `count` strings of an attribute with its name at `at` claim; none if it is no such attribute."""
    before, pad = LAYOUTS[version]
    found, *sizes = _read(file, ATTRIBUTE, at - before)
    kind, space, first = accumulate(-(-size // pad) * pad for size in sizes)
    if (found, sizes[0]) != (version, length) or _read(file, KIND, at + kind)[0] % 16 != VARIABLE:
        return []
    layout, rank = _read(file, SPACE, at + space)
    stored = _read(file, DIMENSION, at + space + (8 if layout == 1 else 4))[0] if rank else 1
    values = os.pread(file, count * REFERENCE.size, at + first) if stored == count else b""
    return [claim for (claim,) in REFERENCE.iter_unpack(values)]
