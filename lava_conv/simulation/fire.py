"""One layer of neurons over all steps, given what comes in."""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_conv import kernels
from lava_conv.network.neurons import Neuron, map_channels


def fire(
    neuron: Neuron,
    params: NamedTuple,
    drive: NDArray[np.number],
    steps: int,
    hold: int,
    out: NDArray[np.signedinteger] | None = None,
    threads: int = 1,
) -> NDArray[np.signedinteger]:
    """Spikes (or the readout's potentials) of a layer.

    Args:
        neuron: its functions.
        params: per-channel values (C,).
        drive: (n, frames, P, C), whole numbers, the input of each step; frames is `steps` or less.
        steps: time steps.
        hold: what comes after the last frame, 1: it again, 0: nothing.
        out: where to write, (n, steps, P, C).
        threads: of which each takes some of the samples; the compiled neurons let go of Python's lock.

    Returns:
        (n, steps, P, C), int8 spikes or int32 potentials.
    """
    n, frames, pixels, channels = drive.shape
    if out is None:
        out = np.empty((n, steps, pixels, channels), np.int8 if neuron.spiking else np.int32)
    threads = min(threads, n)
    if threads > 1:
        parts = [(n * i // threads, n * (i + 1) // threads) for i in range(threads)]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda p: fire(neuron, params, drive[slice(*p)], steps, hold, out[slice(*p)]), parts))
        return out
    if kernels.AVAILABLE:
        from lava_conv.kernels.neuron import arguments, compiled, scan

        if compiled(neuron, narrow=True):
            group = kernels.together(pixels, channels)
            rows = (pixels // group, group * channels)
            states = arguments(neuron, params, group * channels)
            scan(neuron)(drive.reshape(n, -1, *rows), hold, out.reshape(n, -1, *rows), *states)
            return out
    params = map_channels(neuron, params, lambda p: np.broadcast_to(p, channels).astype(np.int32))
    state = neuron.initial_state(params, np.zeros((n, pixels, channels), np.int32))
    for t in range(steps):
        gain = 1 if t < frames else hold
        out[:, t], state = neuron.step(state, drive[:, min(t, frames - 1)] * gain, params)
    return out
