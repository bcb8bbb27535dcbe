"""Files that are written complete or not at all."""

import contextlib
import glob
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ABANDONED = 3600  # seconds after which an unfinished file is taken for that of a killed process


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[str]:
    """Give the name of a temporary file in the folder of `path`, to write and close within the block.

    On leaving the block it takes the place of `path`, safely on the disk and with the mode that the umask gives. If
    anything raises it is removed, and what was at `path` stays. A process that is killed leaves its temporary file; the
    next one that writes `path` removes it once it has not been written to for an hour.
    """
    target = Path(path)
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
        _sweep(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise


def _sweep(target: Path) -> None:
    """Remove what killed processes have left of `target`."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        with contextlib.suppress(OSError):  # another process sweeps too
            if time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()
