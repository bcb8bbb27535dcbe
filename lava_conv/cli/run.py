"""Commands that run a network: run, compare."""

import json
from typing import Any

import click
from rich.table import Table

from lava_conv.cli.options import FEW_SAMPLES, images, json_option, net_options, seed_option
from lava_conv.cli.screen import out, progress


@click.command()
@net_options
@click.option("--backend", default="torch", show_default=True, help="torch, lava or sdnn.")
@click.option("--device", help="For torch: cpu or cuda.")
@seed_option
@json_option
def run(
    net: str, data_name: str, folder: str | None, split: str, samples: int | None, crop: bool, steps: int | None,
    backend: str, device: str | None, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Run a .net file on images; accuracy after each step, and against the integer reference.

    \b
    lava-conv run digits.net
    lava-conv run m.net --data mnist --samples 1000 --steps 4
    lava-conv run m.net --data mnist --backend lava --samples 20 --json

    Under torchrun every process takes its part of the images, and the first one prints the result of all.
    """
    import numpy as np

    import lava_conv as lc
    from lava_conv.classes import accuracy, check_labels
    from lava_conv.distributed import team
    from lava_conv.errors import BackendError
    from lava_conv.report.ledger import Unlike, unlike_counts

    if device and backend != "torch":
        raise click.UsageError(f"--device is for --backend torch; {backend} has none")
    options: dict[str, Any] = {"device": device} if device else {}
    graph = lc.load(net)
    x, y = images(graph, data_name, folder, split, samples, crop, seed)
    y = check_labels(y, len(x), graph.classes)  # before the run, not after it
    with team() as members:
        if members.size > 1 and backend == "lava":
            raise BackendError("--backend lava starts processes of its own; run it without torchrun")
        mine = x[members.share(len(x))]
        with progress(f"running on {backend}", len(mine), members.first and not as_json) as advance:
            record = lc.run(graph, mine, steps, backend, record=(), progress=advance, **options)
        with progress("integer reference", len(mine), members.first and not as_json) as advance:
            settled = graph.reference(mine, advance)
        found = (record.predictions, settled.predictions, unlike_counts([(settled, record)]))
        parts = members.gather(found)
    if not members.first:
        return
    said, wanted = (np.concatenate([part[i] for part in parts], axis=1) for i in (0, 1))
    unlike = Unlike(*(sum(numbers) for numbers in zip(*(part[2] for part in parts), strict=True)))
    differ, correct = (said != wanted).sum(axis=1), accuracy(said, y, graph.classes)
    reference = float(accuracy(wanted[0], y, graph.classes))
    if as_json:
        result = {
            "net": net, "data": data_name, "samples": len(x), "backend": record.backend,
            "accuracy": correct.tolist(), "reference_accuracy": reference,
            "predictions_unlike_reference": differ.tolist(), "counts_unlike_reference": unlike.differ,
            "counts": unlike.of,
        }  # fmt: skip
        click.echo(json.dumps(result))
        return
    table = Table("step", "accuracy", "predictions unlike the reference", title=f"{net} on {record.backend}")
    for step, (right, count) in enumerate(zip(correct, differ, strict=True), 1):
        table.add_row(str(step), f"{100 * right:.2f} %", str(count))
    out.print(table)
    out.print(f"integer reference: {100 * reference:.2f} % on {len(x)} images of {data_name}")
    out.print(f"after the last step {unlike.differ:,} of {unlike.of:,} spike counts differ from the reference")


@click.command()
@net_options
@click.option("--first", default="torch", show_default=True, help="torch, lava, sdnn or reference.")
@click.option("--second", default="lava", show_default=True, help="Likewise.")
@seed_option
@json_option
def compare(
    net: str, data_name: str, folder: str | None, split: str, samples: int | None, crop: bool, steps: int | None,
    first: str, second: str, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Run two backends and name the first spike that differs; exit code 1 if there is one.

    \b
    lava-conv compare digits.net
    lava-conv compare m.net --first reference --second sdnn --data mnist

    `--first reference --second sdnn` compares settled counts: of the integer reference, and of the network lowered to
    stock neurons. Without --samples, the first 100 images.
    """
    import lava_conv as lc

    graph = lc.load(net)
    x, _ = images(graph, data_name, folder, split, samples or FEW_SAMPLES, crop, seed)
    with progress(f"{first} and {second}", 2 * len(x), not as_json) as advance:
        result = lc.compare(graph, x, steps, first, second, advance)
    if as_json:
        click.echo(json.dumps({"equal": result.equal, "values": result.values, "difference": result.difference}))
    else:
        out.print(str(result))
    if not result.equal:
        raise click.exceptions.Exit(1)
