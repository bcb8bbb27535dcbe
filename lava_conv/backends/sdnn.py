"""A Graph lowered to stock SigmaDelta neurons, loaded by unmodified lava-dl netx and run on Lava's CPU simulation.

Also the check of every lowered file: stock netx reads it, and what it made of it is compared with what was meant.
"""

from lava_conv.lava.start import missing  # before Lava

# isort: split
import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import BackendError, DataError
from lava_conv.lava.types import LavaObject
from lava_conv.lowering import Lowered, lower, write_stock
from lava_conv.lowering.assembly import Stage
from lava_conv.lowering.layer_integers import ONE_BITS, PAYLOAD_BITS
from lava_conv.network.graph import Graph
from lava_conv.netx.stock import describe
from lava_conv.progress import Progress
from lava_conv.record import Record

try:
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.dense.models import clip_weights, determine_sign_mode, truncate_weights
    from lava.proc.io.reset import Reset

    with warnings.catch_warnings(), contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
        warnings.simplefilter("ignore")  # lava-dl speaks of packages that nothing here needs
        from lava.lib.dl.netx.hdf5 import Network

    from lava_conv.lava import watched
    from lava_conv.lava.progress import by_sample
    from processes import SampleInput, SpikeProbe
    from processes.conv import fast_sim_cfg
except ImportError as error:
    raise missing("sdnn", "Lava and lava-dl, which are", error) from None

STATES = ("sigma", "act", "residue")  # of a SigmaDelta neuron, to be reset after every image; Sigma has the first


def simulate(
    graph: Graph,
    images: NDArray[np.uint8],
    steps: int | None = None,
    *,
    record_spikes: bool = False,
    progress: Progress | None = None,
    interval: int = 1,
    timeout: float = 60.0,
    fast: bool = False,
    approximate: bool = False,
) -> Record:
    """Lower the network and stream uint8 images (N, C, H, W) through stock netx, one every `interval` steps.

    Args:
        graph: the network; it is lowered as `lava_conv.lower` does it, ranges measured on `images` where not proven.
        images: uint8 (N, C, H, W), streamed in this order.
        steps: taken for the other backends' sake; one image is one wave of graded spikes, the Record has one step.
        record_spikes: refused: the Record holds counts and logits, no spikes.
        progress: called with the images finished and their total.
        interval: time steps from one image to the next, 1 or more.
        timeout: seconds without movement after which the run is given up.
        fast: this project's models of Conv and Dense, which compute the same as the stock ones.
        approximate: see `lava_conv.lower`.

    Returns:
        Record with a steps axis of length 1: the counts and logits of `graph.reference`.

    Raises:
        ConversionError: what cannot be lowered exactly.
        DataError: the images are not the network's, or spikes are to be recorded.
        BackendError: Lava failed, died or stood still.
    """
    refuse_spikes(record_spikes, "sdnn")
    lowered = lower(graph, images, approximate)
    with streaming(lowered, images, interval) as (source, sent):
        config = fast_sim_cfg() if fast else Loihi2SimCfg(select_tag="fixed_pt")
        with watched(source, config, timeout) as runtime:
            depth = len(lowered.stages)
            runtime.run(len(images) * interval + depth, by_sample(progress, len(images), interval, depth))
    return lowered.record(sent, "stock netx SigmaDelta, Lava CPU simulation (fixed_pt)")


@contextlib.contextmanager
def streaming(
    lowered: Lowered, images: NDArray[np.uint8], interval: int, into: LavaObject = None, out_of: LavaObject = None
) -> Iterator[tuple[SampleInput, list[NDArray[np.int64]]]]:
    """A lowered network in stock netx, ready to run (source, what each stage sends); the list is filled at the end.

    Args:
        lowered: the network.
        images: uint8 (N, C, H, W).
        interval: time steps from one image to the next.
        into: process class that hands spikes to a chip, None: directly.
        out_of: process class that brings them back, None: directly.
    """
    sent: list[NDArray[np.int64]] = []
    with tempfile.TemporaryDirectory(prefix="lava-conv-") as folder:
        path = os.path.join(folder, "lowered.net")
        write_stock(lowered, path)
        with opened(path) as network:
            source, written = _connect(network, lowered, images, interval, folder, into, out_of)
            yield source, sent
        sent += [_channels_first(rows) for rows in written]


def refuse_spikes(record_spikes: bool, backend: str) -> None:
    """Raise DataError where spikes are to be recorded."""
    if record_spikes:
        raise DataError(
            f"record_spikes is True, but backend {backend!r} sends an image as one wave of graded spikes and records "
            f"none; leave it out, or choose backend='torch'"
        )


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[LavaObject]:
    """The network that stock netx makes of a lowered file; the file, which netx leaves open, is closed at the end."""
    network = Network(os.fspath(path), input_message_bits=PAYLOAD_BITS, spike_exp=0)
    try:
        yield network
    finally:
        file: LavaObject = network.net_config.f
        file.close()


def check_file(lowered: Lowered, path: str | os.PathLike[str]) -> int:
    """Reload a lowered file through stock netx and compare what its processes would compute with; how many values.

    Raises:
        BackendError: the first layer that is not what was meant, and how many of its values are not.
    """
    compared = 0
    try:
        describe(path)  # every piece checked, as stock netx does not
        with opened(path) as network:
            found = list(network.layers)
            if len(found) != len(lowered.stages):
                raise BackendError(
                    f"{path}: stock netx makes {len(found)} layers of it, meant are {len(lowered.stages)}"
                )
            for number, (layer, stage) in enumerate(zip(found, lowered.stages, strict=True)):
                if unlike := _unlike(layer, stage):
                    place = f"{path}: layer {number} (of {stage.layer} in the network)"
                    raise BackendError(f"{place}: stock netx reads {unlike} otherwise than meant; please report this")
                compared += stage.synapse.weight.size
    except BackendError:
        raise
    except Exception as error:
        raise BackendError(f"{path}: stock netx cannot load it ({' '.join(str(error).split())})") from error
    return compared


def _unlike(layer: LavaObject, stage: Stage) -> str | None:
    """What of a layer's process is not what was meant."""
    weight, scale = _effective(layer)
    wanted = stage.synapse.weight.astype(np.int64) * scale
    if weight.shape != wanted.shape:
        return f"the shape {weight.shape}"
    if differ := int((weight != wanted).sum()):
        return f"{differ} of {wanted.size} weights"
    meant = {} if stage.readout else {"vth": 0, "bias": 0, "state_exp": ONE_BITS}
    found = {name: np.unique(getattr(layer.neuron, name).init).tolist() for name in meant}
    return None if found == {name: [value] for name, value in meant.items()} else f"the neuron's {found}"


def _effective(layer: LavaObject) -> tuple[NDArray[np.int64], int]:
    """Weights (O, I, kH, kW) or (O, I) as the process model computes with them, and what they are multiplied by."""
    synapse = layer.synapse
    if hasattr(synapse, "weight"):  # Conv: (O, W, H, I), flipped
        weight = np.asarray(synapse.weight.init).astype(np.int64)
        return weight.transpose(0, 3, 2, 1)[:, :, ::-1, ::-1], 1
    params = synapse.proc_params
    weight, exponent = np.asarray(synapse.weights.init), int(params.get("weight_exp", 0))
    mode = params.get("sign_mode") or determine_sign_mode(weight)
    weight = truncate_weights(clip_weights(weight, mode, num_bits=8), mode, int(params.get("num_weight_bits", 8)))
    weight = np.asarray(weight).astype(np.int64)
    return (weight << exponent, 1) if exponent > 0 else (weight, 1 << -exponent)


def _connect(
    network: LavaObject, lowered: Lowered, images: NDArray[np.uint8], interval: int, folder: str,
    into: LavaObject, out_of: LavaObject,
) -> tuple[SampleInput, list[NDArray[np.generic]]]:  # fmt: skip
    """Put source, resets and probes around the network.

    Args:
        network: of stock netx, as `opened` gives it.
        lowered: what the file was written from.
        images: uint8 (N, C, H, W).
        interval: time steps from one image to the next.
        folder: where the probes write, a file each.
        into: process class that hands spikes to a chip, None: directly.
        out_of: process class that brings them back, None: directly.

    Returns:
        (the source, by stage the memory map int32 (N, W, H, C) or (N, n) that its probe will have written).
    """
    frames = lowered.frames(images)
    flat = lowered.stages[0].synapse.input_rank == 1
    # axes are W,H,C in stock netx; a dense first layer takes C,H,W flattened
    frames = frames.reshape(len(frames), -1) if flat else frames.transpose(0, 3, 2, 1)
    source = SampleInput(images=np.ascontiguousarray(frames, np.int32), interval=interval, name="layer 0 (input)")
    _join(source.s_out, network.inp, into)
    written = []
    for number, (layer, stage) in enumerate(zip(network.layers, lowered.stages, strict=True), 1):
        for state in STATES[: 1 if stage.readout else None]:
            # at the end of the step in which the layer sends
            reset = Reset(interval=interval, offset=number % interval)
            reset.connect_var(getattr(layer.neuron, state))
        shape = stage.shape[::-1]
        path = os.path.join(folder, f"{number}.npy")
        written.append(SpikeProbe.allocate(path, len(images), shape, np.int32))
        probe = SpikeProbe(shape=shape, path=path, start=number, interval=interval, name=f"layer {number} (probe)")
        _join(layer.out, probe.s_in, out_of)
    return source, written


def _join(port: LavaObject, target: LavaObject, adapter: LavaObject) -> None:
    if adapter is not None:
        between = adapter(shape=target.shape, num_message_bits=PAYLOAD_BITS)
        port.connect(between.inp)
        port = between.out
    port.connect(target)


def _channels_first(rows: NDArray[np.generic]) -> NDArray[np.int64]:
    """(N, W, H, C) -> (N, C, H, W)."""
    return np.ascontiguousarray(rows.transpose(0, *range(rows.ndim - 1, 0, -1)), np.int64)
