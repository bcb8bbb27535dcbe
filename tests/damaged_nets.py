"""Hostile `.net` files, ours and stock ones, one for each seed, and what becomes of them.

A case is bytes (flips, cuts, insertions, splices of two files) or structure (keys, ranks, types, sizes, links, bombs).
Cases are read in child processes, so that a crash, a hang, a second of CPU time or memory beyond the limit is seen and
the rest goes on. Run as a program, this module is such a child; `benchmarks/fuzz_net.py` runs many.
"""

import collections
import contextlib
import functools
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

import lava_conv as lc
from lava_conv.network.graph import Graph, Layer, Skip
from lava_conv.network.neurons import NEURONS
from lava_conv.network.synapses import Conv, Dense, Identity
from lava_conv.netx.stock import describe, is_stock
from lava_conv.netx.stock import table as table_of

CPU_SECONDS = 1.0
WALL_SECONDS = 20  # only a call that waits for ever takes so long
MEMORY = 200 << 20
LARGE = 16 << 20  # bytes; of a file beyond, which holds what it declares, the limits grow with its size
SENTENCE = 1000  # characters of an error beside the file's name
FIFO = "fifo"  # whoever opens it waits until the alarm: a link out of the file must not be followed
BOMB_CHUNK = 1 << 22  # elements
worst = {"seconds": 0.0, "bytes": 0}
UNMADE = "not made"  # libhdf5 crashed or hung while it wrote the damage
GOOD = ("NetFormatError", "RangeError", "harmless", UNMADE)
EDGES = (
    0, 1, -1, 2, 3, 127, 128, -128, -129, 4095, 4096, (1 << 23) - 1, 1 << 23, -(1 << 23), 1 << 31, 1 << 32, 1 << 40,
    (1 << 62) - 1, 1 << 62, -(1 << 63), (1 << 63) - 1,
)  # fmt: skip


# -- good files to begin with -----------------------------------------------------------------------------------------


def graphs():
    """Three small networks that use everything the format has."""
    rng = np.random.default_rng(0)
    dtb, calif, acc = (NEURONS[name].Params for name in ("DTB", "CALIF", "ACC"))
    conv = Conv(rng.integers(-128, 128, (4, 1, 3, 2)), (2, 1), (1, 1), (1, 2), 2)
    small = (
        Layer("input", (2, 5, 4)),
        Layer("conv", (4, 3, 4), conv, "DTB", dtb(np.arange(4) * 900, np.full(4, 4000), 0, 4, 1)),
        Layer("flatten", (48,)),
        Layer("dense", (3,), Dense(rng.integers(-1, 2, (3, 48))), "ACC", acc(np.array([1, -2, 3]), 2)),
    )
    one = Conv(rng.integers(-3, 4, (2, 2, 3, 3)), padding=(1, 1))
    params = calif(np.array([5, 6]), np.array([1, -2]), np.array([1, 0]), np.array([2, 3]), -np.array([5, 6]), 1, 4)
    skips = (
        Layer("input", (2, 4, 4)),
        Layer("conv", (2, 4, 4), one, "DTB", dtb(0, 3000)),
        Layer("conv", (2, 4, 4), one, "CALIF", params, (Skip(1, Identity(-3)), Skip(0, one))),
        Layer("flatten", (32,)),
        Layer("flatten", (32,), source=1),
        Layer("dense", (2,), Dense(np.eye(2, 32)), "ACC", acc(0), (Skip(3, Dense(np.ones((2, 32)))),)),
    )
    tiny = (Layer("input", (1, 1, 2)), Layer("flatten", (2,)), Layer("dense", (2,), Dense(np.eye(2)), "ACC", acc(0)))
    return (Graph(small, 6, labels=("no", "yes", "else")), Graph(skips, 4), Graph(tiny, 2, "constant"))


def write_stock(path):
    """As lava-dl writes its networks: neurons with parameters and a word, biases, delays, no attributes."""
    cuba = {"type": "CUBA", "iDecay": 4096, "vDecay": 0.5, "vThMant": 80, "gradedSpike": False}
    conv = {"stride": [2, 2], "padding": [1, 1], "dilation": [1, 1], "groups": 1, "kernelSize": [3, 3]}
    layers = (
        ("input", (1, 6, 6), cuba, {"weight": np.float32([76]), "bias": np.float32([64])}),
        ("conv", (4, 3, 3), cuba, {"weight": np.ones((4, 1, 3, 3), np.float32), "bias": np.zeros(4), **conv}),
        ("average", (4, 3, 3), {}, {}),
        ("flatten", (36, 1, 1), {}, {}),
        ("dense", (8,), cuba, {"weight": np.ones((8, 36), np.float32), "delay": np.zeros(8)}),
    )
    with h5py.File(path, "w") as file:
        for index, (kind, shape, neuron, data) in enumerate(layers):
            group = file.create_group(f"layer/{index}")
            group["type"], group["shape"] = np.array([kind.encode()], "S10"), np.array(shape)
            for name, value in (*data.items(), *((f"neuron/{name}", value) for name, value in neuron.items())):
                group[name] = value
        file["simulation/Ts"] = 1


@functools.lru_cache(1)
def seeds():
    """The bytes of each of them as we write it, and in the layout of new HDF5 releases; the same of a stock file."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        writers = [functools.partial(lc.save, graph) for graph in graphs()]
        for number, write in enumerate([*writers, write_stock]):
            old, new = Path(folder, f"{number}.net"), Path(folder, f"{number}-new.net")
            write(old)
            with h5py.File(old) as source, h5py.File(new, "w", libver="latest") as target:
                source.copy("layer", target)
                target.attrs.update(dict(source.attrs))
            found += [old.read_bytes(), new.read_bytes()]
    return found


# -- damage to bytes --------------------------------------------------------------------------------------------------


def flip(rng, data):
    out = np.frombuffer(data, np.uint8).copy()
    at = rng.integers(0, len(out), rng.choice([1, 1, 2, 8, 64]))
    out[at] = rng.choice([out[at] ^ (1 << rng.integers(0, 8)), rng.integers(0, 256, len(at)), 0 * at, 0 * at + 255])
    return out.tobytes()


def number(rng, data):
    """Eight bytes somewhere become an edge value: what sizes and addresses are made of."""
    at = int(rng.integers(0, max(1, len(data) - 8)))
    value = int(rng.choice([0, 1, 2, 255, 1 << 16, 1 << 31, 1 << 32, len(data), len(data) - 1, (1 << 63) - 1, at]))
    return data[:at] + value.to_bytes(8, "little") + data[at + 8 :]


def cut(rng, data):
    a, b = sorted(rng.integers(0, len(data), 2))
    return data[:a] + (data[b:] if rng.random() < 0.5 else b"")


def insert(rng, data):
    at, count = int(rng.integers(0, len(data))), int(rng.choice([1, 8, 100, 5000]))
    return data[:at] + rng.integers(0, 256, count, np.uint8).tobytes() + data[at:]


def splice(rng, data):
    other = seeds()[rng.integers(len(seeds()))]
    at, to = int(rng.integers(0, len(data))), int(rng.integers(0, len(other)))
    return data[:at] + other[rng.choice([at, to]) :]


def move(rng, data):
    """A stretch of the file is overwritten by another of its stretches: tables that point at the wrong things."""
    a, b = (int(i) for i in rng.integers(0, len(data), 2))
    part = data[a : a + int(rng.choice([8, 16, 64, 512]))]
    return data[:b] + part + data[b + len(part) :]


BYTES = (flip, flip, number, number, cut, insert, splice, move)


# -- damage to structure ----------------------------------------------------------------------------------------------


def places(file, kind):
    """Names of the file's datasets or groups, a thousand of them at most."""
    found, looked = [], itertools.count()

    def look(name, item):
        if isinstance(item, kind):
            found.append(name)
        return next(looked) > 1000 or None  # True ends the walk, which links in a circle make a long one

    file.visititems(look)
    return found


def pick(rng, items):
    return items[int(rng.integers(len(items)))]


def dataset(rng, file):
    """A random dataset; weights more often than their share."""
    names = places(file, h5py.Dataset)
    weights = [n for n in names if n.endswith("weight")]
    return pick(rng, weights if weights and rng.random() < 0.3 else names)


def put(file, name, **options):
    """A dataset in the place of another, or of nothing."""
    if name in file:
        del file[name]
    return file.create_dataset(name, **options)


def missing(rng, file):
    del file[pick(rng, places(file, (h5py.Dataset, h5py.Group)))]


def renamed(rng, file):
    name = pick(rng, places(file, (h5py.Dataset, h5py.Group)))
    fresh = pick(
        rng, ["weights", "x" * 60_000, "a\nb", "\udc80", "é", "07", "-1", "1e3", "bias", "skip", "from", "scale"]
    )
    with contextlib.suppress(ValueError, RuntimeError, OSError):  # some names cannot be written at all
        file.move(name, f"{name.rpartition('/')[0]}/{fresh}")


def edge(rng, file):
    """One element, or all, become an edge value."""
    name = dataset(rng, file)
    if file[name].size > BOMB_CHUNK or file[name].dtype.kind not in "if":
        return
    value = file[name][()]
    value = np.array(value, np.float64 if value.dtype.kind == "f" else np.int64)
    fresh = [*EDGES, np.nan, np.inf, -np.inf, 0.5, 1e300, -0.0] if value.dtype.kind == "f" else EDGES
    where = slice(None) if value.ndim == 0 or rng.random() < 0.3 else int(rng.integers(value.size))
    value.reshape(-1)[where] = pick(rng, fresh)
    with np.errstate(over="ignore"):
        put(file, name, data=value.astype(pick(rng, [np.float64, np.float32])) if value.dtype.kind == "f" else value)


def ranked(rng, file):
    name = dataset(rng, file)
    value = np.asarray(file[name][()])
    changes = [
        np.ravel, np.transpose, np.atleast_1d, lambda v: v[None], lambda v: np.zeros((0, *v.shape), v.dtype),
        lambda v: np.concatenate([np.ravel(v)] * 3), lambda v: np.ravel(v)[:1], lambda v: np.zeros((1,) * 32, "i1"),
    ]  # fmt: skip
    value = pick(rng, changes)(value)
    put(file, name, data=value, dtype=h5py.string_dtype() if value.dtype.kind == "O" else None)


def typed(rng, file):
    """The same place with another type of data."""
    name = dataset(rng, file)
    shape = np.shape(file[name][()])
    compound = np.dtype([("a", "i4"), ("b", "f8")])
    kinds = [
        "i1", "u1", "u8", ">i4", ">f8", "f2", np.longdouble, "c8", "?", "S1", "S5000", "V9", compound, h5py.ref_dtype,
        h5py.regionref_dtype, h5py.string_dtype(), h5py.vlen_dtype("i4"), h5py.enum_dtype({"A": 0, "B": 1}),
        np.dtype(("i4", (3,))), h5py.string_dtype("ascii", 2_000_000_000), np.dtype(("f4", (1 << 10, 1 << 18))),
    ]  # fmt: skip
    put(file, name, shape=shape, dtype=pick(rng, kinds))


def raw_type(rng, file):
    """Types that h5py itself does not make: bit fields, floats of odd layout, times."""
    name = dataset(rng, file)
    space = h5py.h5s.create_simple(np.shape(file[name][()]) or (1,))
    del file[name]
    odd = h5py.h5t.IEEE_F32LE.copy()
    odd.set_fields(31, 20, 11, 0, 20)
    narrow = h5py.h5t.STD_I64LE.copy()
    narrow.set_precision(5)
    kind = pick(rng, [h5py.h5t.STD_B8LE, h5py.h5t.STD_B64BE, odd, narrow, h5py.h5t.UNIX_D32LE])
    with contextlib.suppress(TypeError, ValueError):
        h5py.h5d.create(file.id, name.encode(), kind, space)


def huge(rng, file):
    """A dataset that declares far more than the file holds."""
    name = dataset(rng, file)
    rank = int(pick(rng, [1, 2, 2, 4, 4]))
    shape = tuple(int(n) for n in 2 ** rng.integers(3, 60 // rank, rank))
    options = pick(rng, [{}, {"chunks": True}, {"fillvalue": 1}, {"chunks": True, "compression": "gzip"}])
    with contextlib.suppress(ValueError, OSError, TypeError):
        put(file, name, shape=shape, dtype=pick(rng, ["f4", "f8", "i1", "i8"]), **options)


FILTERS = (
    {"compression": "gzip"}, {"compression": "gzip", "shuffle": True}, {"fletcher32": True}, {"scaleoffset": 0},
    {"scaleoffset": 0, "compression": "gzip"}, {"compression": "lzf"},
)  # fmt: skip


def filtered(rng, file):
    """Weights packed by any filter that h5py has, and one of their chunks damaged behind it."""
    weights = [name for name in places(file, h5py.Dataset) if name.endswith("weight")]
    if not weights:
        return
    name = pick(rng, weights)
    values = file[name][()]
    how = pick(rng, FILTERS)
    data = put(file, name, data=values, chunks=tuple(-(-n // 2) for n in values.shape), **how)
    if rng.random() < 0.8 and data.id.get_num_chunks():
        chunk = data.id.get_chunk_info(int(rng.integers(data.id.get_num_chunks()))).chunk_offset
        _, raw = data.id.read_direct_chunk(chunk)
        data.id.write_direct_chunk(chunk, pick(rng, BYTES)(rng, raw) or b"?")


@functools.lru_cache(4)
def packed(times):
    """A chunk of zeros, deflated so many times."""
    data = bytes(4 * BOMB_CHUNK)
    for _ in range(times):
        data = zlib.compress(data, 9)
    return data


def bomb(rng, file):
    """Zeros, deflated once or twice: up to 4 GiB in a few kilobytes, up to 256 MiB in 260."""
    name, times = dataset(rng, file), int(rng.integers(1, 3))
    chunks = int(2 ** rng.integers(0, 9 if times == 2 else 5))
    shape = pick(rng, [(chunks * BOMB_CHUNK,), (chunks * 64, BOMB_CHUNK // 64), (chunks * 64, BOMB_CHUNK // 64, 1, 1)])
    chunk = (shape[0] // chunks, *shape[1:])
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(chunk)
    for _ in range(times):
        properties.set_deflate(9)
    if name in file:
        del file[name]
    data = h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple(shape), properties)
    for i in range(chunks):
        data.write_direct_chunk((i * chunk[0],) + (0,) * (len(shape) - 1), packed(times))


def fitting_bomb(rng, file):
    """A valid network whose weights are mostly air: a few kilobytes of file, up to half a gigabyte of weights."""
    channels = int(2 ** rng.integers(18, 26))
    for name in list(file["layer"]):
        del file[f"layer/{name}"]
    for index, (kind, shape) in enumerate(
        (("input", (1, 1, 2)), ("flatten", (2,)), ("dense", (channels,)), ("dense", (1,)))
    ):
        group = file.create_group(f"layer/{index}")
        group["type"], group["shape"] = np.array([kind.encode()]), np.array(shape)
        if kind == "dense":
            size = (channels, 2) if index == 2 else (1, channels)
            group.create_dataset("weight", shape=size, dtype="f4", chunks=True, fillvalue=0)
            group["neuron/type"] = "DTB" if index == 2 else "ACC"
            for field in ("theta", "delta") if index == 2 else ():
                group[f"neuron/{field}"] = 5
    file.attrs.pop("labels", None)


def aliases(rng, file):
    """One object under many names: hard links cost nothing and declare as often as they are read."""
    names = places(file, (h5py.Dataset, h5py.Group))
    for _ in range(int(pick(rng, [1, 3, 200]))):
        a, b = pick(rng, names), pick(rng, names)
        with contextlib.suppress(KeyError, ValueError, RuntimeError, OSError):
            if rng.random() < 0.5 and b in file:
                del file[b]
            file[b if b not in file else f"{b}/{pick(rng, ['skip', 'neuron', 'weight', '0'])}"] = file[a]


def linked(rng, file):
    name = pick(rng, places(file, (h5py.Dataset, h5py.Group)))
    with contextlib.suppress(KeyError):
        del file[name]
    out = os.path.abspath(os.path.join(os.path.dirname(file.filename), FIFO))
    targets = [
        h5py.SoftLink(f"/{name}"),
        h5py.SoftLink("/layer/0/shape"),
        h5py.SoftLink("/nowhere"),
        h5py.SoftLink("."),
        h5py.ExternalLink(out, "/x"),
        h5py.ExternalLink("/etc/passwd", "/x"),
        h5py.ExternalLink(out, f"/{name}"),
    ]
    file[name] = pick(rng, targets)
    if rng.random() < 0.2:
        file["loop"] = h5py.SoftLink("/loop")


def outside(rng, file):
    """Data in another file: external storage, and virtual datasets of fixed and of endless size."""
    name = dataset(rng, file)
    value = np.asarray(file[name][()])
    shape = value.shape or (1,)
    dtype = "i8" if value.dtype.kind == "O" else value.dtype
    out = os.path.abspath(os.path.join(os.path.dirname(file.filename), FIFO))
    del file[name]
    kind = int(rng.integers(3))
    if kind == 0:
        file.create_dataset(name, shape=shape, dtype=dtype, external=[(out, 0, h5py.h5f.UNLIMITED)])
        return
    layout = h5py.VirtualLayout(shape, dtype, maxshape=(None, *shape[1:]) if kind == 2 else None)
    source = h5py.VirtualSource(out if kind == 1 else out + "%b", "x", shape, maxshape=(None, *shape[1:]))
    if kind == 1:
        layout[...] = source
        file.create_virtual_dataset(name, layout)
    else:
        properties, space = (
            h5py.h5p.create(h5py.h5p.DATASET_CREATE),
            h5py.h5s.create_simple(shape, (h5py.h5s.UNLIMITED, *shape[1:])),
        )
        space.select_hyperslab((0,) * len(shape), (h5py.h5s.UNLIMITED, *(1,) * (len(shape) - 1)), shape, shape)
        properties.set_virtual(space, out.encode(), b"x%b", h5py.h5s.create_simple(shape))
        whole = h5py.h5s.create_simple(shape, (h5py.h5s.UNLIMITED, *shape[1:]))
        h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F32LE, whole, properties)


def attributes(rng, file):
    name = pick(rng, ["format", "version", "steps", "input_code", "input_bits", "labels", "generator"])
    if rng.random() < 0.1:
        file.attrs.pop(name, None)
        return
    words = h5py.string_dtype()
    values = [
        0, -1, 3, 1 << 40, 2**63 - 1, np.uint64(2**64 - 1), 1.5, np.nan, True, "x", "", "a\nb" * 5000, b"\xff\xfe",
        b"a", np.arange(3), np.zeros((2, 2)), np.zeros(8000), np.array([], int), h5py.Empty("f4"), h5py.Empty(words),
        ["a", "b", "c"], ["a"] * 3, np.array([b"a\0b", b"", b"\xff"]), np.array(["\u00e9"] * 2, dtype=words),
        np.zeros(2, [("a", "i4")]), file.ref, np.array([[b"a", b"b"]]), np.complex64(1), np.array([4]),
        np.array(["\udcff", "b"], dtype=words), "\udcff", np.array([b"x" * 60_000]),
    ]  # fmt: skip
    with contextlib.suppress(ValueError, OSError, RuntimeError, TypeError):
        file.attrs[name] = pick(rng, values)


def big_attribute(rng, file):
    """Attributes beyond the 64 KiB of an object header, and thousands of them."""
    with contextlib.suppress(ValueError, OSError, RuntimeError):
        if rng.random() < 0.5:
            file.attrs[pick(rng, ["labels", "generator", "x"])] = np.zeros(3_000_000, pick(rng, ["S4", "f4"]))
        else:
            for i in range(2000):
                file.attrs[f"x{i}"] = i


def many(rng, file):
    """Thousands of groups, where layers or skips or nothing belongs."""
    count = int(pick(rng, [300, 3000]))
    for i in range(count):
        file.create_group(f"{pick(rng, ['layer', 'layer', 'layer/1/skip', 'x'])}/{i + 20 * int(rng.integers(2))}")


def many_layers(rng, file):
    """A valid beginning and thousands of layers after it, each of its own bytes."""
    for i in range(len(file["layer"]), int(pick(rng, [100, 400]))):
        group = file.create_group(f"layer/{i}")
        group["type"], group["shape"], group["from"] = np.array([b"flatten"]), np.array([2]), 1


def deep(rng, file):
    group = file[pick(rng, ["layer", "/", "layer/1"])]
    for _ in range(int(pick(rng, [50, 3000]))):
        group = group.create_group(pick(rng, ["skip", "0", "layer"])) if len(group) == 0 else group.create_group("deep")


def texts(rng, file):
    """Types: other words, and bytes that are no words."""
    name = pick(rng, [n for n in places(file, h5py.Dataset) if n.endswith("type")])
    values = [
        b"pool", b"", b"\xff\xfe\x00", b"x" * 5000, b"conv", b"dense", b"input", b"flatten", b"identity", b"ACC",
        b"DTB", b"CALIF", b"SDNN", "conv\n", "a" * 100_000, b"conv\0\0x",
    ]  # fmt: skip
    value = pick(rng, values)
    put(file, name, data=pick(rng, [lambda: np.array([value]) if isinstance(value, bytes) else value, lambda: value])())


def swapped(rng, file):
    """Two objects change places, or one takes the place of the other."""
    kind = pick(rng, [h5py.Dataset, h5py.Group])
    names = places(file, kind)
    a, b = pick(rng, names), pick(rng, names)
    if a == b or a.startswith(b + "/") or b.startswith(a + "/"):
        return
    file.move(a, "t")
    if rng.random() < 0.5:
        file.move(b, a)
    elif b in file:
        del file[b]
    file.move("t", b)


def grown(rng, file):
    """Shapes, paddings and strides that go together, but are of no use or far too large."""
    group = file[f"layer/{pick(rng, [i for i in file['layer'] if 'type' in file[f'layer/{i}']])}"]
    size = int(pick(rng, [1 << 13, 1 << 20, 1 << 31, 1 << 40]))
    for name in ("stride", "padding", "dilation", "shape"):
        if name in group and rng.random() < 0.6:
            put(group, name, data=np.full(3 if name == "shape" else 2, size))


def consistent(rng, file):
    """A network that is right in every shape, and huge."""
    side = int(2 ** rng.integers(8, 31))
    for name in list(file["layer"]):
        del file[f"layer/{name}"]
    rows = [("input", (1, side, side)), ("conv", (1, 1, 1)), ("flatten", (1,)), ("dense", (1,))]
    if rng.random() < 0.5:
        rows[2:2] = [("flatten", (side * side,))] * int(rng.integers(1, 40))
    for index, (kind, shape) in enumerate(rows):
        group = file.create_group(f"layer/{index}")
        group["type"], group["shape"] = np.array([kind.encode()]), np.array(shape, np.int64)
        if kind == "flatten":
            group["from"] = 0 if shape[0] > 1 else 1
        if kind in ("conv", "dense"):
            group["weight"] = np.ones((1,) * (4 if kind == "conv" else 2), np.float32)
            group["neuron/type"] = "DTB" if kind == "conv" else "ACC"
        if kind == "conv":
            group["stride"], group["neuron/theta"], group["neuron/delta"] = np.array([side, side]), 5, 5
    file.attrs.pop("labels", None)


STRUCTURE = (
    missing, renamed, *[edge] * 4, *[ranked] * 2, *[typed] * 2, raw_type, *[huge] * 2, bomb, fitting_bomb, aliases,
    *[linked] * 2, outside, *[attributes] * 3, big_attribute, many, many_layers, deep, *[texts] * 2, *[swapped] * 2,
    grown, consistent, *[filtered] * 2,
)  # fmt: skip
IMPOSSIBLE = (
    KeyError,
    IndexError,
    ValueError,
    TypeError,
    OSError,
    RuntimeError,
    MemoryError,
)  # after an earlier change
RARE = {many, many_layers, deep, big_attribute, bomb}  # slow to make: one in ten of their turns


OFTEN = (0.18, 0.1, 0.12, 0.1, 0.15, 0.1, 0.15, 0.1)  # the small ones are read more quickly


def case(seed, path):
    """Write the file of a seed; returns what was done, in words."""
    rng = np.random.default_rng(seed)
    data = seeds()[rng.choice(len(seeds()), p=OFTEN)]
    if rng.random() < 0.5:
        changes = [pick(rng, BYTES) for _ in range(rng.choice([1, 1, 2]))]
        for change in changes:
            data = change(rng, data or b"?")
        Path(path).write_bytes(data)
    else:
        Path(path).write_bytes(data)
        changes = [pick(rng, STRUCTURE) for _ in range(rng.choice([1, 1, 2, 3]))]
        changes = [c for c in changes if c not in RARE or rng.random() < 0.1] or [edge]
        with h5py.File(path, "r+", libver=pick(rng, ["latest", ("earliest", "v110")])) as file:
            for change in changes:
                with contextlib.suppress(*IMPOSSIBLE):
                    change(rng, file)
    return "+".join(change.__name__ for change in changes)


# -- reading them -----------------------------------------------------------------------------------------------------


def memory(field):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(field))


def outcome(path):
    """What both readers make of a file: one of GOOD, or what is wrong."""
    own, stock = (judged(reader, path) for reader in (own_file, stock_file))
    if stock not in GOOD:
        return f"as a stock file: {stock}"
    return stock if own in GOOD and is_stock(path) else own


def own_file(path):
    graph = lc.load(path)
    graph.check()
    return graph


def stock_file(path):
    """As `inspect` and `validate` read it; what they would print."""
    net = describe(path)
    sentences = [*net.problems, *table_of(net).splitlines()]
    if odd := [text for text in sentences if len(text) > SENTENCE or not text.isprintable()]:
        raise AssertionError(f"no sentence: {odd[0][:80]!r}")
    json.dumps([layer._asdict() for layer in net.layers], allow_nan=False)


def judged(reader, path):
    """What a reader makes of a file, within the limits of time and memory."""
    before, room = memory("VmRSS"), max(1.0, os.path.getsize(path) / LARGE)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS * room)
    signal.alarm(WALL_SECONDS)
    graph, begin = None, time.process_time()
    try:
        graph = reader(path)
        word = "harmless"
    except (lc.NetFormatError, lc.RangeError) as error:
        text = str(error)
        word = type(error).__name__
        if "\n" in text or len(text) > SENTENCE + len(str(path)) or not text.isprintable():
            word = f"no sentence: {text[:80]!r}"
        if "MemoryError" in text or "Unable to allocate" in text:
            word = "out of memory"
    except Exception as error:
        word = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    signal.setitimer(signal.ITIMER_PROF, 0)
    more = memory("VmHWM") - before
    worst.update(seconds=max(worst["seconds"], time.process_time() - begin), bytes=max(worst["bytes"], more))
    if more > MEMORY * room:
        word = f"{more >> 20} MiB more memory ({word})"
    elif graph is not None and word in GOOD:
        word = again(graph, path, word)
    signal.alarm(0)
    return word


def again(graph, path, word):
    """What could be read can be written, and is then the same."""
    try:
        lc.save(graph, f"{path}.again")
        return word if lc.load(f"{path}.again") == graph else "another network after a round trip"
    except Exception as error:
        return f"cannot be written again: {type(error).__name__} {' '.join(str(error).split())[:120]}"


def child(start, stop, step, folder):
    """Print `seed changes<TAB>outcome` for each seed; a case that hangs or takes too long ends the process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    path, trap = os.path.join(folder, "case.net"), os.path.join(folder, FIFO)
    for seed in range(start, stop, step):
        print(seed, end=" ", flush=True)
        signal.alarm(WALL_SECONDS)
        print(case(seed, path), end="\t", flush=True)
        os.mkfifo(trap)
        worst.update(seconds=0.0, bytes=0)
        word = outcome(path)
        os.unlink(trap)  # who makes the next case may open it
        print(f"{worst['seconds']:.4f}\t{worst['bytes']}\t{word}", flush=True)


DEATHS = {signal.SIGPROF: "more than a second of CPU time", signal.SIGALRM: "hangs", signal.SIGSEGV: "crash"}


class Case(NamedTuple):
    """What became of a case. seconds of CPU time and bytes of more memory: of the reader that took the more."""

    seed: int
    changes: str
    word: str
    seconds: float = 0.0
    bytes: int = 0


def fuzz(start, stop, step=1):
    """Read all cases of a range in child processes; yields a Case each."""
    while start < stop:
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, "-W", "error", __file__, *map(str, (start, stop, step)), folder]
            with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, errors="replace") as running:
                assert running.stdout is not None
                last = f"{start} "
                for line in running.stdout:
                    last = line
                    if line.endswith("\n"):
                        seed, rest = line.rstrip("\n").split(" ", 1)
                        changes, seconds, most, word = rest.split("\t", 3)
                        yield Case(int(seed), changes, word, float(seconds), int(most))
                        start, last = int(seed) + step, f"{int(seed) + step} "
            if running.returncode:
                changes = last.split(" ", 1)[1].split("\t")[0]
                end = DEATHS.get(-running.returncode, f"ends with {running.returncode}")
                yield Case(start, changes, end if "\t" in last else UNMADE)
                start += step


def table(results):
    """Kind of damage -> Counter of outcomes; one that combines several counts for each."""
    rows = collections.defaultdict(collections.Counter)
    for case in results:
        for change in set(case.changes.split("+")):
            rows[change][case.word if case.word in GOOD else "lost"] += 1
    return rows


if __name__ == "__main__":
    child(*map(int, sys.argv[1:4]), sys.argv[4])
