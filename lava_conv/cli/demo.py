"""The command that shows the whole way: demo."""

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from lava_conv.cli.options import FEW_SAMPLES, json_option, seed_option
from lava_conv.cli.screen import err, out, print_ledger, progress

DEMO_STEPS = 8
DEMO_THREADS = 2


@click.command()
@click.option(
    "--out",
    "target",
    type=click.Path(dir_okay=False),
    default="runs/digits.net",
    show_default=True,
    help="The .net file to write.",
)
@click.option("--lava/--no-lava", "with_lava", default=None, help="Run on Lava too.  [default: if it is installed]")
@seed_option
@json_option
def demo(target: str, with_lava: bool | None, seed: int, as_json: bool) -> None:
    """Train, convert, write, read back, simulate and run on Lava: handwritten digits, in half a minute.

    \b
    lava-conv demo                      everything; the network is kept in runs/digits.net
    lava-conv demo --no-lava --seed 3   another split and another training, without Lava
    """
    began = time.perf_counter()
    import lava_conv as lc
    from lava_conv.analysis.ledger import build_ledger, spike_table
    from lava_conv.classes import predictions
    from lava_conv.qat import evaluate
    from lava_conv.torch_tools.device import torch_threads
    from lava_conv.training.data import load_dataset
    from lava_conv.training.loop import Recipe, train

    # The layers are so small that more threads wait for each other, badly so where cores are shared.
    click.get_current_context().with_resource(torch_threads(DEMO_THREADS))
    data = load_dataset("digits", seed=seed)
    say = (lambda *_, **__: None) if as_json else out.print
    say(f"digits: {len(data.x_train)} images to train with, {len(data.x_test)} to test, 8x8 pixels")
    recipe = Recipe(seed=seed)
    with progress("training with quantisation", shown=not as_json) as advance:
        trained = train(data, recipe, progress=advance)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    lc.save(lc.convert(trained.model, data.x_train[:64], steps=DEMO_STEPS), target)
    graph = lc.load(target)
    say(f"converted and written to {target} ({os.path.getsize(target):,} bytes), read back:\n")
    say(graph.summary() + "\n")
    said = predictions(evaluate(trained.model, data.x_test))
    reference = graph.reference(data.x_test)
    simulator = lc.run(graph, data.x_test, record_spikes=True)
    lava = _demo_lava(lc, graph, data.x_test[:FEW_SAMPLES], with_lava, as_json)
    ledger = build_ledger(data.y_test, reference, simulator, said, lava)
    if as_json:
        click.echo(json.dumps({"net": target, "exact": ledger.exact, **asdict(ledger)}))
    else:
        print_ledger(ledger)
        for layer, positive, negative in spike_table(simulator):
            out.print(f"layer {layer}: {positive:.2f} positive and {negative:.2f} negative spikes a neuron and sample")
        out.print(f"\nwhole demo: {time.perf_counter() - began:.1f} s. Next: lava-conv inspect {target}")
    if not ledger.exact:
        raise click.exceptions.Exit(1)


def _demo_lava(lc: Any, graph: Any, images: Any, wanted: bool | None, as_json: bool) -> Any:
    if wanted is False:
        return None
    try:
        with progress("streaming through Lava", len(images), not as_json) as advance:
            return lc.run(graph, images, backend="lava", record_spikes=True, progress=advance)
    except lc.BackendError as error:
        if wanted or "not installed" not in str(error):
            raise
        err.print(f"without Lava: {error}")
        return None
