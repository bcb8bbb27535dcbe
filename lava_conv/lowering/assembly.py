"""The layers of a lowered network put together: counts, what is beyond them, constants and what later layers need.

A stock file is a chain: each layer reads the one before. What a later layer needs (the shortcut of a residual block) is
therefore carried along by neurons that repeat it, and so are the constant channels that bring every layer its bias.
"""

import math
from typing import NamedTuple

import numpy as np

from lava_conv.lowering.layer_integers import CONSTANT_BASE, CONSTANTS, ONE, Ints, LayerIntegers
from lava_conv.lowering.taps import Taps
from lava_conv.network.fixedpoint import WEIGHT_MAX
from lava_conv.network.synapses import Shape, Weighted, elementwise

COUNT, OVER, CONSTANT = "count", "over", "constant"  # what a wire carries

Key = tuple[str, int]  # (COUNT or OVER, layer of the graph) or (CONSTANT, its value)


class Wire(NamedTuple):
    """Neighbouring channels of one layer.

    Fields:
        at: the first of them.
        of: the numbers they have in the graph's layer.
    """

    at: int
    of: Ints


class Stage(NamedTuple):
    """One layer of the lowered network.

    Fields:
        layer: of the graph, whose counts it makes.
        synapse: its weights, in 64ths of a count; the constants among its inputs bring the bias.
        shape: of its output.
        wires: what its channels carry.
        readout: whether its sums are the logits.
        divides: whether it only divides the counts of the stage before.
    """

    layer: int
    synapse: Weighted
    shape: Shape
    wires: dict[Key, Wire]
    readout: bool = False
    divides: bool = False


class Rows(NamedTuple):
    """Neurons to be made.

    Fields:
        key: what they carry.
        of: the numbers they have in the graph's layer.
        blocks: by what they read, weights (rows, channels, taps...), the channels being those of the wire.
        bias: int64 (rows,), in 64ths of a count.
    """

    key: Key
    of: Ints
    blocks: dict[Key, Ints]
    bias: Ints


def digits(bias: Ints) -> dict[int, Ints]:
    """The bias as weights of the constants: sum of constant * digit, digits within 8 bits. The last takes the rest."""
    found, rest = {}, bias
    for constant in CONSTANTS[:-1]:
        low = (rest + CONSTANT_BASE // 2) % CONSTANT_BASE - CONSTANT_BASE // 2
        found[constant], rest = low, (rest - low) // CONSTANT_BASE
    # the second of two digits may be up to 127 in size; a third constant is asked for only beyond that
    joined = found[CONSTANT_BASE] + CONSTANT_BASE * rest
    small = np.abs(joined) <= WEIGHT_MAX
    found[CONSTANT_BASE], found[CONSTANTS[-1]] = np.where(small, joined, found[CONSTANT_BASE]), np.where(small, 0, rest)
    return found


def assemble(
    layer: int, taps: Taps, before: Shape, wires: dict[Key, Wire], rows: list[Rows], readout: bool = False
) -> Stage:
    """One stage of given neurons.

    Args:
        layer: of the graph, whose counts it makes.
        taps: of its own synapse.
        before: shape of what it reads.
        wires: what the channels of that carry, constants among them.
        rows: the neurons, in order.
        readout: whether the sums are the logits.
    """
    kernel = np.zeros((sum(len(r.of) for r in rows), before[0], *taps.shape), np.int64)
    made: dict[Key, Wire] = {}
    start = 0
    for r in rows:
        here = kernel[start : start + len(r.of)]
        for key, block in r.blocks.items():
            here[:, wires[key].at : wires[key].at + len(wires[key].of)] += block
        for constant, weight in digits(r.bias).items():
            if weight.any():
                here[(slice(None), wires[(CONSTANT, constant)].at, *taps.inner())] += weight
        made[r.key] = Wire(start, r.of)
        start += len(r.of)
    synapse = taps.synapse(kernel)
    if synapse.input_rank == 1:
        before = (math.prod(before),)
        if kernel.max() <= 0 and (CONSTANT, 0) in wires:
            kernel[(0, wires[(CONSTANT, 0)].at, *taps.inner())] = 1
            synapse = taps.synapse(kernel)
    return Stage(layer, synapse, synapse.output_shape(before), made, readout)


def repeated(key: Key, wire: Wire, taps: Taps) -> Rows:
    """Neurons that send what they get: 64/64 of it.

    Raises:
        ConversionError: the layer's geometry does not let it through.
    """
    block = np.zeros((len(wire.of), len(wire.of), *taps.shape), np.int64)
    same = np.arange(len(wire.of))
    block[(same, same, *(taps.inner() if key[0] == CONSTANT else taps.centre()))] = ONE
    return Rows(key, wire.of, {key: block}, np.zeros(len(wire.of), np.int64))


def divided(layer: int, shape: Shape, wires: dict[Key, Wire], integers: LayerIntegers) -> list[Stage]:
    """Stages that divide the counts of `layer` by what is left, at most 64 in each; everything else is repeated."""
    left, stages = integers.divisor.copy(), []
    while (left > 1).any():
        now = np.minimum(left, ONE)
        weight = np.full(shape[0], ONE, np.int64)
        for kind in (COUNT, OVER):
            if (kind, layer) in wires:
                at, of = wires[(kind, layer)]
                weight[at : at + len(of)] = ONE // now[of]
        stages.append(Stage(layer, elementwise(weight, len(shape) == 1), shape, wires, divides=True))
        left //= now
    return stages
