"""Stock netx files: read, described, and told what of them cannot be run here."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from command import call
from plain import write_random_net

from lava_conv.errors import NetFormatError
from lava_conv.netx.stock import describe, is_stock, table

CUBA = {"type": "CUBA", "iDecay": 4096, "vDecay": 123, "vThMant": 80, "refDelay": 1, "gradedSpike": False}


def layer(file, index, kind, shape, neuron=None, **datasets):
    group = file.create_group(f"layer/{index}")
    group["type"] = np.array([kind.encode()], dtype="S10")
    group["shape"] = np.array(shape)
    for name, value in datasets.items():
        group[name] = value
    for name, value in (neuron or {}).items():
        group[f"neuron/{name}"] = value


@pytest.fixture
def stock(tmp_path, rng):
    """As lava-dl writes it: an encoder, a conv with bias, flatten, dense with delays, a readout without neuron."""
    path = tmp_path / "stock.net"
    with h5py.File(path, "w") as file:
        layer(file, 0, "input", (1, 6, 6), CUBA, weight=np.float32([76]), bias=np.float32([64]))
        conv = {"stride": [2, 2], "padding": [1, 1], "dilation": [1, 1], "groups": 1, "kernelSize": [3, 3]}
        weight = rng.integers(-9, 9, (4, 1, 3, 3)).astype(np.float32)
        layer(file, 1, "conv", (4, 3, 3), CUBA, weight=weight, bias=np.zeros(4, np.float32), **conv)
        layer(file, 2, "flatten", (36, 1, 1))
        layer(file, 3, "dense", (8,), CUBA, weight=np.full((8, 36), -200, np.float32), delay=np.zeros(8))
        layer(file, 4, "dense", (3,), None, weight=np.ones((3, 8), np.float32))
        file["simulation/Ts"] = 1
        file["simulation/tSample"] = 16
    return path


def test_unsupported_parts_of_a_stock_file_are_named(stock):
    assert is_stock(stock)
    net = describe(stock)
    assert [x.type for x in net.layers] == ["input", "conv", "flatten", "dense", "dense"]
    assert net.layers[1].weight == (4, 1, 3, 3) and net.layers[3].low == -200 and net.layers[3].high == -200
    assert net.layers[1].parameters == {k: v for k, v in CUBA.items() if k != "type"}
    assert [x.neuron for x in net.layers] == ["CUBA", "CUBA", "", "CUBA", ""]
    words = " | ".join(net.problems)
    assert net.problems[0].startswith("/@format, version and steps are missing")
    assert "/layer/0: the input has a neuron (CUBA)" in words
    assert "/layer/1, 3: neuron CUBA: it leaks" in words and "/layer/1: bias" in words and "/layer/3: delay" in words
    assert "/layer/3: weight goes to -200, allowed is -128..127" in words
    assert "/layer/4: it has no neuron; every conv and dense layer needs one, the last one ACC" in words
    assert sum("the last one ACC" in word for layer in net.layers for word in layer.problems) == 1
    assert net.layers[2].problems == () and "shape is" not in words, "what fits is not complained of"
    assert "4x1x3x3" in table(net) and "vThMant 80" in table(net)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda f: f["layer/4"].__setitem__("weight2", 1), None),
        (lambda f: replace(f, "layer/1/weight", np.full((4, 1, 3, 3), 0.5, np.float32)), "are not integers"),
        (lambda f: replace(f, "layer/1/weight", np.ones((4, 1, 3, 3, 1), np.float32)), "weight has rank 5"),
        (lambda f: replace(f, "layer/1/weight", np.ones((4, 2, 3, 3), np.float32)), "takes 2 channels"),
        (lambda f: replace(f, "layer/1/shape", np.array([4, 3, 4])), "input and weight make it (4, 3, 3)"),
        (lambda f: replace(f, "layer/3/shape", np.array([8, 1, 1])), "a dense layer's shape is one number here"),
        (lambda f: replace(f, "layer/2/type", np.array([b"average"])), "type 'average': averaging"),
        (lambda f: replace(f, "layer/2/type", np.array([b"warp"])), "type 'warp': this layer type is not"),
        (lambda f: replace(f, "layer/1/neuron/type", "RF_IZ"), "/layer/1: neuron RF_IZ: resonant"),
        (lambda f: replace(f, "layer/1/neuron/type", "OWN"), "neuron OWN: this neuron is not in the format"),
    ],
)
def test_each_kind_of_problem_is_one_sentence(stock, change, problem):
    with h5py.File(stock, "a") as file:
        change(file)
    problems = describe(stock).problems
    assert problem is None or sum(problem in p for p in problems) == 1, problems
    assert all("\n" not in p for p in problems)


def replace(file, name, value):
    del file[name]
    file[name] = value


def huge(file):
    del file["layer/1/weight"]
    file["layer/1"].create_dataset("weight", shape=(1 << 20, 1 << 20), chunks=(1024, 1024), dtype="f4")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.__delitem__("layer/2"), "/layer/4 is not one of the layers 0..3"),
        (lambda f: f.__delitem__("layer/1/type"), "/layer/1/type is missing"),
        (lambda f: replace(f, "layer/1/shape", np.array([4, -3, 3])), "/layer/1/shape is"),
        (lambda f: replace(f, "layer/1/weight", np.full((4, 1, 3, 3), np.nan, np.float32)), "holds NaN"),
        (lambda f: replace(f, "layer/1/weight", h5py.ExternalLink("other.net", "/w")), "is a link"),
        (lambda f: replace(f, "layer/1/weight", h5py.SoftLink("/layer/4/weight")), "is a link"),
        (lambda f: replace(f, "layer/1", np.zeros(3)), "/layer/1 is a dataset, expected a group"),
        (lambda f: replace(f, "layer/1/neuron/vDecay", h5py.ExternalLink("other.net", "/v")), "is a link"),
        (huge, "/layer/1/weight declares 1,099,511,627,776 elements"),
    ],
)
def test_what_is_no_netx_at_all_is_refused_before_it_is_read(stock, change, message):
    with h5py.File(stock, "a") as file:
        change(file)
    with pytest.raises(NetFormatError) as error:
        describe(stock)
    assert message in str(error.value) and str(stock) in str(error.value)


def test_missing_options_of_a_convolution_have_defaults(tmp_path):
    """And what they are decides whether the shapes go together; a neuron's parameters may be lists of one."""
    for name, value, shape in (("stride", 2, (2, 2, 2)), ("padding", 1, (2, 6, 6)), ("dilation", 2, (2, 2, 2))):
        path = tmp_path / f"{name}.net"
        with h5py.File(path, "w") as file:
            layer(file, 0, "input", (1, 6, 6))
            neuron = {"type": "CUBA", "vDecay": np.array([7]), "list": np.array([1, 2])}
            layer(file, 1, "conv", shape, neuron, weight=np.ones((2, 1, 3, 3), np.float32), **{name: value})
        net = describe(path)
        assert not any("shape is" in problem for problem in net.problems), name
        assert net.layers[1].parameters == {"vDecay": 7, "list": "int64 (2,)"}
        with h5py.File(path, "a") as file:
            del file[f"layer/1/{name}"]
        assert sum("input and weight make it (2, 4, 4)" in problem for problem in describe(path).problems) == 1


def test_names_of_parameters_are_cut_in_errors(stock):
    with h5py.File(stock, "a") as file:
        file["layer/1/neuron"].create_dataset("x" * 5000, shape=(1 << 20, 1 << 20), chunks=(1024, 1024), dtype="f4")
    with pytest.raises(
        NetFormatError, match=r"/layer/1/neuron/x{70,80}\.\.\. declares 1,099,511,627,776 elements"
    ) as error:
        describe(stock)
    assert len(str(error.value)) < len(str(stock)) + 300


def test_only_the_last_layer_is_told_of_the_readout(stock):
    with h5py.File(stock, "a") as file:
        del file["layer/3/neuron"]
    middle, last = (describe(stock).layers[index].problems for index in (3, 4))
    assert any(word == "it has no neuron; every conv and dense layer needs one" for word in middle)
    assert any(word.endswith("needs one, the last one ACC") for word in last)


def test_own_files_and_no_files_are_not_stock(tmp_path, rng):
    assert not is_stock(write_random_net(tmp_path / "own.net", rng))
    (tmp_path / "text.net").write_text("no")
    assert not is_stock(tmp_path / "text.net") and not is_stock(tmp_path / "none.net")
    with pytest.raises(NetFormatError, match="there is no such file"):
        describe(tmp_path / "none.net")


def test_inspect_shows_and_validate_refuses(stock, tmp_path, rng):
    done = call("inspect", stock)
    assert done.returncode == 0 and "a stock netx file of 5 layers" in done.stdout and "neuron CUBA" in done.stdout
    told = json.loads(call("inspect", stock, "--json").stdout)
    assert told["stock"] and told["layers"][3]["low"] == -200 and told["problems"] == list(describe(stock).problems)
    own = write_random_net(tmp_path / "own.net", rng)
    done = call("validate", stock, own)
    assert done.returncode == 2 and "own.net: valid" in done.stdout
    assert "cannot be run here" in done.stderr and "supported as they are: layers 2" in done.stderr
    assert call("validate", own).returncode == 0
    done = call("run", stock)
    assert done.returncode == 2 and "a stock netx file has none" in done.stderr


SAMPLES = {
    "mnist.net": (4, "neuron CUBA"),
    "tiny.net": (3, "weight has rank 5"),
    "gts/ntidigits/ntidigits.net": (6, "type 'average'"),
    "gts/pilotnet_lif/network.net": (11, "weight has rank 1"),
    "gts/pilotnet_sdnn/network.net": (10, "neuron SDNN"),
    "gts/pilotnet_sdnn/square_network.net": (5, "neuron SDNN"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_of_lava_dl(name):
    pytest.importorskip("lava.lib.dl", reason="lava-dl runs on Python 3.10 only")
    import lava

    # `lava` is a namespace package: the folder tests/lava here is a part of it, too
    paths = [Path(folder).parent / "tests/lava/lib/dl/netx" / name for folder in lava.__path__]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        pytest.skip("this lava-dl was installed without its tests")
    count, problem = SAMPLES[name]
    net = describe(path)
    assert len(net.layers) == count and any(problem in p for p in net.problems)
    assert not any("input and weight make it" in p or "but gets" in p for p in net.problems), "their shapes fit"
