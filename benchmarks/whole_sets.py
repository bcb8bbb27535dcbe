#!/usr/bin/env python
"""Every command on one network and a whole test set: seconds, memory, and how long it was silent.

LAVA_CONV_DATA=... python benchmarks/whole_sets.py netx_models/cifar10-vgg11-dtb-k2.net --data cifar10 --steps 16

Each command runs as a user runs it, with its output in a pipe, all its processes in one group. Memory is the largest
sum of that group: resident set (RSS: shared pages counted in every process) and proportional set (PSS: shared pages
counted once). `silent` is the longest time without a line. A command that takes longer than --limit is stopped, and its
row says what it printed last. `calibrate` takes a float VGG-11 or LeNet with weights as drawn: it is as large as the
trained one, and its accuracy means nothing. `compare lava` takes 2 images.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import lava_conv as lc

POLL = 1.0  # seconds between looks at the memory
BAR = "━"


class Row(NamedTuple):
    """What one command took."""

    name: str
    seconds: float
    rss: int
    pss: int
    processes: int
    silent: float
    result: str


def group_memory(group: int) -> tuple[int, int, int]:
    """(RSS, PSS, processes) of a process group, in bytes."""
    rss = pss = count = 0
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) != group:
                continue
            lines = Path(f"/proc/{entry}/smaps_rollup").read_text().splitlines()
        except OSError:  # it ended meanwhile
            continue
        sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith("kB")}
        rss, pss, count = rss + 1024 * int(sizes["Rss"]), pss + 1024 * int(sizes["Pss"]), count + 1
    return rss, pss, count


def measured(name: str, words: list[str], limit: float, folder: str) -> Row:
    """Run `lava-conv WORDS` and watch it."""
    began = last = time.monotonic()
    silent, lines = 0.0, [""]
    command = [sys.executable, "-m", "lava_conv.cli", *words]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )

    def read() -> None:
        nonlocal silent, last
        assert process.stdout is not None
        for line in process.stdout:
            now = time.monotonic()
            silent, last = max(silent, now - last), now
            if line.strip() and BAR not in line:
                lines.append(line.strip())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    most = (0, 0, 0)
    while process.poll() is None:
        most = tuple(max(a, b) for a, b in zip(most, group_memory(process.pid), strict=True))
        if time.monotonic() - began > limit:
            os.killpg(process.pid, signal.SIGKILL)  # the group that was started here
            break
        time.sleep(POLL)
    code, seconds = process.wait(), time.monotonic() - began
    reader.join(10)
    result = f"exit {code}" if code >= 0 else f"stopped after {limit:.0f} s: {lines[-1]}"
    return Row(name, seconds, *most, max(silent, began + seconds - last), result)


def float_checkpoint(model: str, data_name: str, crop: int, path: str) -> None:
    import torch

    from lava_conv.torch_tools.checkpoint import write_state
    from lava_conv.training.data import centred, load_dataset
    from lava_conv.training.loop import Recipe, load_trained, read_checkpoint, train

    data = load_dataset(data_name)
    few = replace(data, x_train=data.x_train[:256], y_train=data.y_train[:256], x_test=data.x_test[:16],
                  y_test=data.y_test[:16])  # fmt: skip
    train(few, Recipe.flat(model=model, method="float", epochs=1, batch=32, crop=crop, lr=1e-9), path)
    state = read_checkpoint(path)
    network = load_trained(path).model
    for module in network.modules():  # one epoch is too short for the moving averages; the weights stay as drawn
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        network.train()(torch.from_numpy(centred(few.x_train, tuple(state["shape"]))[:128]).float())
    write_state(path, state | {"model": network.state_dict()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--model", default="vgg11", help="float network for calibrate")
    parser.add_argument("--limit", type=float, default=3600, help="seconds for one command")
    parser.add_argument("--only", nargs="+", help="commands")
    options = parser.parse_args()
    net = str(Path(options.net).resolve())
    shown = ["--data", options.data, "--crop", "--samples", str(options.samples)]
    steps = ["--steps", str(options.steps)]
    size = lc.load(net).input_shape[-1]
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            "inspect": ["inspect", net],
            "validate": ["validate", net],
            "run": ["run", net, *shown, *steps],
            "lower": ["lower", net, "stock.net", "--approximate", *shown],
            "calibrate": ["calibrate", "float.pt", "c.net", "--steps", str(options.steps), *shown[:2], *shown[3:]],
            "compare torch": ["compare", net, "--second", "torch", *shown, *steps],
            "report": ["report", net, "--html", "r.html", *shown, *steps],
            "fit": ["fit", net, *shown, *steps],
            "compare lava": ["compare", net, "--samples", "2", *shown[:3], *steps],
        }
        if options.only:
            commands = {name: words for name, words in commands.items() if name.split()[0] in options.only}
        if "calibrate" in commands:
            float_checkpoint(options.model, options.data, size, f"{folder}/float.pt")
        print(
            f"{Path(net).name}, {options.samples:,} images of {options.data}, {options.steps} steps, {os.cpu_count()} "
            f"cores, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        print("command          seconds   peak MB (RSS)   (PSS)   processes   silent s   result", flush=True)
        for name, words in commands.items():
            row = measured(name, words, options.limit, folder)
            print(
                f"{row.name:14} {row.seconds:9.1f} {row.rss / 2**20:15,.0f} {row.pss / 2**20:7,.0f} {row.processes:11} "
                f"{row.silent:10.1f}   {row.result}",
                flush=True,
            )


if __name__ == "__main__":
    main()
