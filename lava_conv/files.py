"""Files that are written complete or not at all."""

import contextlib
import glob
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from lava_conv.errors import DataError

ABANDONED = 3600  # seconds after which an unfinished file is taken for that of a killed process


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[str]:
    """Give the name of a temporary file in the folder of `path`, to write and close within the block.

    On leaving the block it takes the place of `path`, safely on the disk and with the mode that the umask gives. If
    anything raises it is removed, and what was at `path` stays. A process that is killed leaves its temporary file; the
    next one that writes `path` removes it once it has not been written to for an hour.

    Raises:
        OSError: `path` is a folder or a device.
    """
    target = Path(path)
    if target.exists() and not target.is_file():  # root would put a file in the place of a device
        raise OSError(f"{target} is no file that could be replaced; name another one")
    # named before it is made, so that Ctrl-C at any moment finds it
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield str(partial)
        with open(partial, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(partial, target)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    _sweep(target)


def _sweep(target: Path) -> None:
    """Remove what killed processes have left of `target`."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        with contextlib.suppress(OSError):  # another process sweeps too
            if time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()


STARTS = (  # first bytes of a file -> what it is, and what to do about it
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"),
    (b"<!doctype html", "is a web page, not the file itself; download it again"),
    (b"<html", "is a web page, not the file itself; download it again"),
)
KINDS = (  # likewise, of files that are whole, but of another kind than the reader takes
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x80", "a pickle"),
    (b"\x93NUMPY", "a single array (.npy)"),
)
SAFETENSORS = b'{"'  # behind the eight bytes of the header's length
HEAD = 64  # bytes that are looked at
NAMED = 3  # files of a folder


def unreadable(path: object, noun: str = "file", ending: str = "") -> str | None:
    """Why there is nothing to read under this name, as words that follow the path; None: it is a file with content.

    Args:
        path: what was passed as a path.
        noun: what is wanted there.
        ending: of the files that are meant, such as ".net"; those of a folder are named.
    """
    name = file_name(path)
    if not os.path.exists(name):
        return f"there is no such {noun}"
    if os.path.isdir(name):
        inside = sorted(file for file in os.listdir(name) if ending and file.endswith(ending))[:NAMED]
        return f"is a folder; name a file in it{', such as ' + ', '.join(inside) if inside else ''}"
    if not os.path.isfile(name):
        return "is a device or a pipe; copy it to a file first"
    try:
        with open(name, "rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        return f"cannot be read ({error.strerror}); check its permissions"
    if not head:
        return "is an empty file; write or copy it again"
    return next((words for start, words in STARTS if head.lower().startswith(start)), None)


def kind_of(path: str | os.PathLike[str]) -> str:
    """What kind of file it is by its first bytes, in words; "" where they do not tell."""
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if head[8:].startswith(SAFETENSORS):
        return "a safetensors file"
    return next((words for start, words in KINDS if head.startswith(start)), "")


def file_name(path: object) -> str:
    """A path as text.

    Raises:
        DataError: it is no path.
    """
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        what = "empty" if isinstance(path, str) else f"of type {type(path).__name__}"
        raise DataError(f"path is {what}; pass the name of a file")
    name = os.fspath(path)
    if not isinstance(name, str) or "\0" in name:
        raise DataError(f"path is {name!r}; pass the name of a file as text")
    return name
