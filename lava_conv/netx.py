"""Graph <-> `.net` (netx HDF5): the only file that knows the schema.

Reading checks type, rank, dtype, size, range and the shape chain before anything is built, and names the path inside
the file where it stops. Writing is atomic and gives the same bytes for the same graph.

Beyond the layout of stock netx, its neurons and skips: `from` in a layer names the layer that it reads, where that is
not the one before (branches); a skip may be dense.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lava_conv.errors import ConversionError, NetFormatError
from lava_conv.files import replacing
from lava_conv.fixedpoint import INPUT_BITS
from lava_conv.graph import Graph, Layer, Skip
from lava_conv.hdf5 import (
    only_keys,
    opened,
    read_group,
    read_layers,
    read_numbers,
    read_pair,
    read_scalar,
    read_shape,
    read_text,
)
from lava_conv.neurons import NEURONS
from lava_conv.synapses import Conv, Dense, Identity, Shape, Synapse

FORMAT, VERSION = "lava-conv", 1
STOCK_FORMAT = "lava-conv, lowered for stock netx"
CONV_KEYS = {"weight", "stride", "padding", "dilation", "groups"}
SKIP_KEYS = {"conv": CONV_KEYS, "identity": {"scale"}, "dense": {"weight"}}
# Written by other netx exporters beside the shape; they repeat what the weight already says.
REDUNDANT_KEYS = {"inChannels", "outChannels", "kernelSize", "inFeatures", "outFeatures"}
ROOT_KEYS = {"layer", "simulation"}
ATTRIBUTES = {"steps", "input_code", "input_bits", "labels"}  # those that Graph checks
LATER_FIELDS = {("CALIF", "unipolar")}  # written only where they are not 0, so that earlier releases read the others
COMPRESSION: dict[str, Any] = {"compression": "gzip", "compression_opts": 9, "shuffle": True}


# -- reading -------------------------------------------------------------------------------------------------------


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
    only_keys(file, "/", ROOT_KEYS)
    written = _attribute(file, "format", str, "")
    if written == STOCK_FORMAT:
        raise NetFormatError(
            f"/@format is {written!r}: unmodified lava-dl runs it (`lava-conv lower --script` writes the program); "
            f"load the network that it was made of"
        )
    if written != FORMAT:
        there = repr(written) if written else "missing"
        raise NetFormatError(
            f"/@format is {there}, allowed is {FORMAT!r}; a stock netx file has none: "
            f"`lava-conv validate` says what of it cannot be run, convert its model instead"
        )
    version = _attribute(file, "version", int, None)
    if version != VERSION:
        raise NetFormatError(f"/@version is {version}, this release reads version {VERSION}; update lava-conv")
    layers = tuple(_read_layer(group, f"/layer/{i}") for i, group in enumerate(read_layers(file)))
    return Graph(
        layers,
        steps=_attribute(file, "steps", int, None),
        input_code=_attribute(file, "input_code", str, None),
        input_bits=_attribute(file, "input_bits", int, INPUT_BITS),
        labels=_labels(file),
        generator=_attribute(file, "generator", str, ""),
    )


def _read_layer(group: h5py.Group, path: str) -> Layer:
    kind = read_text(group, "type", path)
    if kind == "input":
        only_keys(group, path, {"type", "shape"})
        return Layer("input", read_shape(group, path))
    if kind == "flatten":
        only_keys(group, path, {"type", "shape", "from"})
        return Layer("flatten", read_shape(group, path), source=_source(group, path))
    if kind not in ("conv", "dense"):
        raise NetFormatError(
            f"{path}/type is {kind!r}, allowed are input, conv, flatten and dense; "
            f"write average pooling as a depthwise conv and replace max pooling before training"
        )
    keys = {"type", "shape", "from", "neuron", "skip"} | REDUNDANT_KEYS | (CONV_KEYS if kind == "conv" else {"weight"})
    only_keys(group, path, keys)
    synapse = _read_synapse(group, path, kind)
    assert isinstance(synapse, Conv | Dense)
    neuron, params = _read_neuron(group, path)
    skips = _read_skips(group, path)
    return Layer(kind, read_shape(group, path), synapse, neuron, params, skips, source=_source(group, path))


def _source(group: h5py.Group, path: str) -> int | None:
    """The layer that this one reads; written only where it is not the one before."""
    return read_scalar(group, "from", path, 0) if "from" in group else None


def _read_synapse(group: h5py.Group, path: str, kind: str) -> Synapse:
    try:
        if kind == "identity":
            return Identity(read_scalar(group, "scale", path, 1))
        weight = read_numbers(group, "weight", path, ranks=(4,) if kind == "conv" else (2,))
        if kind == "dense":
            return Dense(weight)
        pairs = [
            read_pair(group, name, path, default) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
        ]
        return Conv(weight, *pairs, groups=read_scalar(group, "groups", path, 1))
    except ConversionError as error:
        raise NetFormatError(f"{path}: {error}") from None


def _read_neuron(group: h5py.Group, path: str) -> tuple[str, Any]:
    if "neuron" not in group:
        raise NetFormatError(f"{path}/neuron is missing; every conv and dense layer needs one")
    group, path = read_group(group, "neuron", f"{path}/neuron"), f"{path}/neuron"
    kind = read_text(group, "type", path)
    if kind not in NEURONS:
        raise NetFormatError(f"{path}/type is {kind!r}, allowed are {', '.join(NEURONS)}")
    neuron = NEURONS[kind]
    stored = _stored_fields(kind)
    only_keys(group, path, {"type", *stored})
    values = {
        name: read_numbers(group, name, path, ranks=(0, 1))
        if name in neuron.channel_fields
        else read_scalar(group, name, path, 0)
        for name in stored
        if name in group
    }
    for name in ("theta", "delta"):
        if name in stored and name not in values:
            raise NetFormatError(f"{path}/{name} is missing; a {kind} neuron needs it")
    if "v_neg_is_theta" in values:
        flag = values.pop("v_neg_is_theta")
        if flag not in (0, 1):
            raise NetFormatError(f"{path}/v_neg_is_theta is {flag}, allowed is 0 or 1")
        values["v_neg"] = -flag * np.asarray(values["theta"])
    params = neuron.Params(**values) if "theta" in stored else neuron.Params(**{"bias": np.int64(0), **values})
    if problem := neuron.check(params):
        raise NetFormatError(f"{path}/{problem}")
    return kind, params


def _stored_fields(kind: str) -> tuple[str, ...]:
    """Names of a neuron's datasets: its parameters, with v_neg (0 or -theta) written as a flag."""
    fields = NEURONS[kind].channel_fields + NEURONS[kind].scalar_fields
    return tuple("v_neg_is_theta" if name == "v_neg" else name for name in fields)


def _read_skips(group: h5py.Group, path: str) -> tuple[Skip, ...]:
    if "skip" not in group:
        return ()
    root, path = read_group(group, "skip", f"{path}/skip"), f"{path}/skip"
    if odd := sorted(set(root) - {str(i) for i in range(len(root))}):
        raise NetFormatError(f"{path}/{odd[0]} is not one of the skips 0..{len(root) - 1}")
    skips = []
    for number in range(len(root)):
        place = f"{path}/{number}"
        item = read_group(root, str(number), place)
        kind = read_text(item, "type", place)
        if kind not in SKIP_KEYS:
            raise NetFormatError(f"{place}/type is {kind!r}, allowed are {', '.join(SKIP_KEYS)}")
        only_keys(item, place, {"type", "from"} | SKIP_KEYS[kind])
        if "from" not in item:
            raise NetFormatError(f"{place}/from is missing; it names the layer that the skip starts at")
        skips.append(Skip(read_scalar(item, "from", place, 0), _read_synapse(item, place, kind)))
    return tuple(skips)


def _attribute(file: h5py.File, name: str, kind: type, default: Any) -> Any:
    if name not in file.attrs:
        if default is None:
            raise NetFormatError(f"/@{name} is missing; the file was not written by lava-conv or lost its attributes")
        return default
    value = file.attrs[name]
    if kind is str and isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if kind is int and isinstance(value, np.integer | int) and not isinstance(value, bool):
        return int(value)
    if kind is str and isinstance(value, str):
        return str(value)
    raise NetFormatError(f"/@{name} is {value!r}, expected {'an integer' if kind is int else 'a string'}")


def _labels(file: h5py.File) -> tuple[str, ...]:
    if "labels" not in file.attrs:
        return ()
    value = np.asarray(file.attrs["labels"])
    if value.ndim != 1 or value.dtype.kind not in "OSU":
        raise NetFormatError(f"/@labels has shape {value.shape} and dtype {value.dtype}, expected a list of strings")
    return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in value.tolist())


# -- writing -------------------------------------------------------------------------------------------------------


def save(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a graph as `.net`: complete or not at all, and the same bytes every time.

    Raises:
        NetFormatError: the folder is missing or the file cannot be written; an existing file stays as it was.
    """
    _write(path, lambda file: _write_graph(file, graph))


def save_stock(
    path: str | os.PathLike[str], shape: Shape, layers: Sequence[tuple[Conv | Dense, Shape]], **attributes: Any
) -> None:
    """Write a chain of layers with stock SigmaDelta neurons, the last one with Sigma, as stock netx reads it.

    Args:
        shape: C, H, W of the input.
        layers: synapse and output shape of each.
        attributes: of the file; stock netx does not look at them.

    Raises:
        NetFormatError: as `save`.
    """
    _write(path, lambda file: _write_stock(file, shape, layers, attributes))


def _write(path: str | os.PathLike[str], fill: Callable[[h5py.File], Any]) -> None:
    target = Path(path)
    try:
        with replacing(target) as partial, h5py.File(partial, "w", libver=("earliest", "v110")) as file:
            fill(file)
    except (OSError, RuntimeError) as error:
        raise NetFormatError(f"{target}: cannot be written ({' '.join(str(error).split())})") from None


def _write_stock(
    file: h5py.File, shape: Shape, layers: Sequence[tuple[Conv | Dense, Shape]], attributes: dict[str, Any]
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
        if isinstance(synapse, Dense) and len(shape) == 3:
            layer("flatten", (int(np.prod(shape)),))
        group = layer("conv" if isinstance(synapse, Conv) else "dense", out)
        _write_synapse(group, synapse)
        neuron = group.create_group("neuron")
        neuron["type"] = "SDNN"
        neuron["vThMant"] = np.int64(0)
        if number == len(layers) - 1:
            neuron["sigma_output"] = np.int64(1)
        shape = out


def _write_graph(file: h5py.File, graph: Graph) -> None:
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
            _write_synapse(group, layer.synapse)
        if layer.neuron:
            _write_neuron(group.create_group("neuron"), layer)
        for number, skip in enumerate(layer.skips):
            item = group.create_group(f"skip/{number}")
            item["type"] = np.array([type(skip.synapse).__name__.lower().encode()], dtype="S10")
            item["from"] = np.int64(skip.source)
            _write_synapse(item, skip.synapse)


def _write_synapse(group: h5py.Group, synapse: Synapse) -> None:
    if isinstance(synapse, Identity):
        group["scale"] = np.int64(synapse.scale)
        return
    group.create_dataset("weight", data=synapse.weight.astype(np.float32), **COMPRESSION)
    if isinstance(synapse, Conv):
        for name in ("stride", "padding", "dilation"):
            group[name] = np.array(getattr(synapse, name), np.int64)
        group["groups"] = np.int64(synapse.groups)


def _write_neuron(group: h5py.Group, layer: Layer) -> None:
    neuron = NEURONS[layer.neuron]
    group["type"] = layer.neuron
    for name in neuron.channel_fields:
        value = np.asarray(getattr(layer.params, name))
        if name == "v_neg":
            flags = np.unique(value != 0)
            if len(flags) != 1:
                raise NetFormatError(
                    "v_neg is 0 in some channels and -theta in others; the format holds one form a layer"
                )
            group["v_neg_is_theta"] = np.int64(flags[0])
        else:
            group[name] = value.astype(np.int64)
    for name in neuron.scalar_fields:
        if (layer.neuron, name) not in LATER_FIELDS or getattr(layer.params, name):
            group[name] = np.int64(getattr(layer.params, name))
