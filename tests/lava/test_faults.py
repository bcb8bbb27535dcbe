"""The life-cycle table of stock Lava, row by row: every fault ends in time, with a reason, and leaves nothing."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import leaks
import pytest

pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")
pytestmark = pytest.mark.xdist_group("shared memory")  # they look at what is left there, and one leaves some

HERE = pathlib.Path(__file__).parents[1]
SCENARIO = HERE / "fault_scenario.py"
LIMIT = 10 + 5  # the promise is 10 s; a loaded machine needs some to start the interpreter


def start(name, **variables):
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}", **variables}
    return subprocess.Popen(
        [sys.executable, str(SCENARIO), name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, start_new_session=True,
    )  # fmt: skip


def members(session):
    """Processes of a session that still run (zombies do not count)."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, sid = path.read_text().rsplit(")", 1)[1].split()[:4]
        except OSError:
            continue
        if int(sid) == session and state not in "ZX":
            found.append(int(path.parent.name))
    return found


def wait_until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


@pytest.fixture(autouse=True)
def nothing_left_behind():
    before = leaks.segments()
    yield
    assert wait_until(lambda: not leaks.new_segments(before)), leaks.new_segments(before)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("before", "process faulty failed: ValueError: broken on purpose"),
        ("after", "process faulty failed: ValueError: broken on purpose"),
        ("stuck", "it hangs at faulty, computing in step 3"),
        ("build_fails", "process faulty failed: ValueError: cannot be built"),
        ("child_killed", "died (signal 9) while running"),
        ("child_stopped", "it hangs at"),
        ("memory killed setup", "gives out Lava's shared memory was killed"),
        ("memory stopped setup", "did not answer for 3 s, while the network was set up"),
        ("memory killed run", None),
        ("memory stopped run", None),
        ("user_error", "ZeroDivisionError: in the user's code"),
        ("stop_twice", None),
        ("run_after_stop", "was stopped; build it again"),
        ("second_run", "is still running; wait for it"),
        ("never_stopped", None),
        ("pause_and_go_on", None),
    ],
)
def test_fault(name, message):
    process = start(name)
    output, errors = process.communicate(timeout=LIMIT)
    assert wait_until(lambda: members(process.pid) == []), "children survive"
    if message is None:
        assert process.returncode == 0 and "fine" in output, errors
    else:
        assert process.returncode == 1 and message in errors
    if name in ("before", "after"):
        assert "tests/faulty/models.py" in errors, "the child's own traceback is shown"


@pytest.mark.parametrize(
    ("name", "number", "whole_group"),
    [
        ("Ctrl-C", signal.SIGINT, True),
        ("SIGINT to the parent", signal.SIGINT, False),
        ("SIGTERM to the parent", signal.SIGTERM, False),
        ("SIGKILL to the parent", signal.SIGKILL, False),
    ],
)
def test_signals(name, number, whole_group):
    process = start("run_for_ever")
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    try:
        _, errors = process.communicate(timeout=LIMIT)
        assert wait_until(lambda: members(process.pid) == [], 10), f"children survive {name}"
    finally:
        for pid in members(process.pid):
            os.kill(pid, signal.SIGKILL)
    if number == signal.SIGINT:
        assert errors.rstrip().endswith("KeyboardInterrupt")


def test_the_next_start_sweeps_what_a_killed_group_left(tmp_path):
    before, notes = leaks.segments(), {"TMPDIR": str(tmp_path)}  # where no other start on this machine sweeps
    process = start("run_for_ever", **notes)
    assert process.stdout.readline() == "ready\n"
    for pid in members(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=LIMIT)
    left = leaks.new_segments(before)
    assert left, "the kill left segments, or this test proves nothing"
    following = start("stop_twice", **notes)
    following.communicate(timeout=LIMIT)
    assert following.returncode == 0
    assert not left & leaks.segments()


@pytest.mark.slow
def test_500_runs_leak_nothing():
    """Memory, file descriptors and segments of one Python session over 500 runs (the first 50 warm up)."""
    import gc

    import numpy as np
    from lava.magma.core.run_configs import Loihi2SimCfg

    from lava_conv.lava import watched
    from processes import DynamicThreshold

    def figures():
        gc.collect()
        resident = int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        threads = len(os.listdir("/proc/self/task"))
        return resident / 2**20, len(os.listdir("/proc/self/fd")), len(os.listdir("/dev/shm")), threads

    first = last = figures()
    for run in range(500):
        neuron = DynamicThreshold(shape=(100,), theta=np.zeros(100, int), delta=1)
        with watched(neuron, Loihi2SimCfg(select_tag="fixed_pt")) as runtime:
            runtime.run(5)
        if run == 49:
            first = figures()
        if run % 50 == 49:
            last = figures()
            print(f"run {run + 1}: {last[0]:.1f} MiB, {last[1]} descriptors, {last[2]} segments, {last[3]} threads")
    assert last[0] - first[0] < 20 and last[1] <= first[1] and last[2] <= first[2] and last[3] <= first[3]
