"""The check at the end of a test session finds what is left."""

import mmap
import os
import subprocess
import sys

import leaks
import pytest


def test_a_living_child_is_found():
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as child:
        assert child.pid in leaks.processes()
        child.communicate()
    assert child.pid not in leaks.processes()


def test_an_orphan_is_found_by_its_mark():
    wait = "import sys; sys.stdin.read()"
    code = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {wait!r}], stdout=2).pid)"
    done = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with done:
        orphan = int(done.stdout.readline())
        done.wait()
        assert orphan in leaks.processes()
        done.stdin.close()  # its input ends, and so does it


def test_pythons_own_tracker_of_shared_memory_is_not_a_leak():
    code = (
        "import leaks, os\nfrom multiprocessing import resource_tracker\nleaks.begin()\n"
        "resource_tracker.ensure_running()\nassert resource_tracker._resource_tracker._pid\n"
        "print(leaks.left_behind(leaks.segments()))"  # which waits until the tracker has begun
    )
    folder = os.path.dirname(leaks.__file__)
    env = {**os.environ, leaks.NAME: "of-its-own"}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_new_segment_is_found(tmp_path):
    (tmp_path / "old").touch()
    before = leaks.segments(tmp_path)
    (tmp_path / "psm_new").touch()
    assert leaks.segments(tmp_path) - before == {"psm_new"}
    assert leaks.segments(tmp_path / "none") == set()


@pytest.mark.parametrize("session", ["of-its-own", None])
def test_a_segment_in_use_by_another_session_is_no_leak(tmp_path, session):
    before, segment = leaks.segments(tmp_path), tmp_path / "psm_new"
    segment.write_bytes(bytes(mmap.PAGESIZE))
    hold = (
        "import mmap, sys; f = open(sys.argv[1], 'r+b'); held = mmap.mmap(f.fileno(), 0); print(1, flush=True); input()"
    )
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {hold!r}, {str(segment)!r}])"
    env = {**os.environ, leaks.NAME: session or os.environ[leaks.NAME]}
    done = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )
    with done:
        assert done.stdout.readline() == "1\n"
        done.wait()  # so that who holds it is no child of ours
        assert leaks.new_segments(before, tmp_path) == (set() if session else {"psm_new"})
        done.communicate("\n")
    assert leaks.new_segments(before, tmp_path) == {"psm_new"}
