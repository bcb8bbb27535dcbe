"""`run`: one graph, any backend. A backend is a function in the table; the next toolkit costs one new file here."""

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_conv.arguments import check_options, graph_of, whole
from lava_conv.errors import BackendError, DataError
from lava_conv.memory import check_memory, record_bytes
from lava_conv.network.graph import Graph
from lava_conv.network.reference import check_images
from lava_conv.progress import Progress, within
from lava_conv.record import Record

# name -> (module, function); imported on first use, because torch and Lava are heavy and Lava may be absent
BACKENDS = {
    "torch": ("lava_conv.simulation", "simulate"),
    "lava": ("lava_conv.backends.lava", "simulate"),
    "sdnn": ("lava_conv.backends.sdnn", "simulate"),
}
RECORDABLE = ("spikes",)
PART_BYTES = 1 << 28  # of a part's record
PART = 128  # images of a part at most, so that figures come; a stream of Lava's takes long to start


def run(
    graph: Graph,
    images: NDArray[np.uint8],
    steps: int | None = None,
    backend: str = "torch",
    record: tuple[str, ...] = ("spikes",),
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Record:
    """Run a graph on images.

    Args:
        graph: from `convert`, `calibrate` or `load`.
        images: uint8 (N, C, H, W), neither scaled nor normalised.
        steps: time steps a sample, 1 or more; default graph.steps.
        backend: "torch" (batched, CPU or GPU), "lava" (Lava's CPU simulation, a stream of samples) or "sdnn" (lowered
            to stock SigmaDelta neurons, on Lava's CPU simulation: one wave of graded spikes an image, so the Record
            has one step and no spikes).
        record: ("spikes",) keeps every spike of every layer; () keeps counts and readout only and saves memory.
        progress: called after each chunk with the images done and their total.
        options: for the backend, e.g. device="cuda" for torch, timeout=60 for lava; they are the arguments of
            `lava_conv.simulation.simulate`, `lava_conv.backends.lava.simulate` and `lava_conv.backends.sdnn.simulate`.

    Returns:
        Record; "torch" and "lava" give the same integers at every step, "sdnn" those on which they settle.

    Raises:
        DataError: the images are not uint8 (N, C, H, W) of the network's shape, steps or record are out of range, or
            the record is larger than the free memory: then use `run_parts`.
        RangeError: a state could leave 24 bits within so many steps.
        BackendError: an unknown backend, one that is not installed, or a run that failed or stopped moving.
        ConversionError: "sdnn" cannot be lowered exactly.
    """
    graph_of(graph)
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise BackendError(f"backend is {backend!r}, allowed are {', '.join(BACKENDS)}")
    steps = None if steps is None else whole(steps, "steps")
    if not isinstance(record, tuple | list | set) or any(name not in RECORDABLE for name in record):
        raise DataError(f"record is {record!r}, allowed are () and ({', '.join(map(repr, RECORDABLE))},)")
    module, name = BACKENDS[backend]
    function = getattr(importlib.import_module(module), name)
    check_options(function, options, f"backend {backend!r}")
    if backend != "torch":  # which checks it itself
        images = check_images(graph, images)
        copies = 2  # what the probes wrote, and the record that is made of it
        bytes_ = record_bytes(graph, len(images), steps or graph.steps, "spikes" in record and backend != "sdnn")
        check_memory(copies * bytes_, f"the record of {len(images):,} images", "use fewer images at a time")
    return function(graph, images, steps, tuple(record), progress=progress, **options)


def part_size(graph: Graph, steps: int | None = None, backend: str = "torch", keep_spikes: bool = False) -> int:
    """Images that `run_parts` takes at a time: their record stays below PART_BYTES."""
    each = record_bytes(graph, 1, graph.steps if steps is None else steps, keep_spikes)
    size = max(1, PART_BYTES // each)
    return min(size, PART) if backend == "torch" else size


def run_parts(
    graph: Graph,
    images: NDArray[np.uint8],
    steps: int | None = None,
    backend: str = "torch",
    record: tuple[str, ...] = (),
    size: int | None = None,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Iterator[tuple[slice, Record]]:
    """As `run`, part by part: the memory does not grow with the number of images.

    Args:
        graph: the network.
        images: uint8 (N, C, H, W).
        steps: time steps a sample, default graph.steps.
        backend: as `run` takes it. Each part of "lava" and "sdnn" starts processes of its own.
        record: as `run` takes it; here () by default.
        size: images of a part, default `part_size`.
        progress: called after each chunk with the images done and their total, of all parts.
        options: for the backend.

    Yields:
        (slice of the images, their Record), in order.

    Raises:
        As `run` does.
    """
    size = size or part_size(graph, steps, backend, "spikes" in record)
    for start in range(0, max(1, len(images)), size):
        part = slice(start, min(start + size, len(images)))
        here = within(progress, start, len(images))
        yield part, run(graph, images[part], steps, backend, record, progress=here, **options)
