"""Not settled yet, or wrong: what it means that spike counts differ from the integer reference after a run.

A network with a flash input and neurons that come to rest settles: after some number of steps no neuron spikes any
more, and every count is that of the reference. With fewer steps counts differ, which is no fault. A count that differs
after the network has come to rest is one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_conv.analysis.early_exit import PROVEN, silent_after
from lava_conv.backends import run_parts
from lava_conv.errors import RangeError
from lava_conv.network.fixedpoint import MAX_STEPS
from lava_conv.network.graph import Graph
from lava_conv.progress import Progress
from lava_conv.record import Record, differing_counts

LOOKED = 16  # images that are run on, where a command asks
FACTOR = 4  # up to so many times the steps, MAX_STEPS at least
SPIKES = 1 << 26  # bytes of spikes of the images run on at a time
AGAIN = "the simulator settles on the reference within {} steps, but the run of {} steps gave other counts"


class Settling(NamedTuple):
    """What became of images whose counts differed from the reference, when they ran on.

    Fields:
        steps: after which they differed.
        images: how many were run on.
        settled: steps after which the counts of all these are those of the reference and stay so; None: not all are.
        limit: steps up to which they were run, unless they had settled before.
        moving: images of these that still differed at `limit`.
        inexact: why this network need not settle on the reference at all; "" where it must.
        fault: the first count that differs although the network is at rest, as a sentence; "" where there is none.
    """

    steps: int
    images: int
    settled: int | None
    limit: int
    moving: int
    inexact: str
    fault: str

    def __str__(self) -> str:
        few = f"the {self.images} images that ran on" if self.images > 1 else "the image that ran on"
        if self.fault:
            return f"fault: {self.fault}; please report this with the .net file"
        if self.inexact:
            return f"differences are expected: {self.inexact}"
        if self.settled is not None:
            return (
                f"not settled after {self.steps} steps: {few} settled on the reference within {self.settled} steps "
                f"(--steps {self.settled})"
            )
        return (
            f"not settled after {self.steps} steps: of {few} {self.moving} still differ from the reference after "
            f"{self.limit} steps"
        )


def inexact(graph: Graph) -> str:
    """Why the counts need not settle on those of the reference, as a sentence; "" where they must."""
    if graph.input_code != "flash":
        return "the image comes at every step, so that counts come near those of the reference and need not reach them"
    for index, layer, _ in graph.neuron_layers():
        params, leak = layer.params, bool(np.any(getattr(layer.params, "leak", 0)))
        encoder = all(feed.source == 0 for feed in graph.inputs(index)) and not leak
        for holds, why in (
            (layer.neuron not in PROVEN, "is not known to settle on what its `settle` says"),
            (getattr(params, "dv", 0), "has a decay, so that its potential moves without input"),
            (
                np.any(getattr(params, "v_neg", 0)),
                "has v_neg below 0, so that its count may miss the reference's",
            ),
            (leak and not params.leak_steps, "has a leak without end"),
            (getattr(params, "unipolar", 0) and not encoder, "is unipolar and takes no spike back that came too early"),
        ):
            if holds:
                return f"layer {index}: {layer.neuron} {why}"
    return ""


def run_on(
    graph: Graph, images: NDArray[np.uint8], steps: int, numbers: Sequence[int] = (),
    progress: Progress | None = None,
) -> Settling:  # fmt: skip
    """Run images whose counts differ from the reference for more steps, twice as many each time, until they are equal.

    Args:
        graph: the network.
        images: uint8 (N, C, H, W), a few.
        steps: time steps after which their counts differed.
        numbers: of the images in their data set, for the sentence; default 0..N-1.
        progress: called with the steps done now, and with the most that there can be.

    Returns:
        Settling. Where the network need not settle on the reference (`inexact`) nothing is run.
    """
    reason = inexact(graph)
    if reason:
        return Settling(steps, 0, None, steps, len(images), reason, "")
    limit, numbers = _limit(graph, steps), numbers or range(len(images))
    rests = max((getattr(layer.params, "leak_steps", 0) for _, layer, _ in graph.neuron_layers()), default=0)
    left, settled, now = np.arange(len(images)), 0, steps
    while len(left) and now < limit:
        now = min(2 * now, limit)
        size = max(1, SPIKES // (now * sum(int(np.prod(layer.shape)) for layer in graph.layers)))
        still = []
        for part, record in run_parts(graph, images[left], now, record_spikes=True, size=size):
            reference, silent = graph.reference(images[left[part]]), silent_after(record)
            for i, differs in enumerate(differing_counts(reference, record)):
                if not differs:
                    if silent[i] <= steps:
                        fault = f"image {numbers[left[part][i]]}: {AGAIN.format(silent[i], steps)}"
                        return Settling(steps, len(images), None, now, len(images), "", fault)
                    settled = max(settled, int(silent[i]))
                    continue
                still.append(left[part][i])
                if max(silent[i], rests) < now:
                    fault = _sentence(reference, record, i, numbers[still[-1]], int(silent[i]))
                    return Settling(steps, len(images), None, now, len(images), "", fault)
        left = np.array(still, np.int64)
        if progress:
            progress(now, limit)
    done = None if len(left) else settled
    return Settling(steps, len(images), done, now, len(left), "", "")


def _limit(graph: Graph, steps: int) -> int:
    """The most steps that are tried: what the 24 bits allow, by halves."""
    limit = max(FACTOR * steps, MAX_STEPS)
    while limit > steps:
        try:
            graph.check(limit)
            return limit
        except RangeError:
            limit //= 2
    return steps


def _sentence(reference: Record, record: Record, i: int, number: int, silent: int) -> str:
    for index, counts in reference.counts.items():
        unlike = np.argwhere(record.counts[index][i] != counts[i])
        if len(unlike):
            at = tuple(int(n) for n in unlike[0])
            return (
                f"layer {index}, image {number}, neuron {at} counts {record.counts[index][i][at]} where the reference "
                f"has {counts[i][at]}, although no neuron spikes after step {silent}"
            )
    raise AssertionError("no count differs")
