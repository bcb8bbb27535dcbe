"""The check at the end of a test session finds what is left."""

import subprocess
import sys

import leaks


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


def test_a_new_segment_is_found(tmp_path):
    (tmp_path / "old").touch()
    before = leaks.segments(tmp_path)
    (tmp_path / "psm_new").touch()
    assert leaks.segments(tmp_path) - before == {"psm_new"}
    assert leaks.segments(tmp_path / "none") == set()
