"""Two gloo processes do what one does: the same integers, and the same weights but for rounding."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lava_conv.errors import DataError
from lava_conv.training.distributed import Team, team

HERE = Path(__file__).parents[1]
LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
COMMAND = ("-m", "lava_conv.cli")


def python(*words, processes=1, cwd=None):
    launcher = LAUNCH if processes == 2 else ()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    return subprocess.run(
        [sys.executable, *launcher, *map(str, words)],
        capture_output=True, text=True, cwd=cwd, check=False, env=environment,
    )  # fmt: skip


RECIPES = {
    "float": {"method": "float", "epochs": 2, "batch": 33, "optimiser": "sgd", "lr": 0.05, "smoothing": 0.1},
    "zou": {"method": "zou", "epochs": 2, "batch": 32, "rotate": 10.0},
    "gao": {"method": "gao", "epochs": 2, "batch": 33, "levels": 8},
    "residual": {"method": "gao", "model": "resnet20", "width": 2, "epochs": 1, "batch": 40, "levels": 4},
    "unrolled": {"method": "zou", "epochs": 1, "batch": 32, "unroll": 3},
    "skipping": {"method": "zou", "epochs": 3, "batch": 33, "skip_easy": 0.5},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """By number of processes and recipe, weights and losses."""
    folder, found = tmp_path_factory.mktemp("joint"), {}
    for processes in (1, 2):
        out = folder / f"{processes}.pt"
        done = python(HERE / "joint_train.py", out, json.dumps(RECIPES), processes=processes)
        assert done.returncode == 0, done.stderr[-2000:]
        found[processes] = torch.load(out, weights_only=True)
    return found


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_train_the_weights_of_one(trained, name):
    """In float64 what remains is the order of summation; odd batches are shared unevenly."""
    one, two = trained[1][name], trained[2][name]
    assert np.allclose(one["losses"], two["losses"], rtol=1e-12, atol=0)
    for key, value in one["model"].items():
        if value.is_floating_point():
            assert torch.allclose(value, two["model"][key], rtol=1e-12, atol=1e-12), key
        else:
            assert torch.equal(value, two["model"][key]), key
    assert list(one["losses"]) == sorted(one["losses"], reverse=True), "training helps"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_commands_under_torchrun(tmp_path):
    """train writes one checkpoint and resumes it; run says the same as one process, once."""
    words = ("train", "--epochs", 2, "--samples", 300, "--out", "two.pt")
    done = python(*COMMAND, *words, processes=2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("two.pt: quantised model") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["two.pt"]
    first = torch.load(tmp_path / "two.pt", weights_only=True)
    (tmp_path / "two.pt").unlink()
    assert python(*COMMAND, *words, processes=2, cwd=tmp_path).returncode == 0
    second = torch.load(tmp_path / "two.pt", weights_only=True)
    assert all(torch.equal(v, second["model"][k]) for k, v in first["model"].items()), "the same bits again"
    resumed = python(*COMMAND, *words, "--resume", processes=2, cwd=tmp_path)
    assert resumed.returncode == 0 and (tmp_path / "two.pt").stat().st_size > 0

    assert python(*COMMAND, "convert", "two.pt", "d.net", "--steps", 4, cwd=tmp_path).returncode == 0
    words = ("run", "d.net", "--samples", 101, "--json")
    one, two = (python(*COMMAND, *words, processes=count, cwd=tmp_path) for count in (1, 2))
    assert one.returncode == two.returncode == 0, two.stderr[-2000:]
    assert json.loads(one.stdout) == json.loads(two.stdout), "one object, printed once"


def test_errors_under_torchrun_are_told_by_each_process(tmp_path):
    done = python(*COMMAND, "run", "none.net", processes=2, cwd=tmp_path)
    assert done.returncode != 0 and "there is no such file" in done.stderr


def test_parts_cover_everything_once():
    for size in (1, 2, 3, 7):
        for count in (7, 8, 100):
            parts = [list(range(count))[Team(rank, size).share(count)] for rank in range(size)]
            assert [x for part in parts for x in part] == list(range(count))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
    with pytest.raises(DataError, match="2 images cannot be shared by 3 processes"):
        Team(0, 3).share(2)


def test_alone_nothing_is_connected(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with team() as members:
        assert members == Team() and members.first and members.gather(5) == [5] and members.from_first(lambda: 6) == 6
        assert not torch.distributed.is_initialized()
