"""The command that tells everything about a network: report."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lava_conv.cli.options import first_few, images, json_option, net_options, seed_option
from lava_conv.cli.screen import out, print_ledger, progress

if TYPE_CHECKING:
    from lava_conv.network.graph import Graph
    from lava_conv.report.findings import Source

SAMPLES = 1000


@click.command()
@net_options
@click.option("--html", type=click.Path(dir_okay=False), help="File to write.  [default: NET with .html, here]")
@click.option("--out", "folder_out", type=click.Path(file_okay=False), help="Folder for the same pictures as PNG.")
@click.option("--checkpoint", type=click.Path(), help="Of the model that the network was made of, to compare with.")
@click.option("--sample", default=0, show_default=True, help="The image whose spikes are shown.")
@click.option("--lava", is_flag=True, help="Run Lava too, on the first 100 images.")
@seed_option
@json_option
def report(
    net: str, data_name: str, folder: str | None, split: str, samples: int | None, crop: bool, steps: int | None,
    html: str | None, folder_out: str | None, checkpoint: str | None, sample: int, lava: bool, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Run a .net file and write what there is to tell as one HTML page with pictures.

    \b
    lava-conv report digits.net
    lava-conv report m.net --data mnist --checkpoint m.pt --lava   all stages, from the trained model to Lava
    lava-conv report m.net --data mnist --out pictures             the same pictures as PNG

    Without --samples, on the first 1000 images. The page needs no network and no other file.
    """
    import lava_conv as lc
    from lava_conv.report.findings import collect
    from lava_conv.report.page import write_page, write_pictures
    from lava_conv.report.sections import sections

    graph = lc.load(net)
    x, y = images(graph, data_name, folder, split, samples, crop, seed)
    x, y = first_few(x, y, samples, "report", not as_json, SAMPLES)
    source = None if checkpoint is None else _source(checkpoint, graph)
    bar = partial(progress, shown=not as_json)
    found = collect(net, data_name, graph, x, y, steps, sample, source, lava, bar)
    target = html or f"{Path(net).stem}.html"
    files = 2 if folder_out else 1
    with bar("drawing", files) as advance:
        made = sections(found)
        write_page(found, made, target)
        advance(1, files)
        if folder_out:
            write_pictures(made, folder_out)
            advance(2, files)
    if as_json:
        click.echo(json.dumps({"net": net, "data": data_name, "html": target, **asdict(found.ledger)}))
        return
    print_ledger(found.ledger)
    out.print(f"{target}: {Path(target).stat().st_size:,} bytes, opens in any browser")


def _source(checkpoint: str, graph: "Graph") -> "Source":
    """The model of a checkpoint, as the report asks it."""
    from lava_conv.analysis.activations import in_counts
    from lava_conv.classes import predictions
    from lava_conv.errors import DataError
    from lava_conv.qat import evaluate
    from lava_conv.report.findings import Source
    from lava_conv.training.loop import load_trained

    trained = load_trained(checkpoint)
    if trained.shape != graph.input_shape:
        raise DataError(
            f"{checkpoint}: its model takes images of {trained.shape}, the network {graph.input_shape}; give the "
            f"checkpoint that it was made of"
        )
    return Source(
        "float model" if trained.recipe.quantisation is None else "quantised model",
        lambda x, advance: predictions(evaluate(trained.model, x, progress=advance)),
        lambda x, counts: in_counts(trained.model, graph, x, counts),
    )
