"""The command line as a user meets it: what it prints, exit codes, one sentence for every error."""

import json
import os
import re
import shutil
from unittest import mock

import click
import h5py
import numpy as np
import pytest
from command import call, call_process

import lava_conv as lc
from lava_conv.cli import COMMANDS

CIFAR = {"cifar10", "cifar100"}


@pytest.fixture(scope="module")
def net(trained_digits, tmp_path_factory):
    data, trained = trained_digits
    path = tmp_path_factory.mktemp("cli") / "d.net"
    lc.save(lc.convert(trained.model, data.x_train[:4]), path)
    return path


@pytest.mark.slow  # .ci/run calls the demo itself
def test_demo_shows_the_whole_way(tmp_path):
    pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")
    done = call_process("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0 of 921,600 spike counts differ" in done.stdout
    assert "0 of 2,056,000 spikes and potentials differ" in done.stdout
    assert (tmp_path / "runs" / "digits.net").is_file()


def test_train_convert_run_compare(tmp_path):
    done = call("train", "--epochs", 2, "--out", tmp_path / "x.pt", "--json")
    trained = json.loads(done.stdout)
    assert done.returncode == 0 and len(trained["losses"]) == 2 and trained["accuracy"] > 0.3
    done = call("convert", tmp_path / "x.pt", tmp_path / "x.net", "--steps", 5)
    assert done.returncode == 0, done.stderr
    assert "bounds and thresholds are proven for up to" in done.stderr
    done = call("convert", tmp_path / "x.pt", tmp_path / "x.net", "--steps", 5, "--json", "-q")
    assert json.loads(done.stdout)["layers"] == len(lc.load(tmp_path / "x.net").layers) and not done.stderr
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
    told = json.loads(call("validate", net, tmp_path / "bad.net", "--json").stdout)
    assert [one["valid"] for one in told] == [True, False] and "HDF5" in told[1]["problems"][0]


def test_run_shows_accuracy_by_step(net):
    done = call_process("run", net, "--steps", 3)
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
    x = np.zeros((4, 7, 7), np.uint8)
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
    done = call("run", str(net), "--data", str(tmp_path / "a.npz"))
    assert done.returncode == 2 and "have 12x12 pixels, the network takes 8x8; --crop cuts them" in done.stderr


def test_bench_runs_the_scripts_of_the_repository():
    assert "against ANN passes" in call_process("bench", "simulator", "--", "--help").stdout
    assert call("bench", "memory").returncode == 2


def test_quiet_says_nothing_but_the_result(net):
    """Before the command or after it; and a later call in the same process starts anew."""
    loud = call("run", net, "--samples", 10)
    assert "running on torch and reference" in loud.stderr and "% right after step" in loud.stderr
    for words in (("-q", "run", net), ("run", net, "--quiet")):
        done = call(*words, "--samples", 10)
        assert done.returncode == 0 and done.stderr == "" and done.stdout == loud.stdout
    assert call("run", net, "--samples", 10).stderr


def test_verbose_says_what_runs_and_where_an_error_arose(net):
    done = call("run", "-v", "none.net")
    assert done.returncode == 2 and f"lava-conv {lc.__version__}, Python 3" in done.stderr
    assert "Traceback" in done.stderr and done.stderr.rstrip().splitlines()[-1].startswith("error: none.net")
    assert "Traceback" not in call("run", "none.net").stderr
    done = call("-q", "run", net, "-v")
    assert done.returncode == 2 and "exclude each other" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes(shell):
    script = call("completion", shell).stdout
    assert "_LAVA_CONV_COMPLETE" in script and "lava-conv" in script
    asked = {"_LAVA_CONV_COMPLETE": f"{shell}_complete"}
    for words, place, wanted in (("tr", 1, {"train"}), ("train --meth", 2, {"--method"}), ("run --data cif", 3, CIFAR)):
        asked["COMP_WORDS"], asked["COMP_CWORD"] = f"lava-conv {words}", str(place)
        if shell == "fish":  # which tells the word under the cursor instead of its number
            asked["COMP_CWORD"] = words.split()[-1]
        with mock.patch.dict(os.environ, asked):
            found = call().stdout
        assert wanted <= set(re.split(r"[\s,]+", found))


def test_every_command_has_examples_and_explains_every_option():
    for name, command in COMMANDS.items():
        if name != "completion":
            assert f"lava-conv {name}" in call(name, "--help").stdout
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help, (name, option.name)


def test_help_teaches():
    done = call("--help")
    assert done.returncode == 0
    for command in ("demo", "train", "convert", "run", "compare", "inspect", "validate", "report"):
        assert command in done.stdout
