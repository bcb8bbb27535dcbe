"""What the commands share: where they print, bars, options, images."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)
FEW_SAMPLES = 100  # where Lava runs, and nothing else was asked for


def numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """0.49,0.48,0.45 -> numbers."""
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.UsageError(f"{option} is {text!r}; write a number for each channel, with commas") from None


def complain(sentence: str) -> None:
    rank = os.environ.get("RANK", "0")  # set by torchrun; the others must be told apart from the first
    err.print(f"{'' if rank == '0' else f'process {rank}: '}error: {sentence}", style="red", markup=False)


@contextmanager
def _bar(text: str, total: int | None, shown: bool) -> Iterator[tuple[Progress, TaskID]]:
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not shown) as bar:
        yield bar, bar.add_task(text, total=total)


@contextmanager
def progress(text: str, total: int, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar with elapsed and remaining time on stderr; call it with the number of things just done."""
    with _bar(text, total, shown) as (bar, task):
        yield lambda count: bar.advance(task, count)


@contextmanager
def progress_of(text: str, shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """The same; call it with the number done and the number in all."""
    with _bar(text, None, shown) as (bar, task):
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def log_shown(*names: str) -> Iterator[None]:
    """What these modules log goes to stderr, a sentence each."""
    handler = logging.Handler()
    handler.emit = lambda record: err.print(record.getMessage(), markup=False)  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def print_ledger(ledger: Any) -> None:
    """Stages as a table, then the checks between them."""
    table = Table("stage", "samples", "accuracy", "predictions that differ", title="accuracy ledger")
    for stage in ledger.stages:
        differ = "" if stage.differ is None else f"{stage.differ}"
        table.add_row(stage.name, str(stage.samples), f"{100 * stage.accuracy:.2f} %", differ)
    out.print(table)
    out.print("each row against the one above; each simulator row against the reference")
    for check in ledger.checks:
        out.print(check, markup=False)


def _data_options(default: str | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option("--samples", type=click.IntRange(1), help="Use only the first so many images."),
            click.option(
                "--folder", type=click.Path(), help="Of the data sets.  [default: $LAVA_CONV_DATA, then ./data]"
            ),
            click.option(
                "--data", "data_name", default=default, show_default=bool(default),
                help="digits, mnist, fashion-mnist, cifar10, cifar100, or a Keras-style .npz file.",
            ),
        ):  # fmt: skip
            command = option(command)
        return command

    return add


data_options = _data_options("digits")
optional_data_options = _data_options(None)


def images(
    graph: Any, data_name: str, folder: str | None, split: str, samples: int | None, crop: bool, seed: int = 0
) -> tuple[Any, Any]:
    """Images and labels; with `crop` the middle of images that are larger than the network's input."""
    from lava_conv.data import centred, load_dataset

    data = load_dataset(data_name, folder, seed)
    x, y = (data.x_test, data.y_test) if split == "test" else (data.x_train, data.y_train)
    return centred(x[:samples], graph.input_shape) if crop else x[:samples], y[:samples]


def net_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """A .net file, the images to run it on, and for how long."""
    steps = click.option("--steps", type=click.IntRange(1), help="Time steps a sample takes.  [default: the file's]")
    for option in (steps, crop_option, split_option, data_options, click.argument("net", type=click.Path())):
        command = option(command)
    return command


crop_option = click.option("--crop", is_flag=True, help="Of images larger than the network's input take the middle.")
split_option = click.option("--split", type=click.Choice(["test", "train"]), default="test", show_default=True)
seed_option = click.option("--seed", default=0, show_default=True, help="Of the digits split, and of training.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
