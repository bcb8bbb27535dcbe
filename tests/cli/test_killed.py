"""Commands that are killed at any moment go on to the same bits; Ctrl-C ends them with code 1 and no half file."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from lava_conv.files import ABANDONED, replacing
from lava_conv.training.loop import read_checkpoint

HERE = Path(__file__).parents[1]
INTERRUPTED = 1
ENDS = {
    "moment": -signal.SIGKILL,
    "writing": -signal.SIGKILL,
    "byte": -signal.SIGXFSZ,
    "interrupt": INTERRUPTED,
    "interrupt_writing": INTERRUPTED,
}
RECIPES = {
    "dynamic_threshold": "--method dynamic_threshold --k 1 --rotate 10 --scale 0.1",
    "ca_lif": "--method ca_lif --levels 8 --flip --bf16",
    "float": "--method float --optimiser sgd --decay 5e-4 --warmup 2 --smoothing 0.1",
    "unrolled": "--method dynamic_threshold --unroll 3 --shift 2",
    "residual": "--method ca_lif --levels 4 --model resnet20 --width 4 --power-of-two",
}


def play(jobs):
    """How the processes of each job ended; one thread, so that the order of sums is fixed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        [sys.executable, str(HERE / "killed_runs.py"), json.dumps(jobs)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def training(folder, name, how, epochs, samples=320, seed=0):
    words = f"train --samples {samples} --batch 40 --epochs {epochs} {RECIPES[name]} --resume --out".split()
    (folder / name).mkdir()
    file = folder / name / "x.pt"
    command, whole = ([*words, str(path)] for path in (file, folder / f"{name}.pt"))
    return {"command": command, "whole": whole, "file": str(file), "pieces": epochs, "how": how, "seed": seed}


def check_ends(job, ends):
    """Each process ended as its kind says, or had done everything; how many were stopped, and half files they left."""
    whole, resumed = ends[0], ends[-1]
    assert whole["code"] == resumed["code"] == 0, whole["said"] + resumed["said"]
    assert whole["said"].splitlines()[-1].split(": ")[1:] == resumed["said"].splitlines()[-1].split(": ")[1:]
    stopped = [end for end in ends[2:-1] if end["code"]]
    for end in stopped:
        assert end["code"] == ENDS[end["kind"]], end
        if end["code"] == INTERRUPTED:
            assert end["said"].rstrip().endswith("interrupted") and "Traceback" not in end["said"]
            assert end["left"] == 0
    assert all(end["left"] == 0 for end in ends if not end["code"])
    return len(stopped), sum(end["left"] for end in stopped)


def assert_same(a, b, place="state"):
    assert type(a) is type(b), place
    if isinstance(a, dict):
        assert list(a) == list(b), place
        for key in a:
            assert_same(a[key], b[key], f"{place}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), place
        for index, (one, two) in enumerate(zip(a, b, strict=True)):
            assert_same(one, two, f"{place}.{index}")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and np.array_equal(a.float().numpy(), b.float().numpy(), equal_nan=True), place
    else:
        assert a == b, place


def check_training(job, ends, least):
    stopped, left = check_ends(job, ends)
    print(f"{Path(job['file']).parent.name}: {stopped} of {len(job['how'])} stopped, {left} half files left")
    assert stopped >= least
    assert_same(read_checkpoint(job["whole"][-1]), read_checkpoint(job["file"]))
    return left


def test_killed_training_goes_on_to_the_same_bits(tmp_path):
    how = {
        "dynamic_threshold": ["byte", "writing", "moment", "interrupt_writing"],
        "ca_lif": ["writing", "moment", "byte", "interrupt"],
        "float": ["moment", "writing", "byte"],
    }
    jobs = [training(tmp_path, name, kinds, 10, samples=160) for name, kinds in how.items()]
    left = [check_training(job, ends, least=2) for job, ends in zip(jobs, play(jobs), strict=True)]
    assert min(left) >= 1, "no kill hit the writing itself"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", RECIPES)
def test_twenty_kills(tmp_path, name):
    how = ["moment", "writing", "byte", "interrupt", "moment", "writing", "byte", "interrupt_writing", "moment"]
    job = training(tmp_path, name, [*how, *how, "writing", "byte"], 40, samples=640, seed=sum(map(ord, name)))
    check_training(job, play([job])[0], least=15)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", ["light", "advanced", "distilled"])
def test_killed_calibration_writes_the_same_file(tmp_path, method):
    weights = str(tmp_path / "float.pt")
    train = f"train --samples 320 --epochs 5 --method float --out {weights}".split()
    (tmp_path / "k").mkdir()
    play([{"command": train, "whole": train, "file": weights, "pieces": 5, "how": [], "seed": 0}])
    options = f"--images 64 --steps 8 --iterations 150 --method {method} --samples 50 --keep".split()
    file = tmp_path / "k" / "keep.pt"
    command, whole = (
        ["calibrate", weights, str(folder / "x.net"), *options, str(folder / "keep.pt")]
        for folder in (tmp_path / "k", tmp_path)
    )
    how = ["moment", "byte", "writing", "interrupt", "interrupt_writing", "moment", "byte", "writing"]
    job = {"command": command, "whole": whole, "file": str(file), "pieces": 5, "how": how, "seed": 0}
    ends = play([job])[0]
    stopped, left = check_ends(job, ends)
    print(f"{method}: {stopped} of {len(how)} stopped, {left} half files left")
    assert stopped >= 4 and (tmp_path / "k" / "x.net").read_bytes() == (tmp_path / "x.net").read_bytes()


def workers(parent):
    """Process ids of the children of a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rsplit(")", 1)[1].split()[1]) == parent:
                found.append(int(path.parent.name))
        except OSError:  # it has ended
            continue
    return sorted(found)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_training_by_two_processes_survives_a_kill_of_one(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    words = "-m lava_conv.cli train --samples 320 --batch 40 --epochs 6 --method ca_lif --levels 8 --resume --out"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *words.split()]
    subprocess.run([*launch, str(tmp_path / "whole.pt")], check=True, env=environment, capture_output=True)
    file = tmp_path / "x.pt"
    for victim in (0, 1):
        with open(tmp_path / "log", "w") as log:
            process = subprocess.Popen([*launch, str(file)], env=environment, stdout=log, stderr=log)
        before = file.stat().st_ino if file.exists() else None
        while process.poll() is None and (file.stat().st_ino if file.exists() else None) == before:
            time.sleep(1e-3)
        os.kill(workers(process.pid)[victim], signal.SIGKILL)
        assert process.wait() != 0  # torchrun has ended the other one
        assert 0 < len(read_checkpoint(file)["losses"]) < 6
    subprocess.run([*launch, str(file)], check=True, env=environment, capture_output=True)
    assert_same(read_checkpoint(tmp_path / "whole.pt"), read_checkpoint(file))


def test_abandoned_half_files_are_removed_after_an_hour(tmp_path):
    names = [".x[1].pt.old.part", ".x[1].pt.new.part", ".y.pt.old.part", "x[1].pt.old.part"]
    for name in names:
        (tmp_path / name).write_bytes(b"half")
        if "old" in name:
            then = (tmp_path / name).stat().st_mtime - ABANDONED - 1
            os.utime(tmp_path / name, (then, then))
    with replacing(tmp_path / "x[1].pt") as partial:
        Path(partial).write_bytes(b"whole")
    assert (tmp_path / "x[1].pt").read_bytes() == b"whole"
    assert sorted(os.listdir(tmp_path)) == sorted(["x[1].pt", *names[1:]])
