"""The layers of a lowered network put together: counts, what is beyond them, constants and what later layers need.

A stock file is a chain: each layer reads the one before. What a later layer needs (the shortcut of a residual block) is
therefore carried along by neurons that repeat it, and so are the constant channels that bring every layer its bias.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import ConversionError
from lava_conv.lowering.layer_integers import CONSTANT_BASE, CONSTANTS, ONE, Ints, LayerIntegers
from lava_conv.network.fixedpoint import WEIGHT_MAX
from lava_conv.network.synapses import Conv, Dense, Identity, Shape, Synapse

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
    synapse: Conv | Dense
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


def feed_block(synapse: Synapse, weight: Ints, main: Conv | Dense, source: Shape, step: tuple[int, int]) -> Ints:
    """The weights of one input on the taps of the layer's own synapse: (O, channels, *taps).

    Args:
        synapse: of the graph, whose geometry the weights have.
        weight: its integers in 64ths, a row for each neuron: (O, I/groups, kH, kW), (O, I), or (O,) of an identity.
        main: the layer's own synapse.
        source: shape of what it reads, in the graph.
        step: every how many-th row and column of it arrives here.

    Raises:
        ConversionError: it reads pixels that the layer's own synapse does not.
    """
    if isinstance(main, Dense):
        matrix = np.diag(weight) if isinstance(synapse, Identity) else weight
        return matrix.reshape(len(matrix), source[0], *source[1:])
    if isinstance(synapse, Identity):
        synapse = Conv(np.ones((len(weight), 1, 1, 1), np.int8), groups=len(weight))
        weight = weight[:, None, None, None]
    assert isinstance(synapse, Conv)
    alone = synapse.weight.shape[2:] == (1, 1) and synapse.padding == (0, 0)
    if tuple(a * b for a, b in zip(step, main.stride, strict=True)) != synapse.stride or (step != (1, 1) and not alone):
        raise ConversionError(
            f"an input with stride {synapse.stride} and a kernel of {synapse.weight.shape[2:]} reads pixels that the "
            f"layers in between, with strides of {step} in all, do not carry"
        )
    full = np.zeros((len(weight), source[0], *main.weight.shape[2:]), np.int64)
    rows, columns = (_same_taps(synapse, main, axis) for axis in (0, 1))
    inputs, outputs = weight.shape[1], len(weight) // synapse.groups
    for group in range(synapse.groups):
        here = slice(group * outputs, (group + 1) * outputs)
        there = np.arange(group * inputs, (group + 1) * inputs)
        full[here, there[:, None, None], rows[:, None], columns] = weight[here]
    return full


def _same_taps(synapse: Conv, main: Conv, axis: int) -> NDArray[np.int64]:
    """The taps of `main` that read the pixels which those of `synapse` read."""
    offsets, known = _offsets(synapse, axis), _offsets(main, axis)
    if not np.isin(offsets, known).all():
        raise ConversionError("an input reads pixels outside of the layer's own kernel")
    return np.searchsorted(known, offsets)


def centre(main: Conv | Dense, before: Shape) -> tuple[int, ...]:
    """The tap that reads the pixel at the output's own place.

    Raises:
        ConversionError: there is none.
    """
    if isinstance(main, Dense) and len(before) == 1:
        return ()
    taps = []
    for axis in (0, 1):
        known = _offsets(main, axis) if isinstance(main, Conv) else np.zeros(0)
        if 0 not in known:
            raise ConversionError(
                "no tap of its kernel reads the pixel at the output's own place, so that no shortcut can pass it"
            )
        taps.append(int(np.flatnonzero(known == 0)[0]))
    return tuple(taps)


def inner(main: Conv | Dense, before: Shape) -> tuple[int, ...]:
    """A tap that never reads padding: constants come in there.

    Raises:
        ConversionError: there is none.
    """
    if isinstance(main, Dense):
        return (0,) * (len(before) - 1)
    taps = []
    for axis in (0, 1):
        first = _offsets(main, axis)
        reach = before[1 + axis] + main.padding[axis] - first[-1]  # rows of the padded input that a first tap may read
        last = first + ((reach - 1) // main.stride[axis]) * main.stride[axis]
        inside = np.flatnonzero((first >= 0) & (last < before[1 + axis]))
        if not len(inside):
            raise ConversionError(
                "every tap of its kernel reads padding somewhere, so that no constant reaches all of its neurons"
            )
        taps.append(int(inside[len(inside) // 2]))
    return tuple(taps)


def _offsets(main: Conv, axis: int) -> NDArray[np.int64]:
    """Where each tap reads, in pixels from the output's own place times the stride."""
    return np.arange(main.weight.shape[2 + axis]) * main.dilation[axis] - main.padding[axis]


def assemble(
    layer: int, main: Conv | Dense, before: Shape, wires: dict[Key, Wire], rows: list[Rows], readout: bool = False
) -> Stage:
    """One stage of given neurons.

    Args:
        layer: of the graph, whose counts it makes.
        main: gives kernel size, stride, padding, dilation.
        before: shape of what it reads.
        wires: what the channels of that carry, constants among them.
        rows: the neurons, in order.
        readout: whether the sums are the logits.
    """
    kernel = np.zeros((sum(len(r.of) for r in rows), before[0], *_tap_shape(main, before)), np.int64)
    made: dict[Key, Wire] = {}
    start = 0
    for r in rows:
        here = kernel[start : start + len(r.of)]
        for key, block in r.blocks.items():
            here[:, wires[key].at : wires[key].at + len(wires[key].of)] += block
        for constant, weight in digits(r.bias).items():
            if weight.any():
                here[(slice(None), wires[(CONSTANT, constant)].at, *inner(main, before))] += weight
        made[r.key] = Wire(start, r.of)
        start += len(r.of)
    if isinstance(main, Conv):
        synapse: Conv | Dense = Conv(kernel, main.stride, main.padding, main.dilation)
        return Stage(layer, synapse, synapse.output_shape(before), made, readout)
    if kernel.max() <= 0 and (CONSTANT, 0) in wires:
        kernel[(0, wires[(CONSTANT, 0)].at, *inner(main, before))] = 1
    return Stage(layer, Dense(kernel.reshape(start, -1)), (start,), made, readout)


def _tap_shape(main: Conv | Dense, before: Shape) -> Shape:
    return main.weight.shape[2:] if isinstance(main, Conv) else before[1:]


def repeated(key: Key, wire: Wire, main: Conv | Dense, before: Shape) -> Rows:
    """Neurons that send what they get: 64/64 of it.

    Raises:
        ConversionError: the layer's geometry does not let it through.
    """
    block = np.zeros((len(wire.of), len(wire.of), *_tap_shape(main, before)), np.int64)
    same = np.arange(len(wire.of))
    block[(same, same, *(inner(main, before) if key[0] == CONSTANT else centre(main, before)))] = ONE
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
        if len(shape) == 3:
            synapse: Conv | Dense = Conv(weight[:, None, None, None], groups=shape[0])
        else:
            synapse = Dense(np.diag(weight))
        stages.append(Stage(layer, synapse, shape, wires, divides=True))
        left //= now
    return stages
