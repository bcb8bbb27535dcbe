"""The oracle: the quantised network in integers, layer by layer, without time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lava_conv.arguments import array_of, graph_of
from lava_conv.errors import DataError, RangeError
from lava_conv.memory import check_memory
from lava_conv.network.fixedpoint import BOUND_LIMIT
from lava_conv.network.neurons import NEURONS, map_channels
from lava_conv.progress import Progress
from lava_conv.record import Parts, Record, smallest

if TYPE_CHECKING:
    from lava_conv.network.graph import Graph

REFERENCE_CHUNK = 64  # images at a time in the oracle, at most
REFERENCE_VALUES = 1 << 23  # inputs of all synapses of its widest layer at a time (32 MiB of float32)


def reference(graph: Graph, images: NDArray[np.uint8], progress: Progress | None = None) -> Record:
    """The quantised ANN in integers: the counts and logits on which every backend settles.

    Args:
        graph: the network.
        images: uint8 (N, C, H, W).
        progress: called after each chunk with the images done and their total.

    Returns:
        Record with a steps axis of length 1. With input_code "constant" the image counts `steps` times.

    Raises:
        DataError: wrong shape or dtype, or a record larger than the free memory.
        RangeError: a settled sum is beyond all bounds.
    """
    images = check_images(graph, images)
    size, found = chunk_size(graph), Parts(len(images))
    for start in range(0, len(images), size):
        chunk = images[start : start + size]
        logits, counts = _settle(graph, chunk)
        if not start:  # the first chunk shows in how many bytes counts are kept
            each = sum(count.nbytes for count in counts.values()) // len(chunk) + 8 * graph.classes
            check_memory(
                len(images) * each, f"the reference's record of {len(images):,} images",
                "take fewer images at a time",
            )  # fmt: skip
        found.put(start, logits[None], counts)
        if progress:
            progress(start + len(chunk), len(images))
    return found.record("reference")


def chunk_size(graph: Graph) -> int:
    """Images that `reference` takes at a time: it bounds its memory and changes nothing."""
    widest = max(int(np.prod(layer.shape)) for layer in graph.layers)
    for index, layer, _ in graph.neuron_layers():
        pixels = int(np.prod(layer.shape[1:]))
        widest = max(widest, *(pixels * feed.synapse.fan_in for feed in graph.inputs(index)))
    return max(1, min(REFERENCE_CHUNK, REFERENCE_VALUES // widest))


def _settle(graph: Graph, images: NDArray[np.uint8]) -> tuple[NDArray[np.int64], dict[int, NDArray[np.integer]]]:
    """(logits (N, classes), counts of each spiking layer, in as few bytes as hold them)."""
    repeats = graph.steps if graph.input_code == "constant" else 1
    values = {0: smallest(images.astype(np.int64) * repeats)}  # by layer
    counts: dict[int, NDArray[np.integer]] = {}
    last_uses = graph.last_uses()
    for index, layer in enumerate(graph.layers[1:], 1):
        if layer.is_view:
            values[index] = layer.view(values[graph.source(index)])
            continue
        first, *others = (s.synapse.apply(values[s.source]) for s in graph.inputs(index))
        drive = sum(others, first)
        if (largest := max(-int(drive.min()), int(drive.max()))) > BOUND_LIMIT:
            raise RangeError(
                f"layer {index} ({layer.kind}): the settled input is {largest}, the limit is {BOUND_LIMIT}; "
                f"use smaller weights or an upper clip"
            )
        neuron = NEURONS[layer.neuron]
        column = (-1,) + (1,) * (len(layer.shape) - 1)
        params = map_channels(neuron, layer.params, lambda x, c=column: x.reshape(c))
        settled = neuron.settle(drive, params)
        if neuron.spiking:
            settled = counts[index] = smallest(settled)
        values[index] = settled
        for done in [i for i, use in last_uses.items() if use == index]:
            del values[done]  # no later layer reads it
    return values[len(graph.layers) - 1].astype(np.int64, copy=False), counts


def check_images(graph: Graph, images: object) -> NDArray[np.uint8]:
    """The images as a contiguous uint8 (N, C, H, W) array; DataError says what is wrong with them."""
    graph_of(graph)
    images = array_of(images)
    if images.dtype != np.uint8:
        raise DataError(f"images have dtype {images.dtype}, allowed is uint8 (0..255); do not scale or normalise them")
    if images.ndim != 4 or images.shape[1:] != graph.input_shape:
        raise DataError(
            f"images have shape {images.shape}, the network takes (N, {', '.join(map(str, graph.input_shape))}), "
            f"that is N, C, H, W"
        )
    if len(images) == 0:
        raise DataError("images is empty; at least one image is needed")
    return np.ascontiguousarray(images, np.uint8)
