"""Files: round trip, same bytes, and one clear sentence for everything that is wrong."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from plain import write_random_net

import lava_conv as lc
from lava_conv.graph import Graph, Layer
from lava_conv.neurons import NEURONS
from lava_conv.synapses import Conv, Dense


@pytest.fixture
def net(tmp_path, rng):
    return write_random_net(tmp_path / "a.net", rng, skips=True)


def test_round_trip_and_same_bytes(net, tmp_path):
    graph = lc.load(net)
    lc.save(graph, tmp_path / "b.net")
    lc.save(graph, tmp_path / "c.net")
    assert lc.load(tmp_path / "b.net") == graph
    assert (tmp_path / "b.net").read_bytes() == (tmp_path / "c.net").read_bytes()


def test_ca_lif_round_trip(tmp_path):
    calif = NEURONS["CALIF"].Params
    for sign in (0, -1):
        params = calif(
            np.array([5, 6]), np.array([1, -2]), np.array([3, 0]), np.array([2, 3]), sign * np.array([5, 6]), 1, 4
        )
        layers = (
            Layer("input", (1, 3, 3)),
            Layer("conv", (2, 3, 3), Conv(np.ones((2, 1, 1, 1))), "CALIF", params),
            Layer("flatten", (18,)),
            Layer("dense", (2,), Dense(np.ones((2, 18))), "ACC", NEURONS["ACC"].Params(0)),
        )
        graph = Graph(layers, 4, labels=("no", "yes"))
        lc.save(graph, tmp_path / "x.net")
        assert lc.load(tmp_path / "x.net") == graph


def replace(path, value):
    def change(f):
        del f[path]
        f[path] = value

    return change


def remove(path):
    return lambda f: f.__delitem__(path)


def attribute(name, value):
    return lambda f: f.attrs.__setitem__(name, value)


def bomb(f):
    del f["layer/6/weight"]
    f.create_dataset("layer/6/weight", (1 << 20, 1 << 20), "f4", chunks=True)


DAMAGE = {
    "no format": (lambda f: f.attrs.__delitem__("format"), "@format is missing"),
    "format": (attribute("format", "other"), "@format is 'other'"),
    "version": (attribute("version", 2), "@version is 2"),
    "steps text": (attribute("steps", "six"), "@steps"),
    "steps": (attribute("steps", 0), ": /@steps is 0, allowed is 1 or more"),
    "code": (attribute("input_code", "rate"), ": /@input_code is 'rate'"),
    "bits": (attribute("input_bits", 4), ": /@input_bits is 4"),
    "labels": (attribute("labels", ["a"]), ": /@labels names 1"),
    "no layers": (remove("layer"), "/layer is missing"),
    "one layer": (lambda f: [f.__delitem__(f"layer/{i}") for i in range(1, 7)], ": /layer holds 1 layers"),
    "no input": (replace("layer/0/type", np.array([b"flatten"], "S10")), ": /layer/0: type is 'flatten', it must be"),
    "gap": (remove("layer/3"), "/layer/6 is not one of the layers"),
    "unknown root": (replace("layer/6/neuron/bias", np.zeros(4, int)), "/layer/6: neuron bias has shape"),
    "type": (replace("layer/1/type", np.array([b"pool"], "S10")), "/layer/1/type is 'pool'"),
    "type number": (replace("layer/1/type", 3), "expected one string"),
    "neuron type": (replace("layer/1/neuron/type", "CUBA"), "/layer/1/neuron/type is 'CUBA'"),
    "no neuron": (remove("layer/5/neuron"), "/layer/5/neuron is missing"),
    "theta missing": (remove("layer/1/neuron/theta"), "/layer/1/neuron/theta is missing"),
    "delta": (replace("layer/1/neuron/delta", np.zeros(4, int)), "/layer/1/neuron/delta is 0"),
    "theta rank": (replace("layer/1/neuron/theta", np.zeros((4, 1), int)), "rank 2"),
    "theta range": (replace("layer/1/neuron/theta", np.full(4, 1 << 23)), "theta is 8388608"),
    "theta huge": (replace("layer/1/neuron/theta", np.full(4, 1e300)), "beyond 62 bits"),
    "weight float": (replace("layer/5/weight", np.full((11, 300), 0.5)), "not integers"),
    "weight nan": (replace("layer/6/weight", np.full((5, 11), np.nan)), "NaN"),
    "weight range": (replace("layer/6/weight", np.full((5, 11), 200.0)), "weight is 200"),
    "weight shape": (replace("layer/6/weight", np.zeros((5, 12))), "/layer/6: weight"),
    "weight text": (replace("layer/6/weight", "hello"), "rank 0"),
    "shape": (replace("layer/2/shape", np.array([6, 9, 9])), "/layer/2: shape is"),
    "groups": (replace("layer/1/groups", 3), "groups is 3"),
    "stride": (replace("layer/1/stride", np.array([0, 1])), "stride is (0, 1)"),
    "stride three": (replace("layer/1/stride", np.array([1, 1, 1])), "3 values"),
    "layer from": (lambda f: f.__setitem__("layer/3/from", 5), "layer/3: from is 5, allowed is an earlier layer"),
    "skip from": (replace("layer/3/skip/0/from", 7), "skip 0: from is 7"),
    "skip type": (replace("layer/3/skip/0/type", np.array([b"pool"], "S10")), "/layer/3/skip/0/type is 'pool'"),
    "unknown key": (lambda f: f.__setitem__("layer/1/neuron/vth", 3), "/layer/1/neuron/vth is not part"),
    "group for data": (lambda f: (f.__delitem__("layer/6/weight"), f.create_group("layer/6/weight")), "is a group"),
    "external": (replace("layer/6/weight", h5py.ExternalLink("/etc/passwd", "/x")), "link"),
    "soft cycle": (replace("layer/6/weight", h5py.SoftLink("/layer/6/weight")), "missing|link"),
    "bomb": (
        bomb,
        "declares 1,099,511,627,776 elements",
    ),
    "not the readout": (replace("layer/6/neuron/type", "DTB"), "layer/6/neuron"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_wrong_file_names_the_place(net, damage):
    change, message = DAMAGE[damage]
    with h5py.File(net, "a") as f:
        change(f)
    with pytest.raises(lc.NetFormatError, match=message.replace("(", r"\(").replace(")", r"\)")) as caught:
        lc.load(net)
    assert str(net) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_no_hdf5(tmp_path, content):
    path = tmp_path / "x.net"
    path.write_bytes(content)
    with pytest.raises(lc.NetFormatError, match="not a readable HDF5 file"):
        lc.load(path)


def test_truncated(net):
    data = net.read_bytes()
    for size in range(100, len(data), len(data) // 23):
        net.write_bytes(data[:size])
        with pytest.raises(lc.NetFormatError):
            lc.load(net)


def test_missing_file(tmp_path):
    with pytest.raises(lc.NetFormatError, match="no such file"):
        lc.load(tmp_path / "none.net")


def test_a_failed_write_leaves_the_old_file(net, monkeypatch):
    graph, before = lc.load(net), net.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(lc.NetFormatError, match="No space left"):
        lc.save(graph, net)
    assert net.read_bytes() == before and os.listdir(net.parent) == [net.name]


def test_a_network_of_the_zoo_is_written_again_byte_for_byte(tmp_path):
    path = Path(__file__).parent.parent / "netx_models" / "cifar10-resnet20-calif-t16.net"
    lc.save(lc.load(path), tmp_path / "a.net")
    assert (tmp_path / "a.net").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("fill", ["zeros", "ones", "one in a thousand"])
def test_weights_that_pack_too_well_come_back(tmp_path, fill):
    """More than EXPANSION elements a byte would be refused as a bomb: such weights are stored as they are."""
    weight = np.zeros((3000, 2000), np.int8)
    weight.reshape(-1)[:: {"zeros": weight.size, "ones": 1, "one in a thousand": 997}[fill]] = 1
    dtb = NEURONS["DTB"].Params(np.zeros(3000, int), np.ones(3000, int))
    layers = (
        Layer("input", (1, 40, 50)),
        Layer("flatten", (2000,)),
        Layer("dense", (3000,), Dense(weight), "DTB", dtb),
        Layer("dense", (1,), Dense(np.ones((1, 3000))), "ACC", NEURONS["ACC"].Params(0)),
    )
    graph = Graph(layers, 4)
    lc.save(graph, tmp_path / "x.net")
    assert lc.load(tmp_path / "x.net") == graph
    assert (tmp_path / "x.net").stat().st_size * 32 > weight.size


def test_the_mode_is_that_of_the_umask(net, tmp_path):
    before = os.umask(0o027)
    try:
        lc.save(lc.load(net), tmp_path / "b.net")
    finally:
        os.umask(before)
    assert (tmp_path / "b.net").stat().st_mode & 0o777 == 0o640


def test_missing_folder(net):
    with pytest.raises(lc.NetFormatError, match="cannot be written"):
        lc.save(lc.load(net), net.parent / "no" / "x.net")


def test_plain_readers_find_what_stock_netx_expects(trained_digits, tmp_path):
    """Names and types as lava-dl's reader wants them: (1,) byte strings, C,H,W shapes, a scalar groups."""
    data, trained = trained_digits
    lc.save(lc.convert(trained.model, data.x_train[:4]), tmp_path / "d.net")
    with h5py.File(tmp_path / "d.net") as f:
        assert f["layer/0/type"].shape == (1,) and f["layer/0/type"][0] == b"input"
        assert f["layer/1/weight"].dtype == np.float32 and f["layer/1/groups"].shape == ()
        assert tuple(f["layer/1/shape"]) == (24, 8, 8) and f["layer/1/neuron/theta"].dtype == np.int64


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"scaleoffset": 0}, "6 .scaleoffset."),
        ({"compression": "lzf"}, "32000 .lzf."),
        ({"fletcher32": True}, "3 .fletcher32."),
        ({"shuffle": True, "compression": 9}, ""),
    ],
)
def test_only_filters_that_stand_damage_are_read(net, options, name):
    graph = lc.load(net)
    with h5py.File(net, "a") as file:
        weight = file["layer/1/weight"][()]
        del file["layer/1/weight"]
        file.create_dataset("layer/1/weight", data=weight, chunks=True, **options)
    if not name:
        assert lc.load(net) == graph
    else:
        with pytest.raises(
            lc.NetFormatError, match=f"/layer/1/weight is packed by HDF5 filter {name}, allowed are gzip"
        ):
            lc.load(net)
