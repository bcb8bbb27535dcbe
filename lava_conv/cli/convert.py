"""Commands that make a .net file of a trained network: convert, calibrate."""

import json
import os
import sys
from typing import Any

import click
from rich.table import Table

from lava_conv.cli.options import data_options, json_option, numbers, seed_option
from lava_conv.cli.screen import log_shown, out, progress

TESTED = 1000  # images on which a calibrated network is compared with the float one


@click.command()
@click.argument("checkpoint", type=click.Path())
@click.argument("target", type=click.Path(dir_okay=False))
@click.option("--steps", type=click.IntRange(1), default=8, show_default=True, help="Time steps a sample takes.")
@click.option("--max-steps", type=click.IntRange(1), help="Steps for which the bounds are proven.  [default: up to 64]")
@json_option
def convert(checkpoint: str, target: str, steps: int, max_steps: int | None, as_json: bool) -> None:
    """Convert a checkpoint of `lava-conv train` to a .net file.

    \b
    lava-conv convert runs/digits.pt digits.net
    lava-conv convert runs/digits.pt digits.net --steps 4   the same counts, fewer steps in which to reach them

    A model of your own is converted in Python: lava_conv.convert.
    """
    import numpy as np

    import lava_conv as lc
    from lava_conv.errors import DataError
    from lava_conv.training.loop import load_trained

    trained = load_trained(checkpoint)
    if trained.recipe.quantisation is None:
        raise DataError(f"{checkpoint}: was trained without quantisation; `lava-conv calibrate` converts it")
    example = np.random.default_rng(0).integers(0, 256, (16, *trained.shape), dtype=np.uint8)
    with (
        log_shown("lava_conv.frontends.convert", "lava_conv.conversion.assembly", "lava_conv.conversion.verify"),
        progress("converting", shown=not as_json) as advance,
    ):
        graph = lc.convert(trained.model, example, steps, max_steps, progress=advance)
    lc.save(graph, target)
    if as_json:
        found = {"net": target, "layers": len(graph.layers), "steps": steps, "bytes": os.path.getsize(target)}
        click.echo(json.dumps(found))
        return
    out.print(f"{target}: {len(graph.layers)} layers, {os.path.getsize(target):,} bytes, exact by construction")


@click.command()
@click.argument("weights", type=click.Path())
@click.argument("target", type=click.Path(dir_okay=False))
@data_options
@click.option("--images", type=click.IntRange(1), default=256, show_default=True, help="To calibrate with, unlabelled.")
@click.option("--steps", type=click.IntRange(1, 255), default=32, show_default=True, help="Time steps a sample takes.")
@click.option(
    "--method", default="light", show_default=True,
    help="none, mmse, light, advanced, ttrbr, distilled: see lava_conv.calibrate.",
)  # fmt: skip
@click.option("--neuron", default="calif", show_default=True, help="calif or dtb (signed spikes), if (unipolar).")
@click.option("--levels", type=click.IntRange(1, 255), help="Largest count of a neuron.  [default: the steps]")
@click.option("--per-channel", is_flag=True, help="A threshold for each channel.")
@click.option("--input-code", default="constant", show_default=True, help="constant: the image at every step. flash.")
@click.option("--iterations", type=click.IntRange(0), default=1000, show_default=True, help="Of reconstruction.")
@click.option("--model", help="PACKAGE.MODULE:FUNCTION that makes your float network; WEIGHTS is then its state dict.")
@click.option("--input-scale", type=float, help="It was trained on pixels (0..255) times this.")
@click.option("--mean", help="It was trained on images minus this: a number a channel, with commas.")
@click.option("--std", help="And divided by this.")
@click.option("--max-pool", type=click.Choice(["average"]), help="What to put in the place of max pooling.")
@click.option("--keep", type=click.Path(dir_okay=False), help="File to go on from after an interruption.")
@seed_option
@json_option
def calibrate(
    weights: str, target: str, data_name: str, folder: str | None, samples: int | None, images: int, steps: int,
    method: str, neuron: str, levels: int | None, per_channel: bool, input_code: str, iterations: int,
    model: str | None, input_scale: float | None, mean: str | None, std: str | None, max_pool: str | None,
    keep: str | None, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Convert a pretrained float network to a .net file, with a few hundred unlabelled images.

    WEIGHTS is a checkpoint of `lava-conv train --method float`, or with --model a state dict of your own network.
    \b
    lava-conv calibrate r.pt r.net --data cifar10 --steps 16 --method advanced --per-channel
    lava-conv calibrate weights.pt r.net --model mine.nets:resnet --data cifar10 \\
        --input-scale 0.00392 --mean 0.491,0.482,0.447 --std 0.247,0.243,0.262

    Printed is how far the spikes of each layer are from the float activation of the network as it came, the worst
    first, and the accuracy and agreement of both networks on test images (--samples of them, 1000 unless told
    otherwise).
    """
    import numpy as np

    import lava_conv as lc
    from lava_conv.analysis.ledger import worst_first
    from lava_conv.backends import PART
    from lava_conv.calibration.procedure import float_predictions
    from lava_conv.classes import accuracy
    from lava_conv.cli.run import run_followed
    from lava_conv.training.data import centred, load_dataset

    network, shape = _float_network(weights, model)
    data = load_dataset(data_name, folder, seed)
    shape = data.shape if shape is None else shape
    means, stds = numbers(mean, "--mean"), numbers(std, "--std")
    with (
        log_shown("lava_conv.calibration", "lava_conv.conversion.verify"),
        progress("calibrating", shown=not as_json) as advance,
    ):
        graph = lc.calibrate(
            network, data.some(images, shape, seed), steps, method, neuron=neuron, levels=levels,
            per_channel=per_channel, input_code=input_code, input_scale=input_scale, mean=means, std=stds,
            max_pool=max_pool, iterations=iterations, seed=seed, checkpoint=keep, progress=advance,
        )  # fmt: skip
    lc.save(graph, target)
    x, y = centred(data.x_test, shape)[: samples or TESTED], data.y_test[: samples or TESTED]
    with progress("comparing", len(x), not as_json) as advance:
        spiking = run_followed(graph, x, y, advance)
    with progress("float network", len(x), not as_json) as advance:
        parts = []
        for start in range(0, len(x), PART):
            parts.append(float_predictions(network, x[start : start + PART], input_scale, means, stds))
            advance(start + len(parts[-1]), len(x))
        said = np.concatenate(parts)
    ann, snn = float(accuracy(said, y, graph.classes)), spiking.accuracy(y)
    agreement, compared = float((spiking.predictions[-1] == said).mean()), graph.comparison
    rows = worst_first(graph.layer_errors)
    if as_json:
        found = {
            "net": target, "ann_accuracy": ann, "accuracy": snn.tolist(), "agreement": agreement,
            "calibration_images": {**compared._asdict(), "warning": compared.warning},
            "layers": [vars(row) for row in rows],
        }  # fmt: skip
        click.echo(json.dumps(found))
        return
    shown = ("layer", "before", "after", "quantisation", "clipping", "inherited", "deviation")
    table = Table(*shown, title="error by layer, % of the activation's power")
    for row in rows:
        table.add_row(row.layer, *(f"{100 * getattr(row, name):.2f}" for name in shown[1:]))
    out.print(table)
    if compared.exchanged:
        out.print(
            f"average pooling for max pooling leaves {100 * compared.float_agreement:.2f} % of the float predictions"
        )
    out.print(
        f"float network as it came {100 * ann:.2f} %, {target} after {len(snn)} steps {100 * snn[-1]:.2f} %, the same "
        f"prediction for {100 * agreement:.2f} % of {len(x)} images"
    )


def _float_network(weights: str, model: str | None) -> tuple[Any, tuple[int, ...] | None]:
    """The network, and the shape of its images where the checkpoint tells."""
    from lava_conv.errors import DataError
    from lava_conv.torch_tools.checkpoint import load_weights, read_state
    from lava_conv.training.loop import load_trained

    if model is None:
        trained = load_trained(weights)
        if trained.recipe.quantisation is not None:
            raise DataError(f"{weights}: was trained with quantisation; `lava-conv convert` takes it as it is")
        return trained.model, trained.shape
    network = _made_by(model)
    load_weights(network, read_state(weights), weights)
    return network, None


def _made_by(model: str) -> Any:
    """What the user's function PACKAGE.MODULE:FUNCTION returns."""
    import importlib

    from lava_conv.arguments import model_of
    from lava_conv.errors import ConversionError, one_line

    place, _, name = model.partition(":")
    if not place or not name:
        raise click.UsageError(f"--model is {model!r}; write PACKAGE.MODULE:FUNCTION")
    sys.path.insert(0, folder := os.getcwd())
    try:
        make = getattr(importlib.import_module(place), name)
    except Exception as error:  # the module is the user's, and so is whatever it raises
        raise click.UsageError(
            f"--model {model}: {one_line(error)}; write PACKAGE.MODULE:FUNCTION of a module that can be imported here"
        ) from None
    finally:
        sys.path.remove(folder)
    try:
        return model_of(make())
    except ConversionError as error:
        raise click.UsageError(f"--model {model}: the {error}") from None
    except Exception as error:
        raise click.UsageError(
            f"--model {model}: the call {name}() failed ({type(error).__name__}: {one_line(error)}); name a function "
            f"that needs no arguments and returns the network"
        ) from None
