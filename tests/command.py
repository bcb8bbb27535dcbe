"""The command line, called in this process (it then need not import torch again) or, as a user does, in its own."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest import mock

from lava_conv.cli import main


class Done(NamedTuple):
    """How a command ended and what it said."""

    returncode: int
    stdout: str
    stderr: str


def call(*words, cwd=None):
    """Run the command line's entry point, up to its exit code."""
    before, (out, err) = os.getcwd(), (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    asked = mock.patch.object(sys, "argv", ["lava-conv", *map(str, words)])
    os.chdir(cwd or before)
    try:
        with asked, redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as end:
        return Done(end.code, *(stream.buffer.getvalue().decode() for stream in (out, err)))
    finally:
        os.chdir(before)
    raise AssertionError("main() ends with sys.exit")


def call_process(*words, cwd=None):
    """The same in a process of its own."""
    command = [sys.executable, "-m", "lava_conv.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
