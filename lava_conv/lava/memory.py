"""The process that allocates Lava's shared memory. Requests to it have no time limit, so it is watched here."""

import contextlib
import threading
import time
from collections.abc import Callable

from lava_conv.lava.types import LavaObject, Process, Segment

POLL = 0.1
SETTLE = 0.5
SHUTDOWN = 3.0  # seconds an orderly end may take


class Patience:
    """While the block runs, kill the process after `timeout` seconds without a beat, so that callers get an error.

    Args:
        manager: gives Lava's SharedMemoryManager, or None as long as there is none.
        timeout: seconds between two beats.
    """

    def __init__(self, manager: Callable[[], LavaObject], timeout: float) -> None:
        self._manager, self._timeout = manager, timeout
        self._last = time.monotonic()
        self._over = threading.Event()

    def beat(self) -> None:
        """Note progress."""
        self._last = time.monotonic()

    def __enter__(self) -> "Patience":
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(POLL):
            if time.monotonic() > self._last + self._timeout:
                kill(self._manager())
                return


def process_of(manager: LavaObject) -> Process | None:
    """The process of Lava's SharedMemoryManager, None before it started and after it ended in order."""
    return getattr(getattr(manager, "_manager", None), "_process", None)


def kill(manager: LavaObject) -> None:
    """End the process at once."""
    _kill(process_of(manager))


def died(manager: LavaObject) -> bool:
    """Whether the process was there and is not any more."""
    process = process_of(manager)
    if process is None or process.pid is None:  # it could not be started
        return False
    process.join(SETTLE)  # its connection is reset a moment before it is seen to be gone
    return not process.is_alive()


def end(manager: LavaObject, process: Process | None, handles: list[Segment]) -> None:
    """End the process, in order if it still answers, and free the segments `handles` that it gave out."""
    worker = threading.Thread(target=_shut_down, args=(manager,), daemon=True)
    worker.start()
    worker.join(SHUTDOWN)
    if process is not None and process.is_alive():  # stopped, or busy with an end that another thread asked for
        _kill(process)
        process.join(SHUTDOWN)
        worker.join(SHUTDOWN)
    for handle in handles:
        with contextlib.suppress(OSError):  # gone already, after an orderly end
            handle.unlink()


def _kill(process: Process | None) -> None:
    if process is not None:
        with contextlib.suppress(ValueError, OSError):
            process.kill()


def _shut_down(manager: LavaObject) -> None:
    with contextlib.suppress(Exception):
        manager.shutdown()
