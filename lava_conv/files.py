"""Files that are written complete or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[str]:
    """Give the name of a temporary file in the folder of `path`, to write and close within the block.

    On leaving the block it takes the place of `path`, safely on the disk and with the mode that the umask gives. If
    anything raises it is removed, and what was at `path` stays. OSError if that is a folder or a device.
    """
    target = Path(path)
    if target.exists() and not target.is_file():  # root would put a file in the place of a device
        raise OSError(f"{target} is no file that could be replaced")
    handle, partial = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    try:
        yield partial
        with open(partial, "rb+") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)  # it can only be read by setting it
        os.umask(umask)
        os.chmod(partial, 0o666 & ~umask)
        os.replace(partial, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise
