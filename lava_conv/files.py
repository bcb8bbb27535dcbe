"""Files that are written complete or not at all."""

import contextlib
import glob
import os
import secrets
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

    Raises:
        OSError: `path` is a folder or a device.
    """
    target = Path(path)
    if target.exists() and not target.is_file():  # root would put a file in the place of a device
        raise OSError(f"{target} is no file that could be replaced")
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
