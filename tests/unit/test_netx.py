"""Files: round trip, same bytes, and one clear sentence for everything that is wrong."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from plain import write_random_net

import lava_conv as lc
from lava_conv.network.graph import Graph, Layer
from lava_conv.network.neurons import NEURONS
from lava_conv.network.synapses import Conv, Dense
from lava_conv.netx.hdf5 import most_elements, read_texts_attribute, shown, shown_name
from lava_conv.netx.writing import save_stock


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


def late_weight(f):
    """One wrong weight in the last of many blocks that are read one after the other."""
    weight = np.zeros((3, 1 << 20), np.float32)
    weight[-1, -1] = 128
    replace("layer/6/weight", weight)(f)


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
    "two odd": (lambda f: (f.move("layer/3", "layer/x"), f.move("layer/4", "layer/y")), "/layer/x is not one of"),
    "unknown root": (replace("layer/6/neuron/bias", np.zeros(4, int)), "/layer/6: neuron bias has shape"),
    "type": (replace("layer/1/type", np.array([b"pool"], "S10")), "/layer/1/type is 'pool'"),
    "type number": (replace("layer/1/type", 3), "expected one string"),
    "neuron type": (replace("layer/1/neuron/type", "CUBA"), "/layer/1/neuron/type is 'CUBA'"),
    "no neuron": (remove("layer/5/neuron"), "/layer/5/neuron is missing"),
    "theta missing": (remove("layer/1/neuron/theta"), "/layer/1/neuron/theta is missing"),
    "delta": (replace("layer/1/neuron/delta", np.zeros(4, int)), "/layer/1/neuron/delta is 0"),
    "largest count": (replace("layer/1/neuron/n_max", -1), "/layer/1/neuron/n_max is -1, allowed is 0..8388607"),
    "theta rank": (replace("layer/1/neuron/theta", np.zeros((4, 1), int)), "rank 2"),
    "theta range": (replace("layer/1/neuron/theta", np.full(4, 1 << 23)), "theta is 8388608"),
    "theta huge": (replace("layer/1/neuron/theta", np.full(4, 1e300)), "beyond 62 bits"),
    "theta float": (replace("layer/1/neuron/theta", np.full(4, 0.5)), "/layer/1/neuron/theta holds values that are"),
    "weight float": (replace("layer/5/weight", np.full((11, 300), 0.5)), "not integers"),
    "weight too small": (replace("layer/6/weight", np.full((5, 11), -129.0)), "/layer/6/weight is -129, allowed is"),
    "weight huge": (replace("layer/6/weight", np.full((5, 11), 1e300)), "/layer/6/weight is 1e.300, allowed"),
    "weight late": (late_weight, "/layer/6/weight is 128, allowed is -128..127"),
    "pair empty": (replace("layer/1/stride", np.zeros(0, int)), "/layer/1/stride is empty"),
    "pair large": (replace("layer/1/padding", np.array([0, 65536])), "/layer/1/padding is 65536, .* at most 65535"),
    "shape of four": (replace("layer/1/shape", np.array([1, 1, 1, 1])), "/layer/1/shape is (1, 1, 1, 1), allowed"),
    "shape of zero": (replace("layer/1/shape", np.array([4, 0, 4])), "/layer/1/shape is (4, 0, 4), allowed"),
    "format number": (attribute("format", 3), "/@format is .*3.*, expected a string"),
    "steps number": (attribute("steps", 1.5), "/@steps is .*1.5.*, expected an integer"),
    "labels long": (attribute("labels", ["x" * 1001, "b", "c", "d", "e"]), "/@labels holds .*, allowed are up to 1000"),
    "labels number": (attribute("labels", np.arange(5)), "/@labels has shape .5,. and dtype int64, expected a list of"),
    "labels matrix": (attribute("labels", [["a", "b"], ["c", "d"]]), "/@labels has shape .2, 2. and dtype object, exp"),
    "labels not printable": (attribute("labels", ["a", "b\x07", "c", "d", "e"]), "/@labels holds 'b.x07', allowed are"),
    "long word": (replace("layer/1/type", "x" * 1001), "/layer/1/type is no string of up to 1000 bytes"),
    "word of 1000": (replace("layer/1/type", "x" * 1000), "/layer/1/type is '" + "x" * 79 + "..., allowed"),
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
    with pytest.raises(lc.NetFormatError, match=r"not a readable HDF5 file|is an empty file"):
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
    path = Path(__file__).parents[2] / "netx_models" / "cifar10-resnet20-calif-t16.net"
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


def test_what_a_file_leaves_out_has_its_default(net):
    """No bias is 0, no scale and no groups are 1; a pair may be one number or a list of one."""
    defaults, pairs, changed = {"bias": 0, "scale": 1, "groups": 1}, {"stride", "padding", "dilation"}, []
    graph = lc.load(net)
    with h5py.File(net, "a") as file:
        names = []
        file.visit(names.append)
        for name in names:
            if name.endswith(("/bias", "/scale")):
                file[name][...] = defaults[name.rpartition("/")[2]]
    plain = lc.load(net)
    with h5py.File(net, "a") as file:
        for name in names:
            key, value = name.rpartition("/")[2], file[name][()] if isinstance(file[name], h5py.Dataset) else None
            if key in defaults and (value == defaults[key]).all():
                del file[name]
                changed.append(key)
            elif key in pairs and value[0] == value[1]:
                replace(name, [np.int64(value[0]), value[:1]][len(changed) % 2])(file)
                changed.append(file[name].shape)
    assert {"bias", "scale", "groups", (), (1,)} <= set(changed) and lc.load(net) == plain != graph


def convolution(tmp_path, **options):
    """A network of one convolution that leaves out the options it is not given, and of a readout."""
    shape = Conv(np.ones((2, 1, 2, 2)), **options).output_shape((1, 6, 6))
    layers = (
        Layer("input", (1, 6, 6)),
        Layer("conv", shape, Conv(np.ones((2, 1, 2, 2)), **options), "DTB", NEURONS["DTB"].Params(0, 9)),
        Layer("flatten", (int(np.prod(shape)),)),
        Layer("dense", (2,), Dense(np.ones((2, int(np.prod(shape))))), "ACC", NEURONS["ACC"].Params(0)),
    )
    graph = Graph(layers, 4)
    lc.save(graph, tmp_path / "c.net")
    with h5py.File(tmp_path / "c.net", "a") as file:
        for name in {"stride", "padding", "dilation", "groups"} - set(options):
            del file[f"layer/1/{name}"]
        del file["layer/3/neuron/bias"]
    return graph, tmp_path / "c.net"


@pytest.mark.parametrize(
    "options", [{}, {"stride": (2, 2)}, {"padding": (1, 2)}, {"dilation": (3, 1)}, {"stride": (1, 3), "groups": 1}]
)
def test_options_of_a_convolution_that_are_left_out(tmp_path, options):
    graph, path = convolution(tmp_path, **options)
    assert lc.load(path) == graph


def test_labels_up_to_the_limits_are_read(net):
    labels = [letter * 1000 for letter in "abcde"]
    with h5py.File(net, "a") as file:
        file.attrs["labels"] = labels
    assert lc.load(net).labels == tuple(labels)


@pytest.mark.parametrize(("count", "message"), [(1 << 17, None), ((1 << 17) + 1, "has 1,048,584 bytes, allowed are")])
def test_an_attribute_has_at_most_a_mebibyte(tmp_path, count, message):
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        file.attrs["labels"] = np.full(count, b"x" * 8)
        if message is None:
            assert read_texts_attribute(file, "labels") == ("x" * 8,) * count
        else:
            with pytest.raises(lc.NetFormatError, match=f"/@labels {message} 1,048,576"):
                read_texts_attribute(file, "labels")


def test_what_is_shown_of_a_file_is_cut_at_80_characters():
    assert shown("x" * 78) == repr("x" * 78) and shown("x" * 79) == "'" + "x" * 79 + "..."
    assert shown("a\n  b") == r"'a\n b'" and shown_name("it's") == '"its"'


def flattened(side, flats):
    """The image of side x side, so many flatten layers of it, and a readout of the last."""
    layers = [Layer("input", (1, side, side)), *(Layer("flatten", (side * side,), source=0) for _ in range(flats))]
    layers.append(Layer("dense", (1,), Dense(np.ones((1, side * side))), "ACC", NEURONS["ACC"].Params(0)))
    return Graph(tuple(layers), 2)


def test_as_many_neurons_as_a_file_may_describe(tmp_path):
    path = tmp_path / "x.net"
    lc.save(flattened(1024, 2), path)
    assert len(lc.load(path).layers) == 4
    lc.save(flattened(1024, 3), path)
    with pytest.raises(lc.NetFormatError, match=r"/layer/4: .* have 3,145,729 neurons in flat layers, .* 3,145,728;"):
        lc.load(path)
    for side in (5792, 5793):  # the convolution holds its input once more
        layers = (
            Layer("input", (1, side, side)),
            Layer("conv", (1, 1, 1), Conv(np.ones((1, 1, 1, 1)), (side, side)), "DTB", NEURONS["DTB"].Params(0, 9)),
            Layer("flatten", (1,)),
            Layer("dense", (1,), Dense(np.ones((1, 1))), "ACC", NEURONS["ACC"].Params(0)),
        )
        lc.save(Graph(layers, 2), path)
        if 2 * side**2 + 2 <= 67_108_864:
            assert lc.load(path).input_shape == (1, side, side)
        else:
            with pytest.raises(lc.NetFormatError, match=r"have 67,117,698 neurons, allowed are 67,108,864;"):
                lc.load(path)


def test_a_file_may_declare_32_numbers_per_byte():
    for size, most in ((0, 1 << 22), (1 << 17, 1 << 22), (1 << 18, 1 << 23), (1 << 20, 1 << 25), (1 << 22, 1 << 25)):
        assert most_elements(size) == most
    assert most_elements(1 << 24) == 1 << 26


def test_only_the_last_layer_of_a_stock_file_sends_sums(tmp_path):
    layers = [(Conv(np.ones((2, 1, 3, 3))), (2, 4, 4)), (Dense(np.ones((5, 32))), (5,)), (Dense(np.ones((3, 5))), (3,))]
    save_stock(tmp_path / "s.net", (1, 6, 6), layers)
    with h5py.File(tmp_path / "s.net") as file:
        kinds = [file[f"layer/{i}/type"][0] for i in range(len(file["layer"]))]
        assert kinds == [b"input", b"conv", b"flatten", b"dense", b"dense"]
        assert ["neuron/sigma_output" in file[f"layer/{i}"] for i in range(5)] == [False] * 4 + [True]
        assert file["layer/4/neuron/sigma_output"][()] == 1 and file["layer/4/neuron/vThMant"][()] == 0
