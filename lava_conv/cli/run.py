"""Commands that run a network: run, compare."""

import json
from typing import Any

import click
from rich.table import Table

from lava_conv.cli.common import (
    FEW_SAMPLES,
    err,
    images,
    json_option,
    net_options,
    out,
    progress,
    seed_option,
)  # fmt: skip


@click.command()
@net_options
@click.option("--backend", default="torch", show_default=True, help="torch or lava.")
@click.option("--device", help="For torch: cpu or cuda.")
@seed_option
@json_option
def run(
    net: str, data_name: str, folder: str | None, split: str, samples: int | None, crop: bool, steps: int | None,
    backend: str, device: str | None, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Run a .net file on images; accuracy after each step, and against the integer reference."""
    import lava_conv as lc
    from lava_conv.report.ledger import unlike_counts

    graph = lc.load(net)
    x, y = images(graph, data_name, folder, split, samples, crop, seed)
    if device and backend != "torch":
        raise click.UsageError(f"--device is for --backend torch; {backend} has none")
    options: dict[str, Any] = {"device": device} if device else {}
    with progress(f"running on {backend}", len(x), not as_json) as advance:
        record = lc.run(graph, x, steps, backend, record=(), progress=advance, **options)
    reference = graph.reference(x)
    differ = (record.predictions != reference.predictions).sum(axis=1)
    unlike, total = unlike_counts([(reference, record)])
    if as_json:
        result = {
            "net": net, "data": data_name, "samples": len(x), "backend": record.backend,
            "accuracy": record.accuracy(y).tolist(), "reference_accuracy": float(reference.accuracy(y)[0]),
            "predictions_unlike_reference": differ.tolist(), "counts_unlike_reference": unlike, "counts": total,
        }  # fmt: skip
        click.echo(json.dumps(result))
        return
    table = Table("step", "accuracy", "predictions unlike the reference", title=f"{net} on {record.backend}")
    for step, (accuracy, count) in enumerate(zip(record.accuracy(y), differ, strict=True), 1):
        table.add_row(str(step), f"{100 * accuracy:.2f} %", str(count))
    out.print(table)
    out.print(f"integer reference: {100 * reference.accuracy(y)[0]:.2f} % on {len(x)} images of {data_name}")
    out.print(f"after the last step {unlike:,} of {total:,} spike counts differ from the reference")


@click.command()
@net_options
@click.option("--first", default="torch", show_default=True)
@click.option("--second", default="lava", show_default=True)
@seed_option
@json_option
def compare(
    net: str, data_name: str, folder: str | None, split: str, samples: int | None, crop: bool, steps: int | None,
    first: str, second: str, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Run two backends and name the first spike that differs; exit code 1 if there is one.

    Without --samples, the first 100 images.
    """
    import lava_conv as lc

    graph = lc.load(net)
    x, _ = images(graph, data_name, folder, split, samples or FEW_SAMPLES, crop, seed)
    with err.status(f"{first} and {second} on {len(x)} samples"):
        result = lc.compare(graph, x, steps, first, second)
    if as_json:
        click.echo(json.dumps({"equal": result.equal, "values": result.values, "difference": result.difference}))
    else:
        out.print(str(result), markup=False)
    if not result.equal:
        raise click.exceptions.Exit(1)
