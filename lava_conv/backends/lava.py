"""A Graph as a network of Lava processes on Lava's CPU simulation: a stream of samples through one compiled graph.

Inside Lava the order of axes is H,W,C.
"""

from lava_conv.lava.start import missing  # before Lava

# isort: split
import os
import tempfile
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import BackendError
from lava_conv.lava.types import LavaObject
from lava_conv.network.fixedpoint import INPUT_MESSAGE_BITS, SPIKE_MESSAGE_BITS
from lava_conv.network.graph import Graph, Layer
from lava_conv.network.reference import check_images
from lava_conv.network.synapses import Conv, Dense, Shape, Synapse
from lava_conv.progress import Progress
from lava_conv.record import Counts, NoSpikes, Record

try:
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.conv.process import Conv as LavaConv
    from lava.proc.dense.process import Dense as LavaDense
    from lava.utils.weightutils import SignMode

    from lava_conv.lava import watched
    from lava_conv.lava.progress import by_sample
    from processes import PROCESSES, Delay, SampleInput, SpikeProbe
    from processes.conv import fast_sim_cfg
    from processes.conv.events import warm_up as warm_up_events
except ImportError as error:
    raise missing("lava", "Lava, which is", error) from None


def simulate(
    graph: Graph,
    images: NDArray[np.uint8],
    steps: int | None = None,
    *,
    record_spikes: bool = False,
    progress: Progress | None = None,
    timeout: float = 60.0,
    checked: bool = True,
    stock: bool = False,
) -> Record:
    """Stream uint8 images (N, C, H, W) through Lava's CPU simulation, `steps` time steps each.

    Args:
        graph: the network; each of its neurons needs an entry in `processes.PROCESSES`.
        images: uint8 (N, C, H, W), streamed in this order.
        steps: time steps per sample, default graph.steps.
        record_spikes: keep every spike.
        progress: called with the images finished and their total.
        timeout: seconds without progress of any process after which the run is ended.
        checked: neurons raise RangeError when a state leaves 24 bits (it cannot, by the bounds; this verifies it).
        stock: use Lava's own models of Conv and Dense, which compute the same, more slowly.

    Returns:
        Record; the integers of `lava_conv.simulation.simulate`, step by step.

    Raises:
        DataError: the images are not the network's.
        RangeError: a state could leave 24 bits, or, if `checked`, one did.
        BackendError: a process failed, died or stalled; names it and its time step.
    """
    images = check_images(graph, images)
    steps = graph.steps if steps is None else steps
    graph.check(steps)
    with tempfile.TemporaryDirectory(prefix="lava-conv-") as folder:
        network = _Network(graph, images, steps, folder, checked, record_spikes)
        run_cfg = Loihi2SimCfg(select_tag="fixed_pt") if stock else fast_sim_cfg()
        _warm_up(graph)
        with watched(network.source, run_cfg, timeout) as runtime:
            depth = max(graph.depths())
            runtime.run(len(images) * steps + depth, by_sample(progress, len(images), steps, depth))
        return network.record()


def _warm_up(graph: Graph) -> None:
    """Load the compiled loops of the synapses before Lava forks, so that its processes share them."""
    for index, _, _ in graph.neuron_layers():
        for feed in graph.inputs(index):
            if (kernel := feed.synapse.kernel) is not None:
                warm_up_events(kernel)


def _conv_block(synapse: Conv, shape: Shape, **options: LavaObject) -> LavaObject:
    channels, height, width = shape
    return LavaConv(
        weight=np.ascontiguousarray(synapse.weight[:, :, ::-1, ::-1].transpose(0, 2, 3, 1), np.int32),
        input_shape=(height, width, channels),
        stride=synapse.stride,
        padding=synapse.padding,
        dilation=synapse.dilation,
        groups=synapse.groups,
        **options,
    )


def _dense_block(synapse: Dense, shape: Shape, **options: LavaObject) -> LavaObject:
    weight = synapse.weight
    if len(shape) == 3:  # columns in the order in which Lava flattens it: H,W,C instead of C,H,W
        weight = weight.reshape(-1, *shape).transpose(0, 2, 3, 1).reshape(weight.shape)
    # Lava truncates odd weights of mixed sign to even ones: double them, and halve the sum.
    return LavaDense(weights=2 * weight.astype(np.int32), weight_exp=-1, sign_mode=SignMode.MIXED, **options)


# By the type of a synapse: (synapse, shape of what it reads, before a flatten layer if there is one) -> Lava's block.
BLOCKS: dict[str, Callable[..., LavaObject]] = {Conv.file_type: _conv_block, Dense.file_type: _dense_block}


class _Network:
    """The Lava processes of a graph, and the files that its probes write."""

    def __init__(
        self, graph: Graph, images: NDArray[np.uint8], steps: int, folder: str, checked: bool, keep_spikes: bool
    ) -> None:
        self.graph, self.steps, self.samples, self.keep_spikes = graph, steps, len(images), keep_spikes
        self.source = SampleInput(
            images=np.ascontiguousarray(images.transpose(0, 2, 3, 1)),
            interval=steps,
            constant=graph.input_code == "constant",
            name="layer 0 (input)",
        )
        self._depths = graph.depths()
        self._ports: list[LavaObject] = [self.source.s_out]
        self._recordings: dict[int, NDArray[np.generic]] = {}
        for index, layer in enumerate(graph.layers[1:], 1):
            if layer.is_view:
                self._ports.append(self._ports[graph.source(index)].reshape((layer.shape[0],)))
                continue
            neuron = self._neuron(index, layer, checked)
            for number, source in enumerate(graph.inputs(index)):
                self._connect(source.source, source.synapse, index, neuron, number)
            self._ports.append(neuron.s_out)
            self._probe(index, neuron, os.path.join(folder, f"{index}.npy"))

    def _probe(self, index: int, neuron: LavaObject, path: str) -> None:
        """Record every spike, or the counts of each sample, or the readout's potential."""
        shape, start = _channels_last(self.graph.layers[index].shape), self._depths[index]
        kind, rows, interval = np.min_scalar_type(-self.steps - 1), self.samples, self.steps
        if self.keep_spikes or not self.graph.neuron(index).spiking:
            kind, rows, interval = np.int8, self.samples * self.steps, 1
        if not self.graph.neuron(index).spiking:
            kind = np.int32
        self._recordings[index] = SpikeProbe.allocate(path, rows, shape, kind)
        probe = SpikeProbe(shape=shape, path=path, start=start, interval=interval, name=f"layer {index} (probe)")
        neuron.s_out.connect(probe.s_in)

    def _neuron(self, index: int, layer: Layer, checked: bool) -> LavaObject:
        if layer.neuron not in PROCESSES:
            raise BackendError(
                f"layer {index}: neuron {layer.neuron} has no Lava process; add it to "
                f"processes.PROCESSES, where {', '.join(PROCESSES)} are"
            )
        return PROCESSES[layer.neuron](
            shape=_channels_last(layer.shape),
            reset_interval=self.steps,
            reset_offset=self._depths[index],
            checked=checked,
            name=f"layer {index} ({layer.neuron})",
            **layer.params._asdict(),
        )

    def _connect(self, source: int, synapse: Synapse, index: int, neuron: LavaObject, number: int) -> None:
        """One synapse; a skip first waits until its spikes belong to the same window as the main path's."""
        layers = self.graph.layers
        name = f"layer {index} ({layers[index].kind}{f', skip {number - 1}' if number else ''})"
        port, shape = self._ports[source], layers[source].shape
        kernel = synapse.kernel
        late = self._depths[index] - self._depths[source] - (kernel is not None)
        if late:
            delay = Delay(shape=_channels_last(shape), steps=late, scale=synapse.scale, name=f"{name}, delay")
            port.connect(delay.s_in)
            port = delay.s_out
        if kernel is None:
            port.connect(neuron.a_in)
            return
        bits = INPUT_MESSAGE_BITS if self.graph.origin(source) == 0 else SPIKE_MESSAGE_BITS
        behind = layers[self.graph.source(source)].shape if layers[source].is_view else shape
        block = BLOCKS[kernel.file_type](kernel, behind, num_message_bits=bits, name=name)
        port.connect(block.s_in)
        block.a_out.connect(neuron.a_in)

    def record(self) -> Record:
        """What the probes wrote, in the order and the shapes of the simulator's Record."""
        counts, spikes = {}, {}
        logits = np.zeros(0, np.int64)
        for index, written in self._recordings.items():
            if self.graph.neuron(index).spiking and not self.keep_spikes:
                counts[index] = np.moveaxis(np.array(written), -1, 1)  # H,W,C -> C,H,W; flat layers have only that axis
                continue
            rows = np.array(written).reshape(self.samples, self.steps, *written.shape[1:]).swapaxes(0, 1)
            rows = np.moveaxis(rows, -1, 2)
            if not self.graph.neuron(index).spiking:
                logits = rows.astype(np.int64)
                continue
            counts[index] = rows.sum(0, dtype=np.min_scalar_type(-self.steps - 1))
            spikes[index] = np.ascontiguousarray(rows, np.int8)
        kept = spikes if self.keep_spikes else NoSpikes()
        return Record(logits, Counts(counts), kept, backend="Lava CPU simulation (fixed_pt)")


def _channels_last(shape: Shape) -> Shape:
    return (*shape[1:], shape[0]) if len(shape) == 3 else tuple(shape)
