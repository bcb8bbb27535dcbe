#!/usr/bin/env python
"""An hour of runs that may be killed: python benchmarks/soak.py --minutes 60

Random networks run, one after the other, on the simulator (every method, one to four threads) and on Lava, while
another process takes and returns memory. Every other Lava run loses a child: a random process of the network is killed
or stopped at a random moment. Whatever runs to its end must be right in every spike; what does not must say why, within
seconds; and nothing may remain: no process, no shared memory, no descriptor. Prints what was tried and what was lost.
"""

import argparse
import gc
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from common import machine
from plain import write_random_net

import lava_conv as lc
from lava_conv.analysis.comparison import compare_records

METHODS = ("auto", "events", "dense", "tensors")
THREADS = (1, 2, 4)
SHARED = Path("/dev/shm")
LIMIT = 20.0  # seconds that Lava is waited for, when a child does not answer
GRACE = 10.0  # and those in which the rest must be gone
MIB = 1 << 20


def free_memory() -> int:
    """Bytes that could be had."""
    line = next(x for x in Path("/proc/meminfo").read_text().splitlines() if x.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024


def hog(leave: int, seed: int) -> None:
    """Take memory until `leave` bytes are left, hold it, return it, again and again."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    rng, held = random.Random(seed), []
    while os.getppid() != 1:
        if free_memory() - leave > 256 * MIB and rng.random() < 0.9:
            held.append(np.ones(64 * MIB, np.uint8))
        else:
            held.clear()
        time.sleep(0.1)


def children() -> list[int]:
    """Processes that this one has started, without the hog and Python's own resource tracker."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    spared = {process.pid for process in multiprocessing.active_children() if process.name == "hog"}
    spared.add(resource_tracker._resource_tracker._pid)  # type: ignore[attr-defined]
    return [int(pid) for pid in found if int(pid) not in spared]


class Killer(threading.Thread):
    """Kills or stops a random child of this process after a random time."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self.how, self.delay, self.pick = rng.choice([signal.SIGKILL, signal.SIGSTOP]), rng.random() ** 2 * 1.5, rng
        self.hit: float | None = None

    def run(self) -> None:
        time.sleep(self.delay)
        there = children()
        if there:
            try:
                os.kill(self.pick.choice(there), self.how)
                self.hit = time.perf_counter()
            except ProcessLookupError:
                pass


class Soak:
    """What was tried, what was lost."""

    def __init__(self) -> None:
        self.tried: Counter[str] = Counter()
        self.lost: list[str] = []
        self.values = 0
        self.slowest = 0.0  # seconds from the kill to the end of the run
        self.reasons: Counter[str] = Counter()

    def equal(self, what: str, a: Any, b: Any) -> None:
        """Compare two records of one network, spike for spike."""
        outcome = compare_records(a, b)
        self.values += outcome.values
        if not outcome.equal:
            self.lost.append(f"{what}: {outcome.difference}")

    def simulator(self, graph: Any, images: Any, plain: Any, rng: random.Random) -> None:
        method, threads = rng.choice(METHODS), rng.choice(THREADS)
        self.tried[f"simulator, {method}"] += 1
        found = lc.run(graph, images, record_spikes=True, method=method, threads=threads)
        self.equal(f"{method}, {threads} threads", plain, found)

    def file(self, graph: Any, folder: Path) -> None:
        self.tried["written and read again"] += 1
        lc.save(graph, folder / "again.net")
        if lc.load(folder / "again.net") != graph:
            self.lost.append("a network came back as another one")

    def lava(self, graph: Any, images: Any, plain: Any) -> None:
        self.tried["Lava"] += 1
        self.equal("Lava", plain, lc.run(graph, images, backend="lava", record_spikes=True))

    def killed(self, graph: Any, images: Any, plain: Any, rng: random.Random) -> None:
        killer = Killer(rng)
        self.tried[f"Lava, a child {'killed' if killer.how == signal.SIGKILL else 'stopped'}"] += 1
        killer.start()
        try:
            record = lc.run(graph, images, backend="lava", record_spikes=True, timeout=LIMIT)
        except lc.BackendError as error:
            end = time.perf_counter()
            self.reasons[" ".join(str(error).split()[-4:])] += 1
            if killer.hit is None:
                self.lost.append(f"ended though nothing was killed: {error}")
            else:
                self.slowest = max(self.slowest, end - killer.hit)
        else:
            self.reasons["ran to its end first"] += 1
            self.equal("Lava, beside a kill", plain, record)
        killer.join()

    def nothing_remains(self, before: set[str]) -> None:
        """After a run: no process of ours, no new shared memory."""
        until = time.monotonic() + GRACE
        while (children() or set(os.listdir(SHARED)) - before) and time.monotonic() < until:
            time.sleep(0.05)
        if left := children():
            self.lost.append(f"processes {left} remain")
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        if left := set(os.listdir(SHARED)) - before:
            self.lost.append(f"segments {sorted(left)[:3]} remain")


def figures() -> tuple[float, int, int]:
    """MiB of this process, its descriptors, its threads."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resident / MIB, len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--leave", type=float, default=2.0, help="GiB of memory that the other process leaves")
    options = parser.parse_args()
    pressure = multiprocessing.get_context("spawn").Process(
        target=hog, args=(int(options.leave * 1024 * MIB), options.seed), name="hog", daemon=True
    )
    pressure.start()
    soak, rng, rounds = Soak(), random.Random(options.seed), 0
    until = time.monotonic() + 60 * options.minutes
    warm = figures()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        while time.monotonic() < until and len(soak.lost) < 20:
            draw = np.random.default_rng([options.seed, rounds])
            code, skips = rng.choice(["flash", "constant"]), rng.random() < 0.5
            shape = (2, int(draw.integers(7, 16)), int(draw.integers(6, 16)))
            graph = lc.load(write_random_net(folder / "a.net", draw, shape, int(draw.integers(1, 7)), code, skips))
            images = draw.integers(0, 256, (int(draw.integers(1, 40)), *shape), dtype=np.uint8)
            plain = lc.run(graph, images, record_spikes=True, method="tensors")
            before = set(os.listdir(SHARED))
            for _ in range(3):
                soak.simulator(graph, images, plain, rng)
            soak.file(graph, folder)
            few = images[:8]
            wanted = lc.run(graph, few, record_spikes=True, method="tensors")
            soak.killed(graph, few, wanted, rng) if rounds % 2 else soak.lava(graph, few, wanted)
            soak.nothing_remains(before)
            rounds += 1
            if rounds == 50:
                warm = figures()
            if rounds % 100 == 0:
                now = figures()
                left = (until - time.monotonic()) / 60
                print(
                    f"round {rounds}: {now[0]:.0f} MiB, {now[1]} descriptors, {now[2]} threads, "
                    f"{free_memory() / MIB / 1024:.1f} GiB free, {len(soak.lost)} lost, {left:.0f} min left", flush=True
                )  # fmt: skip
    now = figures()
    pressure.terminate()
    print("\n| tried | times |\n|---|---|")
    for what, times in sorted(soak.tried.items()):
        print(f"| {what} | {times:,} |")
    print(f"\n{rounds:,} networks, {soak.values:,} spikes, counts and potentials compared")
    print("killed runs ended so:", ", ".join(f"{times} x {words!r}" for words, times in soak.reasons.most_common()))
    print(f"from kill to end {soak.slowest:.1f} s at most (a stopped child is waited for {LIMIT:.0f} s)")
    grown = [b - a for a, b in zip(warm, now, strict=True)]
    print(f"after the first 50 rounds {grown[0]:+.1f} MiB, {grown[1]:+d} descriptors, {grown[2]:+d} threads")
    print(f"lost: {len(soak.lost)}")
    for sentence in soak.lost:
        print(f"  {sentence}")
    sys.exit(bool(soak.lost))


if __name__ == "__main__":
    main()
