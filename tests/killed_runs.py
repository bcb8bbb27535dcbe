"""Plays a `lava-conv` command in processes of their own and kills them: killed_runs.py JOBS, a list in JSON.

A job has `command` (words after `lava-conv`), `whole` (other words for an undisturbed run), `file` (what the command
keeps, to go on from), `pieces` (how often it is written in all), `how` (a list of KINDS) and `seed`. Printed is, for
each job, how each of its processes ended, the two undisturbed ones first. The processes are forked from this one,
which computes nothing and so has no threads; each begins where `lava-conv` is after its imports.
"""

import json
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

import sklearn.datasets  # noqa: F401
import torch

import lava_conv.calibration
import lava_conv.qat
import lava_conv.training.distributed
import lava_conv.training.loop  # noqa: F401
from lava_conv import cli


class Times(NamedTuple):
    """Seconds that the command takes where all is done, and between two writings."""

    idle: float
    piece: float


SMALLEST = 100_000  # bytes, less than any file that these commands keep
torch.set_num_threads(1)
torch.optim.Adam([torch.zeros(1)])  # imports what the first optimiser needs, which takes seconds


def parts(file):
    """Half-written files beside `file`."""
    return sorted(file.parent.glob(f".{file.name}.*.part"))


def written(file):
    """What changes as soon as `file` is being written, and when it is."""
    return parts(file), file.stat().st_ino if file.exists() else None


def wait_for_change(file, before, pid):
    """Until `file` is being written, or the process has ended."""
    while written(file) == before and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(1e-4)


def start(command, log, prepare=lambda: None):
    if pid := os.fork():
        return pid
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it, and so do its children
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        prepare()
        sys.argv = ["lava-conv", *command]
        cli.main()
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code or 0)
    os._exit(99)  # what `main` lets through would be a traceback


def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def moment(command, log, file, times, chance, number=signal.SIGKILL):
    """A signal at any moment before the second writing from now."""
    before, pid = written(file), start(command, log)
    if chance.random() < 0.3:
        time.sleep(chance.uniform(0, times.idle / 2))
    else:
        wait_for_change(file, before, pid)
        time.sleep(chance.uniform(0, times.piece))
    os.kill(pid, number)
    return wait(pid)


def interrupt(*where):
    """Ctrl-C at any moment."""
    return moment(*where, signal.SIGINT)


def byte(command, log, file, times, chance):
    """The kernel kills it at any byte of the next writing."""

    def prepare():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit = chance.randrange(1, SMALLEST)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)

    return wait(start(command, log, prepare))


def writing(command, log, file, times, chance, number=signal.SIGKILL):
    """A signal soon after the next writing begins."""
    before, pid = written(file), start(command, log)
    wait_for_change(file, before, pid)
    time.sleep(chance.choice([0, 1e-3, 3e-3, 0.02]))  # before, amid and after it
    os.kill(pid, number)
    return wait(pid)


def interrupt_writing(*where):
    """Ctrl-C soon after the next writing begins."""
    return writing(*where, signal.SIGINT)


def run(command, log, file, times, chance):
    """Nothing happens to it."""
    return wait(start(command, log))


KINDS = {kind.__name__: kind for kind in (moment, interrupt, byte, writing, interrupt_writing, run)}


def play(job):
    file, chance, ends, times = Path(job["file"]), random.Random(job["seed"]), [], None
    log = file.with_suffix(".log")
    for kind in ("run", "run", *job["how"], "run"):
        command = job["whole"] if len(ends) < 2 else job["command"]
        left, began = len(parts(file)), time.monotonic()
        code = KINDS[kind](command, log, file, times, chance)
        took = time.monotonic() - began
        found = {"kind": kind, "code": code, "left": len(parts(file)) - left, "seconds": took}
        ends.append(found | {"said": log.read_text(errors="replace")})
        if len(ends) == 2:  # the second one found everything done
            times = Times(took, max(0.02, (ends[0]["seconds"] - took) / job["pieces"]))
    return ends


if __name__ == "__main__":
    print(json.dumps([play(job) for job in json.loads(sys.argv[1])]))
