"""`run`: one graph, any backend. A backend is a function in the table; the next toolkit costs one new file here."""

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_conv.entrance import check_options, graph_of, whole
from lava_conv.errors import BackendError, DataError
from lava_conv.graph import Graph
from lava_conv.record import Record

# name -> (module, function); imported on first use, because torch and Lava are heavy and Lava may be absent
BACKENDS = {
    "torch": ("lava_conv.simulate", "simulate"),
    "lava": ("lava_conv.backends.lava", "simulate"),
    "sdnn": ("lava_conv.backends.sdnn", "simulate"),
}
RECORDABLE = ("spikes",)


def run(
    graph: Graph,
    images: NDArray[np.uint8],
    steps: int | None = None,
    backend: str = "torch",
    record: tuple[str, ...] = ("spikes",),
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
        options: for the backend, e.g. device="cuda" for torch, timeout=60 for lava; they are the arguments of
            `lava_conv.simulate.simulate`, `lava_conv.backends.lava.simulate` and `lava_conv.backends.sdnn.simulate`.

    Returns:
        Record; "torch" and "lava" give the same integers at every step, "sdnn" those on which they settle.

    Raises:
        DataError: the images are not uint8 (N, C, H, W) of the network's shape, or steps or record are out of range.
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
    return function(graph, images, steps, tuple(record), **options)
