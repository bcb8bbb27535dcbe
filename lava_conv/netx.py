"""Graph <-> `.net` (netx HDF5): the only file that knows the schema.

Reading checks type, rank, dtype, size, range and the shape chain before anything is built, and names the path inside
the file where it stops. Writing is atomic and gives the same bytes for the same graph.

Beyond the layout of stock netx, its neurons and skips: `from` in a layer names the layer that it reads, where that is
not the one before (branches); a skip may be dense.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import ConversionError, NetFormatError
from lava_conv.files import replacing
from lava_conv.fixedpoint import INPUT_BITS
from lava_conv.graph import Graph, Layer, Skip
from lava_conv.hdf5_heaps import check_heaps, string_length
from lava_conv.neurons import NEURONS
from lava_conv.synapses import Conv, Dense, Identity, Shape, Synapse

FORMAT, VERSION = "lava-conv", 1
STOCK_FORMAT = "lava-conv, lowered for stock netx"
MAX_ELEMENTS = 1 << 27  # of one dataset (512 MiB of float32): a larger one is refused before it is read
MAX_LAYERS = 10_000
FREE_ELEMENTS = 1 << 22  # numbers that any file may declare
EXPANSION = 32  # and for each of its bytes so many more (files of the zoo: 0.5 to 2.2): beyond, it is a bomb
SMALL = 1 << 16  # elements, for which the book-keeping of HDF5 alone takes enough bytes
MAX_CHUNK = 1 << 22  # elements; HDF5 unpacks a chunk as a whole
MAX_ITEM = 8  # bytes of a number
MAX_TEXT = 1000  # bytes of a word
MAX_ATTRIBUTE = 1 << 20  # bytes
MAX_PAIR = (1 << 16) - 1  # of stride, padding and dilation
MAX_NEURONS = 1 << 26  # of a network, its input and paddings included: what a run needs at the least
MAX_FLAT = 1 << 22  # of all flat layers, whose bounds are held neuron by neuron
MAX_SHOWN = 80  # characters of what a file holds, in an error
CONV_KEYS = {"weight", "stride", "padding", "dilation", "groups"}
SKIP_KEYS = {"conv": CONV_KEYS, "identity": {"scale"}, "dense": {"weight"}}
# Written by other netx exporters beside the shape; they repeat what the weight already says.
REDUNDANT_KEYS = {"inChannels", "outChannels", "kernelSize", "inFeatures", "outFeatures"}
ROOT_KEYS = {"layer", "simulation"}
TEXTS = ("format", "input_code", "labels", "generator")  # attributes that are strings
ATTRIBUTES = {"steps", "input_code", "input_bits", "labels"}  # those that Graph checks
LATER_FIELDS = {("CALIF", "unipolar")}  # written only where they are not 0, so that earlier releases read the others
LOWER: Any = h5py  # its annotations leave the lower interface out
COMPRESSION: dict[str, Any] = {"compression": "gzip", "compression_opts": 9, "shuffle": True}


# -- reading -------------------------------------------------------------------------------------------------------


def load(path: str | os.PathLike[str]) -> Graph:
    """Read a `.net` file.

    Returns:
        The validated Graph.

    Raises:
        NetFormatError: the file is missing, damaged, or breaks the schema; names the path inside the file.
    """
    name = os.fspath(path)
    if not os.path.isfile(name):
        raise NetFormatError(f"{name}: there is no such file")
    try:
        check_heaps(name, TEXTS)
        with h5py.File(name, "r") as file:
            return _read_graph(file)
    except NetFormatError as error:
        raise NetFormatError(f"{name}: {error}") from None
    except ConversionError as error:
        raise NetFormatError(f"{name}: {_as_path(str(error))}") from None
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise NetFormatError(
            f"{name}: not a readable HDF5 file ({reason}); write it again with lava_conv.save"
        ) from None


def _as_path(sentence: str) -> str:
    """What Graph says, with the place as the file spells it: 'layer 3: theta ...' -> '/layer/3: theta ...', 'steps is
    0, ...' -> '/@steps is 0, ...'; the rest is about the layers as a whole."""
    head, _, tail = sentence.partition(": ")
    if head.startswith("layer "):
        return f"/{head.replace(' ', '/')}: {tail}"
    return f"/@{sentence}" if sentence.partition(" ")[0] in ATTRIBUTES else f"/layer: {sentence}"


def _read_graph(file: h5py.File) -> Graph:
    _only_keys(file, "/", ROOT_KEYS)
    written = _attribute(file, "format", str, None)
    if written == STOCK_FORMAT:
        raise NetFormatError(
            f"/@format is {written!r}: unmodified lava-dl runs it (`lava-conv lower --script` writes the program); "
            f"load the network that it was made of"
        )
    if written != FORMAT:
        raise NetFormatError(
            f"/@format is {_shown(written)}, allowed is {FORMAT!r}; a stock netx file has none: convert its model "
            f"instead"
        )
    version = _attribute(file, "version", int, None)
    if version != VERSION:
        raise NetFormatError(f"/@version is {version}, this release reads version {VERSION}; update lava-conv")
    if "layer" not in file:
        raise NetFormatError("/layer is missing")
    root = _group(file, "layer", "/layer")
    count = len(root)
    if not 2 <= count <= MAX_LAYERS:
        raise NetFormatError(f"/layer holds {count} layers, allowed is 2..{MAX_LAYERS}")
    expected = {str(i) for i in range(count)}
    if odd := sorted(set(root) - expected):
        raise NetFormatError(
            f"/layer/{_name(odd[0])} is not one of the layers 0..{count - 1}, which must be numbered in order"
        )
    graph = Graph(
        tuple(_read_layers(file, root)),
        steps=_attribute(file, "steps", int, None),
        input_code=_attribute(file, "input_code", str, None),
        input_bits=_attribute(file, "input_bits", int, INPUT_BITS),
        labels=_labels(file),
        generator=_attribute(file, "generator", str, ""),
    )
    _check_extent(graph)
    return graph


def _read_layers(file: h5py.File, root: h5py.Group) -> Iterator[Layer]:
    most, declared = max(FREE_ELEMENTS, EXPANSION * file.id.get_filesize()), 0
    for index in range(len(root)):
        path = f"/layer/{index}"
        group = _group(root, str(index), path)
        declared += _declared(group.id)
        if declared > most:
            raise NetFormatError(
                f"{path}: the layers up to here declare {declared:,} elements, allowed are {most:,} in a file of "
                f"{file.id.get_filesize():,} bytes; it is damaged or made to fill the memory"
            )
        yield _read_layer(group, path)


def _declared(group: Any, depth: int = 3) -> int:
    """How many elements the datasets of a layer declare, those of its neuron and skips included.

    group: in h5py's lower interface, which is three times as fast as the other. What is not stored in place,
    or too large by itself, is refused where it is read.
    """
    total = 0
    for name in group:
        if group.links.get_info(name).type != LOWER.h5l.TYPE_HARD:
            continue
        member = LOWER.h5o.open(group, name)
        if isinstance(member, LOWER.h5g.GroupID):
            total += _declared(member, depth - 1) if depth else 0
        elif isinstance(member, LOWER.h5d.DatasetID) and not _virtual(member):
            size = math.prod(member.shape or ())
            total += size if size <= MAX_ELEMENTS else 0
    return total


def _virtual(dataset: Any) -> bool:
    return dataset.get_create_plist().get_layout() == LOWER.h5d.VIRTUAL


def _check_extent(graph: Graph) -> None:
    """Refuse a network that is right in every shape, but far larger than its weights could say."""
    neurons = flat = 0
    for index, layer in enumerate(graph.layers):
        sizes = [math.prod(layer.shape)]
        for feed in graph.inputs(index) if layer.synapse else ():
            if isinstance(feed.synapse, Conv):
                channels, *sides = graph.layers[feed.source].shape
                padded = (side + 2 * pad for side, pad in zip(sides, feed.synapse.padding, strict=True))
                sizes.append(channels * math.prod(padded))
        neurons += max(sizes)
        flat += sizes[0] if len(layer.shape) == 1 else 0
        for count, most, what in ((neurons, MAX_NEURONS, "neurons"), (flat, MAX_FLAT, "neurons in flat layers")):
            if count > most:
                raise NetFormatError(
                    f"/layer/{index}: the layers up to here have {count:,} {what}, allowed are {most:,}; the shapes or "
                    f"paddings are damaged"
                )


def _read_layer(group: h5py.Group, path: str) -> Layer:
    kind = _text(group, "type", path)
    if kind == "input":
        _only_keys(group, path, {"type", "shape"})
        return Layer("input", _shape(group, path))
    if kind == "flatten":
        _only_keys(group, path, {"type", "shape", "from"})
        return Layer("flatten", _shape(group, path), source=_source(group, path))
    if kind not in ("conv", "dense"):
        raise NetFormatError(
            f"{path}/type is {_shown(kind)}, allowed are input, conv, flatten and dense; "
            f"write average pooling as a depthwise conv and replace max pooling before training"
        )
    keys = {"type", "shape", "from", "neuron", "skip"} | REDUNDANT_KEYS | (CONV_KEYS if kind == "conv" else {"weight"})
    _only_keys(group, path, keys)
    synapse = _read_synapse(group, path, kind)
    assert isinstance(synapse, Conv | Dense)
    neuron, params = _read_neuron(group, path)
    skips = _read_skips(group, path)
    return Layer(kind, _shape(group, path), synapse, neuron, params, skips, source=_source(group, path))


def _source(group: h5py.Group, path: str) -> int | None:
    """The layer that this one reads; written only where it is not the one before."""
    return _scalar(group, "from", path, 0) if "from" in group else None


def _read_synapse(group: h5py.Group, path: str, kind: str) -> Synapse:
    try:
        if kind == "identity":
            return Identity(_scalar(group, "scale", path, 1))
        weight = _numbers(group, "weight", path, ranks=(4,) if kind == "conv" else (2,))
        if kind == "dense":
            return Dense(weight)
        pairs = [
            _pair(group, name, path, default) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
        ]
        return Conv(weight, *pairs, groups=_scalar(group, "groups", path, 1))
    except ConversionError as error:
        raise NetFormatError(f"{path}: {error}") from None


def _read_neuron(group: h5py.Group, path: str) -> tuple[str, Any]:
    if "neuron" not in group:
        raise NetFormatError(f"{path}/neuron is missing; every conv and dense layer needs one")
    group, path = _group(group, "neuron", f"{path}/neuron"), f"{path}/neuron"
    kind = _text(group, "type", path)
    if kind not in NEURONS:
        raise NetFormatError(f"{path}/type is {_shown(kind)}, allowed are {', '.join(NEURONS)}")
    neuron = NEURONS[kind]
    stored = _stored_fields(kind)
    _only_keys(group, path, {"type", *stored})
    values = {
        name: _numbers(group, name, path, ranks=(0, 1))
        if name in neuron.channel_fields
        else _scalar(group, name, path, 0)
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
    root, path = _group(group, "skip", f"{path}/skip"), f"{path}/skip"
    if odd := sorted(set(root) - {str(i) for i in range(len(root))}):
        raise NetFormatError(f"{path}/{_name(odd[0])} is not one of the skips 0..{len(root) - 1}")
    skips = []
    for number in range(len(root)):
        place = f"{path}/{number}"
        item = _group(root, str(number), place)
        kind = _text(item, "type", place)
        if kind not in SKIP_KEYS:
            raise NetFormatError(f"{place}/type is {_shown(kind)}, allowed are {', '.join(SKIP_KEYS)}")
        _only_keys(item, place, {"type", "from"} | SKIP_KEYS[kind])
        if "from" not in item:
            raise NetFormatError(f"{place}/from is missing; it names the layer that the skip starts at")
        skips.append(Skip(_scalar(item, "from", place, 0), _read_synapse(item, place, kind)))
    return tuple(skips)


# -- pieces of a file: each checks what it reads ---------------------------------------------------------------------


def _shown(value: Any) -> str:
    """What a file holds, in one short line that any terminal prints."""
    text = " ".join(repr(value).split())
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _name(name: Any) -> str:
    """The same for a name, without quotes."""
    return _shown(str(name)).replace("'", "")


def _only_keys(group: h5py.Group, path: str, allowed: set[str]) -> None:
    if odd := sorted(set(group) - allowed):
        place = path.rstrip("/")
        raise NetFormatError(
            f"{place}/{_name(odd[0])} is not part of the format; allowed here are {', '.join(sorted(allowed))}"
        )


def _member(group: h5py.Group, name: str, path: str) -> Any:
    """An object stored in the file itself: links out of it are never followed."""
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise NetFormatError(
            f"{path} is {'missing' if link is None else 'a link'}, allowed are only objects stored in place"
        )
    member = group[name]
    if LOWER.h5o.get_info(member.id).rc != 1:  # read once for each name, it would cost what no file size tells
        raise NetFormatError(f"{path} has several names in the file, allowed is one")
    return member


def _readable(data: h5py.Dataset, place: str) -> h5py.Dataset:
    """The dataset, if its data are in the file and of a size that may be read."""
    if data.is_virtual or data.external:  # asked first: for the size of a virtual one HDF5 opens other files
        raise NetFormatError(f"{place} keeps its data outside the file, which is not allowed")
    if data.shape is None or data.size is None or data.size > MAX_ELEMENTS:
        size = "no" if data.shape is None else f"{data.size:,}"
        raise NetFormatError(f"{place} declares {size} elements, allowed is 1..{MAX_ELEMENTS:,}")
    if data.chunks and math.prod(data.chunks) > MAX_CHUNK:
        raise NetFormatError(f"{place} has chunks of {math.prod(data.chunks):,} elements, allowed is 1..{MAX_CHUNK:,}")
    return data


def _group(parent: h5py.Group, name: str, path: str) -> h5py.Group:
    member = _member(parent, name, path)
    if not isinstance(member, h5py.Group):
        raise NetFormatError(f"{path} is a dataset, expected a group")
    return member


def _dataset(group: h5py.Group, name: str, path: str) -> h5py.Dataset:
    place = f"{path}/{name}"
    if name not in group:
        raise NetFormatError(f"{place} is missing")
    member = _member(group, name, place)
    if not isinstance(member, h5py.Dataset):
        raise NetFormatError(f"{place} is a group, expected a dataset")
    return _readable(member, place)


def _numbers(group: h5py.Group, name: str, path: str, ranks: tuple[int, ...]) -> NDArray[np.int64]:
    """A numeric dataset of one of the given ranks with integer values, as int64."""
    data, place = _dataset(group, name, path), f"{path}/{name}"
    if data.ndim not in ranks:
        raise NetFormatError(f"{place} has rank {data.ndim}, allowed is {' or '.join(map(str, ranks))}")
    if data.dtype.kind not in "iuf" or data.dtype.itemsize > MAX_ITEM:
        raise NetFormatError(f"{place} has dtype {_name(data.dtype)}, expected numbers")
    if data.size == 0:
        raise NetFormatError(f"{place} is empty (shape {data.shape})")
    value = np.asarray(data[()])
    if value.dtype.kind == "f":
        if not np.isfinite(value).all():
            raise NetFormatError(f"{place} holds NaN or infinity; the training diverged or the file is damaged")
        if not (np.rint(value) == value).all():
            raise NetFormatError(
                f"{place} holds values that are not integers; export quantised values without their scale"
            )
    if value.max() >= 1 << 62 or value.min() <= -(1 << 62):
        raise NetFormatError(f"{place} holds values beyond 62 bits")
    return value.astype(np.int64)


def _scalar(group: h5py.Group, name: str, path: str, default: int) -> int:
    return int(_numbers(group, name, path, ranks=(0,))) if name in group else default


def _pair(group: h5py.Group, name: str, path: str, default: int) -> tuple[int, int]:
    if name not in group:
        return (default, default)
    value = np.atleast_1d(_numbers(group, name, path, ranks=(0, 1)))
    if value.size not in (1, 2):
        raise NetFormatError(f"{path}/{name} has {value.size} values, allowed are 2 (H, W) or a scalar")
    if value.max() > MAX_PAIR:
        raise NetFormatError(f"{path}/{name} is {value.max()}, allowed is at most {MAX_PAIR}")
    return (int(value[0]), int(value[-1]))


def _shape(group: h5py.Group, path: str) -> tuple[int, ...]:
    value = np.atleast_1d(_numbers(group, "shape", path, ranks=(0, 1)))
    if value.min() < 1 or value.size > 3:
        raise NetFormatError(
            f"{path}/shape is {_shown(tuple(value[:4].tolist()))}, allowed is (C, H, W) or (n,) with sizes above 0"
        )
    return tuple(int(v) for v in value)


def _text(group: h5py.Group, name: str, path: str) -> str:
    data = _dataset(group, name, path)
    if data.size != 1 or data.ndim > 1 or data.dtype.kind not in "SO" or data.dtype.itemsize > MAX_TEXT:
        raise NetFormatError(f"{path}/{name} has shape {data.shape} and dtype {_name(data.dtype)}, expected one string")
    if data.dtype.kind == "O":  # libhdf5 clears as much memory as the string claims, before it looks for it
        at = data.id.get_offset()
        if at is None or string_length(data.file.filename, at) > MAX_TEXT:
            raise NetFormatError(f"{path}/{name} is no string of up to {MAX_TEXT} bytes")
    value = data[()] if data.ndim == 0 else data[0]
    if not isinstance(value, bytes):
        raise NetFormatError(f"{path}/{name} is not a string")
    return value.decode("utf-8", "replace")


def _attribute(file: h5py.File, name: str, kind: type, default: Any) -> Any:
    if name not in file.attrs:
        if default is None:
            raise NetFormatError(f"/@{name} is missing; the file was not written by lava-conv or lost its attributes")
        return default
    value = _read_attribute(file, name)
    if kind is str and isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if kind is int and isinstance(value, np.integer | int) and not isinstance(value, bool):
        return int(value)
    if kind is str and isinstance(value, str):
        return _writable(str(value), name)
    raise NetFormatError(f"/@{name} is {_shown(value)}, expected {'an integer' if kind is int else 'a string'}")


def _read_attribute(file: h5py.File, name: str) -> Any:
    size = file.attrs.get_id(name).get_storage_size()
    if size > MAX_ATTRIBUTE:
        raise NetFormatError(f"/@{name} has {size:,} bytes, allowed are {MAX_ATTRIBUTE:,}")
    return file.attrs[name]


def _labels(file: h5py.File) -> tuple[str, ...]:
    if "labels" not in file.attrs:
        return ()
    value = np.asarray(_read_attribute(file, "labels"))
    if value.ndim != 1 or value.dtype.kind not in "OSU":
        raise NetFormatError(f"/@labels has shape {value.shape} and dtype {value.dtype}, expected a list of strings")
    texts = (v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in value.tolist())
    return tuple(_writable(text, "labels") for text in texts)


def _writable(text: str, name: str) -> str:
    """The text, if it could be written again: short, and without what HDF5 and UTF-8 do not hold."""
    if len(text) > MAX_TEXT or not text.isprintable():
        raise NetFormatError(f"/@{name} holds {_shown(text)}, allowed are up to {MAX_TEXT} printable characters")
    return text


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
        image = _image(fill)
        with replacing(target) as partial:
            Path(partial).write_bytes(image)
    except (OSError, RuntimeError) as error:
        raise NetFormatError(f"{target}: cannot be written ({' '.join(str(error).split())})") from None


def _image(fill: Callable[[h5py.File], Any]) -> bytes:
    """The bytes of an HDF5 file, made in memory: on a full disk libhdf5 (2.0.0 at the latest) ends the process."""
    with h5py.File("net", "w", driver="core", backing_store=False, libver=("earliest", "v110")) as file:
        fill(file)
        file.flush()
        return file.id.get_file_image()


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
    weight = synapse.weight.astype(np.float32)
    data = group.create_dataset("weight", data=weight, **COMPRESSION)
    if weight.size > SMALL and weight.size > EXPANSION * data.id.get_storage_size():  # `load` would take it for a bomb
        del group["weight"]
        group["weight"] = weight
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
