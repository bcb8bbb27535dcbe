"""Interval analysis: what every layer of a Graph can reach for any image, and the proof that it fits 24 bits."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import RangeError
from lava_conv.network.fixedpoint import BOUND_LIMIT, INPUT_MAX, STATE_BITS, STATE_MAX, STATE_MIN, STEPS_LIMIT
from lava_conv.network.neurons import NEURONS
from lava_conv.network.synapses import Synapse

if TYPE_CHECKING:
    from lava_conv.network.graph import Graph


class LayerBounds(NamedTuple):
    """What one layer can reach, proven for any image; all int64 (channels,) but the last.

    Fields:
        drive_min: least running sum of the synapses, before the shift.
        drive_max: largest.
        v_min: least membrane potential, before saturation.
        v_max: largest.
        count_max: largest net spike count; the least is 0.
        step_max: the largest |a_in| of any channel within one step, before the shift.
    """

    drive_min: NDArray[np.int64]
    drive_max: NDArray[np.int64]
    v_min: NDArray[np.int64]
    v_max: NDArray[np.int64]
    count_max: NDArray[np.int64]
    step_max: int


def bounds(graph: "Graph", steps: int | None = None) -> dict[int, LayerBounds]:
    """Interval analysis: what every layer can reach within `steps` steps, for any image at all.

    A neuron sends at most one spike a step, so its net count stays in 0..min(max_count, steps), transients included;
    the running sum of a layer therefore stays within the interval of its weights over these counts.

    Args:
        graph: the network.
        steps: time steps a sample, default those of the graph.

    Returns:
        Layer index -> LayerBounds, for every layer that has neurons.
    """
    steps = graph.steps if steps is None else steps
    pixel = INPUT_MAX * (steps if graph.input_code == "constant" else 1)
    count: list[NDArray[np.int64]] = [np.full(graph.input_shape[0], pixel, np.int64)]
    found: dict[int, LayerBounds] = {}
    for index, layer in enumerate(graph.layers[1:], 1):
        if layer.is_view:
            source = graph.source(index)
            count.append(layer.view_channels(count[source], graph.layers[source].shape))
            continue
        feeds = [(s.synapse, count[s.source]) for s in graph.inputs(index)]
        low, high = (np.clip(end, -BOUND_LIMIT, BOUND_LIMIT) for end in drive_range(feeds))
        step = np.zeros_like(low)
        for feed in graph.inputs(index):
            one = np.full_like(count[feed.source], _payload(graph, feed.source))
            step = step + np.maximum(*map(np.abs, feed.synapse.interval(-one, one)))
        b = NEURONS[layer.neuron].bounds(layer.params, low, high, steps)
        found[index] = LayerBounds(low, high, b.v_min, b.v_max, b.count_max, int(step.max()))
        count.append(b.count_max)
    return found


def _payload(graph: "Graph", index: int) -> int:
    """Largest value that layer `index` sends in one step."""
    return INPUT_MAX if graph.origin(index) == 0 else 1


def drive_range(feeds: list[tuple[Synapse, NDArray[np.int64]]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Range (least, largest) of the running synaptic sum, int64 (channels,) each.

    Args:
        feeds: each synapse with the largest count of each channel that it reads, int64 (its input channels,).
    """
    low, high = feeds[0][0].interval(0 * feeds[0][1], feeds[0][1])
    for synapse, count in feeds[1:]:
        least, most = synapse.interval(0 * count, count)
        low, high = low + least, high + most
    return low, high


def check(graph: "Graph", steps: int | None = None) -> None:
    """Prove that every state fits 24 bits (-8388608..8388607) for any image.

    Args:
        graph: the network.
        steps: time steps a sample, default those of the graph.

    Raises:
        RangeError: one could leave them; names the layer, the channel, the value and the remedy.
    """
    steps = graph.steps if steps is None else steps
    if not isinstance(steps, int | np.integer):
        raise RangeError(f"steps is {steps!r}, allowed is a whole number of 1 or more, up to {STEPS_LIMIT}")
    if not 1 <= steps <= STEPS_LIMIT:
        raise RangeError(f"steps is {steps}, allowed is 1 or more, up to {STEPS_LIMIT}")
    for index, b in bounds(graph, steps).items():
        lowest, highest = int(b.v_min.argmin()), int(b.v_max.argmax())
        ends = ((lowest, int(b.v_min[lowest])), (highest, int(b.v_max[highest])))
        outside = [(channel, v) for channel, v in ends if not STATE_MIN <= v <= STATE_MAX]
        if outside:
            channel, v = max(outside, key=lambda end: abs(end[1]))
            what = f", channel {channel}: the membrane potential can reach {v} within {steps} steps"
            remedy = "fewer steps, smaller weights, fewer inputs or a smaller shift"
        elif b.step_max > STATE_MAX:
            what = f": the input of one step can reach {b.step_max}"
            remedy = "smaller weights or fewer inputs"
        else:
            continue
        raise RangeError(
            f"layer {index} ({graph.layers[index].kind}){what}, the limit is {STATE_BITS} bits "
            f"({STATE_MIN}..{STATE_MAX}); use {remedy}"
        )
