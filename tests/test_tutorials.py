"""Every tutorial runs from start to end."""

import pathlib
import subprocess
import sys

import pytest

TUTORIALS = sorted((pathlib.Path(__file__).parent.parent / "tutorials").glob("*.ipynb"))
EXECUTE = """
import sys, nbclient, nbformat
book = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(book, timeout=180).execute()
shown = [o for cell in book.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
print(len(shown), "pictures")
"""


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
def test_tutorial(path):
    pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EXECUTE, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-2]) > 0, "a tutorial shows pictures"
