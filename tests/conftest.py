"""Shared pieces: random networks, a session-wide trained one; workers, the marker `fast`, and what a session leaves."""

import fcntl
import hashlib
import os
import sys
from pathlib import Path

TESTS = Path(__file__).parent
WORKER = "PYTEST_XDIST_WORKER" in os.environ
if sys.dont_write_bytecode:  # each process, and many a test starts one, would compile all of torch and Lava again
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(TESTS.parent / ".pytest_cache" / "bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors: a second thread costs more than it computes
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # torch.compile begins with a pool of processes else

import leaks  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

MOST_WORKERS = 4  # each holds torch, and many a test starts processes of its own

# `-m fast` is tests/unit without the files that train or start others, and these of the other folders
LONG_UNITS = {
    "test_classes.py",
    "test_distill.py",
    "test_geometries.py",
    "test_imports.py",
    "test_penalty.py",
    "test_selection.py",
    "test_simulate.py",
}
QUICK = {"test_fast_conv.py", "test_mistakes.py"}


def pytest_xdist_auto_num_workers(config):
    """For `-n auto`: one worker per core; none where one file is asked for, or output is to be seen."""
    one = len(config.args) == 1 and Path(config.args[0].split("::")[0]).is_file()
    if one or config.option.capture == "no" or config.option.collectonly:
        return 0
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, MOST_WORKERS)


def pytest_collection_modifyitems(items):
    for item in items:
        where = item.path.relative_to(TESTS)
        quick = where.name in QUICK or (where.parts[0] == "unit" and where.name not in LONG_UNITS)
        if quick and not (item.get_closest_marker("slow") or item.get_closest_marker("tutorial")):
            item.add_marker(pytest.mark.fast)


def pytest_configure(config):
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
def kept(request, tmp_path_factory):
    """Train digits by a recipe, or load what an earlier test, worker or session trained from the same sources."""
    from lava_conv.training.data import load_dataset
    from lava_conv.training.loop import load_trained, train

    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir("trained") if cache else tmp_path_factory.mktemp("trained")
    sources, data = sources_of_training(), load_dataset("digits")

    def trained(recipe):
        name = f"{sources}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]}"
        path = folder / f"{name}.pt"
        with open(folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the other worker waits instead of training, too
            if not path.exists():
                half = folder / f"{name}.half"
                half.unlink(missing_ok=True)
                train(data, recipe, half)
                half.rename(path)
            for old in folder.glob("*.*"):
                if not old.name.startswith(sources):
                    old.unlink()
            return data, load_trained(path)

    return trained


@pytest.fixture(scope="session")
def trained_digits(kept):
    """A digits network trained for a few epochs: enough to be a real one."""
    from lava_conv.training.loop import Recipe

    return kept(Recipe(epochs=8))


def sources_of_training():
    """A digest of all product code, the versions of packages and the threads: each of them may change weights."""
    from importlib.metadata import version

    digest = hashlib.sha256(" ".join(map(version, ("torch", "numpy", "scikit-learn"))).encode())
    digest.update(f"{sys.version} {os.environ['OMP_NUM_THREADS']}".encode())
    for path in sorted((TESTS.parent / "lava_conv").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]
