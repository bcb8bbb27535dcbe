"""The batched simulator: every spike of every step, exact, on CPU or GPU.

All time steps of a layer are folded into the batch of one convolution; then the neuron's own `step` runs over time.
Sums are exact: float32 while every partial sum stays below 2**24, float64 beyond (see `_exact_type`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from lava_conv.device import find_device
from lava_conv.fixedpoint import FLOAT32_EXACT, INPUT_MAX
from lava_conv.graph import Graph, check_images
from lava_conv.neurons import map_channels
from lava_conv.record import Record
from lava_conv.synapses import Conv, Dense, Synapse

CHUNK_ELEMENTS = 1 << 24  # spikes of the widest layer held at once (64 MiB of float32); larger batches are split

Progress = Callable[[int], Any]  # called with the number of images just finished


def simulate(
    graph: Graph,
    images: NDArray[np.uint8],
    steps: int | None = None,
    record: tuple[str, ...] = (),
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> Record:
    """Run `graph` on uint8 images (N, C, H, W) for `steps` time steps.

    Args:
        record: ("spikes",) to keep every spike.
        device: "cpu" (default) or a CUDA device; the result is the same.
        progress: called after each chunk with its number of images.

    Raises:
        DataError: wrong images. RangeError: a state could leave 24 bits within so many steps. BackendError: no such
        device.
    """
    images = check_images(graph, images)
    steps = graph.steps if steps is None else steps
    graph.check(steps)
    place = find_device(device)
    widest = max(int(np.prod(layer.shape)) for layer in graph.layers) * steps
    size = max(1, CHUNK_ELEMENTS // widest)
    parts = []
    with torch.inference_mode(), _exact_kernels():
        for start in range(0, len(images), size):
            chunk = images[start : start + size]
            parts.append(_simulate_chunk(graph, torch.tensor(chunk, device=place), steps, "spikes" in record))
            if progress:
                progress(len(chunk))
    logits = np.concatenate([part[0] for part in parts], axis=1)
    counts = {i: np.concatenate([part[1][i] for part in parts]) for i in parts[0][1]}
    spikes = {i: np.concatenate([part[2][i] for part in parts], axis=1) for i in parts[0][2]}
    return Record(logits, counts, spikes, backend=f"torch simulator on {place}")


@contextmanager
def _exact_kernels() -> Iterator[None]:
    """Keep torch from kernels that round integers: NNPACK and cuDNN may pick Winograd, TF32 has 10 bits."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        with torch.backends.nnpack.flags(enabled=False), torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        matmul.allow_tf32 = before


def _exact_type(synapse: Synapse, payload: int) -> torch.dtype:
    """float32 if no partial sum can reach 2**24, in whatever order it is added up; float64 otherwise."""
    if isinstance(synapse, Conv | Dense):
        row = np.abs(synapse.weight.astype(np.int64)).reshape(len(synapse.weight), -1).sum(1).max()
    else:
        row = abs(synapse.scale)
    return torch.float32 if int(row) * payload < FLOAT32_EXACT else torch.float64


def _apply(synapse: Synapse, x: torch.Tensor, payload: int) -> torch.Tensor:
    """(B, ...) integers -> (B, ...) summed input as int32. Exact."""
    if not isinstance(synapse, Conv | Dense):
        return x.to(torch.int32) * synapse.scale
    kind = _exact_type(synapse, payload)
    weight = torch.from_numpy(synapse.weight).to(x.device, kind)
    if isinstance(synapse, Dense):
        return functional.linear(x.to(kind), weight).to(torch.int32)
    out = functional.conv2d(x.to(kind), weight, None, synapse.stride, synapse.padding, synapse.dilation, synapse.groups)
    return out.to(torch.int32)


def _simulate_chunk(
    graph: Graph, images: torch.Tensor, steps: int, keep_spikes: bool
) -> tuple[NDArray[np.int64], dict[int, NDArray[np.int64]], dict[int, NDArray[np.int8]]]:
    """One chunk through all layers. Values are (frames, N, ...): an input repeats itself, or stops after one frame."""
    frames = images[None]  # layer 0: one frame, sent at the first step, or at every step
    values: list[torch.Tensor] = [frames]
    counts: dict[int, NDArray[np.int64]] = {}
    kept: dict[int, NDArray[np.int8]] = {}
    last_use = _last_use(graph)
    for index, layer in enumerate(graph.layers[1:], 1):
        if layer.kind == "flatten":
            values.append(values[graph.source(index)].flatten(2))
            continue
        drive = torch.zeros((steps, len(images), *layer.shape), dtype=torch.int32, device=images.device)
        for source in graph.inputs(index):
            x = values[source.source]
            payload = INPUT_MAX if x.dtype == torch.uint8 else 1
            summed = _apply(source.synapse, x.flatten(0, 1), payload).unflatten(0, x.shape[:2])
            if len(x) == steps or graph.input_code == "constant":
                drive += summed  # one frame broadcasts over all steps
            else:
                drive[:1] += summed
        neuron = graph.neuron(index)
        column = (-1,) + (1,) * (len(layer.shape) - 1)
        params = map_channels(
            neuron,
            layer.params,
            lambda p, c=column: torch.as_tensor(p.astype(np.int32), device=images.device).reshape(c),
        )
        state = neuron.initial_state(params, torch.zeros_like(drive[0]))
        out = torch.empty_like(drive, dtype=torch.int8 if neuron.spiking else torch.int32)
        for t in range(steps):
            out[t], state = neuron.step(state, drive[t], params)
        values.append(out)
        for done in [i for i, use in last_use.items() if use == index]:
            values[done] = values[done][:0]  # no later layer reads it
        if neuron.spiking:
            counts[index] = out.sum(0, dtype=torch.int64).cpu().numpy()
            if keep_spikes:
                kept[index] = out.cpu().numpy()
    return values[-1].to(torch.int64).cpu().numpy(), counts, kept


def _last_use(graph: Graph) -> dict[int, int]:
    """Layer index -> the last layer that reads its output, so that memory is given back early."""
    last: dict[int, int] = {}
    for index, layer in enumerate(graph.layers[1:], 1):
        for source in (graph.source(index),) if layer.kind == "flatten" else (s.source for s in graph.inputs(index)):
            last[source] = index
    return last
