"""The child processes of watched runtimes: how they end with their parent, and why one of them has ended."""

import contextlib
import ctypes
import math
import multiprocessing
import multiprocessing.util  # its exit hook must be registered before ours: the last one in runs first
import queue
import signal
import threading
import time
import weakref
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

from lava_conv.errors import BackendError, LavaConvError, RangeError
from lava_conv.lava.types import LavaObject

T = TypeVar("T")
GRACE = 0.5  # seconds between a child's end and the report, in which another child's traceback may arrive
PR_SET_PDEATHSIG = 1

forking = False  # true while a watched runtime starts its children


class Killable(Protocol):
    """A runtime that can end its children at once."""

    def kill(self) -> None:
        """End the children and free their shared memory."""


_live: "weakref.WeakSet[Killable]" = weakref.WeakSet()


class ChildTraceback(Exception):
    """The traceback of a child process, as text; the cause of the BackendError that reports it."""

    def __str__(self) -> str:
        return "\n" + str(self.args[0])


class End(NamedTuple):
    """Why a run cannot continue.

    Fields:
        reason: one sentence for later calls on the same runtime.
        error: the exception to raise.
    """

    reason: str
    error: BaseException


def in_child() -> None:
    """Children of a watched runtime end with their parent, and leave Ctrl-C to it."""
    if forking:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def keep(runtime: Killable) -> None:
    """End the children of `runtime` when the program exits."""
    _live.add(runtime)


def forget(runtime: Killable) -> None:
    """Undo `keep`: the children have ended."""
    _live.discard(runtime)


def stop_all() -> None:
    """End the children of every runtime that is still alive."""
    for runtime in list(_live):
        runtime.kill()


def failure(name: str, error: BaseException, trace: str) -> End:
    """The end of a run whose process `name` raised `error`; `trace` is its traceback as text."""
    if isinstance(error, LavaConvError):
        return End(str(error), error)
    sentence = f"process {name} failed: {type(error).__name__}: {error}"
    reported = BackendError(sentence)
    reported.__cause__ = ChildTraceback(trace)
    return End(sentence, reported)


def check_may_start() -> None:
    """Raise BackendError where this thread or process must not start Lava."""
    if threading.current_thread() is not threading.main_thread():
        raise BackendError("Lava must be started from the main thread; its children end with the thread that made them")
    if multiprocessing.current_process().daemon:
        raise BackendError(
            f"Lava starts processes, and {multiprocessing.current_process().name} may not: it is a daemon, as the "
            f"workers of multiprocessing.Pool are; use concurrent.futures.ProcessPoolExecutor or a Process with "
            f"daemon=False"
        )


def check_timeout(timeout: float) -> None:
    """Raise RangeError unless `timeout` is a finite number of seconds above 0."""
    if not (math.isfinite(timeout) and timeout > 0):
        raise RangeError(f"timeout is {timeout}, allowed is a number of seconds above 0")


def take(answers: "queue.Queue[T]") -> tuple[T] | None:
    """(item,) if the queue holds one, else None."""
    with contextlib.suppress(queue.Empty):
        return (answers.get_nowait(),)
    return None


class Children:
    """Which children of one runtime have ended.

    Args:
        names: of the processes, in the order in which Lava starts them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._finished: set[int] = set()  # ended without an error
        self._gone_since: float | None = None

    def name(self, number: int) -> str:
        """Name of a child by its number; the runtime service follows the processes."""
        return self.names[number] if number < len(self.names) else "the runtime service"

    def ended(self, actors: Sequence[LavaObject], phase: str) -> End | None:
        """Why the run cannot continue, None while all children live.

        A child that failed ends the run at once. One that merely ended may be the echo of another's failure, so it
        is reported after GRACE seconds.

        Args:
            actors: Lava's processes.
            phase: what the parent waits for, for the message.
        """
        gone: str | None = None
        for number, actor in enumerate(actors):
            if actor._is_done:
                continue
            if actor._pconn.poll():
                failed = actor._pconn.recv()
                if failed is not None:
                    return failure(self.name(number), failed[0], failed[1])
                self._finished.add(number)
            if number in self._finished:
                gone = gone or f"process {self.name(number)} ended by itself while {phase}"
            elif not actor.is_alive():
                code = actor.exitcode
                how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
                gone = f"process {self.name(number)} died ({how}) while {phase}; look for memory pressure or a kill"
        if gone is None:
            self._gone_since = None
        elif self._gone_since is None:
            self._gone_since = time.monotonic()
        elif time.monotonic() - self._gone_since > GRACE:
            return End(gone, BackendError(gone))
        return None
