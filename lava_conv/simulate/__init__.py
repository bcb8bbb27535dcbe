"""The batched simulator: every spike of every step, exact, on CPU or GPU.

A layer runs over all time steps before the next layer begins. `compiled` (CPU) and `tensors` (GPU, and wherever numba
is missing) compute the same integers; here the batch is cut into chunks, and their results are put together.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lava_conv import kernels
from lava_conv.device import find_device
from lava_conv.errors import DataError
from lava_conv.graph import Graph, check_images
from lava_conv.record import Counts, Record
from lava_conv.simulate import tensors
from lava_conv.simulate.dense import exact_kernels

CHUNK = 16  # images a thread works on at once: their spikes should stay in the cache
CHUNK_BYTES = 1 << 26  # and so much room for the widest layer, of which there are a few copies

Progress = Callable[[int], Any]  # called with the number of images just finished


def simulate(
    graph: Graph,
    images: NDArray[np.uint8],
    steps: int | None = None,
    record: tuple[str, ...] = (),
    device: str | torch.device | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
    method: str = "auto",
) -> Record:
    """Run `graph` on uint8 images (N, C, H, W) for `steps` time steps.

    Args:
        record: ("spikes",) to keep every spike.
        device: "cpu" (default) or a CUDA device; the result is the same.
        progress: called after each chunk with its number of images.
        threads: on a CPU, how many work side by side; default torch.get_num_threads().
        method: on a CPU, how sums are formed: "events" (cost what the spikes cost), "dense" (int8 convolutions), "auto"
            (by the share of spikes measured in each layer and chunk), "tensors" (torch, step by step). All give the
            same integers.

    Raises:
        DataError: wrong images or method, or a result larger than the free memory. RangeError: a state could leave 24
        bits within so many steps. BackendError: no such device.
    """
    images = check_images(graph, images)
    steps = graph.steps if steps is None else steps
    graph.check(steps)
    place = find_device(device)
    if method not in METHODS:
        raise DataError(f"method is {method!r}, allowed are {', '.join(METHODS)}")
    if threads is not None and threads < 1:
        raise DataError(f"threads is {threads}, allowed is 1 or more")
    _check_memory(graph, len(images), steps, "spikes" in record)
    widest = max(int(np.prod(layer.shape)) for layer in graph.layers) * steps
    keep = "spikes" in record
    if place.type != "cpu" or method == "tensors" or not kernels.AVAILABLE:
        chunks = _chunks(images, max(1, tensors.CHUNK_ELEMENTS // widest))
        run: Any = lambda chunk: tensors.simulate_chunk(graph, torch.tensor(chunk, device=place), steps, keep)  # noqa: E731
        parts = _one_by_one(run, chunks, progress)
    else:
        from lava_conv.simulate.compiled import Network

        network = Network(graph, steps, keep, method)
        workers = threads or torch.get_num_threads()
        size = max(1, min(CHUNK, CHUNK_BYTES // (4 * widest), -(-len(images) // workers)))
        parts = _side_by_side(network, _chunks(images, size), workers, progress)
    logits = np.concatenate([part[0] for part in parts], axis=1)
    counts = Counts({i: np.concatenate([part[1][i] for part in parts]) for i in parts[0][1]})
    spikes = {i: np.concatenate([part[2][i] for part in parts], axis=1) for i in parts[0][2]}
    return Record(logits, counts, spikes, backend=f"torch simulator on {place}")


METHODS = ("auto", "events", "dense", "tensors")


def _check_memory(graph: Graph, samples: int, steps: int, keep_spikes: bool) -> None:
    """The batch is cut into chunks; what cannot be cut is the result."""
    neurons = sum(int(np.prod(layer.shape)) for _, layer, neuron in graph.neuron_layers() if neuron.spiking)
    # counts and spikes are held twice while the chunks are put together
    need = 2 * samples * (neurons * (1 + (steps if keep_spikes else 0)) + 8 * steps * graph.classes)
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not every system tells
        return
    if need > free:
        remedy = "fewer samples or record=() keep it small" if keep_spikes else "use fewer samples at a time"
        raise DataError(
            f"the result of {samples} samples and {steps} steps takes {need / 2**30:.1f} GiB, free are "
            f"{free / 2**30:.1f} GiB; {remedy}"
        )


def _chunks(images: NDArray[np.uint8], size: int) -> list[NDArray[np.uint8]]:
    return [images[start : start + size] for start in range(0, len(images), size)]


def _one_by_one(run: Any, chunks: list[NDArray[np.uint8]], progress: Progress | None) -> list[Any]:
    parts = []
    with torch.inference_mode(), exact_kernels():
        for chunk in chunks:
            parts.append(run(chunk))
            if progress:
                progress(len(chunk))
    return parts


def _side_by_side(run: Any, chunks: list[NDArray[np.uint8]], workers: int, progress: Progress | None) -> list[Any]:
    """Chunks in a pool of threads, each with one thread of torch: many small products, not one shared by all."""
    before = torch.get_num_threads()
    parts = []

    def work(chunk: NDArray[np.uint8]) -> Any:
        with torch.inference_mode():
            return run(chunk)

    with exact_kernels(), ThreadPoolExecutor(workers, initializer=lambda: torch.set_num_threads(1)) as pool:
        try:
            for chunk, part in zip(chunks, pool.map(work, chunks), strict=True):
                parts.append(part)
                if progress:
                    progress(len(chunk))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        finally:
            torch.set_num_threads(before)
    return parts
