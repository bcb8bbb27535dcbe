"""Commands that make a network: demo, train, convert, calibrate."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from lava_conv.cli.common import (
    FEW_SAMPLES,
    data_options,
    json_option,
    log_shown,
    numbers,
    out,
    print_ledger,
    progress,
    progress_of,
    seed_option,
)  # fmt: skip

DEMO_STEPS = 8
DEMO_THREADS = 2
TESTED = 1000  # images on which a calibrated network is compared with the float one


@click.command()
@click.option("--out", "target", type=click.Path(dir_okay=False), default="runs/digits.net", show_default=True)
@click.option("--lava/--no-lava", "with_lava", default=None, help="Run on Lava too.  [default: if it is installed]")
@seed_option
def demo(target: str, with_lava: bool | None, seed: int) -> None:
    """Train, convert, write, read back, simulate and run on Lava: handwritten digits, in half a minute."""
    began = time.perf_counter()
    import torch

    import lava_conv as lc
    from lava_conv.data import load_dataset
    from lava_conv.qat import evaluate
    from lava_conv.report.ledger import build_ledger, spike_table
    from lava_conv.train import Recipe, train

    # The layers are so small that more threads wait for each other, badly so where cores are shared.
    torch.set_num_threads(min(DEMO_THREADS, torch.get_num_threads()))
    data = load_dataset("digits", seed=seed)
    out.print(f"digits: {len(data.x_train)} images to train with, {len(data.x_test)} to test, 8x8 pixels")
    recipe = Recipe(seed=seed)
    with progress("training with quantisation", recipe.epochs) as advance:
        trained = train(data, recipe, progress=lambda epoch, loss: advance(1))
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    lc.save(lc.convert(trained.model, data.x_train[:64], steps=DEMO_STEPS), target)
    graph = lc.load(target)
    out.print(f"converted and written to {target} ({os.path.getsize(target):,} bytes), read back:\n")
    out.print(graph.summary() + "\n", markup=False)
    predictions = evaluate(trained.model, data.x_test).argmax(1)
    reference = graph.reference(data.x_test)
    simulator = lc.run(graph, data.x_test)
    lava = _demo_lava(lc, graph, data.x_test[:FEW_SAMPLES], with_lava)
    ledger = build_ledger(data.y_test, reference, simulator, predictions, lava)
    print_ledger(ledger)
    for layer, positive, negative in spike_table(simulator):
        out.print(f"layer {layer}: {positive:.2f} positive and {negative:.2f} negative spikes a neuron and sample")
    out.print(f"\nwhole demo: {time.perf_counter() - began:.1f} s. Next: lava-conv inspect {target}")
    if not ledger.exact:
        raise click.exceptions.Exit(1)


def _demo_lava(lc: Any, graph: Any, images: Any, wanted: bool | None) -> Any:
    if wanted is False:
        return None
    try:
        with progress("streaming through Lava", len(images)) as advance:
            return lc.run(graph, images, backend="lava", progress=advance)
    except lc.BackendError as error:
        if wanted or "not installed" not in str(error):
            raise
        out.print(f"without Lava: {error}", markup=False)
        return None


@click.command()
@data_options
@click.option("--model", help="A name of lava_conv.qat.models.  [default: digits for 8x8 images, else lenet]")
@click.option(
    "--method", type=click.Choice(["zou", "gao", "float"]), default="zou", show_default=True,
    help="zou: ternary weights, dynamic-threshold neurons. gao: int8 weights, learned steps, Ca-LIF neurons. "
    "float: no quantisation, for `lava-conv calibrate`.",
)  # fmt: skip
@click.option("--k", type=click.IntRange(0, 4), default=0, show_default=True, help="zou: 2^k counts a unit.")
@click.option("--levels", type=click.IntRange(1, 255), default=16, show_default=True, help="gao: largest count.")
@click.option(
    "--encoder-levels", type=click.IntRange(1, 255), default=4, show_default=True,
    help="zou: largest count of the first layer; fewer settle sooner.",
)  # fmt: skip
@click.option("--n-max", type=click.IntRange(0, 255), default=0, help="zou: largest count of a hidden neuron, 0: none.")
@click.option("--power-of-two", is_flag=True, help="Every step a power of two, for `lava-conv lower`.")
@click.option(
    "--step-max", type=click.IntRange(0), default=0,
    help="With --power-of-two the largest step; 64 spares the lowered network dividing layers.",
)  # fmt: skip
@click.option("--clip/--no-clip", default=True, help="gao: an upper clip at --levels, or none.")
@click.option(
    "--unroll",
    type=click.IntRange(0, 64),
    default=0,
    help="Train on what the spiking network says after so many steps.",
)
@click.option("--start", default="", help="Checkpoint of the same network whose weights to begin with.")
@click.option("--epochs", type=click.IntRange(1), default=40, show_default=True)
@click.option("--batch", type=click.IntRange(2), default=64, show_default=True)
@click.option("--lr", type=float, default=2e-3, show_default=True)
@click.option("--optimiser", type=click.Choice(["adam", "sgd"]), default="adam", show_default=True)
@click.option("--decay", type=click.FloatRange(0), default=0.0, help="Of the weights.")
@click.option("--warmup", type=click.IntRange(0), default=0, help="Epochs in which the learning rate rises.")
@click.option("--width", type=click.IntRange(0), default=0, help="Channels of the first layer, 0: the model's own.")
@click.option("--shift", type=click.IntRange(0), default=1, show_default=True, help="Augmentation: shifts in pixels.")
@click.option("--rotate", type=click.FloatRange(0, 180), default=0.0, help="Augmentation: degrees to either side.")
@click.option("--scale", type=click.FloatRange(0, 0.9), default=0.0, help="Augmentation: share larger or smaller.")
@click.option("--smoothing", type=click.FloatRange(0, 0.9), default=0.0, help="Label smoothing.")
@click.option(
    "--crop", type=click.IntRange(0), default=0, help="Train on random squares of so many pixels, test on the middle."
)
@click.option("--flip", is_flag=True, help="Augmentation: mirror every second image.")
@click.option("--bf16", is_flag=True, help="Compute in bfloat16 while training; halves the time on processors with it.")
@click.option("--out", "target", type=click.Path(dir_okay=False), required=True, help="Checkpoint to write.")
@click.option("--resume", is_flag=True, help="Go on from that checkpoint if it exists.")
@click.option("--device", default="cpu", show_default=True)
@seed_option
def train(
    data_name: str, folder: str | None, samples: int | None, model: str | None, target: str, resume: bool, device: str,
    seed: int, **recipe_options: Any,
) -> None:  # fmt: skip
    """Train a network, with quantisation unless --method float, and keep it in a checkpoint.

    Under torchrun every process takes its part of each batch, and the first one writes the checkpoint.
    """
    from dataclasses import replace

    from lava_conv.data import centred, load_dataset
    from lava_conv.distributed import team
    from lava_conv.qat import evaluate
    from lava_conv.train import FLOAT, Recipe
    from lava_conv.train import train as fit

    data = load_dataset(data_name, folder, seed)
    if samples:
        data = replace(data, x_train=data.x_train[:samples], y_train=data.y_train[:samples])
    name = model or ("digits" if data.shape[1] == 8 else "lenet")
    recipe = Recipe(name, seed=seed, **recipe_options)
    with team() as members, progress_of(f"training {name} on {data.name}", members.first) as advance:
        trained = fit(data, recipe, target, resume, lambda epoch, loss: advance(epoch, recipe.epochs), device, members)
    if not members.first:
        return
    seen = centred(data.x_test, trained.shape)
    accuracy = float((evaluate(trained.model, seen).argmax(1) == data.y_test).mean())
    kind = FLOAT if recipe.method == FLOAT else "quantised"
    out.print(f"{target}: {kind} model, {100 * accuracy:.2f} % on {len(data.y_test)} test images")


@click.command()
@click.argument("checkpoint", type=click.Path())
@click.argument("target", type=click.Path(dir_okay=False))
@click.option("--steps", type=click.IntRange(1), default=8, show_default=True, help="Time steps a sample takes.")
@click.option("--max-steps", type=click.IntRange(1), help="Steps for which the bounds are proven.  [default: up to 64]")
def convert(checkpoint: str, target: str, steps: int, max_steps: int | None) -> None:
    """Convert a checkpoint of `lava-conv train` to a .net file."""
    import numpy as np

    import lava_conv as lc
    from lava_conv.errors import DataError
    from lava_conv.train import FLOAT, load_trained

    trained = load_trained(checkpoint)
    if trained.recipe.method == FLOAT:
        raise DataError(f"{checkpoint}: was trained without quantisation; `lava-conv calibrate` converts it")
    example = np.random.default_rng(0).integers(0, 256, (16, *trained.shape), dtype=np.uint8)
    with log_shown("lava_conv.convert", "lava_conv.verify"):
        graph = lc.convert(trained.model, example, steps, max_steps)
    lc.save(graph, target)
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
    weights: str, target: str, data_name: str, folder: str | None, samples: int | None, images: int, method: str,
    model: str | None, mean: str | None, std: str | None, keep: str | None, seed: int, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Convert a pretrained float network to a .net file, with a few hundred unlabelled images.

    WEIGHTS is a checkpoint of `lava-conv train --method float`, or with --model a state dict of your own network.
    Printed is how far the spikes of each layer are from its float activation, the worst first, and what both networks
    say on test images (--samples of them, 1000 unless told otherwise).
    """
    import json

    import lava_conv as lc
    from lava_conv.calibrate import calibrated, float_predictions
    from lava_conv.data import centred, load_dataset
    from lava_conv.report.ledger import worst_first

    network, shape = _float_network(weights, model)
    data = load_dataset(data_name, folder, seed)
    shape = data.shape if shape is None else shape
    scaling = {"mean": numbers(mean, "--mean"), "std": numbers(std, "--std"), "input_scale": options.pop("input_scale")}
    with log_shown("lava_conv.calibrate", "lava_conv.verify"), progress_of("calibrating", not as_json) as advance:
        result = calibrated(
            network, data.some(images, shape, seed), method=method, seed=seed, checkpoint=keep, progress=advance,
            **scaling, **options,
        )  # fmt: skip
    lc.save(result.graph, target)
    x, y = centred(data.x_test, shape)[: samples or TESTED], data.y_test[: samples or TESTED]
    with progress("comparing", len(x), not as_json) as advance:
        spiking = lc.run(result.graph, x, record=(), progress=advance)
    said = float_predictions(network, x, **scaling)
    ann, snn = float((said == y).mean()), spiking.accuracy(y)
    rows = worst_first(result.layers)
    if as_json:
        found = {"net": target, "ann_accuracy": ann, "accuracy": snn.tolist(), "layers": [vars(row) for row in rows]}
        click.echo(json.dumps(found))
        return
    shown = ("layer", "before", "after", "quantisation", "clipping", "inherited", "deviation")
    table = Table(*shown, title="error by layer, % of the activation's power")
    for row in rows:
        table.add_row(row.layer, *(f"{100 * getattr(row, name):.2f}" for name in shown[1:]))
    out.print(table)
    out.print(
        f"float network {100 * ann:.2f} %, {target} after {len(snn)} steps {100 * snn[-1]:.2f} % on {len(x)} images"
    )


def _float_network(weights: str, model: str | None) -> tuple[Any, tuple[int, ...] | None]:
    """The network, and the shape of its images where the checkpoint tells."""
    import importlib

    from lava_conv.checkpoint import read_state
    from lava_conv.errors import DataError
    from lava_conv.train import FLOAT, load_trained

    if model is None:
        trained = load_trained(weights)
        if trained.recipe.method != FLOAT:
            raise DataError(f"{weights}: was trained with quantisation; `lava-conv convert` takes it as it is")
        return trained.model, trained.shape
    place, _, name = model.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        network = getattr(importlib.import_module(place), name)()
    except (ImportError, AttributeError, ValueError) as error:
        raise click.UsageError(f"--model {model}: {error}; write PACKAGE.MODULE:FUNCTION") from None
    try:
        network.load_state_dict(read_state(weights))
    except RuntimeError as error:
        raise DataError(
            f"{weights}: its weights are of another network ({' '.join(str(error).split())[:120]})"
        ) from None
    return network, None
