"""The simulator on torch tensors, CPU or GPU: all steps of a layer in one convolution, then the neuron's `step`."""

import numpy as np
import torch
from numpy.typing import NDArray

from lava_conv.network.fixedpoint import INPUT_MAX
from lava_conv.network.graph import Graph
from lava_conv.network.neurons import map_channels
from lava_conv.simulation.dense import sums

CHUNK_ELEMENTS = 1 << 24  # spikes of the widest layer held at once (64 MiB of float32); larger batches are split

Part = tuple[NDArray[np.int64], dict[int, NDArray[np.integer]], dict[int, NDArray[np.int8]]]


def simulate_chunk(graph: Graph, images: torch.Tensor, steps: int, keep_spikes: bool) -> Part:
    """One chunk through all layers: logits (steps, N, classes), counts, spikes.

    Values are (frames, N, ...): an input repeats itself, or stops after one frame.
    """
    frames = images[None]  # layer 0: one frame, sent at the first step, or at every step
    values: list[torch.Tensor] = [frames]
    counts: dict[int, NDArray[np.integer]] = {}
    kept: dict[int, NDArray[np.int8]] = {}
    last_use = graph.last_uses()
    for index, layer in enumerate(graph.layers[1:], 1):
        if layer.is_view:
            values.append(values[graph.source(index)].flatten(2))
            continue
        drive = torch.zeros((steps, len(images), *layer.shape), dtype=torch.int32, device=images.device)
        for source in graph.inputs(index):
            x = values[source.source]
            payload = INPUT_MAX if x.dtype == torch.uint8 else 1
            summed = sums(source.synapse, x.flatten(0, 1), payload).to(torch.int32).unflatten(0, x.shape[:2])
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
            counts[index] = out.sum(0, dtype=torch.int32).cpu().numpy()
            if keep_spikes:
                kept[index] = out.cpu().numpy()
    return values[-1].to(torch.int64).cpu().numpy(), counts, kept
