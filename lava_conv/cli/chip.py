"""The command that lays a network out on a chip: fit."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich import box
from rich.table import Table
from rich.text import Text

from lava_conv.cli.options import first_few, images, json_option, optional_image_options
from lava_conv.cli.screen import out, progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lava_conv.loihi import Finding, Fit
    from lava_conv.loihi.cost import Cost
    from lava_conv.loihi.replay import Replay
    from lava_conv.network.graph import Graph

WORDS = ("layer", "type", "shape", "tile", "taken")  # columns that are not numbers


@click.command()
@click.argument("net", type=click.Path())
@click.option("--chip", default="loihi2", show_default=True, help="loihi1, loihi2, or a TOML file with the same keys.")
@click.option("--lowered", is_flag=True, help="Of the network that `lava-conv lower` makes of it.")
@click.option("--steps", type=click.IntRange(1), help="Time steps a sample takes.  [default: the file's]")
@click.option("--out", "target", type=click.Path(dir_okay=False), help="Write a picture of the cores (PNG, SVG, PDF).")
@optional_image_options
@click.option("--sanafe", "with_sanafe", is_flag=True, help="Replay the spikes through SANA-FE's calibrated Loihi 1.")
@json_option
def fit(
    net: str, chip: str, lowered: bool, steps: int | None, target: str | None, data_name: str | None,
    folder: str | None, split: str, samples: int | None, crop: bool, seed: int, with_sanafe: bool, as_json: bool,
) -> None:  # fmt: skip
    """Lay a .net file out on a chip: what each layer takes, what breaks, what would help; exit code 1 if it breaks.

    \b
    lava-conv fit m.net                                    Loihi 2, as far as its limits are public
    lava-conv fit m.net --chip loihi1 --data mnist         energy and latency, too
    lava-conv fit m.net --chip mine.toml --out cores.png   your chip; a picture of the cores

    With --data (the first 100 images unless --samples says more or fewer), what it costs on these images, too; with
    --lowered they only measure the ranges that cannot be proven.
    """
    import lava_conv as lc
    from lava_conv.loihi.cost import cost

    if lowered and (steps or with_sanafe):
        raise click.UsageError("--lowered: one image is one wave of graded spikes; --steps and --sanafe are not for it")
    if with_sanafe and data_name is None:
        raise click.UsageError("--sanafe replays recorded spikes; say of which images with --data")
    graph, x = lc.load(net), None
    if data_name is not None:
        x, y = images(graph, data_name, folder, split, samples, crop, seed)
        x, _ = first_few(x, y, samples, "fit", not as_json)
    network = graph
    if lowered:
        with progress("lowering", 0 if x is None else len(x), not as_json) as advance:
            network = lc.lower(graph, x, progress=advance)
    laid = lc.fit(network, chip, steps)
    found = laid.as_json()
    spent = replayed = None
    if x is not None and not lowered:
        with progress("counting spikes", len(x), not as_json) as advance:
            spent = cost(graph, x, laid, progress=advance)
        found["cost"] = spent.as_json()
        if with_sanafe:
            replayed = _replay(graph, x, laid)
            found["sanafe"] = replayed._asdict()
    if target is not None:
        _draw(laid, target)
    if as_json:
        click.echo(json.dumps({"net": net} | found))
    else:
        _print_fit(net, laid)
        if spent is not None:
            _print_cost(spent, laid)
        if replayed is not None:
            _print_replay(replayed)
    if not laid.ok:
        raise click.exceptions.Exit(1)


def _replay(graph: "Graph", x: "NDArray[np.uint8]", laid: "Fit") -> "Replay":
    from lava_conv.loihi.replay import MAX_SAMPLES, replay

    is_loihi1 = laid.chip.name == "Loihi 1"
    return replay(graph, x[:MAX_SAMPLES], laid if is_loihi1 else None, laid.steps)


def _draw(laid: "Fit", target: str) -> None:
    from lava_conv.errors import DataError, one_line
    from lava_conv.figures.cores import occupancy

    try:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        occupancy(laid).savefig(target, dpi=120)
    except (OSError, ValueError) as error:  # ValueError: matplotlib does not know the ending
        raise DataError(f"{target}: cannot write the picture ({one_line(error)})") from None


def _print_fit(net: str, laid: "Fit") -> None:
    from lava_conv.loihi.rules import unchecked

    title = f"{net} on {laid.chip.name}, {laid.steps} steps"
    table = _table("layer", "type", "shape", "neurons", "synapses", "weights", "fan-in", "cores", "tile", title=title)
    for load, plan in zip(laid.loads, laid.plans, strict=True):
        counts = (load.neurons, load.synapses, load.weights, load.fan_in, len(plan.cores))
        table.add_row(str(load.layer), load.kind, _times(load.shape), *(f"{x:,}" for x in counts), _times(plan.tile))
    sums = [sum(getattr(load, name) for load in laid.loads) for name in ("neurons", "synapses", "weights")]
    table.add_section()
    table.add_row("all", "", "", *(f"{x:,}" for x in sums), "", f"{laid.cores:,}", "")
    for one in (table, _memory(laid), _limits(laid)):
        out.print(one)
        out.print()
    for group in laid.groups():
        out.print(f"breaks: {group}", style="red")
    names = ", ".join(unchecked(laid.chip))
    if names:
        out.print(f"not checked, for want of a number: {names}")
    for key, text in laid.chip.unpublished.items():
        out.print(f"not published: {key}: {text}")
    out.print(f"{net} {'fits' if laid.ok else 'does not fit'} {laid.chip.name}")


def _table(*columns: str, title: str) -> Table:
    """A table narrow enough for 80 columns; where it is not, cells fold, and no number is cut off."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", justify="left" if column in WORDS else "right")
    return table


def _memory(laid: "Fit") -> Table:
    names = list(dict.fromkeys(name for plan in laid.plans for name in plan.bytes_by_format))
    title = "synaptic memory of each layer, KB in each format"
    table = _table("layer", *names, "taken", title=title)
    for plan in laid.plans:
        sizes = (plan.bytes_by_format.get(name) for name in names)
        cells = ("" if size is None else f"{-(-size // 1024):,}" for size in sizes)
        table.add_row(str(plan.layer), *cells, "+".join(dict.fromkeys(plan.formats)))
    return table


def _limits(laid: "Fit") -> Table:
    found = {(f.layer, f.rule): f for f in laid.findings}
    first = [f for f in laid.findings if f.layer == laid.loads[0].layer]
    headers = (f"{f.rule} KB" if f.unit.startswith("bytes") else f.rule for f in first)
    table = _table("layer", *headers, title="used and allowed, in the fullest core")
    for load in laid.loads:
        here = [found[load.layer, f.rule] for f in first]
        table.add_row(str(load.layer), *(Text(_amount(f.used, f), style="" if f.ok else "red") for f in here))
    table.add_section()
    table.add_row("limit", *(_amount(f.allowed, f) for f in first))
    whole = [f for f in laid.findings if f.layer is None]
    table.caption = "in all: " + ", ".join(f"{f.rule} {f.used:,} of {f.allowed:,}" for f in whole)
    table.caption_justify = "left"
    return table


def _amount(value: int, finding: "Finding") -> str:
    return f"{-(-value // 1024):,}" if finding.unit.startswith("bytes") else f"{value:,}"


def _print_cost(spent: "Cost", laid: "Fit") -> None:
    known = spent.energy_pj is not None
    table = _table(
        "layer", "spikes", "operations on the chip", "updates", "active", "messages",
        *(["nJ"] if known else []), title=f"per sample, mean of {spent.samples} over {spent.steps} steps",
    )  # fmt: skip
    for x in spent.layers:
        counts = (x.spikes, x.operations, x.updates, x.active, x.messages)
        energy = [] if x.energy_pj is None else [f"{x.energy_pj / 1e3:,.1f}"]
        table.add_row(str(x.layer), *(f"{count:,.0f}" for count in counts), *energy)
    out.print()
    out.print(table)
    out.print(f"{spent.operations:,.0f} operations on the chip, which pass weights of 0 only where it stores them")
    out.print(f"against an ANN: {spent.activity}")
    if spent.energy_pj is None or spent.latency_ns is None:
        out.print(
            f"no energy and no latency, for the description of {spent.chip} has none; --chip loihi1 gives Loihi 1's",
        )
        return
    parts = ", ".join(f"{name} {value / 1e6:.2f}" for name, value in spent.energy_pj.items())
    out.print(f"energy {sum(spent.energy_pj.values()) / 1e6:.2f} uJ a sample ({parts}): {spent.label}")
    out.print(f"latency {spent.latency_ns / 1e3:.1f} us a sample: {spent.label}")
    if not laid.ok:
        out.print("as if it fitted: the figures are for the cores above, whatever breaks")


def _print_replay(replayed: "Replay") -> None:
    parts = ", ".join(f"{name} {value / 1e6:.2f}" for name, value in replayed.parts_pj.items())
    out.print(
        f"SANA-FE, {replayed.samples} samples: energy {replayed.energy_pj / 1e6:.2f} uJ a sample ({parts}), latency "
        f"{replayed.latency_ns / 1e3:.1f} us, {replayed.tiles} tiles of 4 cores: {replayed.label}"
    )


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
