"""`.net` (netx HDF5) -> Graph: type, rank, dtype, size, range and the shape chain are checked before anything is built.

Every error names the path inside the file where reading stopped.
"""

import math
import os
from collections.abc import Callable
from dataclasses import fields
from typing import TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import ConversionError, NetFormatError
from lava_conv.network.fixedpoint import INPUT_BITS, WEIGHT_MAX, WEIGHT_MIN
from lava_conv.network.graph import Graph, Layer, Skip
from lava_conv.network.neurons import NEURONS
from lava_conv.network.neurons.base import Values
from lava_conv.network.synapses import SYNAPSES, Conv, Dense, Identity, Synapse, Weighted
from lava_conv.netx.hdf5 import (
    FRACTIONS,
    only_keys,
    opened,
    read_attribute,
    read_geometry,
    read_group,
    read_layers,
    read_numbers,
    read_scalar,
    read_shape,
    read_text,
    read_texts_attribute,
    read_weight,
    shown,
    shown_name,
    whose,
)
from lava_conv.netx.schema import FORMAT, STOCK_FORMAT, VERSION, stored_fields

MAX_NEURONS = 1 << 26  # of a network, its input and paddings included: what a run needs at the least
MAX_FLAT = 3 << 20  # of all flat layers, whose bounds are held neuron by neuron
# Written by other netx exporters beside the shape; they repeat what the weight already says.
REDUNDANT_KEYS = {"inChannels", "outChannels", "kernelSize", "inFeatures", "outFeatures"}
ROOT_KEYS = {"layer", "simulation"}
Read = TypeVar("Read", bound=Synapse)
ATTRIBUTES = {"steps", "input_code", "input_bits", "labels"}  # those that Graph checks


def load(path: str | os.PathLike[str]) -> Graph:
    """Read a `.net` file.

    Returns:
        The validated Graph.

    Raises:
        NetFormatError: the file is missing, damaged, or breaks the schema; names the path inside the file.
    """
    with opened(path, "write it again with lava_conv.save") as file:
        try:
            return _read_graph(file)
        except ConversionError as error:
            raise NetFormatError(_as_path(str(error))) from None


def _as_path(sentence: str) -> str:
    """What Graph says, with the place as the file spells it: 'layer 3: theta ...' -> '/layer/3: theta ...', 'steps is
    0, ...' -> '/@steps is 0, ...'; the rest is about the layers as a whole."""
    head, _, tail = sentence.partition(": ")
    if head.startswith("layer "):
        return f"/{head.replace(' ', '/')}: {tail}"
    return f"/@{sentence}" if sentence.partition(" ")[0] in ATTRIBUTES else f"/layer: {sentence}"


def _read_graph(file: h5py.File) -> Graph:
    if "layer" not in file:
        raise NetFormatError(f"/layer is missing{whose(file)}")
    only_keys(file, "/", ROOT_KEYS)
    written = read_attribute(file, "format", str, "")
    if written == STOCK_FORMAT:
        raise NetFormatError(
            f"/@format is {written!r}: unmodified lava-dl runs it (`lava-conv lower --script` writes the program); "
            f"load the network that it was made of"
        )
    if written != FORMAT:
        there = shown(written) if written else "missing"
        raise NetFormatError(
            f"/@format is {there}, allowed is {FORMAT!r}; a stock netx file has none: "
            f"`lava-conv validate` says what of it cannot be run, convert its model instead"
        )
    version = read_attribute(file, "version", int, None)
    if version != VERSION:
        raise NetFormatError(f"/@version is {version}, this release reads version {VERSION}; update lava-conv")
    layers = tuple(_read_layer(group, f"/layer/{i}") for i, group in enumerate(read_layers(file)))
    graph = Graph(
        layers,
        steps=read_attribute(file, "steps", int, None),
        input_code=read_attribute(file, "input_code", str, None),
        input_bits=read_attribute(file, "input_bits", int, INPUT_BITS),
        labels=read_texts_attribute(file, "labels"),
        generator=read_attribute(file, "generator", str, ""),
    )
    _check_extent(graph)
    return graph


def _check_extent(graph: Graph) -> None:
    """Refuse a network that is right in every shape, but far larger than its weights could say."""
    neurons = flat = 0
    for index, layer in enumerate(graph.layers):
        sizes = [math.prod(layer.shape)]
        for feed in graph.inputs(index) if layer.synapse else ():
            sizes.append(feed.synapse.padded_size(graph.layers[feed.source].shape))
        neurons += max(sizes)
        flat += sizes[0] if len(layer.shape) == 1 else 0
        for count, most, what in ((neurons, MAX_NEURONS, "neurons"), (flat, MAX_FLAT, "neurons in flat layers")):
            if count > most:
                raise NetFormatError(
                    f"/layer/{index}: the layers up to here have {count:,} {what}, allowed are {most:,}; the shapes or "
                    f"paddings are damaged"
                )


def _read_layer(group: h5py.Group, path: str) -> Layer:
    kind = read_text(group, "type", path)
    if kind == "input":
        only_keys(group, path, {"type", "shape"})
        return Layer("input", read_shape(group, path))
    if kind == "flatten":
        only_keys(group, path, {"type", "shape", "from"})
        return Layer("flatten", read_shape(group, path), source=_source(group, path))
    if kind not in OWN_READERS:
        raise NetFormatError(
            f"{path}/type is {shown(kind)}, allowed are input, conv, flatten and dense; "
            f"write average pooling as a depthwise conv and replace max pooling before training"
        )
    only_keys(group, path, {"type", "shape", "from", "neuron", "skip"} | REDUNDANT_KEYS | _keys(kind))
    synapse = _reading(OWN_READERS[kind], group, path)
    neuron, params = _read_neuron(group, path)
    skips = _read_skips(group, path)
    return Layer(kind, read_shape(group, path), synapse, neuron, params, skips, source=_source(group, path))


def _source(group: h5py.Group, path: str) -> int | None:
    """The layer that this one reads; written only where it is not the one before."""
    return read_scalar(group, "from", path, 0) if "from" in group else None


def _reading(reader: Callable[[h5py.Group, str], Read], group: h5py.Group, path: str) -> Read:
    try:
        return reader(group, path)
    except ConversionError as error:
        raise NetFormatError(f"{path}: {error}") from None


def _read_conv(group: h5py.Group, path: str) -> Conv:
    return Conv(_read_weight(group, path, rank=4), *read_geometry(group, path))


def _read_dense(group: h5py.Group, path: str) -> Dense:
    return Dense(_read_weight(group, path, rank=2))


def _read_identity(group: h5py.Group, path: str) -> Identity:
    return Identity(read_scalar(group, "scale", path, 1))


# By the type of a synapse: (group, path) -> the synapse. A layer may have those in OWN as its own.
OWN_READERS: dict[str, Callable[[h5py.Group, str], Weighted]] = {"conv": _read_conv, "dense": _read_dense}
SKIP_READERS: dict[str, Callable[[h5py.Group, str], Synapse]] = {
    "conv": _read_conv, "identity": _read_identity, "dense": _read_dense,
}  # fmt: skip


def _keys(kind: str) -> set[str]:
    """The datasets of a synapse: its fields."""
    return {field.name for field in fields(SYNAPSES[kind])}


def _read_weight(group: h5py.Group, path: str, rank: int) -> NDArray[np.int8]:
    found = read_weight(group, "weight", path, (rank,))
    if not found.whole:
        raise NetFormatError(f"{path}/weight {FRACTIONS}")
    if found.values is None:
        raise NetFormatError(f"{path}/weight is {found.excess:.10g}, allowed is {WEIGHT_MIN}..{WEIGHT_MAX}")
    return found.values


def _read_neuron(group: h5py.Group, path: str) -> tuple[str, Values]:
    if "neuron" not in group:
        raise NetFormatError(f"{path}/neuron is missing; every conv and dense layer needs one")
    group, path = read_group(group, "neuron", f"{path}/neuron"), f"{path}/neuron"
    kind = read_text(group, "type", path)
    if kind not in NEURONS:
        raise NetFormatError(f"{path}/type is {shown(kind)}, allowed are {', '.join(NEURONS)}")
    neuron = NEURONS[kind]
    stored = stored_fields(kind)
    only_keys(group, path, {"type", *stored.values()})
    coded = {code.name for code in neuron.coded}
    values = {
        field: read_numbers(group, name, path, ranks=(0, 1))
        if field in neuron.channel_fields and field not in coded
        else read_scalar(group, name, path, 0)
        for field, name in stored.items()
        if name in group
    }
    for field in neuron.required:
        if field not in values:
            raise NetFormatError(f"{path}/{stored[field]} is missing; a {kind} neuron needs it")
    for code in neuron.coded:
        if code.name in values:
            try:
                values[code.name] = code.decode(int(values[code.name]), values)
            except ValueError as error:
                raise NetFormatError(f"{path}/{error}") from None
    params = neuron.Params(**{**dict.fromkeys(neuron.channel_fields, np.int64(0)), **values})
    if problem := neuron.check(params):
        field, _, what = problem.partition(" ")
        raise NetFormatError(f"{path}/{stored.get(field, field)} {what}")
    return kind, params


def _read_skips(group: h5py.Group, path: str) -> tuple[Skip, ...]:
    if "skip" not in group:
        return ()
    root, path = read_group(group, "skip", f"{path}/skip"), f"{path}/skip"
    if odd := sorted(set(root) - {str(i) for i in range(len(root))}):
        raise NetFormatError(f"{path}/{shown_name(odd[0])} is not one of the skips 0..{len(root) - 1}")
    skips = []
    for number in range(len(root)):
        place = f"{path}/{number}"
        item = read_group(root, str(number), place)
        kind = read_text(item, "type", place)
        if kind not in SKIP_READERS:
            raise NetFormatError(f"{place}/type is {shown(kind)}, allowed are {', '.join(SKIP_READERS)}")
        only_keys(item, place, {"type", "from"} | _keys(kind))
        if "from" not in item:
            raise NetFormatError(f"{place}/from is missing; it names the layer that the skip starts at")
        skips.append(Skip(read_scalar(item, "from", place, 0), _reading(SKIP_READERS[kind], item, place)))
    return tuple(skips)
