"""What a test session leaves on the machine: processes, and shared memory."""

import os
import time
import uuid
from pathlib import Path

NAME = "LAVA_CONV_TEST_SESSION"  # in the environment of every process that descends from the session
SHARED_MEMORY = Path("/dev/shm")
TRACKER = b"multiprocessing.resource_tracker"  # Python's own; it ends with its parent


def begin():
    """Mark the processes to be started from now on; what is in shared memory already."""
    os.environ.setdefault(NAME, uuid.uuid4().hex)
    return segments()


def segments(folder=SHARED_MEMORY):
    """Names of the segments; none where the system has no such folder."""
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def processes(proc=Path("/proc")):
    """Ids of other living processes that bear this session's mark, or are children of this process."""
    mark, found = f"{NAME}={os.environ[NAME]}".encode(), set()
    for folder in proc.glob("[0-9]*"):
        try:
            marked = mark in (folder / "environ").read_bytes().split(b"\0")
            own = int(folder.name) == os.getpid() or TRACKER in (folder / "cmdline").read_bytes()
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has ended meanwhile, or is another user's
            continue
        if (marked or int(parent) == os.getpid()) and state != "Z" and not own:
            found.add(int(folder.name))
    return found


def left_behind(before, seconds=10.0):
    """One sentence for each kind of thing that is still there after some seconds."""
    end = time.monotonic() + seconds
    while True:
        running, shared = processes(), segments() - before
        if not (running or shared) or time.monotonic() > end:
            break
        time.sleep(0.1)
    found = [("processes", running), ("segments in /dev/shm", shared)]
    return [f"the session left {kind} behind: {sorted(things)}" for kind, things in found if things]
