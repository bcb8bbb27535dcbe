"""The command line as a user meets it: real processes, exit codes, one sentence for every error."""

import json
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

import lava_conv as lc


def call(*words, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "lava_conv.cli", *map(str, words)], capture_output=True, text=True, cwd=cwd, check=False
    )


@pytest.fixture(scope="module")
def net(trained_digits, tmp_path_factory):
    data, trained = trained_digits
    path = tmp_path_factory.mktemp("cli") / "d.net"
    lc.save(lc.convert(trained.model, data.x_train[:4]), path)
    return path


def test_demo_shows_the_whole_way(tmp_path):
    pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")
    done = call("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0 of 921,600 spike counts differ" in done.stdout
    assert "0 of 2,056,000 spikes and potentials differ" in done.stdout
    assert (tmp_path / "runs" / "digits.net").is_file()


def test_train_convert_run_compare(tmp_path):
    assert call("train", "--epochs", 2, "--out", tmp_path / "x.pt").returncode == 0
    done = call("convert", tmp_path / "x.pt", tmp_path / "x.net", "--steps", 5)
    assert done.returncode == 0, done.stderr
    assert "bounds and thresholds are proven for up to" in done.stderr
    done = call("run", tmp_path / "x.net", "--samples", 50, "--json")
    result = json.loads(done.stdout)
    assert done.returncode == 0 and result["samples"] == 50 and len(result["accuracy"]) == 5
    done = call("compare", tmp_path / "x.net", "--second", "torch", "--samples", 3)
    assert done.returncode == 0 and "equal" in done.stdout


def test_inspect_and_validate(net, tmp_path):
    done = call("inspect", net)
    assert done.returncode == 0 and "24x8x8" in done.stdout and "DTB" in done.stdout
    assert json.loads(call("inspect", net, "--json").stdout)["layers"][1]["neuron"] == "DTB"
    (tmp_path / "bad.net").write_bytes(b"no")
    done = call("validate", net, tmp_path / "bad.net")
    assert done.returncode == 2 and "valid, 7 layers" in done.stdout and "not a readable HDF5 file" in done.stderr


def test_run_shows_accuracy_by_step(net):
    done = call("run", net, "--steps", 3)
    assert done.returncode == 0 and "integer reference" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "none.net"], "no such file"),
        (["run", "{net}", "--backend", "lava", "--device", "cpu"], "--device is for --backend torch"),
        (["run", "{net}", "--backend", "gpu"], "allowed are torch, lava"),
        (["run", "{net}", "--data", "imagenet"], "data set is 'imagenet'"),
        (["run", "{net}", "--data", "{npz}"], "images have shape"),
        (["run", "{net}", "--steps", "0"], "0 is not in the range"),
        (["convert", "none.pt", "x.net"], "no such checkpoint"),
        (["train"], "Missing option '--out'"),
        (["validate", "{wide}"], "the limit is 24 bits"),
        (["run", "{wide}"], "the limit is 24 bits"),
        (["train", "--split", "test", "--out", "x.pt"], "No such option"),
        (["nonsense"], "No such command"),
    ],
)
def test_errors_are_one_sentence_and_exit_code_2(net, tmp_path, words, message):
    x = np.zeros((4, 9, 9), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.zeros(4, int), x_test=x, y_test=np.zeros(4, int))
    wide = shutil.copy(net, tmp_path / "wide.net")
    with h5py.File(wide, "a") as f:
        f["layer/1/neuron/shift"][...] = 15
    places = {"net": net, "npz": tmp_path / "a.npz", "wide": wide}
    done = call(*[word.format(**places) for word in words])
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr


def test_larger_images_are_cut_if_asked_for(net, tmp_path):
    x = np.zeros((4, 12, 12), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.zeros(4, int), x_test=x, y_test=np.zeros(4, int))
    done = call("run", str(net), "--data", str(tmp_path / "a.npz"), "--crop", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["samples"] == 4


def test_bench_runs_the_scripts_of_the_repository():
    assert "against ANN passes" in call("bench", "simulator", "--", "--help").stdout
    assert call("bench", "memory").returncode == 2


def test_help_teaches():
    done = call("--help")
    assert done.returncode == 0
    for command in ("demo", "train", "convert", "run", "compare", "inspect", "validate", "report"):
        assert command in done.stdout
