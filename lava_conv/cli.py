"""The command line `lava-conv`. Everything heavy is imported inside the commands, so that --help is quick.

Exit codes: 0 done (and, for compare, equal), 1 different or interrupted, 2 an error, told in one sentence.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from lava_conv import __version__
from lava_conv.errors import LavaConvError

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)
DEMO_STEPS = 8
DEMO_THREADS = 2
DEMO_LAVA_SAMPLES = 100


def main() -> None:
    """Entry point: every error a user can cause is one sentence and exit code 2."""
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        err.print("interrupted")
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except LavaConvError as error:
        _complain(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except MemoryError:
        _complain("out of memory; use fewer samples or steps")
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


def _complain(sentence: str) -> None:
    err.print(f"error: {sentence}", style="red", markup=False)


@contextmanager
def _progress(text: str, total: int, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar with elapsed and remaining time on stderr."""
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not shown) as bar:
        task = bar.add_task(text, total=total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def _log_shown(*names: str) -> Iterator[None]:
    """What these modules log goes to stderr, a sentence each."""
    handler = logging.Handler()
    handler.emit = lambda record: err.print(record.getMessage(), markup=False)  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lava-conv")
def cli() -> None:
    """Quantised PyTorch networks as integer spiking networks that equal them exactly.

    \b
    lava-conv demo                                the whole way in half a minute
    lava-conv train --out runs/digits.pt          train with quantisation
    lava-conv convert runs/digits.pt digits.net   integers, proven bounds
    lava-conv run digits.net --data digits        simulate, accuracy at each step
    lava-conv compare digits.net --data digits    simulator against Lava, spike by spike
    lava-conv bench simulator lenet               speed on this machine, side by side with others
    """


def _data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--samples", type=click.IntRange(1), help="Use only the first so many images."),
        click.option("--folder", type=click.Path(), help="Of the data sets.  [default: $LAVA_CONV_DATA, then ./data]"),
        click.option(
            "--data", "data_name", default="digits", show_default=True,
            help="digits, mnist, fashion-mnist, cifar10, cifar100, or a Keras-style .npz file.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def _images(
    graph: Any, data_name: str, folder: str | None, split: str, samples: int | None, crop: bool, seed: int = 0
) -> tuple[Any, Any]:
    """Images and labels; with `crop` the middle of images that are larger than the network's input."""
    from lava_conv.data import centred, load_dataset

    data = load_dataset(data_name, folder, seed)
    x, y = (data.x_test, data.y_test) if split == "test" else (data.x_train, data.y_train)
    return centred(x[:samples], graph.input_shape) if crop else x[:samples], y[:samples]


_crop_option = click.option("--crop", is_flag=True, help="Of images larger than the network's input take the middle.")
_split_option = click.option("--split", type=click.Choice(["test", "train"]), default="test", show_default=True)
_seed_option = click.option("--seed", default=0, show_default=True, help="Of the digits split, and of training.")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")


@cli.command()
@click.option("--out", "target", type=click.Path(dir_okay=False), default="runs/digits.net", show_default=True)
@click.option("--lava/--no-lava", "with_lava", default=None, help="Run on Lava too.  [default: if it is installed]")
@_seed_option
def demo(target: str, with_lava: bool | None, seed: int) -> None:
    """Train, convert, write, read back, simulate and run on Lava: handwritten digits, in half a minute."""
    began = time.perf_counter()
    import torch

    import lava_conv as lc
    from lava_conv.data import load_dataset
    from lava_conv.qat import evaluate
    from lava_conv.report import build_ledger, spike_table
    from lava_conv.train import Recipe, train

    # The layers are so small that more threads wait for each other, badly so where cores are shared.
    torch.set_num_threads(min(DEMO_THREADS, torch.get_num_threads()))
    data = load_dataset("digits", seed=seed)
    out.print(f"digits: {len(data.x_train)} images to train with, {len(data.x_test)} to test, 8x8 pixels")
    recipe = Recipe(seed=seed)
    with _progress("training with quantisation", recipe.epochs) as advance:
        trained = train(data, recipe, progress=lambda epoch, loss: advance(1))
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    lc.save(lc.convert(trained.model, data.x_train[:64], steps=DEMO_STEPS), target)
    graph = lc.load(target)
    out.print(f"converted and written to {target} ({os.path.getsize(target):,} bytes), read back:\n")
    out.print(graph.summary() + "\n", markup=False)
    predictions = evaluate(trained.model, data.x_test).argmax(1)
    reference = graph.reference(data.x_test)
    simulator = lc.run(graph, data.x_test)
    lava = _demo_lava(lc, graph, data.x_test[:DEMO_LAVA_SAMPLES], with_lava)
    ledger = build_ledger(data.y_test, reference, simulator, predictions, lava)
    _print_ledger(ledger)
    for layer, positive, negative in spike_table(simulator):
        out.print(f"layer {layer}: {positive:.2f} positive and {negative:.2f} negative spikes a neuron and sample")
    out.print(f"\nwhole demo: {time.perf_counter() - began:.1f} s. Next: lava-conv inspect {target}")
    if not ledger.exact:
        raise click.exceptions.Exit(1)


def _demo_lava(lc: Any, graph: Any, images: Any, wanted: bool | None) -> Any:
    if wanted is False:
        return None
    try:
        with _progress("streaming through Lava", len(images)) as advance:
            return lc.run(graph, images, backend="lava", progress=advance)
    except lc.BackendError as error:
        if wanted or "not installed" not in str(error):
            raise
        out.print(f"without Lava: {error}", markup=False)
        return None


def _print_ledger(ledger: Any) -> None:
    table = Table("stage", "samples", "accuracy", "predictions that differ", title="accuracy ledger")
    for stage in ledger.stages:
        differ = "" if stage.differ is None else f"{stage.differ}"
        table.add_row(stage.name, str(stage.samples), f"{100 * stage.accuracy:.2f} %", differ)
    out.print(table)
    out.print("each row against the one above; each simulator row against the reference")
    for check in ledger.checks:
        out.print(check, markup=False)


@cli.command()
@_data_options
@click.option("--model", help="A name of lava_conv.qat.models.  [default: digits for 8x8 images, else lenet]")
@click.option(
    "--method", type=click.Choice(["zou", "gao"]), default="zou", show_default=True,
    help="zou: ternary weights, dynamic-threshold neurons. gao: int8 weights, learned steps, Ca-LIF neurons.",
)  # fmt: skip
@click.option("--k", type=click.IntRange(0, 4), default=0, show_default=True, help="zou: 2^k counts a unit.")
@click.option("--levels", type=click.IntRange(1, 255), default=16, show_default=True, help="gao: largest count.")
@click.option(
    "--encoder-levels", type=click.IntRange(1, 255), default=4, show_default=True,
    help="zou: largest count of the first layer; fewer settle sooner.",
)  # fmt: skip
@click.option("--n-max", type=click.IntRange(0, 255), default=0, help="zou: largest count of a hidden neuron, 0: none.")
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
@_seed_option
def train(
    data_name: str, folder: str | None, samples: int | None, model: str | None, target: str, resume: bool, device: str,
    seed: int, **recipe_options: Any,
) -> None:  # fmt: skip
    """Train a network with quantisation and keep it in a checkpoint."""
    from dataclasses import replace

    from lava_conv.data import centred, load_dataset
    from lava_conv.qat import evaluate
    from lava_conv.train import Recipe
    from lava_conv.train import train as fit

    data = load_dataset(data_name, folder, seed)
    if samples:
        data = replace(data, x_train=data.x_train[:samples], y_train=data.y_train[:samples])
    name = model or ("digits" if data.shape[1] == 8 else "lenet")
    recipe = Recipe(name, seed=seed, **recipe_options)
    epochs = recipe.epochs
    with _progress(f"training {name} on {data.name}", epochs) as advance:
        done = [0]

        def on_epoch(epoch: int, loss: float) -> None:
            advance(epoch - done[0])
            done[0] = epoch

        trained = fit(data, recipe, target, resume, on_epoch, device)
    seen = centred(data.x_test, trained.shape)
    accuracy = float((evaluate(trained.model, seen).argmax(1) == data.y_test).mean())
    out.print(f"{target}: quantised model, {100 * accuracy:.2f} % on {len(data.y_test)} test images")


@cli.command()
@click.argument("checkpoint", type=click.Path())
@click.argument("target", type=click.Path(dir_okay=False))
@click.option("--steps", type=click.IntRange(1), default=8, show_default=True, help="Time steps a sample takes.")
@click.option("--max-steps", type=click.IntRange(1), help="Steps for which the bounds are proven.  [default: up to 64]")
def convert(checkpoint: str, target: str, steps: int, max_steps: int | None) -> None:
    """Convert a checkpoint of `lava-conv train` to a .net file."""
    import numpy as np

    import lava_conv as lc
    from lava_conv.train import load_trained

    trained = load_trained(checkpoint)
    example = np.random.default_rng(0).integers(0, 256, (16, *trained.shape), dtype=np.uint8)
    with _log_shown("lava_conv.convert", "lava_conv.verify"):
        graph = lc.convert(trained.model, example, steps, max_steps)
    lc.save(graph, target)
    out.print(f"{target}: {len(graph.layers)} layers, {os.path.getsize(target):,} bytes, exact by construction")


@cli.command()
@click.argument("net", type=click.Path())
@_data_options
@_split_option
@_crop_option
@click.option("--steps", type=click.IntRange(1), help="Time steps a sample takes.  [default: what the file says]")
@click.option("--backend", default="torch", show_default=True, help="torch or lava.")
@click.option("--device", help="For torch: cpu or cuda.")
@_seed_option
@_json_option
def run(
    net: str, data_name: str, folder: str | None, split: str, samples: int | None, crop: bool, steps: int | None,
    backend: str, device: str | None, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Run a .net file on images; accuracy after each step, and against the integer reference."""
    import lava_conv as lc

    graph = lc.load(net)
    x, y = _images(graph, data_name, folder, split, samples, crop, seed)
    if device and backend != "torch":
        raise click.UsageError(f"--device is for --backend torch; {backend} has none")
    options: dict[str, Any] = {"device": device} if device else {}
    with _progress(f"running on {backend}", len(x), not as_json) as advance:
        record = lc.run(graph, x, steps, backend, record=(), progress=advance, **options)
    reference = graph.reference(x)
    differ = (record.predictions != reference.predictions).sum(axis=1)
    unlike = sum(int((record.counts[i] != c).sum()) for i, c in reference.counts.items())
    total = sum(c.size for c in reference.counts.values())
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


@cli.command()
@click.argument("net", type=click.Path())
@_data_options
@_split_option
@_crop_option
@click.option("--steps", type=click.IntRange(1), help="Time steps a sample takes.  [default: what the file says]")
@click.option("--first", default="torch", show_default=True)
@click.option("--second", default="lava", show_default=True)
@_seed_option
@_json_option
def compare(
    net: str, data_name: str, folder: str | None, split: str, samples: int | None, crop: bool, steps: int | None,
    first: str, second: str, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Run two backends and name the first spike that differs; exit code 1 if there is one.

    Without --samples, the first 100 images.
    """
    import lava_conv as lc

    graph = lc.load(net)
    x, _ = _images(graph, data_name, folder, split, samples or DEMO_LAVA_SAMPLES, crop, seed)
    with err.status(f"{first} and {second} on {len(x)} samples"):
        result = lc.compare(graph, x, steps, first, second)
    if as_json:
        click.echo(json.dumps({"equal": result.equal, "values": result.values, "difference": result.difference}))
    else:
        out.print(str(result), markup=False)
    if not result.equal:
        raise click.exceptions.Exit(1)


@cli.command()
@click.argument("net", type=click.Path())
@_json_option
def inspect(net: str, as_json: bool) -> None:
    """Show what a .net file holds: layers, neurons, weights, proven bounds."""
    import numpy as np

    import lava_conv as lc

    graph = lc.load(net)
    if as_json:
        bounds = graph.bounds()
        layers = []
        for index, layer in enumerate(graph.layers):
            entry: dict[str, Any] = {"type": layer.kind, "shape": list(layer.shape), "neuron": layer.neuron or None}
            if layer.synapse is not None:
                b = bounds[index]
                entry["weights"] = int(layer.synapse.weight.size)
                entry["v_max"] = int(max(np.abs(b.v_min).max(), np.abs(b.v_max).max()))
            layers.append(entry)
        summary = {"net": net, "steps": graph.steps, "input_code": graph.input_code, "layers": layers}
        click.echo(json.dumps(summary | {"generator": graph.generator, "labels": list(graph.labels)}))
        return
    out.print(f"{net}, written by {graph.generator}", markup=False)
    out.print(graph.summary(), markup=False)
    for index, layer, neuron in graph.neuron_layers():
        values = {n: np.asarray(getattr(layer.params, n)) for n in neuron.channel_fields + neuron.scalar_fields}
        parts = [f"{n} {int(v.min())}" + ("" if v.min() == v.max() else f"..{int(v.max())}") for n, v in values.items()]
        out.print(f"layer {index} {layer.neuron}: {', '.join(parts)}", markup=False)


@cli.command()
@click.argument("nets", type=click.Path(), nargs=-1, required=True)
def validate(nets: tuple[str, ...]) -> None:
    """Check .net files against the format and the 24-bit bounds; one line each, exit code 2 if any fails."""
    import lava_conv as lc

    failures = 0
    for net in nets:
        try:
            graph = lc.load(net)
            graph.check()
            out.print(
                f"{net}: valid, {len(graph.layers)} layers, states fit 24 bits for {graph.steps} steps", markup=False
            )
        except LavaConvError as error:
            failures += 1
            _complain(str(error) if net in str(error) else f"{net}: {error}")
    if failures:
        raise click.exceptions.Exit(2)


BENCHMARKS = {"simulator": "simulator_speed.py", "lava": "lava_speed.py", "scaling": "scaling.py"}


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("which", type=click.Choice(list(BENCHMARKS)))
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def bench(which: str, options: tuple[str, ...]) -> int:
    """Measure speed on this machine, everything side by side in one run: medians, ratios, the machine.

    \b
    lava-conv bench simulator lenet vgg11   against ANN passes and, where installed, SpikingJelly and snnTorch
    lava-conv bench lava lenet              stock Lava, fast models, watched runtime
    lava-conv bench scaling --picture s.png how time grows with steps, batch, spikes, width

    Further options go to the script, which lies in benchmarks/ and says more with `-- --help`. Peers are the extra
    `peers`: pip install lava-conv[peers].
    """
    import subprocess

    here = Path(__file__).parent
    folders = (here.parent / "benchmarks", here / "benchmarks")  # of the repository, of an installed package
    script = next((f / BENCHMARKS[which] for f in folders if (f / BENCHMARKS[which]).is_file()), None)
    if script is None:
        raise click.UsageError(f"{BENCHMARKS[which]} is not in {folders[0]} nor in {folders[1]}; install again")
    return subprocess.run([sys.executable, str(script), *options], check=False).returncode


if __name__ == "__main__":
    main()
