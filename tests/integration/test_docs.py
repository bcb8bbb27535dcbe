"""What README and docs/ show runs as it stands there, and what they point to is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [
    pytest.param(page, block.split("```")[0], id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(page.read_text().split("```python\n")[1:], 1)
]
# what an example leaves behind or prints must be right, too
SHOWN = {
    "README-1": lambda names, out: "equal: " in out,
    "calibration-1": lambda names, out: float(out.split()[0]) > 0.95 and len(names["graph"].layer_errors) == 4,
    "lava-1": lambda names, out: "net spikes: [0]" not in out and "potential:" in out,
    "training-1": lambda names, out: (
        names["graph"].reference(names["data"].x_test).accuracy(names["data"].y_test) > 0.9
    ),
    "training-2": lambda names, out: (
        names["trained"].recipe == names["recipe"] and names["again"].quantisation is None and names["again"].seed == 1
    ),
}


@pytest.mark.parametrize(("page", "code"), EXAMPLES)
def test_examples_run(page, code, tmp_path, monkeypatch, capsys, request):
    if "lava.proc" in code or "lc.compare(" in code:
        pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page.name, "exec"), names := {"__name__": page.stem})
    name = request.node.callspec.id
    assert SHOWN[name](names, capsys.readouterr().out)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_every_command_is_told():
    from lava_conv.cli import COMMANDS

    text = (ROOT / "docs" / "command-line.md").read_text()
    assert not [name for name in COMMANDS if name not in text]
    shown = re.findall(r"lava-conv ([a-z]+)", "".join(page.read_text() for page in PAGES))
    assert shown and set(shown) <= {*COMMANDS, "is"}
