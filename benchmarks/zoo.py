#!/usr/bin/env python
"""The model zoo: publish a checkpoint, and print the tables of what is shipped beside the papers' numbers.

python benchmarks/zoo.py publish runs/k0.pt mnist-lenet-dtb-k0 --steps 4 --command "lava-conv train ..."
python benchmarks/zoo.py publish runs/float.pt NAME --steps 16 --calibrate advanced --command "lava-conv train ..."
python benchmarks/zoo.py publish-lowered runs/sdnn.pt NAME --command "lava-conv train ..."     for stock netx
python benchmarks/zoo.py table [NAME ...] --data mnist          from the shipped files alone
python benchmarks/zoo.py time NAME ... --data cifar10           ms an image, simulator and Lava in turns
python benchmarks/zoo.py fit [NAME ...]                         refresh the fit reports in the cards
"""

import argparse
import hashlib
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, side_by_side

import lava_conv as lc
from lava_conv import classes
from lava_conv.analysis.activity import MAC, Activity, Meter
from lava_conv.analysis.early_exit import Exit, decided_after, leave, silent_after
from lava_conv.calibration.procedure import float_predictions
from lava_conv.lowering import Lowered, write_stock
from lava_conv.qat import evaluate
from lava_conv.training.data import centred, load_dataset
from lava_conv.training.loop import Trained, load_trained

ZOO = Path(__file__).parent.parent / "netx_models"
GOLDEN_IMAGES = 6
CHUNK = 250  # images a time
CHIPS = ("loihi1", "loihi2")  # of the fit reports
THRESHOLDS = (1, 2, 4, 8, 16, 32, 64)  # of the confidence policy
# Zou et al. 2024 (Front. Neurosci. 18:1449020): accuracy for k = 0, and operations of the ANN (4 for each
# multiply-accumulate) over synaptic operations.
PAPER = {
    "mnist-lenet-dtb-k0": "Zou 2024: 99.45 % at T = 4 (ANN 99.45 %), 7.2x fewer operations",
    "mnist-lenet-dtb-k1": "Zou 2024: 3.7x fewer operations",
    "mnist-lenet-dtb-k2": "Zou 2024: 1.9x fewer operations",
    "cifar10-vgg11-dtb-k0": "Zou 2024: 93.15 % at T = 8 (ANN 93.32 %), 0.5 spikes a neuron, 5.9x fewer operations",
}


def golden_images(shape: tuple[int, ...]) -> np.ndarray:
    """Images that anyone can make again: noise, gradients, discs; uint8 (GOLDEN_IMAGES, C, H, W)."""
    rng = np.random.default_rng(0)
    _, height, width = shape
    rows, columns = np.mgrid[:height, :width]
    images = [rng.integers(0, 256, shape), np.broadcast_to(rows * 255 // (height - 1), shape)]
    for radius in np.linspace(0.15, 0.45, GOLDEN_IMAGES - 2):
        ring = np.abs(np.hypot(rows - height / 2, columns - width / 2) - radius * height) < 1.5
        images.append(np.broadcast_to(ring * 255, shape))
    return np.stack(images).astype(np.uint8)


def golden(graph: lc.Graph, steps: int) -> dict[str, np.ndarray]:
    """Images, logits after each step, settled counts, and a digest of every layer's spikes."""
    images = golden_images(graph.input_shape)
    record, reference = lc.run(graph, images, steps, record_spikes=True), graph.reference(images)
    digests = [hashlib.sha256(np.ascontiguousarray(s).tobytes()).hexdigest() for _, s in sorted(record.spikes.items())]
    counts = {f"count_{i}": c.astype(np.uint8) for i, c in reference.counts.items()}
    return {
        "images": images,
        "logits": record.logits,
        "settled": reference.logits,
        "spikes": np.array(digests),
        **counts,
    }


def chunks(count: int):
    return (slice(start, start + CHUNK) for start in range(0, count, CHUNK))


def settled(
    graph: lc.Graph, images: np.ndarray, labels: np.ndarray, steps: int
) -> tuple[int, int, np.ndarray, np.ndarray]:
    """(counts unlike the reference after `steps`, counts in all, reference predictions, accuracy after each step)."""
    differ = total = 0
    predictions, right = [], np.zeros(steps)
    for part in chunks(len(images)):
        reference = graph.reference(images[part])
        record = lc.run(graph, images[part], steps)
        differ += sum(int((record.counts[i] != c).sum()) for i, c in reference.counts.items())
        total += sum(c.size for c in reference.counts.values())
        predictions.append(reference.predictions[0])
        right += record.accuracy(labels[part]) * len(images[part])
    return differ, total, np.concatenate(predictions), right / len(images)


def split(labels: np.ndarray, parts: list[Exit]) -> list[np.ndarray]:
    """The labels of each part."""
    return np.split(labels, np.cumsum([len(part.steps) for part in parts])[:-1])


def ties(logits: np.ndarray) -> int:
    """Images whose two largest logits are equal."""
    ranked = np.sort(classes.class_scores(logits), axis=-1)
    return int((ranked[..., -1] == ranked[..., -2]).sum())


def fit_report(graph: lc.Graph | Lowered) -> dict[str, dict]:
    """Chip -> what the network takes of it; see lava_conv.loihi.fitting.Fit.card."""
    return {chip: lc.fit(graph, chip).card() for chip in CHIPS}


def write_card(name: str, card: dict) -> None:
    (ZOO / f"{name}.json").write_text(json.dumps(card, indent=2) + "\n")


def fit(options: argparse.Namespace) -> None:
    for name in options.names or sorted(path.stem for path in ZOO.glob("*.net")):
        card = json.loads((ZOO / f"{name}.json").read_text())
        card["fit"] = fit_report(lc.load(ZOO / f"{name}.net"))
        write_card(name, card)
        print_fit(name, card["fit"])
    for path in [] if options.names else sorted((ZOO / "stock").glob("*.json")):
        card = json.loads(path.read_text())
        with np.load(path.with_suffix(".golden.npz"), allow_pickle=False) as golden:
            lowered = lc.lower(lc.load(path.with_suffix(".graph.net")), golden["images"])
        card["fit"] = fit_report(lowered)
        path.write_text(json.dumps(card, indent=2) + "\n")
        print_fit(path.stem, card["fit"])


def print_fit(name: str, reports: dict[str, dict]) -> None:
    for chip, report in reports.items():
        print(f"{name} on {chip}: {report['cores']} cores; {'; '.join(report['breaks']) or 'fits'}")


def recipe_of(trained: Trained) -> dict[str, Any]:
    """The recipe, without the folders in which other checkpoints lay."""
    recipe = trained.recipe
    start, teachers = recipe.model.start, recipe.distillation.teachers
    return recipe.changed(start=Path(start).name, teachers=tuple(Path(path).name for path in teachers)).as_flat()


def publish(options: argparse.Namespace) -> None:
    trained = load_trained(options.checkpoint)
    data = load_dataset(options.data or trained.data)
    x_test, target = centred(data.x_test, trained.shape), ZOO / f"{options.name}.net"
    accuracy = {}
    if options.calibrate:
        said = float_predictions(trained.model, x_test)
        accuracy["float network"] = round(float(classes.accuracy(said, data.y_test, trained.outputs)), 4)
        images = data.some(options.images, trained.shape)
        how = {"neuron": options.neuron, "per_channel": True, "iterations": options.iterations}
        graph = lc.calibrate(trained.model, images, options.steps, options.calibrate, **how)
        quantised = graph.model
    else:
        graph = lc.convert(trained.model, centred(data.x_train[:64], trained.shape), options.steps)
        how, quantised = {}, trained.model
    lc.save(graph, target)
    graph = lc.load(target)
    constant = graph.input_code == "constant"  # an input that comes for so many steps, and then nothing can settle
    after = graph.steps if constant else options.settle
    model = evaluate(quantised, x_test)
    named = classes.predictions(model)
    differ, total, predictions, by_step = settled(graph, x_test, data.y_test, after)
    unsettled = "counts not yet settled after the last step" if constant else (
        f"counts of reference and simulator that differ after {after} steps"
    )  # fmt: skip
    np.savez_compressed(ZOO / f"{options.name}.golden.npz", **golden(graph, options.steps))
    card = {
        "name": options.name,
        "data": f"{data.name}, {len(data.x_train):,} training and {len(data.x_test):,} test images{options.copy}",
        "command": options.command,
        "recipe": recipe_of(trained),
        "calibration": {"method": options.calibrate, "images": options.images, **how} if options.calibrate else None,
        "steps": options.steps,
        "bytes": target.stat().st_size,
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "accuracy": {
            **accuracy,
            "quantised model (float64)": round(float(classes.accuracy(named, data.y_test, graph.classes)), 4),
            "integer reference": round(float(classes.accuracy(predictions, data.y_test, graph.classes)), 4),
            "spiking, after each step": [round(float(a), 4) for a in by_step[: max(options.steps, 8)]],
        },
        "exactness": {
            "predictions of model and reference that differ": int((named != predictions).sum()),
            "ties among the model's logits": ties(model),
            unsettled: differ,
            "counts compared": total,
        },
        "note": options.note,
        "fit": fit_report(graph),
    }
    write_card(options.name, card)
    print(json.dumps(card, indent=2))


def publish_lowered(options: argparse.Namespace) -> None:
    """A network trained for stock neurons: the graph, the lowered file, what they compute, all layers through netx."""
    from lava_conv.backends.sdnn import check_file

    trained = load_trained(options.checkpoint)
    data = load_dataset(options.data or trained.data)
    x_test, base = centred(data.x_test, trained.shape), ZOO / "stock" / options.name
    lc.save(lc.convert(trained.model, centred(data.x_train[:64], trained.shape), options.steps), f"{base}.graph.net")
    graph = lc.load(f"{base}.graph.net")
    lowered = lc.lower(graph, x_test)
    write_stock(lowered, f"{base}.net")
    values = check_file(lowered, f"{base}.net")
    model = classes.predictions(evaluate(trained.model, x_test))
    reference = np.concatenate([graph.reference(x_test[part]).predictions[0] for part in chunks(len(x_test))])
    layers, differ = lowered.differences(x_test)
    few, began = x_test[: options.samples], time.perf_counter()
    stock, wanted = lc.run(graph, few, backend="sdnn"), graph.reference(few)
    seconds = time.perf_counter() - began
    images = golden_images(graph.input_shape)
    record = lowered.run(images)
    counts = {f"count_{i}": c for i, c in record.counts.items()}
    np.savez_compressed(f"{base}.golden.npz", images=images, logits=record.logits, **counts)
    labels = data.y_test
    card = {
        "name": options.name,
        "data": f"{data.name}, {len(data.x_train):,} training and {len(data.x_test):,} test images{options.copy}",
        "command": options.command,
        "recipe": recipe_of(trained),
        "bytes": Path(f"{base}.net").stat().st_size,
        "sha256": hashlib.sha256(Path(f"{base}.net").read_bytes()).hexdigest(),
        "accuracy": {
            "quantised model": round(float(classes.accuracy(model, labels, graph.classes)), 4),
            "integer reference": round(float(classes.accuracy(reference, labels, graph.classes)), 4),
            f"stock netx, first {len(few)} images": round(float(stock.accuracy(labels[: len(few)])[0]), 4),
        },
        "exactness": {
            "predictions of model and reference that differ": int((model != reference).sum()),
            "lowered in numpy, all test images: predictions that differ": differ,
            "lowered in numpy, all test images: largest share of differing counts": max(d.share for d in layers),
            f"stock netx, {len(few)} images: counts that differ": sum(
                int((stock.counts[i] != c).sum()) for i, c in wanted.counts.items()
            ),
            f"stock netx, {len(few)} images: counts compared": sum(c.size for c in wanted.counts.values()),
            f"stock netx, {len(few)} images: logits that differ": int((stock.logits != wanted.logits).sum()),
            "values read again through netx as meant": values,
        },
        "conditions not proven for every image": [str(c) for c in lowered.conditions if c.status != "met"],
        "fit": fit_report(lowered),
        "seconds per image on stock netx": round(seconds / len(few), 2),
        "note": options.note,
    }
    Path(f"{base}.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2))


def table(options: argparse.Namespace) -> None:
    data = load_dataset(options.data)
    labels = data.y_test[: options.samples]
    for name in options.names or sorted(path.stem for path in ZOO.glob(f"{options.data}-*.net")):
        graph = lc.load(ZOO / f"{name}.net")
        images = centred(data.x_test[: options.samples], graph.input_shape)
        steps = graph.steps if graph.input_code == "constant" else max(graph.steps, 8)
        meter, right, reference, decided, silent = Meter(graph), np.zeros(steps), [], [], []
        exits: dict[str, list[Exit]] = {}
        for part in chunks(len(images)):
            record = lc.run(graph, images[part], steps, record_spikes=True)
            meter.add(record)
            right += record.accuracy(labels[part]) * len(images[part])
            reference.append(graph.reference(images[part]).predictions[0])
            decided.append(decided_after(record))
            silent.append(silent_after(record))
            if graph.input_code == "flash":
                exits.setdefault("margin", []).append(leave(graph, record))
            for threshold in THRESHOLDS:
                left = leave(graph, record, "confidence", threshold)
                exits.setdefault(f"confidence {threshold:g}", []).append(left)
        settled_accuracy = classes.accuracy(np.concatenate(reference), labels, graph.classes)
        print(f"\n{name}: {len(images):,} test images, all layers integer. {PAPER.get(name, '')}")
        print_accuracy(right / len(images), settled_accuracy)
        print_activity(meter.result())
        print_exits(exits, labels, np.concatenate(decided), np.concatenate(silent), steps)


def timed(options: argparse.Namespace) -> None:
    """Whole runs on simulator and Lava, in turns, all spikes recorded; Lava compiles its processes within each."""
    data = load_dataset(options.data)
    for name in options.names:
        graph = lc.load(ZOO / f"{name}.net")
        images = centred(data.x_test[: options.samples], graph.input_shape)
        records: dict[str, lc.Record] = {}
        runs = {backend: partial(keep_run, records, graph, images, backend) for backend in ("torch", "lava")}
        taken = side_by_side(runs, options.rounds)
        one, other = records["torch"], records["lava"]
        differ = sum(int((one.spikes[i] != other.spikes[i]).sum()) for i in one.spikes)
        differ += int((one.logits != other.logits).sum())
        print(f"{name}: {len(images)} images, T = {graph.steps}, {machine()}; medians of {options.rounds}")
        for backend, seconds in taken.items():
            print(f"  {backend:6} {1000 * seconds / len(images):8.2f} ms an image")
        print(f"  {differ} of {sum(s.size for s in one.spikes.values()) + one.logits.size:,} values differ", flush=True)


def keep_run(records: dict[str, lc.Record], graph: lc.Graph, images: np.ndarray, backend: str) -> None:
    records[backend] = lc.run(graph, images, backend=backend, record_spikes=True)


def print_accuracy(by_step: np.ndarray, settled_accuracy: float) -> None:
    shown = [t for t in (1, 2, 3, 4, 5, 6, 8, 12, 16, 20, 24, 28, 32) if t <= len(by_step)]
    print("  T        " + "".join(f"{t:8d}" for t in shown) + "   settled")
    print("  accuracy " + "".join(f"{100 * by_step[t - 1]:8.2f}" for t in shown) + f"{100 * settled_accuracy:10.2f} %")


def print_activity(activity: Activity) -> None:
    print(
        f"  at T = {activity.steps}: {activity.positive:.3f} positive and {activity.negative:.3f} negative "
        f"spikes a neuron"
    )
    for layer in activity.layers[:-1]:
        print(
            f"    layer {layer.index}: {layer.neurons:6,} neurons, {layer.positive / layer.neurons:.3f} positive, "
            f"{layer.negative / layer.neurons:.3f} negative, {layer.synops:12,.0f} synaptic operations in, "
            f"{layer.stored:12,.0f} with a weight other than 0"
        )
    spiking = sum(x.synops for x in activity.layers if not x.graded)
    macs = sum(x.macs for x in activity.layers if not x.graded)
    print(
        f"  operations: ANN {activity.ann:,} ({MAC} a multiply-accumulate), SNN {activity.synops:,.0f} with the first "
        f"layer as in the ANN: {activity.ratio:.2f}x fewer; spiking layers alone "
        f"{MAC * macs / spiking:.2f}x; without weights of 0 {activity.ann / activity.stored:.2f}x"
    )


def print_exits(
    exits: dict[str, list[Exit]], labels: np.ndarray, decided: np.ndarray, silent: np.ndarray, steps: int
) -> None:
    print(
        f"  within {steps} steps: prediction final after {decided.mean():.2f} steps on average, {decided.max()} at most"
    )
    print(f"  last spike in step {silent.mean():.2f} on average, {silent.max()} at most")
    for policy, parts in exits.items():
        left = np.concatenate([part.steps for part in parts])
        right = sum(part.accuracy(y) * len(y) for part, y in zip(parts, split(labels, parts), strict=True))
        print(
            f"    leave by {policy:14} {left.mean():6.2f} steps on average  {100 * right / len(labels):.2f} %",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("publish")
    one.add_argument("checkpoint")
    one.add_argument("name")
    one.add_argument("--steps", type=int, required=True)
    one.add_argument("--settle", type=int, default=16, help="steps after which all counts are compared")
    one.add_argument("--command", required=True)
    one.add_argument("--note", default="")
    one.add_argument("--data")
    one.add_argument("--copy", default="", help="what to say of the data, as ' (JPEG copy)'")
    one.add_argument("--calibrate", help="method, for a checkpoint of a float network")
    one.add_argument("--neuron", default="calif")
    one.add_argument("--images", type=int, default=512, help="to calibrate with")
    one.add_argument("--iterations", type=int, default=500)
    one.set_defaults(call=publish)
    low = commands.add_parser("publish-lowered")
    low.add_argument("checkpoint")
    low.add_argument("name")
    low.add_argument("--steps", type=int, default=16)
    low.add_argument("--samples", type=int, default=200, help="through stock netx")
    low.add_argument("--command", required=True)
    low.add_argument("--note", default="")
    low.add_argument("--data")
    low.add_argument("--copy", default="")
    low.set_defaults(call=publish_lowered)
    two = commands.add_parser("table")
    two.add_argument("names", nargs="*")
    two.add_argument("--data", default="mnist")
    two.add_argument("--samples", type=int)
    two.set_defaults(call=table)
    clock = commands.add_parser("time")
    clock.add_argument("names", nargs="+")
    clock.add_argument("--data", default="mnist")
    clock.add_argument("--samples", type=int, default=100)
    clock.add_argument("--rounds", type=int, default=3)
    clock.set_defaults(call=timed)
    three = commands.add_parser("fit")
    three.add_argument("names", nargs="*")
    three.set_defaults(call=fit)
    options = parser.parse_args()
    options.call(options)


if __name__ == "__main__":
    main()
