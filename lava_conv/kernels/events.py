"""Convolutions and dense layers that cost what the spikes cost: for each output, gather the spikes in its window.

Channels come last. A block of output channels at a time is summed, so that its weights stay in the processor's cache
over all pixels and time steps; the neuron then runs on the sums while they are there.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lava_conv.kernels import rows, together
from lava_conv.kernels.neuron import bound, compiled, fingerprint, jit
from lava_conv.kernels.rows import LANES, add_rows, list_signs
from lava_conv.network.fixedpoint import WEIGHT_MIN
from lava_conv.network.neurons.base import Neuron
from lava_conv.network.synapses import Conv, Dense, Shape

BLOCKS = (16, 32, 64, 128)  # output channels summed at once; a compiled loop for each
PARTS = 127  # so many weights of -1, 0, 1 add up in 8 bits


class Plan(NamedTuple):
    """The weights of a layer as the kernel reads them.

    weight: int8 (blocks, kH * kW * 2C, block); in each 2C rows row C + c is the negative of row c. geometry: H, W, C,
    kernel, stride, padding, dilation, W'. output: H', W', O. acc: the integer type that no sum of spikes leaves.
    bits: in which parts of a sum are formed; 8 for ternary weights.
    """

    weight: NDArray[np.int8]
    geometry: tuple[int, ...]
    output: tuple[int, int, int]
    block: int
    acc: Any
    bits: int


def plan(synapse: Conv | Dense, shape: Shape) -> Plan | None:
    """For signed spikes of shape C,H,W or (n,); None where this form does not serve: groups, or a weight of -128."""
    synapse, shape = synapse.as_events(), synapse.frames(shape)
    weight = synapse.weight
    if synapse.groups != 1 or weight.min() == WEIGHT_MIN:
        return None
    outputs, channels, *kernel = weight.shape
    block = next((b for b in BLOCKS if b >= outputs), BLOCKS[-1])
    count = -(-outputs // block)
    signed = np.zeros((*kernel, 2 * channels, count * block), np.int8)
    signed[:, :, :channels, :outputs] = weight.transpose(2, 3, 1, 0)
    signed[:, :, channels:] = -signed[:, :, :channels]
    signed = signed.reshape(-1, count, block).transpose(1, 0, 2)
    norm = int(np.abs(weight.astype(np.int64)).reshape(outputs, -1).sum(1).max())
    _, height, width = synapse.output_shape(shape)
    geometry = (*shape[1:], channels, *kernel, *synapse.stride, *synapse.padding, *synapse.dilation, width)
    acc = np.int16 if norm < 1 << 15 else np.int32
    bits = 8 if np.abs(weight).max() <= 1 else 8 * acc(0).itemsize
    return Plan(np.ascontiguousarray(signed), geometry, (height, width, outputs), block, acc, bits)


def room(images: int, pixels: int, spikes: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Memory for the events of so many images: each event, and where each pixel of each image begins."""
    return np.empty(spikes + LANES, np.int32), np.empty((images, pixels + 1), np.int64)


def grouped(plan: Plan) -> int:
    """Pixels that the neuron takes at once: a loop over few channels would spend its time beginning."""
    pixels, outputs = plan.output[0] * plan.output[1], plan.output[2]
    if outputs != plan.block:
        return 1
    return together(pixels, outputs)


@jit
def list_events(frames: Any, width: int, index: Any, n: int, starts: Any) -> int:
    """List the spikes of frames (pixels, C), `width` pixels to a row, from entry n of `index` on.

    A spike of channel c at pixel x of its row is x * 2C + c, and C more if it is negative. Returns the entries in use.
    """
    pixels, channels = frames.shape
    whole = channels // LANES * LANES
    for pixel in range(pixels):
        starts[pixel] = n
        spikes = frames[pixel]
        base = (pixel % width) * 2 * channels
        n = list_signs(spikes, index, n, base, whole, channels)  # type: ignore[call-arg]  # an intrinsic
        for c in range(whole, channels):
            index[n] = base + c + (spikes[c] < 0) * channels
            n += spikes[c] != 0
    starts[pixels] = n
    return n


@jit
def narrow(frames: Any, spikes: Any) -> int:
    """Copy whole numbers (n,) to int8; how many are not 0, or -1 if one is not -1, 0 or 1."""
    largest, least, found = 0, 0, 0
    for i in range(len(frames)):
        spikes[i] = frames[i]
        found += frames[i] != 0
        largest, least = max(largest, frames[i]), min(least, frames[i])
    return found if largest <= 1 and least >= -1 else -1


@jit
def store(
    drive: Any, at: Any, hold: Any, out: Any, to: Any, o0: Any, size: Any, fresh: Any, states: Any, channels: Any,
    scalars: Any,
) -> None:  # fmt: skip
    """In the place of a neuron: hand the sums out."""
    for t in range(len(out)):
        d, o = drive[t, at][:size], out[t, to][o0 : o0 + size]
        for i in range(size):
            o[i] = d[i]


add: Any = None  # names that `bound` fills in
block: Any = None
finish: Any = None
one: Any = None
parts: Any = None


def _layer(
    frames: Any, index: Any, starts: Any, weight: Any, geometry: Any, group: int, out: Any, acc: Any,
    states: Any, channels: Any, scalars: Any,
) -> None:  # fmt: skip
    n = 0
    for image in range(len(frames)):
        n = list_events(frames[image], geometry[1], index, n, starts[image])
    for b in range(len(weight)):
        for image in range(len(frames)):
            one(
                index, starts[image], weight[b], b * block, geometry, group, out[image], acc, states, channels,
                scalars,
            )  # fmt: skip


def _one(
    index: Any, starts: Any, w: Any, o0: int, geometry: Any, group: int, out: Any, acc: Any, states: Any,
    channels: Any, scalars: Any,
) -> None:  # fmt: skip
    height, width, depth, ky, kx, sy, sx, py, px, dy, dx, width_out = geometry
    steps, groups, outputs = out.shape
    runs, reach = (1, kx) if dx == 1 else (kx, 1)
    size = min(group * block, outputs - o0)
    for row in range(groups):
        for g in range(group):
            r = row * group + g
            top, left = (r // width_out) * sy - py, (r % width_out) * sx - px
            for t in range(steps):
                a = acc[t, 0][g * block : (g + 1) * block]
                for o in range(block):
                    a[o] = 0
                for i in range(ky):
                    y = top + i * dy
                    if y < 0 or y >= height:
                        continue
                    for j in range(runs):
                        # the spikes of neighbouring pixels follow one another in the list
                        first = max(left + j * dx, 0)
                        last = min(left + j * dx + reach, width)
                        if first >= last:
                            continue
                        line = (t * height + y) * width
                        at, end = starts[line + first], starts[line + last]
                        shift = (i * kx + j - j * dx - left) * 2 * depth
                        while at < end:
                            stop = min(end, at + parts)
                            add(a, w, index, at, stop, shift)
                            at = stop
        finish(acc, 0, 1, out, row, o0, size, True, states, channels, scalars)


@cache
def gather(neuron: Neuron | None, block: int, bits: int) -> Any:
    """The compiled layer: sums of listed spikes, then the neuron (None: the sums themselves).

    The function: (frames, index, starts, weight, geometry, group, out, acc, states, channels, scalars) -> None.

        frames: int8 spikes (n, T*H*W, C). index, starts: as from `room`.
        out: (n, T, H'*W' / group, group * O). acc: (T, 1, group * block), room for the sums. states, channels: of
        group * O neurons. The rest as in `neuron.compiled`.
    """
    last = store if neuron is None else compiled(neuron, narrow=True)
    values = {"add": add_rows(block, bits), "block": block, "parts": PARTS if bits == 8 else 1 << 62, "finish": last}
    name = f"gather_{block}_{bits}_{last.__name__}_{fingerprint(rows)}"
    inner = njit(nogil=True, error_model="numpy")(bound(_one, f"{name}_one", **values))
    return jit(bound(_layer, name, one=inner, **values))
