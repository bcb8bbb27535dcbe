"""What the commands show: results on stdout, everything else on stderr, as much of it as --quiet and --verbose say."""

import logging
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from importlib import metadata
from threading import Event, Thread
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from lava_conv import __version__

if TYPE_CHECKING:
    from lava_conv.analysis.ledger import Ledger

# what is printed holds names of files and other words of users, which are no markup
out = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
LINES = 10.0  # seconds between lines where no bar can be drawn
BEAT = 0.05  # seconds between looks at the clock, at least
TOLD = ("lava-nc", "lava-dl", "torch", "numpy", "h5py", "numba")  # with --verbose, of what release they are


class Level(IntEnum):
    """How much is shown."""

    QUIET = 0  # results and errors
    NORMAL = 1
    VERBOSE = 2  # and what every module logs, versions, tracebacks


_level = Level.NORMAL


def begin() -> None:
    """As if nothing had been asked for yet; a program may call the command line more than once."""
    global _level
    if _level == Level.VERBOSE:
        logging.getLogger("lava_conv").handlers.clear()
    _level = Level.NORMAL


def _choose(context: click.Context, parameter: click.Parameter, chosen: bool) -> None:
    """Set the level; the option may stand before the command's name or after it."""
    global _level
    if not chosen:
        return
    level = Level.QUIET if parameter.name == "quiet" else Level.VERBOSE
    if _level not in (Level.NORMAL, level):
        raise click.UsageError("--quiet and --verbose exclude each other; choose one")
    if level == Level.VERBOSE and _level != level:
        _listen("lava_conv")
        err.print(versions())
    _level = level


def level_options() -> list[click.Option]:
    """--quiet and --verbose, for any command."""
    told = {"is_flag": True, "expose_value": False, "is_eager": True, "callback": _choose}
    return [
        click.Option(["-q", "--quiet"], help="Show results and errors only.", **told),
        click.Option(["-v", "--verbose"], help="Show what is done, versions, and where an error arose.", **told),
    ]


def versions() -> str:
    """This package, Python, the machine and the packages that matter, in one line."""
    found = [f"lava-conv {__version__}, Python {platform.python_version()}, {os.cpu_count()} cores"]
    for name in TOLD:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def complain(sentence: str) -> None:
    """An error, in one sentence; with --verbose where it arose."""
    if _level == Level.VERBOSE and sys.exc_info()[0]:
        err.print(traceback.format_exc().rstrip())
    rank = os.environ.get("RANK", "0")  # set by torchrun; the others must be told apart from the first
    err.print(f"{'' if rank == '0' else f'process {rank}: '}error: {sentence}", style="red")


def note(sentence: str) -> None:
    """Something that the user should know beside the result, on stderr."""
    if _level != Level.QUIET:
        err.print(sentence, markup=False)


class Advance:
    """Moves a bar, as a `lava_conv.progress.Progress`; figures may be shown beside it.

    Where the bar cannot be drawn (a pipe, a file) a line says the same every LINES seconds.
    """

    def __init__(self, bar: Progress, task: TaskID, text: str, lines: bool) -> None:
        self._bar, self._task, self._text, self._lines = bar, task, text, lines
        self._began = self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Set what is done of how many."""
        self._bar.update(self._task, completed=done, total=total)
        if self._lines:
            self._say()

    def show(self, figures: str) -> None:
        """Set what stands beside the bar."""
        self._bar.update(self._task, figures=figures)

    def _say(self) -> None:
        now = time.monotonic()
        if now - self._last >= LINES:
            self._last = now
            err.print(self._line(now - self._began), markup=False)

    @contextmanager
    def heard(self) -> Iterator["Advance"]:
        """Within it a line comes every LINES seconds even if nothing moves: a layer may take minutes."""
        if not self._lines:
            yield self
            return
        over = Event()

        def beat() -> None:
            while not over.wait(max(LINES, BEAT)):
                self._say()

        thread = Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join()

    def _line(self, seconds: float) -> str:
        task = self._bar.tasks[self._task]
        line = f"{self._text}: {task.completed:,.0f}" + ("" if task.total is None else f" of {task.total:,.0f}")
        line += f", {_clock(seconds)}"
        if task.total and 0 < task.completed <= task.total:
            line += f", {_clock(seconds * (task.total / task.completed - 1))} left"
        figures = task.fields["figures"]
        return f"{line}, {figures}" if figures else line


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


@contextmanager
def progress(text: str, total: int | None = None, shown: bool = True) -> Iterator[Advance]:
    """A bar with elapsed and remaining time on stderr; call it with what is done of how many.

    Args:
        text: what is done.
        total: how many there are, None: unknown until it is called.
        shown: whether there is a bar at all.
    """
    columns = (
        TextColumn("{task.description:<28}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    shown = shown and _level != Level.QUIET
    with Progress(*columns, console=err, disable=not shown) as bar:
        task = bar.add_task(text, total=total, figures="")
        with Advance(bar, task, text, lines=shown and not err.is_terminal).heard() as advance:
            yield advance


def _listen(*names: str) -> logging.Handler:
    """What these modules log goes to stderr, a sentence each."""
    handler = logging.Handler()
    handler.emit = lambda record: err.print(record.getMessage())  # type: ignore[method-assign]
    for name in names:
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.INFO)
    return handler


@contextmanager
def log_shown(*names: str) -> Iterator[None]:
    """What these modules log is shown, unless nothing is to be shown or everything is shown anyway."""
    levels = {name: logging.getLogger(name).level for name in names}
    handler = _listen(*names) if _level == Level.NORMAL else None
    try:
        yield
    finally:
        for name in names if handler else ():
            logging.getLogger(name).removeHandler(handler)  # type: ignore[arg-type]
            logging.getLogger(name).setLevel(levels[name])


def print_ledger(ledger: "Ledger") -> None:
    """Stages as a table, then the checks between them."""
    table = Table("stage", "samples", "accuracy", "predictions that differ", title="accuracy ledger")
    for stage in ledger.stages:
        differ = "" if stage.differ is None else f"{stage.differ}"
        table.add_row(stage.name, str(stage.samples), f"{100 * stage.accuracy:.2f} %", differ)
    out.print(table)
    out.print("each row against the one above; each simulator row against the reference")
    for check in ledger.checks:
        out.print(check)
