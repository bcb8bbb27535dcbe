"""Graph -> `.net` (netx HDF5): complete or not at all, and the same bytes for the same graph."""

import os
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypedDict

import h5py
import numpy as np
from numpy.typing import NDArray

from lava_conv.arguments import graph_of
from lava_conv.errors import DataError, NetFormatError
from lava_conv.files import file_name, replacing
from lava_conv.network.graph import Graph, Layer
from lava_conv.network.neurons import NEURONS
from lava_conv.network.synapses import Shape, Synapse, Weighted
from lava_conv.netx.hdf5 import declared_elements, most_elements
from lava_conv.netx.schema import FORMAT, STOCK_FORMAT, VERSION, stored_fields

Attribute = int | str | NDArray[np.int64]


class Packing(TypedDict, total=False):
    """Options of h5py's create_dataset."""

    compression: str
    compression_opts: int
    shuffle: bool


# Level 6 takes an eighth of the time of level 9 and a thousandth more room. HDF5's scale-offset filter would halve that
# and is faster still, but libhdf5 (2.0.0 at the latest) can be made to crash by it, so that files with it are not read.
PACKING: Packing = {"compression": "gzip", "compression_opts": 6, "shuffle": True}


def save(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a graph as `.net`: complete or not at all, and the same bytes every time.

    Raises:
        NetFormatError: the folder is missing or the file cannot be written; an existing file stays as it was.
    """
    if isinstance(graph, str | os.PathLike):
        raise DataError("save takes the graph first, then the path: save(graph, path)")
    graph_of(graph)
    _write(path, lambda file, packing: _write_graph(file, graph, packing))


def save_stock(
    path: str | os.PathLike[str], shape: Shape, layers: Sequence[tuple[Weighted, Shape]], **attributes: Attribute
) -> None:
    """Write a chain of layers with stock SigmaDelta neurons, the last one with Sigma, as stock netx reads it.

    Args:
        path: of the file, complete or not at all.
        shape: C, H, W of the input.
        layers: synapse and output shape of each.
        attributes: of the file; stock netx does not look at them.

    Raises:
        NetFormatError: as `save`.
    """
    _write(path, lambda file, packing: _write_stock(file, packing, shape, layers, attributes))


Fill = Callable[[h5py.File, Packing], None]  # writes into an empty file, with this packing of weights


def _write(path: str | os.PathLike[str], fill: Fill) -> None:
    target = Path(file_name(path))
    try:
        image, declared = _image(fill, PACKING)
        if declared > most_elements(len(image)):  # `load` would take it for a bomb
            image, _ = _image(fill, {})
        with replacing(target) as partial:
            Path(partial).write_bytes(image)
    except (OSError, RuntimeError) as error:
        raise NetFormatError(f"{target}: cannot be written ({' '.join(str(error).split())})") from None


def _image(fill: Fill, packing: Packing) -> tuple[bytes, int]:
    """The bytes of an HDF5 file, and how many elements it declares.

    It is made in memory: on a full disk libhdf5 (2.0.0 at the latest) ends the process.
    """
    with h5py.File("net", "w", driver="core", backing_store=False, libver=("earliest", "v110")) as file:
        fill(file, packing)
        file.flush()
        return file.id.get_file_image(), declared_elements(file["layer"].id, depth=4)


def _write_stock(
    file: h5py.File,
    packing: Packing,
    shape: Shape,
    layers: Sequence[tuple[Weighted, Shape]],
    attributes: dict[str, Attribute],
) -> None:
    file.attrs.update({"format": STOCK_FORMAT, **attributes})
    root = file.create_group("layer")

    def layer(kind: str, shape: Shape) -> h5py.Group:
        group = root.create_group(str(len(root)))
        group["type"] = np.array([kind.encode()], dtype="S10")
        group["shape"] = np.array(shape, np.int64)
        return group

    layer("input", shape)
    for number, (synapse, out) in enumerate(layers):
        if synapse.input_rank == 1 and len(shape) == 3:
            layer("flatten", (int(np.prod(shape)),))
        group = layer(synapse.file_type, out)
        _write_synapse(group, synapse, packing)
        neuron = group.create_group("neuron")
        neuron["type"] = "SDNN"
        neuron["vThMant"] = np.int64(0)
        if number == len(layers) - 1:
            neuron["sigma_output"] = np.int64(1)
        shape = out


def _write_graph(file: h5py.File, graph: Graph, packing: Packing) -> None:
    file.attrs.update({"format": FORMAT, "version": VERSION, "steps": graph.steps, "input_code": graph.input_code})
    file.attrs.update({"input_bits": graph.input_bits, "generator": graph.generator})
    if graph.labels:
        file.attrs["labels"] = np.array(graph.labels, dtype=h5py.string_dtype())
    root = file.create_group("layer")
    for index, layer in enumerate(graph.layers):
        group = root.create_group(str(index))
        group["type"] = np.array([layer.kind.encode()], dtype="S10")
        group["shape"] = np.array(layer.shape, np.int64)
        if layer.source is not None:
            group["from"] = np.int64(layer.source)
        if layer.synapse is not None:
            _write_synapse(group, layer.synapse, packing)
        if layer.neuron:
            _write_neuron(group.create_group("neuron"), layer)
        for number, skip in enumerate(layer.skips):
            item = group.create_group(f"skip/{number}")
            item["type"] = np.array([skip.synapse.file_type.encode()], dtype="S10")
            item["from"] = np.int64(skip.source)
            _write_synapse(item, skip.synapse, packing)


def _write_synapse(group: h5py.Group, synapse: Synapse, packing: Packing) -> None:
    """The fields of the synapse by name: arrays packed, in float32 as netx has them, the rest as int64."""
    for field in fields(synapse):
        value = getattr(synapse, field.name)
        if isinstance(value, np.ndarray):
            group.create_dataset(field.name, data=value.astype(np.float32), **packing)
        else:
            group[field.name] = np.array(value, np.int64)


def _write_neuron(group: h5py.Group, layer: Layer) -> None:
    neuron = NEURONS[layer.neuron]
    group["type"] = layer.neuron
    stored = stored_fields(layer.neuron)
    codes = {code.name: code for code in neuron.coded}
    for name in neuron.channel_fields:
        if name in codes:
            try:
                group[stored[name]] = np.int64(codes[name].encode(layer.params))
            except ValueError as error:
                raise NetFormatError(str(error)) from None
        else:
            group[stored[name]] = np.asarray(getattr(layer.params, name)).astype(np.int64)
    for name in neuron.scalar_fields:
        if name not in neuron.later_fields or getattr(layer.params, name):
            group[stored[name]] = np.int64(getattr(layer.params, name))
