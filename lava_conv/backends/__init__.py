"""`run`: one graph, any backend. A backend is a function in the table; the next toolkit costs one new file here."""

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from lava_conv.arguments import graph_of, whole
from lava_conv.errors import BackendError, DataError
from lava_conv.memory import check_memory, record_bytes
from lava_conv.network.graph import Graph
from lava_conv.network.reference import check_images
from lava_conv.progress import Progress, within
from lava_conv.record import Record

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lava_conv.backends.protocol import Options

# name -> (module, function); imported on first use, because torch and Lava are heavy and Lava may be absent
BACKENDS = {
    "torch": ("lava_conv.simulation", "simulate"),
    "lava": ("lava_conv.backends.lava", "simulate"),
    "sdnn": ("lava_conv.backends.sdnn", "simulate"),
    "loihi2": ("lava_conv.backends.loihi2", "simulate"),
}
REPLACED = {  # options of version 0.1 -> what to do now
    "record": "pass record_spikes=True to keep every spike, and nothing to keep counts and readout only",
    "hardware": "choose the board with backend='loihi2'; 'lava' is the CPU simulation",
}
PART_BYTES = 1 << 28  # of a part's record
PART = 128  # images of a part at most, so that figures come; a stream of Lava's takes long to start


def run(
    graph: Graph,
    images: NDArray[np.uint8],
    steps: int | None = None,
    backend: str = "torch",
    *,
    record_spikes: bool = False,
    progress: Progress | None = None,
    **options: "Unpack[Options]",
) -> Record:
    """Run a graph on images.

    Args:
        graph: from `convert`, `calibrate` or `load`.
        images: uint8 (N, C, H, W), neither scaled nor normalised.
        steps: time steps a sample, 1 or more; default graph.steps.
        backend: "torch" (batched, CPU or GPU), "lava" (Lava's CPU simulation, a stream of samples), "sdnn" (lowered to
            stock SigmaDelta neurons, on Lava's CPU simulation) or "loihi2" (the same on a board, through Intel's
            extension of Lava). For "sdnn" and "loihi2" an image is one wave of graded spikes: their Record has one
            step, and no spikes.
        record_spikes: keep every spike of every layer (`record.spikes`), beside counts and readout; it takes memory.
        progress: called with the images done and their total.
        options: of the backend, e.g. device="cuda" for torch, timeout=60 for lava; they are the keyword arguments of
            `lava_conv.simulation.simulate`, `lava_conv.backends.lava.simulate` and `lava_conv.backends.sdnn.simulate`.

    Returns:
        Record; "torch" and "lava" give the same integers at every step, "sdnn" those on which they settle.

    Raises:
        DataError: the images are not uint8 (N, C, H, W) of the network's shape, steps or an option is not allowed, or
            the record is larger than the free memory: then use `run_parts`.
        RangeError: a state could leave 24 bits within so many steps.
        BackendError: an unknown backend, one that is not installed, or a run that failed or stopped moving.
        ConversionError: "sdnn" cannot be lowered exactly.
    """
    graph_of(graph)
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise BackendError(f"backend is {backend!r}, allowed are {', '.join(BACKENDS)}")
    steps = None if steps is None else whole(steps, "steps")
    if not isinstance(record_spikes, bool):
        raise DataError(f"record_spikes is {record_spikes!r}, allowed are True and False")
    module, name = BACKENDS[backend]
    function = cast("Callable[..., Record]", getattr(importlib.import_module(module), name))
    _check_options(function, options, backend)
    if backend != "torch":  # which checks it itself
        images = check_images(graph, images)
        copies = 2  # what the probes wrote, and the record that is made of it
        bytes_ = record_bytes(graph, len(images), steps or graph.steps, record_spikes)
        check_memory(copies * bytes_, f"the record of {len(images):,} images", "use fewer images at a time")
    return function(graph, images, steps, record_spikes=record_spikes, progress=progress, **options)


def _check_options(function: Callable[..., Record], options: Iterable[str], backend: str) -> None:
    """Refuse options that a backend does not take, before it is called."""
    own = [p.name for p in inspect.signature(function).parameters.values() if p.kind == p.KEYWORD_ONLY]
    known = [name for name in own if name not in ("record_spikes", "progress")]
    for name in options:
        if name not in known:
            remedy = REPLACED.get(name) or f"it takes {', '.join(known) or 'none'}"
            raise DataError(f"backend {backend!r} has no option {name}; {remedy}")


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
    *,
    record_spikes: bool = False,
    size: int | None = None,
    progress: Progress | None = None,
    **options: "Unpack[Options]",
) -> Iterator[tuple[slice, Record]]:
    """As `run`, part by part: the memory does not grow with the number of images.

    Args:
        graph: the network.
        images: uint8 (N, C, H, W).
        steps: time steps a sample, default graph.steps.
        backend: as `run` takes it. Each part of "lava" and "sdnn" starts processes of its own.
        record_spikes: as `run` takes it.
        size: images of a part, default `part_size`.
        progress: called with the images done and their total, over all parts.
        options: of the backend, as `run` takes them.

    Yields:
        (slice of the images, their Record), in order.

    Raises:
        As `run` does.
    """
    size = size or part_size(graph, steps, backend, record_spikes)
    for start in range(0, max(1, len(images)), size):
        part = slice(start, min(start + size, len(images)))
        here = within(progress, start, len(images))
        yield part, run(graph, images[part], steps, backend, record_spikes=record_spikes, progress=here, **options)
