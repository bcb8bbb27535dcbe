"""Shared pieces: random networks, a session-wide trained one; workers, the marker `fast`, and what a session leaves."""

import os

WORKER = "PYTEST_XDIST_WORKER" in os.environ
os.environ.setdefault("OMP_NUM_THREADS", "1" if WORKER else "2")
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # torch.compile begins with a pool of processes else

from pathlib import Path

import leaks
import numpy as np
import pytest

TESTS = Path(__file__).parent
MOST_WORKERS = 4  # each holds torch, and many a test starts processes of its own
RUN_LAVA = {  # outside tests/lava: they fill /dev/shm, which others then look at, so one worker runs them all
    "test_cli.py",
    "test_docs.py",
    "test_lower.py",
    "test_settings.py",
    "test_support.py",
    "test_toolkits.py",
    "test_whole_sets.py",
    "test_zoo.py",
}


def pytest_xdist_auto_num_workers(config):
    """For `-n auto`, the default: one worker per core; none where one file is asked for, or output is to be seen."""
    one = len(config.args) == 1 and Path(config.args[0].split("::")[0]).is_file()
    if one or config.option.capture == "no" or config.option.collectonly:
        return 0
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, MOST_WORKERS)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """A file's tests share its fixtures, so that one worker runs them."""
    for item in items:
        where = item.path.relative_to(TESTS)
        lava = where.parts[0] == "lava" or where.name in RUN_LAVA
        item.add_marker(pytest.mark.xdist_group("lava" if lava else where.name))


def pytest_configure(config):
    if not WORKER:
        config.stash[SEGMENTS] = leaks.begin()


SEGMENTS = pytest.StashKey[set[str]]()


@pytest.hookimpl(trylast=True)  # after the workers have ended
def pytest_sessionfinish(session):
    if WORKER or session.config.option.collectonly:
        return
    for sentence in leaks.left_behind(session.config.stash[SEGMENTS]):
        print(f"\n{sentence}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def rng(request):
    """A generator seeded by the test's own name, so that a failure repeats itself."""
    return np.random.default_rng(sum(map(ord, request.node.name)))


@pytest.fixture(scope="session")
def trained_digits():
    """A digits network trained for a few epochs: enough to be a real one."""
    from lava_conv.training.data import load_dataset
    from lava_conv.training.loop import Recipe, train

    data = load_dataset("digits")
    return data, train(data, Recipe(epochs=8))
