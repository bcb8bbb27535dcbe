"""Sweeps convolution geometries for crashes and differences: `python benchmarks/geometries.py 5000 --processes 2`.

Each is a small network with the geometry on spikes, and in half of them on the image: kernels of 1 to 5 per axis,
strides, paddings, dilations, groups and depthwise, frames of width 1 and of odd sizes, 1 to 40 channels (80 out of
depthwise ones), batches of 1 to 40 images. All methods of the simulator are compared with the oracle in every count and
with each other in every spike; training's forward and backward pass with float64. They run in child processes: where
one dies its geometries are run again in halves, until the one that ended it is found. The first geometries are those
that once did. Exit code 1 if anything crashed or differed.

ONEDNN_MAX_CPU_ISA=AVX2 in the environment sweeps the kernels of older processors.
"""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import torch
from common import machine
from geometry_sweep import differences, geometry, sweep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=5000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--together", type=int, default=100, help="geometries of one child")
    chosen = parser.parse_args()
    began, stop = time.perf_counter(), chosen.first + chosen.count
    torch.set_num_threads(1)  # a process whose loops have started threads must not fork
    for number in range(20, 20 + min(120, chosen.count // 10)):
        differences(number, training=False)  # compiles here what every child then has
    died, differ, lively, done = 0, 0, 0, 0
    for outcome in sweep(chosen.first, stop, chosen.together, chosen.processes):
        if outcome.died:
            died += 1
            print(f"crash ({outcome.died}): geometries {outcome.first} to {outcome.stop - 1}, the first of which is")
            print(f"  {geometry(outcome.first)}", flush=True)
        for case, text in outcome.differences:
            print(f"difference: geometry {case}, {text}: {geometry(case)}", flush=True)
        differ += len(outcome.differences)
        lively += outcome.lively
        done += outcome.stop - outcome.first
        print(f"{done} of {chosen.count}, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    print(machine())
    print(f"oneDNN kernels up to: {os.environ.get('ONEDNN_MAX_CPU_ISA', 'all of this processor')}")
    print(f"geometries tried: {chosen.count:,} (in {lively:,} of them the layer's neurons spiked)")
    print(f"crashes: {died}\ndifferences: {differ}\nseconds: {time.perf_counter() - began:.0f}")
    sys.exit(bool(died or differ))


if __name__ == "__main__":
    main()
