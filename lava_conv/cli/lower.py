"""The command that writes a network for stock tools: lower."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from rich.table import Table

from lava_conv.cli.options import first_few, images, json_option, optional_image_options
from lava_conv.cli.screen import out, progress

if TYPE_CHECKING:
    from lava_conv.lowering import Condition, Lowered

NAMES = ("neuron", "step", "readout", "weights", "bias", "state", "payload")
MARKS = {"met": "", "measured": " *", "approximated": " !"}


@click.command()
@click.argument("net", type=click.Path())
@click.argument("target", type=click.Path(dir_okay=False))
@click.option("--to", type=click.Choice(["sdnn"]), default="sdnn", show_default=True, help="Stock SigmaDelta neurons.")
@click.option("--approximate", is_flag=True, help="Lower also what cannot be exact, and measure what that costs.")
@click.option("--script", type=click.Path(dir_okay=False), help="Write a program that runs the file, too.")
@click.option(
    "--interval", type=click.IntRange(1), default=1, show_default=True, help="Script: steps from image to image."
)
@optional_image_options
@json_option
def lower(
    net: str, target: str, to: str, approximate: bool, script: str | None, interval: int, data_name: str | None,
    folder: str | None, samples: int | None, split: str, crop: bool, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Write a .net for unmodified lava-dl netx: SigmaDelta neurons that settle on the same integers.

    \b
    lava-conv lower m.net stock.net                         conditions that are proven for any image
    lava-conv lower m.net stock.net --data mnist --script run_stock.py
    lava-conv lower m.net stock.net --data mnist --approximate

    Every condition of exactness is checked and shown. On images (--data, the first 100 unless --samples says more) the
    counts of every layer are compared with those of the network. Where Lava is installed, the file is read again by
    stock netx, and what it made of it compared with what was meant.
    """
    import lava_conv as lc
    from lava_conv.lowering import write_script, write_stock

    graph = lc.load(net)
    x = None
    if data_name is not None:
        x, y = images(graph, data_name, folder, split, samples, crop, seed)
        x, _ = first_few(x, y, samples, "lower", not as_json)
    with progress("lowering", 0 if x is None else len(x), not as_json) as advance:
        lowered = lc.lower(graph, x, approximate, advance)
    with progress("writing and reading again", 2, not as_json) as advance:
        write_stock(lowered, target)
        if script:
            write_script(lowered, target, script, interval)
        advance(1, 2)
        checked = _check(lowered, target)
        advance(2, 2)
    layers, predictions = [], None
    if x is not None:
        with progress("comparing counts", len(x), not as_json) as advance:
            layers, predictions = lowered.differences(x, advance)
    if as_json:
        found = {
            "net": net, "target": target, "to": to, "exact": lowered.exact, "constants": list(lowered.constants),
            "conditions": [c._asdict() for c in lowered.conditions], "layers": len(lowered.stages),
            "values_checked_through_netx": checked, "images": 0 if x is None else len(x),
            "differences": [d._asdict() for d in layers], "predictions_that_differ": predictions,
        }  # fmt: skip
        click.echo(json.dumps(found))
        return
    _print_conditions(net, lowered.conditions)
    neurons = sum(_size(stage.shape) for stage in lowered.stages)
    before = sum(_size(layer.shape) for _, layer, _ in graph.neuron_layers())
    out.print(
        f"{target}: {len(lowered.stages)} layers, {neurons:,} neurons (before: {before:,}), "
        f"{'exact' if lowered.exact else 'approximate'}"
    )
    if checked is None:
        out.print("not read again by stock netx: Lava is not installed")
    else:
        out.print(f"read again by stock netx: {checked:,} values as meant")
    if x is not None:
        for d in layers:
            mean = f"by {d.mean:.4f} on average, {d.largest} at most"
            out.print(f"layer {d.layer}: {100 * d.share:.3f} % of the counts differ, {mean}")
        out.print(f"{predictions} of {len(x)} predictions differ from the network's")
    if script:
        out.print(f"{script}: python {script} images.npy")


def _print_conditions(net: str, conditions: "Sequence[Condition]") -> None:
    """A row for each layer, and a sentence for each condition that is not proven."""
    names = [name for name in NAMES if any(c.name == name for c in conditions)]
    table = Table("layer", *names, title=f"{net} as SigmaDelta neurons: conditions of exactness")
    cells = {(c.layer, c.name): f"{c.short}{MARKS[c.status]}" for c in conditions}
    for layer in dict.fromkeys(c.layer for c in conditions):
        table.add_row(str(layer), *(cells.get((layer, name), "") for name in names))
    out.print(table)
    out.print("weights and biases in 64ths of a step; * measured on the images, ! not met and approximated")
    for c in conditions:
        if c.status != "met":
            out.print(str(c))


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _check(lowered: "Lowered", target: str) -> int | None:
    """How many values stock netx reads as they were meant; None without Lava."""
    from lava_conv.errors import BackendError

    try:
        from lava_conv.backends.sdnn import check_file
    except BackendError:
        return None
    return check_file(lowered, target)
