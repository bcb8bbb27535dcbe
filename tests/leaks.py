"""What a test session leaves on the machine: processes, and shared memory."""

import contextlib
import os
import time
import uuid
from pathlib import Path

NAME = "LAVA_CONV_TEST_SESSION"  # in the environment of every process that descends from the session, or its worker
SHARED_MEMORY = Path("/dev/shm")
TRACKER = b"multiprocessing.resource_tracker"  # Python's own; it ends with its parent


def begin():
    """Mark the processes to be started from now on; what is in shared memory already."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker or NAME not in os.environ:
        os.environ[NAME] = f"{os.environ.get(NAME) or uuid.uuid4().hex}{worker}/"
    return segments()


def segments(folder=SHARED_MEMORY):
    """Names of the segments; none where the system has no such folder."""
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def new_segments(before, folder=SHARED_MEMORY, proc=Path("/proc")):
    """Names of the segments that are new, without those in use by a process of another session or worker."""
    new = segments(folder) - before
    if new:
        for process in proc.glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended meanwhile, or is another user's
                if not of_this_session(process):
                    maps = (process / "maps").read_text()
                    new = {name for name in new if f"{folder / name}" not in maps}
    return new


def of_this_session(process):
    """Whether a process, given by its folder in /proc, is this one, a child of it, or bears the session's mark."""
    mark = b"\0" + f"{NAME}={os.environ[NAME]}".encode()
    if int(process.name) == os.getpid() or mark in b"\0" + (process / "environ").read_bytes():
        return True
    return parent_and_state(process)[0] == os.getpid()


def parent_and_state(process):
    state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
    return int(parent), state


def processes(proc=Path("/proc")):
    """Ids of other living processes that bear this session's mark, or are children of this process."""
    found = set()
    for process in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            own = int(process.name) == os.getpid() or TRACKER in (process / "cmdline").read_bytes()
            if not own and of_this_session(process) and parent_and_state(process)[1] != "Z":
                found.add(int(process.name))
    return found


def left_behind(before, seconds=10.0):
    """One sentence for each kind of thing that is still there after some seconds."""
    end = time.monotonic() + seconds
    while True:
        running, shared = processes(), new_segments(before)
        if not (running or shared) or time.monotonic() > end:
            break
        time.sleep(0.1)
    found = [("processes", running), ("segments in /dev/shm", shared)]
    return [f"the session left {kind} behind: {sorted(things)}" for kind, things in found if things]
