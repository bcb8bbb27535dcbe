"""The command that trains: train."""

import json
from typing import Any

import click

from lava_conv.cli.options import data_options, json_option, seed_option
from lava_conv.cli.screen import out, progress


@click.command()
@data_options
@click.option("--model", help="A name of lava_conv.training.models.  [default: digits for 8x8 images, else lenet]")
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
@click.option(
    "--weight-bits", type=click.IntRange(2, 8), default=8, show_default=True,
    help="gao: bits of a weight; the first and the last layer keep 8.",
)  # fmt: skip
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
@click.option(
    "--start",
    default="",
    help="Checkpoint of the same network, float or quantised, whose weights to begin with; or a .net made of one.",
)
@click.option(
    "--epochs", type=click.IntRange(1), default=40, show_default=True, help="Passes through the training images."
)
@click.option("--batch", type=click.IntRange(2), default=64, show_default=True, help="Images a step of the optimiser.")
@click.option(
    "--lr", type=float, default=2e-3, show_default=True, help="Learning rate at its highest; half a cosine leads to 0."
)
@click.option(
    "--optimiser",
    type=click.Choice(["adam", "sgd"]),
    default="adam",
    show_default=True,
    help="sgd: with Nesterov momentum.",
)
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
@click.option("--cutout", type=click.IntRange(0), default=0, help="Augmentation: hide a square of so many pixels.")
@click.option(
    "--dropout", type=click.FloatRange(0, 0.9), default=0.0, help="Share of linear layers' inputs to zero at random."
)
@click.option(
    "--teacher", "teachers", multiple=True,
    help="Checkpoint of any model, or .net, trained on the same data, to learn from; may be given more than once.",
)  # fmt: skip
@click.option(
    "--distill", type=click.FloatRange(0, 1), default=0.7, show_default=True,
    help="With --teacher: how much of the loss is the teachers'; the rest are the labels.",
)  # fmt: skip
@click.option(
    "--temperature", type=click.FloatRange(0, min_open=True), default=2.0, show_default=True,
    help="With --teacher: softens what the teachers say.",
)  # fmt: skip
@click.option("--spike-penalty", type=click.FloatRange(0), default=0.0, help="In the loss: weight of spikes a neuron.")
@click.option(
    "--late-penalty", type=click.FloatRange(0), default=0.0,
    help="In the loss: weight of the steps that spikes of a neuron come after its first, so that it settles sooner.",
)  # fmt: skip
@click.option(
    "--skip-easy", type=click.FloatRange(0, 0.9), default=0.0,
    help="Leave this share of the images that are learned already out of each epoch (InfoBatch).",
)  # fmt: skip
@click.option("--one-output", is_flag=True, help="Two classes as one logit, above 0 for class 1.")
@click.option(
    "--bf16", is_flag=True, help="Compute in bfloat16 while training; faster on some processors, slower on others."
)
@click.option("--out", "target", type=click.Path(dir_okay=False), required=True, help="Checkpoint to write.")
@click.option("--resume", is_flag=True, help="Go on from that checkpoint if it exists.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@seed_option
@json_option
def train(
    data_name: str, folder: str | None, samples: int | None, model: str | None, target: str, resume: bool, device: str,
    seed: int, as_json: bool, **recipe_options: Any,
) -> None:  # fmt: skip
    """Train a network, with quantisation unless --method float, and keep it in a checkpoint.

    \b
    lava-conv train --out runs/digits.pt                            digits, dynamic-threshold neurons
    lava-conv train --data mnist --method gao --levels 8 --out m.pt Ca-LIF neurons of at most 8 spikes
    lava-conv train --data cifar10 --method float --model resnet20 --flip --bf16 --out r.pt
    lava-conv train --out runs/digits.pt --resume                   go on after an interruption

    Under torchrun every process takes its part of each batch, and the first one writes the checkpoint.
    """
    from dataclasses import asdict, replace

    from lava_conv.classes import accuracy, predictions
    from lava_conv.qat import evaluate
    from lava_conv.training.data import centred, load_dataset
    from lava_conv.training.distributed import team
    from lava_conv.training.loop import FLOAT, Recipe
    from lava_conv.training.loop import train as fit

    data = load_dataset(data_name, folder, seed)
    if samples:
        data = replace(data, x_train=data.x_train[:samples], y_train=data.y_train[:samples])
    name = model or ("digits" if data.shape[1] == 8 else "lenet")
    recipe = Recipe(name, seed=seed, **recipe_options)
    with team() as members, progress(f"training {name} on {data.name}", shown=members.first and not as_json) as advance:
        trained = fit(data, recipe, target, resume, advance, device, members)
    if not members.first:
        return
    seen = centred(data.x_test, trained.shape)
    with progress("testing", len(seen), not as_json) as advance:
        logits = evaluate(trained.model, seen, progress=advance)
    right = float(accuracy(predictions(logits), data.y_test, logits.shape[1]))
    if as_json:
        found = {"checkpoint": target, "data": data.name, "recipe": asdict(recipe), "losses": trained.losses}
        click.echo(json.dumps(found | {"samples": len(data.y_test), "accuracy": right}))
        return
    kind = FLOAT if recipe.method == FLOAT else "quantised"
    out.print(f"{target}: {kind} model, {100 * right:.2f} % on {len(data.y_test)} test images")
