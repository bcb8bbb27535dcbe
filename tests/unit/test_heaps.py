"""The look at a file's bytes: heaps without end and strings of gigabytes are refused, whatever HDF5 writes is not."""

import dataclasses
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from damaged_nets import write_stock
from plain import write_random_net

import lava_conv as lc
from lava_conv.netx import heaps
from lava_conv.netx.heaps import check_heaps, longest_string, string_length
from lava_conv.netx.stock import describe

ZOO = Path(__file__).parents[2] / "netx_models"
LIBVERS = ("earliest", "v108", "v110", "latest", ("earliest", "v110"))
OPTIONS = (
    *({"libver": libver} for libver in LIBVERS),
    {"userblock_size": 1024},
    {"userblock_size": 512, "libver": "latest"},
    {"fs_strategy": "page", "fs_persist": True},
    {"track_order": True},
    {"track_order": True, "libver": "latest"},
)


@pytest.fixture
def net(tmp_path, rng):
    return write_random_net(tmp_path / "a.net", rng, skips=True)


def rewritten(source, path, chunked=False, **options):
    """As h5repack does it: every object made anew, in the layout that the options ask for."""
    with h5py.File(source) as old, h5py.File(path, "w", **options) as new:
        new.attrs.update(dict(old.attrs))

        def copy(name, item):
            if isinstance(item, h5py.Group):
                new.require_group(name)
            else:
                packed = {"chunks": True, "compression": "gzip", "shuffle": True} if chunked and item.size > 1 else {}
                new.create_dataset(name, data=item[()], dtype=item.dtype, **packed)

        old.visititems(copy)
    return path


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_files_that_are_written_anew_in_any_layout_are_read(net, tmp_path, options):
    stock, new = tmp_path / "stock.net", tmp_path / "new.net"
    write_stock(stock)
    for chunked in (False, True):
        assert lc.load(rewritten(net, new, chunked, **options)) == lc.load(net)
        assert describe(rewritten(stock, new, chunked, **options)) == describe(stock)


@pytest.mark.parametrize("name", ["mnist-lenet-dtb-k0.net", "stock/mnist-lenet-sdnn.net"])
def test_files_of_the_zoo_written_anew_are_read(tmp_path, name):
    new = rewritten(ZOO / name, tmp_path / "new.net", libver="latest")
    assert describe(new) == describe(ZOO / name)
    if "/" not in name:
        assert lc.load(new) == lc.load(ZOO / name)


def test_files_that_somebody_worked_in_are_read(net, rng):
    """Names deleted and made again, groups emptied, words and attributes replaced by longer ones, and again."""
    graph = lc.load(net)
    for turn in range(2):
        with h5py.File(net, "a") as f:
            for group in list(f["layer"].values()):
                for name in [f"spare{i}" for i in range(9)]:
                    group[name] = rng.integers(0, 9, 3)
                for name in rng.permutation([f"spare{i}" for i in range(9)]):
                    del group[name]
            for group in (g["neuron"] for g in f["layer"].values() if "neuron" in g):
                kind = group["type"][()]
                del group["type"]
                group["type"] = kind
            for i in range(4):
                f.attrs["generator"] = f"by hand, {'again ' * i * turn}"
                f.attrs["labels"] = [f"label {'x' * i * turn}"] * 5
                f.attrs["labels"] = np.array([f"label {'y' * i}"] * 5, h5py.string_dtype())
        check_heaps(net)
        assert dataclasses.replace(lc.load(net), generator=graph.generator, labels=()) == graph


@pytest.fixture(params=[0, 512])
def raw(tmp_path, request):
    """A small file, its bytes, and where its addresses count from."""
    path = tmp_path / "x"
    with h5py.File(path, "w", libver="earliest", userblock_size=request.param) as f:
        f.attrs["labels"] = np.array(["first", "second"], dtype=h5py.string_dtype())
        f["layer/1/type"] = "DTB"
    check_heaps(path)
    return path, bytearray(path.read_bytes()), request.param


def test_a_free_block_that_is_its_own_successor(raw):
    path, data, base = raw
    at = data.find(b"HEAP\0")
    free, segment = (int.from_bytes(data[at + i : at + i + 8], "little") for i in (16, 24))
    data[base + segment + free : base + segment + free + 8] = free.to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(lc.NetFormatError, match=f"x: byte {at}: a list of the file's heap has no end"):
        lc.load(path)


@pytest.mark.parametrize("size", [0, (1 << 64) - 16])
def test_a_string_that_takes_no_room(raw, size):
    path, data, _ = raw
    at = data.find(b"GCOL\1")
    data[at + 16 : at + 18] = (1 if size else 0).to_bytes(2, "little")
    data[at + 24 : at + 32] = size.to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(lc.NetFormatError, match=f"byte {at}: a list"):
        check_heaps(path)


def test_words_across_the_blocks_of_a_search(raw, monkeypatch):
    path, data, _ = raw
    words = {at for word in heaps.HEAPS for at in range(len(data)) if data.startswith(word, at)}
    with open(path, "rb") as file:
        for size in (7, 64, 1 << 20):
            monkeypatch.setattr(heaps, "BLOCK", size)
            assert {at for word in heaps.HEAPS for at in heaps._places(file.fileno(), word)} == words


def test_lists_too_long_to_be_looked_at(raw, monkeypatch):
    monkeypatch.setattr(heaps, "MAX_PIECES", 6)
    with pytest.raises(lc.NetFormatError, match="has no end"):
        check_heaps(raw[0])


def test_a_file_too_large_to_be_looked_at(net):
    with open(net, "ab") as file:
        file.truncate((1 << 32) + 1)  # a hole, which takes no room
    with pytest.raises(lc.NetFormatError, match="the file has 4,294,967,297 bytes, allowed are 4,294,967,296"):
        lc.load(net)


def test_files_that_end_early(raw):
    path, data, base = raw
    ends = {base + i for i in range(24)} | {data.find(name) + i for name in heaps.HEAPS for i in range(64)}
    for end in ends:
        path.write_bytes(data[:end])
        with pytest.raises(lc.NetFormatError, match="not a readable HDF5 file" if end else "is an empty file"):
            lc.load(path)


def test_addresses_of_another_size(tmp_path):
    properties = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    properties.set_sizes(4, 4)
    h5py.h5f.create(str(tmp_path / "x").encode(), h5py.h5f.ACC_TRUNC, properties).close()
    with pytest.raises(lc.NetFormatError, match=r"addresses or lengths do not take 8 bytes\); write it again"):
        lc.load(tmp_path / "x")


def longest(path, name, count):
    with open(path, "rb") as file:
        return longest_string(file.fileno(), name, count)


def claim(path, length):
    """The one string of this length claims 2 GiB; the file is otherwise as it was."""
    data = path.read_bytes()
    addresses = [found.start().to_bytes(8, "little") for found in re.finditer(b"GCOL\1", data)]
    (old,) = {old for a in addresses if (old := length.to_bytes(4, "little") + a) in data}
    path.write_bytes(data.replace(old, (1 << 31).to_bytes(4, "little") + old[4:]))


@pytest.mark.parametrize("more", [0, 30])
@pytest.mark.parametrize("name", ["labels", "generator"])
@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
def test_strings_of_attributes_that_claim_gigabytes(tmp_path, rng, libver, name, more):
    """While a few bytes are there; newer layouts have checksums too, and keep many attributes elsewhere."""
    path = rewritten(write_random_net(tmp_path / "a", rng), tmp_path / "x", libver=libver)
    with h5py.File(path, "a", libver=libver) as f:
        f.attrs["labels"] = np.array(["5", "4", "3", "2", "eleven long"], dtype=h5py.string_dtype())
        f.attrs["generator"] = "somebody's hand"
        f.attrs.update({f"more{i}": i for i in range(more)})
    lc.load(path)
    length, count = {"labels": (11, 5), "generator": (15, 1)}[name]
    assert longest(path, name, count) == length
    claim(path, length)
    assert longest(path, name, count) == 1 << 31 and longest(path, "format", 1) == 9
    there = f"/@{name} claims a string of 2,147,483,648 bytes, allowed are"
    with pytest.raises(lc.NetFormatError, match=there if libver == "earliest" else "checksum"):
        lc.load(path)


def test_what_only_looks_like_an_attribute(tmp_path):
    """Its name in a string, at the file's begin and end, before other types and other numbers of strings."""
    path, end = tmp_path / "x", b"labels\0"
    wrong = [
        end, b"\1\0\7\0" + end, b"\3" + bytes(8) + end, b"\1\0\7\0\xff\xff\xff\xff" + end,
        b"\1\0\7\0\4\0\4\0" + end + b"\0\x09\0\0\0\0\0\0\0" + b"\1\1" + bytes(6) + b"\5" + bytes(7) + b"\xff" * 64,
        b"\1\0\7\0\4\0\4\0" + end + b"\0\x01\0\0\0\0\0\0\0" + b"\1\0" + bytes(6) + b"\xff" * 64,
    ]  # fmt: skip
    for piece in wrong:
        path.write_bytes(piece)
        assert longest(path, "labels", 1) == 0
    path.write_bytes(wrong[-1].replace(b"\x01\0\0\0\0\0\0\0\1\0", b"\x09\0\0\0\0\0\0\0\1\0"))
    assert longest(path, "labels", 1) == (1 << 32) - 1


def test_a_word_that_claims_gigabytes(net):
    with h5py.File(net) as f:
        at = f["layer/1/neuron/type"].id.get_offset()
    with open(net, "rb") as file:
        assert string_length(file.fileno(), at) == 3
        assert string_length(file.fileno(), 1 << 40) == string_length(file.fileno(), (1 << 64) - 1) == 0
    data = bytearray(net.read_bytes())
    data[at + 3] = 0x80
    net.write_bytes(data)
    for reader in (lc.load, describe):
        with pytest.raises(lc.NetFormatError, match="/layer/1/neuron/type is no string of up to 1000 bytes"):
            reader(net)
