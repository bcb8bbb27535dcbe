"""Shared memory that a killed run could not give back: written down while a run lives, swept at the next start.

One small file per run, named by process and start time, lists the segments. If that process is gone, they are removed.
"""

import contextlib
import json
import os
import tempfile
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"lava-conv-runs-{os.getuid()}"


def _start_time(pid: int) -> str | None:
    """Start of a living process in clock ticks since boot: a pid alone may have been given to another by now."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None


def write_down(run: int, segments: list[str]) -> Path | None:
    """List the segments of run number `run` of this process; the file is removed by `give_back`."""
    pid = os.getpid()
    path = _folder() / f"{pid}-{_start_time(pid)}-{run}.json"
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_text(json.dumps(segments))
    except OSError:
        return None  # without the note a killed run leaves its segments behind; the run itself is not at stake
    return path


def give_back(path: Path | None) -> None:
    """Forget a run that ended in order."""
    if path is not None:
        path.unlink(missing_ok=True)


def sweep() -> int:
    """Remove the segments of runs whose process is gone; returns how many."""
    removed = 0
    folder = _folder()
    if not folder.is_dir():
        return 0
    for path in folder.glob("*.json"):
        pid, _, rest = path.stem.partition("-")
        if not pid.isdigit() or _start_time(int(pid)) == rest.partition("-")[0]:
            continue
        with contextlib.suppress(OSError, ValueError):
            for name in json.loads(path.read_text()):
                if isinstance(name, str) and "/" not in name:
                    with contextlib.suppress(OSError):
                        (SHARED_MEMORY / name).unlink()
                        removed += 1
        with contextlib.suppress(OSError):
            path.unlink()
    return removed
