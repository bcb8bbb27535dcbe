"""Commands that run a network: run, compare."""

import json
from typing import TYPE_CHECKING, NamedTuple

import click
from rich.table import Table

from lava_conv.cli.options import first_few, images, json_option, net_options, seed_option
from lava_conv.cli.screen import Advance, out, progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lava_conv.analysis.ledger import Unlike
    from lava_conv.analysis.settling import Settling
    from lava_conv.backends.protocol import Options
    from lava_conv.network.graph import Graph
    from lava_conv.record import Record


@click.command()
@net_options
@click.option("--backend", default="torch", show_default=True, help="torch, lava, sdnn or loihi2.")
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

    Images are run in parts, so that a set of any size fits the memory. Where spike counts differ from the reference's,
    a few images run on, which tells whether the network had not settled yet or is wrong (then the exit code is 1).
    On a backend other than torch, without --samples, the first 100 images.

    Under torchrun every process takes its part of the images, and the first one prints the result of all.
    """
    import numpy as np

    import lava_conv as lc
    from lava_conv.classes import accuracy, check_labels
    from lava_conv.errors import BackendError
    from lava_conv.training.distributed import team

    if device and backend != "torch":
        raise click.UsageError(f"--device is for --backend torch; {backend} has none")
    options: Options = {"device": device} if device else {}
    graph = lc.load(net)
    steps = graph.steps if steps is None else steps
    graph.check(steps)
    x, y = images(graph, data_name, folder, split, samples, crop, seed)
    y = check_labels(y, len(x), graph.classes)  # before the run, not after it
    if backend != "torch":
        x, y = first_few(x, y, samples, f"--backend {backend}", not as_json)
    with team() as members:
        if members.size > 1 and backend != "torch":
            raise BackendError(f"--backend {backend} starts processes of its own; run it without torchrun")
        share = members.share(len(x))
        with progress(f"running on {backend} and reference", len(x[share]), members.first and not as_json) as advance:
            mine = _run(graph, x[share], y[share], steps, backend, advance, options)
        parts = members.gather((share.start, mine))
    if not members.first:
        return
    found = [part for _, part in parts]
    said, wanted = (np.concatenate([getattr(part, name) for part in found], axis=1) for name in ("said", "wanted"))
    unlike = found[0].unlike
    for part in found[1:]:
        unlike = unlike.plus(part.unlike)
    name = found[0].name
    differ, correct = (said != wanted).sum(axis=1), accuracy(said, y, graph.classes)
    reference = float(accuracy(wanted[0], y, graph.classes))
    settling = _settling(graph, x, steps, [start + i for start, part in parts for i in part.images], not as_json)
    if as_json:
        result = {
            "net": net, "data": data_name, "samples": len(x), "backend": name,
            "accuracy": correct.tolist(), "reference_accuracy": reference,
            "predictions_unlike_reference": differ.tolist(), "counts_unlike_reference": unlike.differ,
            "counts": unlike.of, "images_unlike_reference": unlike.images,
            "settling": None if settling is None else settling._asdict(),
        }  # fmt: skip
        click.echo(json.dumps(result))
    else:
        table = Table("step", "accuracy", "predictions unlike the reference", title=f"{net} on {name}")
        for step, (right, count) in enumerate(zip(correct, differ, strict=True), 1):
            table.add_row(str(step), f"{100 * right:.2f} %", str(count))
        out.print(table)
        out.print(f"integer reference: {100 * reference:.2f} % on {len(x)} images of {data_name}")
        where = f", in {unlike.images:,} of {len(x):,} images" if unlike.differ else ""
        out.print(
            f"after the last step {unlike.differ:,} of {unlike.of:,} spike counts differ from the reference{where}"
        )
        if settling is not None:
            out.print(str(settling))
    if settling is not None and settling.fault:
        raise click.exceptions.Exit(1)


class _Run(NamedTuple):
    """What is kept of a run: predictions (steps, N), the reference's (1, N), counts that differ, images with some."""

    said: "NDArray[np.int64]"
    wanted: "NDArray[np.int64]"
    unlike: "Unlike"
    images: list[int]
    name: str


def _run(
    graph: "Graph", x: "NDArray[np.uint8]", y: "NDArray[np.int64]", steps: int, backend: str, advance: Advance,
    options: "Options",
) -> _Run:  # fmt: skip
    """Run part by part; the running accuracy is shown beside the bar."""
    import numpy as np

    import lava_conv as lc
    from lava_conv.analysis.ledger import Unlike
    from lava_conv.analysis.settling import LOOKED
    from lava_conv.record import differing_counts

    said, wanted, unlike, odd, name = [], [], Unlike(), [], ""
    for part, record in lc.run_parts(graph, x, steps, backend, progress=advance, **options):
        settled = graph.reference(x[part])
        said.append(record.predictions)
        wanted.append(settled.predictions)
        differ, of = differing_counts(settled, record), sum(int(c.size) for c in settled.counts.values())
        unlike = unlike.plus(Unlike(int(differ.sum()), of, int((differ > 0).sum())))
        odd += (part.start + np.flatnonzero(differ)[: LOOKED - len(odd)]).tolist()
        right = np.concatenate([one[-1] for one in said]) == y[: part.stop]
        name = record.backend
        advance.show(f"{100 * right.mean():.2f} % right after step {record.steps}")
    return _Run(np.concatenate(said, axis=1), np.concatenate(wanted, axis=1), unlike, odd, name)


def run_followed(graph: "Graph", x: "NDArray[np.uint8]", y: "NDArray[np.int64]", advance: Advance) -> "Record":
    """A Record with logits only, of any number of images; the running accuracy is shown beside the bar."""
    import numpy as np

    import lava_conv as lc

    logits, right, name = [], 0, ""
    for part, record in lc.run_parts(graph, x, progress=advance):
        logits.append(record.logits)
        right += int((record.predictions[-1] == y[part]).sum())
        name = record.backend
        advance.show(f"{100 * right / part.stop:.2f} % right after step {record.steps}")
    return lc.Record(np.concatenate(logits, axis=1), {}, backend=name)


def _settling(graph: "Graph", x: "NDArray[np.uint8]", steps: int, numbers: list[int], shown: bool) -> "Settling | None":
    """What it means that the counts of these images differ; None where all are equal."""
    from lava_conv.analysis.settling import LOOKED, run_on

    if not numbers:
        return None
    numbers = numbers[:LOOKED]
    with progress("running on until settled", shown=shown) as advance:
        return run_on(graph, x[numbers], steps, numbers, advance)


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
    stock neurons. Without --samples, the first 100 images. They are run in parts, and the first difference ends it.
    """
    import lava_conv as lc
    from lava_conv.analysis.comparison import compare_parts

    graph = lc.load(net)
    x, y = images(graph, data_name, folder, split, samples, crop, seed)
    x, _ = first_few(x, y, samples, "compare", not as_json)
    with progress(f"{first} and {second}", 2 * len(x), not as_json) as advance:
        result, values = None, 0
        for result in compare_parts(graph, x, steps, first, second, advance):
            values = result.values
            advance.show(f"{values:,} values equal" if result.equal else "")
    assert result is not None
    if as_json:
        click.echo(json.dumps({"equal": result.equal, "values": result.values, "difference": result.difference}))
    else:
        out.print(str(result))
    if not result.equal:
        raise click.exceptions.Exit(1)
