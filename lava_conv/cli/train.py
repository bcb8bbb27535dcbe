"""The command that trains: train."""

import json

import click

from lava_conv.cli.options import data_options, json_option, options_of, seed_option
from lava_conv.cli.screen import out, progress
from lava_conv.training.recipe import FLOAT, Recipe


@click.command()
@data_options
@options_of(Recipe, leave_out=("seed",), defaults={"model": "digits for 8x8 images, else lenet"})
@click.option("--out", "target", type=click.Path(dir_okay=False), required=True, help="Checkpoint to write.")
@click.option("--resume", is_flag=True, help="Go on from that checkpoint if it exists.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@seed_option
@json_option
def train(
    data_name: str, folder: str | None, samples: int | None, model: str | None, target: str, resume: bool, device: str,
    seed: int, as_json: bool, **recipe_options: object,
) -> None:  # fmt: skip
    """Train a network, with quantisation unless --method float, and keep it in a checkpoint.

    \b
    lava-conv train --out runs/digits.pt                            digits, dynamic-threshold neurons
    lava-conv train --data mnist --method ca_lif --levels 8 --out m.pt   at most 8 spikes
    lava-conv train --data cifar10 --method float --model resnet20 --flip --bf16 --out r.pt
    lava-conv train --out runs/digits.pt --resume                   go on after an interruption

    Under torchrun every process takes its part of each batch, and the first one writes the checkpoint.
    """
    from dataclasses import replace

    from lava_conv.classes import accuracy, predictions
    from lava_conv.qat import evaluate
    from lava_conv.training.data import centred, load_dataset
    from lava_conv.training.distributed import team
    from lava_conv.training.loop import train as fit

    data = load_dataset(data_name, folder, seed)
    if samples:
        data = replace(data, x_train=data.x_train[:samples], y_train=data.y_train[:samples])
    name = model or ("digits" if data.shape[1] == 8 else "lenet")
    recipe = Recipe.from_flat(recipe_options | {"model": name, "seed": seed}, "train")
    with team() as members, progress(f"training {name} on {data.name}", shown=members.first and not as_json) as advance:
        trained = fit(data, recipe, target, resume, advance, device, members)
    if not members.first:
        return
    seen = centred(data.x_test, trained.shape)
    with progress("testing", len(seen), not as_json) as advance:
        logits = evaluate(trained.model, seen, progress=advance)
    right = float(accuracy(predictions(logits), data.y_test, logits.shape[1]))
    if as_json:
        found = {"checkpoint": target, "data": data.name, "recipe": recipe.as_flat(), "losses": trained.losses}
        click.echo(json.dumps(found | {"samples": len(data.y_test), "accuracy": right}))
        return
    kind = FLOAT if recipe.quantisation is None else "quantised"
    out.print(f"{target}: {kind} model, {100 * right:.2f} % on {len(data.y_test)} test images")
