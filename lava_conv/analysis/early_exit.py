"""When a sample is done: settle detection, and policies that stop before the last step."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_conv.arguments import graph_of, record_of
from lava_conv.classes import accuracy, class_scores
from lava_conv.errors import ConversionError, DataError
from lava_conv.network.fixedpoint import WEIGHT_MAX
from lava_conv.network.graph import Graph
from lava_conv.network.neurons import NEURONS
from lava_conv.record import Record

POLICIES = ("margin", "confidence")
PROVEN = tuple(kind for kind, neuron in NEURONS.items() if neuron.provable)


@dataclass(frozen=True)
class Exit:
    """When each sample was left, and what the network said then.

    Fields:
        steps: int64 (N,), steps taken, from 1.
        predictions: int64 (N,), the class that the logits name after that step.
        outputs: how many logits the network has.
    """

    steps: NDArray[np.int64]
    predictions: NDArray[np.int64]
    outputs: int

    def accuracy(self, labels: ArrayLike) -> float:
        """Share of correct predictions; labels as in `Record.accuracy`."""
        return float(accuracy(self.predictions, labels, self.outputs))


def decided_after(record: Record) -> NDArray[np.int64]:
    """Per sample, the first step (from 1) from which the prediction stays the same until the end; int64 (N,)."""
    same = record_of(record).predictions == record.predictions[-1]
    return record.steps - np.cumprod(same[::-1], axis=0).sum(0) + 1


def silent_after(record: Record) -> NDArray[np.int64]:
    """Per sample, the number of steps until the last spike of any neuron; int64 (N,).

    With a flash input and neurons that rest, nothing changes from then on: no input comes, no potential moves, and what
    did not fire will not. That is proven for DTB, and for CALIF without leak and decay; a neuron of your own whose
    state moves by itself (a refractory time, a threshold that recovers, a decay) may spike again after a silent step.
    A record does not know its neurons, so this is not checked here; `leave` checks it. A sample that spikes in the last
    step of the record gets `steps`, and may not have settled.

    Args:
        record: with spikes.

    Raises:
        DataError: the record holds no spikes.
    """
    if not record_of(record).has_spikes:
        raise DataError("the record holds no spikes; run with record_spikes=True")
    busy = np.zeros((record.steps, record.logits.shape[1]), bool)
    for spikes in record.spikes.values():
        busy |= spikes.reshape(*busy.shape, -1).any(-1)
    return np.where(busy.any(0), record.steps - busy[::-1].argmax(0), 0)


def leave(graph: Graph, record: Record, policy: str = "margin", threshold: float = 0.0) -> Exit:
    """Stop each sample as early as a policy allows.

    "margin": when the network fell silent, or when the largest logit can no longer be overtaken until the last step of
    the record (of one output: its sign cannot change), whatever the neurons in front of the readout do (each moves by
    at most one count per step, within 0..max_count). The prediction is that of the last step, exactly. Proven for a
    flash input and for the neurons DTB, CALIF without leak and decay, and ACC; anything else is refused, a neuron of
    your own too.

    "confidence": when the largest logit leads the second by at least `threshold` spikes of the largest weight
    (threshold * 127); may change predictions.

    Args:
        graph: the network that the record is of.
        record: of a run, with spikes for "margin".
        policy: "margin" or "confidence".
        threshold: for "confidence", in spikes of the largest weight, 0 or more; "margin" has none.

    Returns:
        Exit; a sample that no step allows to leave has all steps of the record.

    Raises:
        DataError: unknown policy, or no spikes.
        ConversionError: "margin" cannot tell: the input is constant, or a layer has another neuron, a leak or a decay.
    """
    graph_of(graph)
    if (outputs := record_of(record).logits.shape[2]) != graph.classes:
        raise DataError(f"the record has {outputs} logits, the network {graph.classes}; pass its own record")
    if policy == "confidence" and not (isinstance(threshold, int | float | np.number) and threshold >= 0):
        raise DataError(f"threshold is {threshold!r}, allowed is a number of 0 or more")
    if policy not in POLICIES:
        raise DataError(f"policy is {policy!r}, allowed are {', '.join(POLICIES)}")
    ranked = np.sort(class_scores(record.logits), axis=2)
    lead = ranked[:, :, -1] - ranked[:, :, -2]
    if policy == "confidence":
        done = lead >= threshold * WEIGHT_MAX * (1 << graph.layers[-1].params.shift)
    else:
        _refuse_unending(graph)
        done = np.arange(1, record.steps + 1)[:, None] > silent_after(record)
        done |= _cannot_be_overtaken(graph, record)
    done[-1] = True
    step = done.argmax(0)
    return Exit(step + 1, record.predictions[step, np.arange(len(step))], graph.classes)


def _refuse_unending(graph: Graph) -> None:
    if graph.input_code != "flash":
        raise ConversionError("policy 'margin' needs input_code 'flash'; with 'constant' the input never ends")
    for index, layer, _ in graph.neuron_layers():
        if layer.neuron not in PROVEN:
            raise ConversionError(
                f"layer {index}: neuron is {layer.neuron}, policy 'margin' is proven for {', '.join(PROVEN)} alone; "
                f"use 'confidence'"
            )
        if np.any(getattr(layer.params, "leak", 0)) or getattr(layer.params, "dv", 0):
            raise ConversionError(
                f"layer {index}: a leak or decay moves potentials without spikes, so policy 'margin' cannot tell; "
                f"use 'confidence'"
            )


def _cannot_be_overtaken(graph: Graph, record: Record) -> NDArray[np.bool_]:
    """(steps, N): whether no class can pass the leading one in the steps that remain."""
    scores = class_scores(record.logits)
    steps, samples, classes = scores.shape
    last = len(graph.layers) - 1
    leader = record.predictions
    reach = np.zeros((steps, samples, classes))  # how much each class can gain on the leader
    for feed in graph.inputs(last):
        source = graph.origin(feed.source)
        kernel = feed.synapse.kernel
        if kernel is None or kernel.input_rank != 1 or source == 0:
            return np.zeros((steps, samples), bool)
        count = record.spikes[source].reshape(steps, samples, -1).cumsum(0, dtype=np.int64)
        layer = graph.layers[source]
        max_count = NEURONS[layer.neuron].max_count(layer.params)
        weight = kernel.weight.astype(np.int64) << graph.layers[last].params.shift
        weight = class_scores(weight.T).T  # the class that one output does not name has the score 0 for ever
        for t in range(steps):
            left = steps - 1 - t
            up = np.minimum(left, max_count - count[t]) if max_count else np.full_like(count[t], left)
            down = np.minimum(left, count[t])
            for a in np.unique(leader[t]):
                mine = leader[t] == a
                gain = weight - weight[a]
                reach[t, mine] += up[mine] @ np.maximum(gain, 0).T + down[mine] @ np.maximum(-gain, 0).T
    lead = np.take_along_axis(scores, leader[..., None], 2) - scores
    # a tie goes to the lower class, so a higher one must really pass
    passes = np.where(np.arange(classes) < leader[..., None], lead <= reach, lead < reach)
    np.put_along_axis(passes, leader[..., None], False, 2)
    return ~passes.any(2)
