"""The marks by which tests are distributed over workers."""

import os
import subprocess
import sys

import pytest
from conftest import STARTED


def test_what_starts_no_process_notes_nothing():
    subprocess.run(["true"], check=True)
    assert not STARTED


@pytest.mark.processes
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # the child computes nothing
def test_forks_and_pythons_are_noted():
    subprocess.run([sys.executable, "-c", ""], check=True)
    assert STARTED.pop() == f"starts {sys.executable}"
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert STARTED.pop() == "forks" and not STARTED
