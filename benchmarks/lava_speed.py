#!/usr/bin/env python
"""Lava's CPU simulation, stock and fast, side by side: python benchmarks/lava_speed.py [lenet vgg11]

The same network of processes on the same images, in turns:

    stock       Lava's runtime, Lava's models of Conv and Dense, the neurons in numpy
    models      Lava's runtime, the fast models of Conv and Dense, compiled neurons
    runtime     the same models in the watched runtime: channels without threads, many steps to a command

Printed are medians of ms a time step (the difference of a long and a short run, so that starting does not count) and
ratios, without probes but that of the readout, and for the last also with all of them. The readouts must be equal.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
from common import SHAPES, images, known, machine, network, spikes_a_neuron

import lava_conv as lc

LENGTHS = {  # time steps of one measurement
    "stock": {"lenet": 24, "vgg11": 2},
    "models": {"lenet": 400, "vgg11": 40},
    "runtime": {"lenet": 4000, "vgg11": 400},
}
KINDS = {  # fast models, watched runtime, a probe at every layer
    "stock": (False, False, False),
    "models": (True, False, False),
    "runtime": (True, True, False),
    "all probes": (True, True, True),
}
LIMIT = 900.0


def elapsed(graph: lc.Graph, name: str, steps: int, fast: bool, watch: bool, probes: bool) -> tuple[float, np.ndarray]:
    """Seconds that the network takes for so many steps, compiling and starting excluded, and what its readout says."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg

    from lava_conv import kernels
    from lava_conv.backends import lava
    from processes.conv import fast_sim_cfg

    class Network(lava._Network):
        def _probe(self, index: int, neuron: Any, path: str) -> None:
            if probes or index == len(graph.layers) - 1:
                super()._probe(index, neuron, path)

    kernels.AVAILABLE = kernels.AVAILABLE and fast
    run_cfg = fast_sim_cfg() if fast else Loihi2SimCfg(select_tag="fixed_pt")
    warm = 2 * graph.steps if fast else 1  # steps in which everything is compiled or loaded
    samples = -(-(warm + steps) // graph.steps)
    with tempfile.TemporaryDirectory() as folder:
        net = Network(graph, images(name, samples), graph.steps, folder, False, False)
        if watch:
            with lava.watched(net.source, run_cfg, LIMIT) as runtime:
                runtime.run(warm)
                start = time.perf_counter()
                runtime.run(steps)
                taken = time.perf_counter() - start
        else:
            net.source.run(RunSteps(warm), run_cfg)
            start = time.perf_counter()
            net.source.run(RunSteps(steps), run_cfg)
            taken = time.perf_counter() - start
            net.source.stop()
        return taken, np.array(net._recordings[len(graph.layers) - 1])[: warm + steps - max(graph.depths())]


def in_child(path: str, name: str, steps: int, kind: str) -> tuple[float, np.ndarray]:
    """Each run in a fresh interpreter: stock Lava leaves threads behind, and may hang."""
    with tempfile.TemporaryDirectory() as folder:
        found = f"{folder}/found.npz"
        command = [sys.executable, __file__, "--child", path, name, str(steps), kind, found]
        subprocess.run(command, check=True, timeout=LIMIT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with np.load(found) as archive:
            return float(archive["taken"]), archive["readout"]


def child(path: str, name: str, steps: str, kind: str, found: str) -> None:
    taken, readout = elapsed(lc.load(path), name, int(steps), *KINDS[kind])
    np.savez(found, taken=taken, readout=readout)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        return child(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["lenet"], type=known, metavar="NAME", help=" or ".join(SHAPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--net", help="a .net file in place of random weights (with one NAME, for its images)")
    options = parser.parse_args()
    print(machine())
    for name in options.names:
        graph = lc.load(options.net) if options.net else network(name)
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/{name}.net"
            lc.save(graph, path)
            times: dict[str, list[float]] = {kind: [] for kind in KINDS}
            for _ in range(options.rounds):
                readouts = []
                for kind in KINDS:
                    steps = LENGTHS.get(kind, LENGTHS["runtime"])[name]
                    taken, readout = in_child(path, name, steps, kind)
                    times[kind].append(1000 * taken / steps)
                    readouts.append(readout)
                least = min(map(len, readouts))
                assert all(np.array_equal(r[:least], readouts[-1][:least]) for r in readouts)
        stock = float(np.median(times["stock"]))
        sent = spikes_a_neuron(graph, name)
        print(f"{name}: {sent:.2f} spikes a neuron in {graph.steps} steps, {options.rounds} rounds")
        for kind, taken in times.items():
            here, each = float(np.median(taken)), ", ".join(f"{t:.3g}" for t in taken)
            print(f"  {kind:<12}{here:10.3f} ms a step {stock / here:8,.0f}x of stock   ({each})", flush=True)


if __name__ == "__main__":
    main()
