"""The batched simulator: every spike of every step, exact, on CPU or GPU.

A layer runs over all time steps before the next layer begins. `compiled` (CPU) and `tensors` (GPU, and wherever numba
is missing) compute the same integers; here the batch is cut into chunks, and their results are put together.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from lava_conv import kernels
from lava_conv.arguments import whole
from lava_conv.errors import DataError
from lava_conv.memory import check_memory, record_bytes
from lava_conv.network.graph import Graph
from lava_conv.network.reference import check_images
from lava_conv.progress import Progress
from lava_conv.record import Counts, NoSpikes, Record
from lava_conv.simulation import tensors
from lava_conv.torch_tools.device import find_device, limit_torch_threads

CHUNK = 64  # images a thread works on at once: their spikes should stay in the cache
CHUNK_BYTES = 1 << 25  # and so much room for the widest layer, of which there are a few copies


def simulate(
    graph: Graph,
    images: NDArray[np.uint8],
    steps: int | None = None,
    *,
    record_spikes: bool = False,
    progress: Progress | None = None,
    device: str | torch.device | None = None,
    threads: int | None = None,
    method: str = "auto",
) -> Record:
    """Run `graph` on uint8 images (N, C, H, W) for `steps` time steps.

    Args:
        graph: the network.
        images: uint8 (N, C, H, W).
        steps: time steps a sample, default graph.steps.
        record_spikes: keep every spike.
        progress: called after each chunk with the images done and their total.
        device: "cpu" (default) or a CUDA device; the result is the same.
        threads: on a CPU, how many work side by side; default torch.get_num_threads().
        method: on a CPU, how sums are formed: "events" (cost what the spikes cost), "dense" (int8 convolutions), "auto"
            (by the share of spikes measured in each layer and chunk), "tensors" (torch, step by step). All give the
            same integers.

    Raises:
        DataError: wrong images or method, or a result larger than the free memory.
        RangeError: a state could leave 24 bits within so many steps.
        BackendError: no such device.
    """
    images = check_images(graph, images)
    steps = graph.steps if steps is None else steps
    graph.check(steps)
    place = find_device(device)
    if method not in METHODS:
        raise DataError(f"method is {method!r}, allowed are {', '.join(METHODS)}")
    threads = None if threads is None else whole(threads, "threads")
    compiled = place.type == "cpu" and method != "tensors" and kernels.AVAILABLE
    _check_memory(graph, len(images), steps, record_spikes, None if compiled else 4)
    widest = max(int(np.prod(layer.shape)) for layer in graph.layers) * steps
    run: Callable[[NDArray[np.uint8]], tensors.Part]
    if compiled:
        from lava_conv.simulation.compiled import Network

        run = Network(graph, steps, record_spikes, method)
        workers = threads or torch.get_num_threads()
        largest = max(1, min(CHUNK, CHUNK_BYTES // (4 * widest)))
        turns = -(-len(images) // (largest * workers))  # all threads have equally much to do
        size = -(-len(images) // (turns * workers))
    else:
        run = lambda chunk: tensors.simulate_chunk(graph, torch.tensor(chunk, device=place), steps, record_spikes)  # noqa: E731
        workers, size = 0, max(1, tensors.CHUNK_ELEMENTS // widest)
    found = _Result(len(images))
    chunks = [(start, images[start : start + size]) for start in range(0, len(images), size)]

    def work(job: tuple[int, NDArray[np.uint8]]) -> int:
        with torch.inference_mode():
            found.put(job[0], run(job[1]))
        return len(job[1])

    with _workers(workers) as map_:
        done = 0
        for count in map_(work, chunks):
            done += count
            if progress:
                progress(done, len(images))
    counts = Counts(found.counts, channels_last=compiled)
    spikes = found.spikes if record_spikes else NoSpikes()
    return Record(found.logits, counts, spikes, backend=f"torch simulator on {place}")


Job = TypeVar("Job")


class Map(Protocol):
    """`map` over one iterable, in order."""

    def __call__(self, function: Callable[[Job], int], jobs: Iterable[Job], /) -> Iterator[int]:
        """The result of each job."""
        ...


class _Result:
    """The arrays of a Record, filled chunk by chunk, by whichever thread is ready."""

    def __init__(self, samples: int) -> None:
        self.samples, self.lock = samples, Lock()
        self.logits: NDArray[np.int64] = np.zeros(0, np.int64)
        self.counts: dict[int, NDArray[np.integer]] = {}
        self.spikes: dict[int, NDArray[np.int8]] = {}

    def put(self, start: int, part: tensors.Part) -> None:
        logits, counts, spikes = part
        with self.lock:  # the first one to come shows the shapes
            if not self.logits.size:
                self.logits = np.empty((len(logits), self.samples, logits.shape[2]), np.int64)
                self.counts = {i: np.empty((self.samples, *c.shape[1:]), c.dtype) for i, c in counts.items()}
                self.spikes = {i: np.empty((len(s), self.samples, *s.shape[2:]), np.int8) for i, s in spikes.items()}
        rows = slice(start, start + logits.shape[1])
        self.logits[:, rows] = logits
        for index, count in counts.items():
            self.counts[index][rows] = count
        for index, spike in spikes.items():
            self.spikes[index][:, rows] = spike


@contextmanager
def _workers(count: int) -> Iterator[Map]:
    """A `map` over a pool of threads, each with one thread of torch: many small products, not one shared by all.

    count 0: the plain `map`, in this thread.
    """
    if not count:
        yield map
        return
    pool = ThreadPoolExecutor(count, initializer=limit_torch_threads, initargs=(1,))
    try:
        yield pool.map
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


METHODS = ("auto", "events", "dense", "tensors")


def _check_memory(graph: Graph, samples: int, steps: int, keep_spikes: bool, count_bytes: int | None = None) -> None:
    """The batch is cut into chunks; what cannot be cut is the result."""
    check_memory(
        record_bytes(graph, samples, steps, keep_spikes, count_bytes),
        f"the result of {samples:,} samples and {steps} steps",
        "use fewer samples or leave record_spikes out" if keep_spikes else "use fewer samples at a time",
    )
