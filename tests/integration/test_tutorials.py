"""Every tutorial runs from start to end in an empty folder; those that are shipped show what they computed."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "tutorials"
TUTORIALS = sorted(FOLDER.glob("*.ipynb"))
WITHOUT_LAVA = {"03_qat_your_own_model", "05_calibrating_a_pretrained_network"}
MAX_BYTES = 300_000
PRIVATE = re.compile(r"/(home|root|work|tmp|usr|opt|var|Users)/|site-packages|Traceback|Warning")
EXECUTE = """
import sys, nbclient, nbformat
book = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(book, timeout=180, resources={"metadata": {"path": sys.argv[2]}}).execute()
shown = [o for cell in book.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
print(len(shown), "pictures")
"""


def code_cells(path):
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


@pytest.mark.tutorial
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
def test_tutorial(path, tmp_path):
    if path.stem not in WITHOUT_LAVA:
        pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EXECUTE, str(path), str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-2]) > 0, "a tutorial shows pictures"
    assert not list(tmp_path.iterdir()), "a tutorial leaves nothing where it was opened"


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
def test_what_it_imports_is_there(path):
    """The quick part of the test above, in every run of the tests."""
    if path.stem not in WITHOUT_LAVA:
        pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")
    for cell in code_cells(path):
        for line in cell.source.splitlines():
            if re.match(r"(from|import) (lava_conv|processes)", line):
                exec(line, {})


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
def test_shipped_as_it_ran(path):
    """Executed once from top to bottom, without errors, warnings or names of a machine, and small."""
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert all(output.output_type != "error" and output.get("name") != "stderr" for output in outputs)
    texts = [output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs]
    assert not [text for text in texts if PRIVATE.search(text)]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert path.stat().st_size < MAX_BYTES


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
def test_claims_are_asserted(path):
    """What a page says of equality, it computes."""
    source = "\n".join(cell.source for cell in code_cells(path))
    assert re.search(r"assert .*np\.array_equal", source)


def test_index_lists_all():
    """The index, and the links between the pages, name notebooks that are there."""
    pages = [nbformat.read(path, 4).cells for path in TUTORIALS]
    links = [link for cells in pages for cell in cells for link in re.findall(r"\]\((\w+\.ipynb)\)", cell.source)]
    index = re.findall(r"\]\((\w+\.ipynb)\)", (FOLDER / "README.md").read_text())
    assert index == [path.name for path in TUTORIALS]
    assert set(links) <= set(index)
