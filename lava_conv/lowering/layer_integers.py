"""One layer of a Graph as whole numbers for a stock SigmaDelta neuron, and the conditions under which that is exact.

The neuron gives max(0, x) >> 6 for x = w'z + b'. A layer's count floor((g z - theta) / delta), g what its shift and a
repeated image multiply the sum z by, is the same number if w' = 64 g q w / delta is whole, with b' = ceil(-64 q theta /
delta) and a division by q, a power of two, by one more layer. Where the count has an upper limit n, a second neuron
with the bias b' - 64 q n counts what is beyond, and the next layer subtracts it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import ConversionError
from lava_conv.network.bounds import drive_range
from lava_conv.network.fixedpoint import STATE_BITS, STATE_MAX, WEIGHT_MAX
from lava_conv.network.graph import Graph
from lava_conv.network.neurons import NEURONS, IntegerStaircase

ONE_BITS = 6  # state_exp of stock netx: what a neuron sends is its state shifted right by so much
ONE = 1 << ONE_BITS
PAYLOAD_BITS = 16  # of a graded spike, signed, as stock netx declares it for SigmaDelta
PAYLOAD_MAX = (1 << (PAYLOAD_BITS - 1)) - 1
CONSTANT_BASE = 128  # a bias is written with 8-bit digits: so many 1, 128 and 128^2
CONSTANTS = (1, CONSTANT_BASE, CONSTANT_BASE**2)
BIAS_MAX = (WEIGHT_MAX - 1) * CONSTANTS[-1]
MAX_DIVISOR = 1 << 12  # two dividing layers; a finer step has no use with 8-bit weights

Ints = NDArray[np.int64]


class Condition(NamedTuple):
    """One thing that an exact lowering needs of one layer; as text it is one sentence.

    Fields:
        layer: its index in the graph.
        name: what is asked for, in a word or two.
        found: what is there.
        allowed: what would do.
        status: "met" (for any image), "measured" (on the images given, not proven), "approximated" or "failed".
        remedy: what would help.
        short: what was found in one word, for tables.
    """

    layer: int
    name: str
    found: str
    allowed: str
    status: str
    remedy: str
    short: str

    @property
    def met(self) -> bool:
        """Whether nothing stands against an exact lowering: proven for any image, or measured on some."""
        return self.status in ("met", "measured")

    def __str__(self) -> str:
        sentence = f"layer {self.layer}: {self.name}: {self.found}, allowed is {self.allowed}"
        return sentence if self.met else f"{sentence}; {self.remedy}"


class LayerIntegers(NamedTuple):
    """What one layer becomes.

    Fields:
        weights: for each of the layer's inputs, its own and then its skips, with a channel (or flat neuron) of the
            layer for each row: (O, I/groups, kH, kW), (O, I), or for an identity (O,).
        bias: (O,), in 64ths of a count times the divisor.
        divisor: (O,), 1, 2, 4, ...: what a later stage divides the counts by.
        over: numbers of the channels whose count can pass `limit`.
        limit: largest count, 0: none.
        count_max: (O,), the largest count at all.
        low: (O,), the least state.
        high: (O,), the largest.
    """

    weights: tuple[Ints, ...]
    bias: Ints
    divisor: Ints
    over: Ints
    limit: int
    count_max: Ints
    low: Ints
    high: Ints

    @property
    def bias_over(self) -> Ints:
        """Of the neurons that count what is beyond the limit, (channels in `over`,)."""
        bias = self.bias[self.over] - ONE * self.divisor[self.over] * self.limit
        return bias.clip(-BIAS_MAX, BIAS_MAX)


def _staircase(graph: Graph, index: int) -> IntegerStaircase:
    """What the neurons of a layer settle on."""
    layer, to_staircase = graph.layers[index], graph.neuron(index).to_staircase
    if to_staircase is None:
        allowed = ", ".join(name for name, neuron in NEURONS.items() if neuron.to_staircase)
        raise ConversionError(f"layer {index}: neuron {layer.neuron} has no lowered form, allowed are {allowed}")
    return to_staircase(layer.params)


def layer_integers(
    graph: Graph, index: int, counts: dict[int, Ints], approximate: bool
) -> tuple[LayerIntegers, list[Condition]]:
    """Integers and conditions of one layer; where it cannot be exact, the integers nearest to it.

    Args:
        graph: the network.
        index: of the layer; it has neurons.
        counts: by layer, the largest count of each channel that the layers before can give.
        approximate: whether what cannot be exact is "approximated" instead of "failed".

    Raises:
        ConversionError: the neuron has no lowered form at all.
    """
    layer, readout = graph.layers[index], not graph.neuron(index).spiking
    staircase = _staircase(graph, index)
    theta, delta, shift, limit = staircase[:4]
    conditions: list[Condition] = []

    def condition(name: str, ok: bool, found: str, allowed: str, remedy: str, size: int | None = None) -> None:
        status = "met" if ok else "approximated" if approximate else "failed"
        short = ("yes" if ok else "no") if size is None else f"{size:,}"
        conditions.append(Condition(index, name, found, allowed, status, remedy, short))

    condition(
        "neuron", staircase.problem is None, staircase.problem or f"{layer.neuron} settles on a staircase of its sum",
        "a neuron that does", "convert without decay, with v_neg = 0 and a leak that ends",
    )  # fmt: skip
    feeds = graph.inputs(index)
    gains = [
        (graph.steps if graph.origin(f.source) == 0 and graph.input_code == "constant" else 1) << shift for f in feeds
    ]
    raw = [f.synapse.rows(len(theta)) * gain for f, gain in zip(feeds, gains, strict=True)]
    if readout:
        whole = 1 << shift
        ok = all(not (w % whole).any() for w in raw) and not (theta % whole).any()
        condition(
            "readout", ok, "its bias is no multiple of what its shift multiplies the sum by" if not ok
            else "sums are read as they are", "a readout without a shift", "convert again with this release",
        )  # fmt: skip
        weights, bias = [w // whole for w in raw], -(theta // whole)
        divisor = np.ones_like(bias)
    else:
        high = drive_range([(f.synapse, counts[f.source] * gain) for f, gain in zip(feeds, gains, strict=True)])[1]
        theta, delta = _free_steps(theta, delta, high, limit)
        weights, bias, divisor = _scaled(raw, theta, delta, condition)
    largest = max(int(np.abs(w).max(initial=0)) for w in weights)
    condition(
        "weights", largest <= WEIGHT_MAX, f"the largest is {largest} 64ths of a step", f"{WEIGHT_MAX} (8 bits)",
        "train with fewer levels, so that a step is larger", largest,
    )  # fmt: skip
    weights = [w.clip(-WEIGHT_MAX, WEIGHT_MAX) for w in weights]
    low, high = drive_range([(f.synapse.with_rows(w), counts[f.source]) for f, w in zip(feeds, weights, strict=True)])
    low, high = low + bias, high + bias
    count_max = np.maximum(high, 0) // (ONE * divisor)
    over = np.flatnonzero(count_max > limit) if limit else np.zeros(0, np.int64)
    low[over] -= ONE * divisor[over] * limit
    count_max = np.minimum(count_max, limit) if limit else count_max
    largest = int(np.abs(np.concatenate([bias, bias[over] - ONE * divisor[over] * limit])).max())
    condition(
        "bias", largest <= BIAS_MAX, f"the largest is {largest} 64ths of a step",
        f"{BIAS_MAX} (8-bit weights of the constant channels)", "train with fewer levels", largest,
    )  # fmt: skip
    bias = bias.clip(-BIAS_MAX, BIAS_MAX)
    return LayerIntegers(tuple(weights), bias, divisor, over, limit, count_max, low, high), conditions


def range_conditions(
    index: int, integers: LayerIntegers, readout: bool, seen: tuple[int, int] | None
) -> list[Condition]:
    """That states fit 24 bits and payloads 16: proven for any image, or else seen on images (state, payload)."""
    state = int(max(np.abs(integers.low).max(), np.abs(integers.high).max()))
    found = [
        ("state", state, STATE_MAX, f"{STATE_MAX} ({STATE_BITS} bits)", "train with an upper clip or fewer levels")
    ]
    if not readout:
        payload = int(np.maximum(integers.high, 0).max()) >> ONE_BITS
        found.append(("payload", payload, PAYLOAD_MAX, f"{PAYLOAD_MAX} ({PAYLOAD_BITS} bits)", found[0][4]))
    conditions = []
    for position, (name, bound, most, allowed, remedy) in enumerate(found):
        if bound <= most:
            status, words, size = "met", f"{bound} at most, for any image", bound
        elif seen is None:
            status, words, size = "failed", f"up to {bound}", bound
        else:
            status = "measured" if seen[position] <= most else "failed"
            words, size = f"{seen[position]} on the images given ({bound} is not excluded)", seen[position]
        advice = f"{remedy}, or give images to measure it on" if seen is None else remedy
        conditions.append(Condition(index, name, words, allowed, status, advice, f"{size:,}"))
    return conditions


def _free_steps(theta: Ints, delta: Ints, high: Ints, limit: int) -> tuple[Ints, Ints]:
    """(theta, delta) with a power of two where a channel counts to 1 at most, so that its step means nothing.

    Args:
        theta: lower thresholds, per channel.
        delta: step widths, per channel.
        high: the largest sum, per channel.
        limit: the largest count, 0: none.
    """
    first = theta + delta
    reached = np.maximum(high - theta, 0) // delta
    free = (np.minimum(reached, limit) if limit else reached) <= 1
    beyond = np.maximum(high - first + 1, delta)  # with a step no smaller than it was, weights still fit
    power = np.exp2(np.ceil(np.log2(beyond))).astype(np.int64)
    delta = np.where(free, power, delta)
    return np.where(free, first - delta, theta), delta


def _scaled(raw: list[Ints], theta: Ints, delta: Ints, condition: Callable[..., None]) -> tuple[list[Ints], Ints, Ints]:
    """Weights and bias in 64ths of a step, and what is still to be divided by, per channel."""
    common = np.gcd.reduce([np.gcd.reduce(np.abs(w).reshape(len(w), -1), axis=1) for w in raw]) * ONE
    divisor = delta // np.gcd(common, delta)
    odd = (divisor & (divisor - 1) != 0) | (divisor > MAX_DIVISOR)
    first = int(odd.argmax())
    found = f"{int(odd.sum())} of {len(odd)} channels have none, as channel {first} with {int(delta[first])}"
    condition(
        "step", not odd.any(), found if odd.any() else "every one is a power of two", "a power of two of the sums",
        "train with power_of_two=True (lava-conv train --power-of-two)",
    )  # fmt: skip
    weights = [w * ONE * _column(divisor, w) // _column(delta, w) for w in raw]
    bias = -ONE * divisor * theta // delta
    if odd.any():
        ratio = ONE / delta.astype(np.float64)
        reach = np.max([np.abs(w).reshape(len(w), -1).max(1) for w in raw], axis=0) * ratio
        near = np.exp2(np.floor(np.log2(WEIGHT_MAX / np.maximum(reach, 1e-9)))).clip(1, ONE).astype(np.int64)
        divisor = np.where(odd, near, divisor)
        weights = [np.rint(w * ONE * _column(divisor, w) / _column(delta, w)).astype(np.int64) for w in raw]
        bias = -ONE * divisor * theta // delta
    return weights, bias, divisor


def _column(x: Ints, like: Ints) -> Ints:
    return x.reshape(-1, *(1,) * (like.ndim - 1))
