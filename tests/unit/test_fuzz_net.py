"""Hostile `.net` files, always the same: 200, and 2,000 as a slow test; `benchmarks/fuzz_net.py` reads 100,000."""

import h5py
import numpy as np
import pytest
from damaged_nets import GOOD, fuzz, table
from plain import write_random_net

import lava_conv as lc


def all_end_well(cases):
    """Every case in a sentence, or in the same network; most kinds of damage came."""
    results = list(fuzz(0, cases))
    assert len(results) == cases
    assert [case for case in results if case.word not in GOOD] == []
    rows = table(results)
    assert len(rows) > 25
    assert sum(row["NetFormatError"] for row in rows.values()) > 0.4 * len(results)
    assert sum(row["harmless"] for row in rows.values()) > 0.1 * len(results)


def test_hostile_files_end_in_a_sentence_or_in_the_same_network():
    all_end_well(200)


@pytest.mark.slow
def test_two_thousand_hostile_files():
    all_end_well(2000)


@pytest.fixture
def net(tmp_path, rng):
    return write_random_net(tmp_path / "a.net", rng, skips=True)


def grow(path, value):
    def change(f):
        del f[path]
        f[path] = value

    return change


def attribute(name, value):
    return lambda f: f.attrs.__setitem__(name, value)


def packed(f):
    """64 MiB in 60 kB of file."""
    del f["layer/6/weight"]
    f.create_dataset(
        "layer/6/weight", data=np.zeros((1 << 10, 1 << 14), np.float32), chunks=(64, 1 << 14), compression=9
    )


def one_chunk(f):
    del f["layer/6/weight"]
    f.create_dataset("layer/6/weight", (5, 11), "f4", chunks=(1 << 12, 1 << 12), maxshape=(None, None))


def twice(f):
    del f["layer/6/weight"]
    f["layer/6/weight"] = f["layer/5/weight"]


DAMAGE = {
    "bomb": (packed, r"/layer/6: the layers up to here declare 16,7\d\d,\d{3} elements, allowed are 4,194,304 in"),
    "chunk": (one_chunk, r"/layer/6/weight has chunks of 16,777,216 elements, allowed is 1\.\.4,194,304"),
    "two names": (twice, r"/layer/5/weight has several names in the file, allowed is one"),
    "wide": (
        grow("layer/6/weight", np.zeros((5, 11), np.longdouble)),
        r"/layer/6/weight has dtype .*, expected numbers",
    ),
    "stride": (grow("layer/1/stride", np.array([1 << 20, 1])), r"/layer/1/stride is 1048576, allowed is at most 65535"),
    "padding": (grow("layer/3/padding", np.array([60_000, 60_000])), r"/layer/3: shape is"),
    "word": (grow("layer/1/type", np.array([b"x" * 1001])), r"/layer/1/type has shape .* expected one string"),
    "name": (lambda f: f.__setitem__("layer/1/a\nb", 3), r"/layer/1/a\\nb is not part of the format"),
    "steps": (attribute("steps", 1 << 40), r"/@steps is 1099511627776, allowed is 1 or more, up to 65536"),
    "long": (attribute("generator", "x" * 1001), r"/@generator holds 'xxx.* up to 1000 printable"),
    "labels": (attribute("labels", ["a\nb"] * 5), r"/@labels holds 'a\\nb', allowed"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_sentence_of_what_only_hostile_files_hold(net, damage):
    change, message = DAMAGE[damage]
    with h5py.File(net, "a") as f:
        change(f)
    with pytest.raises(lc.NetFormatError, match=message) as caught:
        lc.load(net)
    assert "\n" not in str(caught.value)


def test_a_network_of_air_is_refused(net):
    """Right in every shape, and 67 million pixels: the padding alone would fill the memory of a run."""
    with h5py.File(net, "a") as f:
        for name in list(f["layer"]):
            if int(name) > 3:
                del f[f"layer/{name}"]
        grow("layer/0/shape", np.array([1, 9000, 9000]))(f)
        for index, kind, shape in ((1, "conv", (1, 1, 1)), (2, "flatten", (1,)), (3, "dense", (1,))):
            del f[f"layer/{index}"]
            group = f.create_group(f"layer/{index}")
            group["type"], group["shape"] = np.array([kind.encode()]), np.array(shape)
            if kind != "flatten":
                group["weight"] = np.ones((1,) * (4 if kind == "conv" else 2), np.float32)
                group["neuron/type"] = "CALIF" if kind == "conv" else "ACC"
        f["layer/1/stride"], f["layer/1/neuron/theta"] = 9000, 7
    with pytest.raises(
        lc.NetFormatError, match=r"/layer/0: the layers up to here have 81,000,000 neurons, allowed are"
    ):
        lc.load(net)
