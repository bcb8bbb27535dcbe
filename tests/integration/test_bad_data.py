"""Odd and damaged images, labels and data sets, full disks, two writers: a clear sentence or the right result."""

import io
import os
import resource
import signal
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
from plain import write_random_net

import lava_conv as lc
from lava_conv.files import replacing
from lava_conv.training.data import MAX_CLASSES, Dataset, load_dataset

SHAPE = (2, 9, 7)


@pytest.fixture
def graph(tmp_path, rng):
    return lc.load(write_random_net(tmp_path / "a.net", rng))


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (6, *SHAPE), dtype=np.uint8)


def python(code, *words, **options):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, words)],
        capture_output=True, text=True, check=False, timeout=120, **options,
    )  # fmt: skip


# -- images -----------------------------------------------------------------------------------------------------------


def mapped(images, folder):
    np.save(folder / "x.npy", images)
    return np.load(folder / "x.npy", mmap_mode="r")


LAYOUTS = {
    "memory-mapped": mapped,
    "every other": lambda x, _: np.repeat(x, 2, 0)[::2],
    "backwards": lambda x, _: x[::-1].copy()[::-1],
    "a transposed view": lambda x, _: np.ascontiguousarray(x.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0),
    "cut out of larger ones": lambda x, _: np.pad(x, ((0, 0), (1, 1), (3, 2), (1, 4)))[:, 1:-1, 3:-2, 1:-4],
    "a list": lambda x, _: list(x),
    "not aligned": lambda x, _: np.frombuffer(b"?" + x.tobytes(), np.uint8, offset=1).reshape(x.shape),
    "a masked array": lambda x, _: np.ma.array(x),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_of_the_same_images_gives_the_same(graph, images, tmp_path, layout):
    odd = LAYOUTS[layout](images, tmp_path)
    assert np.array_equal(lc.run(graph, odd).logits, lc.run(graph, images).logits)
    assert np.array_equal(graph.reference(odd).logits, graph.reference(images).logits)


def test_one_sample_is_its_row_of_many(graph, images):
    whole = lc.run(graph, images)
    for n in range(len(images)):
        alone = lc.run(graph, images[n : n + 1])
        assert np.array_equal(alone.logits[:, 0], whole.logits[:, n])
        assert all(np.array_equal(alone.spikes[i][:, 0], s[:, n]) for i, s in whole.spikes.items())


WRONG = {
    "int64": (lambda x: x.astype(np.int64), "dtype int64"),
    "bool": (lambda x: x > 9, "dtype bool"),
    "NaN": (lambda x: np.where(x > 200, np.nan, x), "dtype float64"),
    "int8": (lambda x: x.astype(np.int8), "dtype int8"),
    "text": (lambda x: np.full(x.shape, "7"), "dtype <U1"),
    "objects": (lambda x: x.astype(object), "dtype object"),
    "nothing": (lambda x: None, "images is None; pass an array"),
    "one image without N": (lambda x: x[0], r"shape \(2, 9, 7\)"),
    "H and W swapped": (lambda x: x.transpose(0, 1, 3, 2), r"shape \(6, 2, 7, 9\)"),
    "N last": (lambda x: x.transpose(1, 2, 3, 0), r"shape \(2, 9, 7, 6\)"),
    "five axes": (lambda x: x[None], r"shape \(1, 6, 2, 9, 7\)"),
    "a scalar": (lambda x: np.uint8(3), r"shape \(\)"),
    "of different shapes": (lambda x: [x[0], x[1, :, :4]], "different shapes"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_images_end_in_a_sentence(graph, images, kind):
    change, message = WRONG[kind]
    for call in (lambda x: lc.run(graph, x), graph.reference):
        with pytest.raises(lc.DataError, match=message) as caught:
            call(change(images))
        assert "\n" not in str(caught.value)


# -- labels and data sets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [[0, 1], np.zeros((6, 2, 1), int), np.zeros(6), 3, ["a"] * 6, np.zeros((2, 6), int)])
def test_labels_of_another_shape_or_type_are_no_accuracy(graph, images, labels):
    with pytest.raises(lc.DataError, match=r"labels have shape .* needed are 6 integers"):
        lc.run(graph, images).accuracy(labels)


def test_labels_out_of_range_are_of_another_data_set(graph, images):
    record = lc.run(graph, images)
    with pytest.raises(lc.DataError, match="labels go from 77 to 77, the network has classes 0 to 4"):
        record.accuracy(np.full(6, 77))
    assert record.accuracy(record.predictions[-1])[-1] == 1


BAD_SETS = {
    "floats": ({"x_train": np.zeros((4, 1, 8, 8))}, "x_train has shape .* dtype float64"),
    "no channels": ({"x_test": np.zeros((4, 8, 8), np.uint8)}, "x_test has shape"),
    "none": ({"x_train": np.zeros((0, 1, 8, 8), np.uint8), "y_train": np.zeros(0, int)}, "one at least"),
    "negative": ({"y_train": np.array([0, 1, -1, 0])}, "needed are 4 integers in 0"),
    "too few": ({"y_test": np.zeros(3, int)}, "needed are 4 integers"),
    "float labels": ({"y_train": np.zeros(4)}, "needed are 4 integers"),
    "huge": ({"y_train": np.array([0, 1, MAX_CLASSES, 0])}, f"in 0..{MAX_CLASSES - 1}"),
}


@pytest.mark.parametrize("kind", BAD_SETS)
def test_a_data_set_is_checked_when_it_is_made(kind):
    change, message = BAD_SETS[kind]
    x, y = np.zeros((4, 1, 8, 8), np.uint8), np.array([0, 1, 2, 0])
    with pytest.raises(lc.DataError, match=message):
        Dataset("mine", **{"x_train": x, "y_train": y, "x_test": x, "y_test": y, **change})


def archive(compressed=True):
    x, y = np.arange(4 * 81, dtype=np.uint8).reshape(4, 9, 9), np.arange(4) % 2
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, x_train=x, y_train=y, x_test=x, y_test=y)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [True, False])
def test_a_damaged_archive_is_a_sentence_or_the_same_shape(tmp_path, compressed):
    """Bytes flipped, cut, inserted, 300 times; pickles and executables have no way in."""
    rng, good, path, refused = np.random.default_rng(5), archive(compressed), tmp_path / "a.npz", 0
    for _ in range(300):
        data = bytearray(good)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            data[at] = rng.integers(256)
        if rng.random() < 0.2:
            del data[rng.integers(len(data)) :]
        elif rng.random() < 0.2:
            at = rng.integers(len(data))
            data[at:at] = bytes(rng.integers(0, 256, 9, np.uint8))
        path.write_bytes(data)
        try:
            assert load_dataset(str(path)).shape[0] in (1, 3)
        except lc.DataError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
    assert refused > 100


def member(header, body=b""):
    """The bytes of an `.npz` whose x_train has a header of our own."""
    file = io.BytesIO(archive())
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(out := io.BytesIO(), "w") as new:
        for name in old.namelist():
            text = header.ljust(117).encode() + b"\n"
            data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body
            new.writestr(name, data if name == "x_train.npy" else old.read(name))
    return out.getvalue()


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000, 9, 9)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-4, 9, 9)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (4, 9, 9)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': __import__('os').system('true')}",
        "{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (4,)}",
        "{" * 90,
    ],
)
def test_an_array_that_lies_about_itself(tmp_path, header):
    (tmp_path / "a.npz").write_bytes(member(header, bytes(324)))
    with pytest.raises(lc.DataError, match=r"a\.npz") as caught:
        load_dataset(str(tmp_path / "a.npz"))
    assert "\n" not in str(caught.value)


# -- writing ----------------------------------------------------------------------------------------------------------

FULL = """
import resource, signal, sys
import lava_conv as lc
graph = lc.load(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    lc.save(graph, sys.argv[2])
except lc.NetFormatError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("room", [0, 9000])
def test_a_full_disk_leaves_the_old_network(graph, tmp_path, room):
    """No byte, or some of it: HDF5 notices at different moments, and the process lives on."""
    (tmp_path / "b.net").write_bytes(b"what was there")
    done = python(FULL, tmp_path / "a.net", tmp_path / "b.net", room)
    assert done.returncode == 1 and "b.net: cannot be written" in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "b.net").read_bytes() == b"what was there"
    assert sorted(os.listdir(tmp_path)) == ["a.net", "b.net"]


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path):
    import torch

    from lava_conv.torch_tools.checkpoint import write_state

    (tmp_path / "x.pt").write_bytes(b"what was there")
    limit, state = resource.getrlimit(resource.RLIMIT_FSIZE), {"x": torch.zeros(100_000)}
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
    try:
        with pytest.raises(lc.DataError, match="the checkpoint cannot be written"):
            write_state(tmp_path / "x.pt", state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "x.pt").read_bytes() == b"what was there" and os.listdir(tmp_path) == ["x.pt"]


@pytest.mark.parametrize("place", ["folder", "fifo"])
def test_only_a_file_is_replaced(graph, tmp_path, place):
    """As root a rename would put a file in the place of /dev/null."""
    os.mkdir(tmp_path / "folder")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(lc.NetFormatError, match=f"{place} is no file that could be replaced"):
        lc.save(graph, tmp_path / place)
    with pytest.raises(OSError, match="null is no file"), replacing("/dev/null"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["a.net", "fifo", "folder"]


WRITER = """
import sys
import lava_conv as lc
graph = lc.load(sys.argv[1])
print("ready", flush=True)
for _ in range(40):
    lc.save(graph, sys.argv[2])
"""


def test_two_processes_write_one_file(tmp_path):
    """Whoever reads sees one network or the other, whole, at any moment."""
    names = [tmp_path / "a.net", tmp_path / "b.net"]
    wanted = [lc.load(write_random_net(p, np.random.default_rng(i), skips=bool(i))) for i, p in enumerate(names)]
    target = tmp_path / "shared.net"
    lc.save(wanted[0], target)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, name, target], stdout=subprocess.PIPE, text=True)
        for name in names
    ]
    assert all(w.stdout.readline() == "ready\n" for w in writers)
    seen = set()
    while any(w.poll() is None for w in writers):
        found = lc.load(target)
        seen.add(next(i for i, graph in enumerate(wanted) if graph == found))
    for w in writers:
        w.stdout.close()
        assert w.wait() == 0
    assert seen == {0, 1} and sorted(os.listdir(tmp_path)) == ["a.net", "b.net", "shared.net"]


def test_a_file_that_is_still_open_elsewhere_is_read_whole(graph, tmp_path):
    """HDF5 locks files; ours is replaced by a new one, so that who reads the old one goes on and is not in the way."""
    with h5py.File(tmp_path / "a.net") as old:
        lc.save(graph, tmp_path / "a.net")
        assert old.attrs["generator"] == "a hand"
        assert lc.load(tmp_path / "a.net") == graph
