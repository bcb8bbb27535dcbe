"""A program of its own that runs a lowered file with lava-nc and lava-dl alone."""

import os
from pathlib import Path

from lava_conv.errors import NetFormatError
from lava_conv.files import replacing
from lava_conv.lowering.layer_integers import PAYLOAD_BITS
from lava_conv.lowering.lowered import Lowered

TEMPLATE = '''#!/usr/bin/env python
"""Run {net} with unmodified lava-nc 0.10.0 and lava-dl 0.6.0 (Python 3.10), written by lava-conv.

python {script} images.npy [predictions.npy]      images: uint8 (N, {channels}, {height}, {width})

One image is one wave of graded spikes: layer l sends l steps after the image, and its states are reset at the end of
that step, so that a new image may follow every INTERVAL steps. The network takes {extra} more channels, of constants:
they carry the biases, because a SigmaDelta neuron's own bias would send a second wave.

It runs on Lava's CPU simulation. On hardware (Intel's extension, Loihi2HwCfg) the source and the sink need the
extension's adapters in between, and the resets its own way of resetting; that has not been tried.
"""

import sys

import numpy as np
from lava.lib.dl import netx
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc import io
from lava.proc.io.reset import Reset

NET = {net!r}
SHAPE = ({channels}, {height}, {width})
CONSTANTS = {constants}
INTERVAL = {interval}


def main(images):
    """Logits (N, outputs) for images (N, *SHAPE)."""
    constants = np.broadcast_to(np.reshape(CONSTANTS, (1, -1, 1, 1)), (len(images), len(CONSTANTS), *SHAPE[1:]))
    frames = np.concatenate([images.astype(np.int32), constants], axis=1)
    frames = {order}
    net = netx.hdf5.Network(NET, input_message_bits={bits}, spike_exp=0)
    depth = len(net.layers)
    steps = len(images) * INTERVAL + depth
    data = np.zeros((*frames.shape[1:], steps), np.int32)
    data[..., : len(images) * INTERVAL : INTERVAL] = np.moveaxis(frames, 0, -1)
    source = io.source.RingBuffer(data=data)
    sink = io.sink.RingBuffer(shape=net.out.shape, buffer=steps)
    source.s_out.connect(net.inp)
    net.out.connect(sink.a_in)
    for number, layer in enumerate(net.layers, 1):
        for state in ("sigma", "act", "residue") if number < depth else ("sigma",):
            reset = Reset(interval=INTERVAL, offset=number % INTERVAL)
            reset.connect_var(getattr(layer.neuron, state))
    net.run(condition=RunSteps(num_steps=steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    logits = sink.data.get()[:, depth : depth + len(images) * INTERVAL : INTERVAL].T
    net.stop()
    return logits.astype(np.int64)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    images = np.load(sys.argv[1])
    if images.dtype != np.uint8 or images.shape[1:] != SHAPE:
        sys.exit(f"{{sys.argv[1]}} holds {{images.dtype}} {{images.shape}}, needed is uint8 (N, *{{SHAPE}})")
    logits = main(images)
    predictions = logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).astype(np.int64)
    if len(sys.argv) > 2:
        np.save(sys.argv[2], predictions)
    else:
        print(*predictions)
'''


def write_script(
    lowered: Lowered, net: str | os.PathLike[str], path: str | os.PathLike[str], interval: int = 1
) -> None:
    """Write a program that runs the file `net` on images of a `.npy` file and prints the predictions.

    Args:
        lowered: the network, for its shapes and constants.
        net: path of its file, as the program is to open it.
        path: of the program.
        interval: time steps from one image to the next.

    Raises:
        NetFormatError: it cannot be written.
    """
    channels, height, width = lowered.graph.input_shape
    conv = lowered.stages[0].synapse.input_rank == 3
    order = "frames.transpose(0, 3, 2, 1)  # W,H,C" if conv else "frames.reshape(len(frames), -1)"
    text = TEMPLATE.format(
        net=os.fspath(net), script=Path(path).name, channels=channels, height=height, width=width,
        extra=len(lowered.constants), constants=lowered.constants, interval=interval, order=order, bits=PAYLOAD_BITS,
    )  # fmt: skip
    try:
        with replacing(path) as partial:
            Path(partial).write_text(text)
    except OSError as error:
        raise NetFormatError(f"{path}: cannot be written ({' '.join(str(error).split())})") from None
