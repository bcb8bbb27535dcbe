"""The API reference: every public name on a page, no dead link, no section left unread, nothing of this machine."""

import ast
import importlib.util
import os
import pathlib
import subprocess
import sys
from html.parser import HTMLParser

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SOME = (
    "lava_conv",
    "lava_conv.network.graph",
    "lava_conv.network.bounds",
    "lava_conv.network.fixedpoint",
    "lava_conv.loihi.chip",
    "lava_conv.network.neurons",
    "lava_conv.network.neurons.ca_lif",
)
SOME += ("lava_conv.conversion.convert", "lava_conv.record", "netx_models")


def script():
    spec = importlib.util.spec_from_file_location("build_api", ROOT / "docs" / "build_api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Text(HTMLParser):
    """The words of a page, and its anchors."""

    def __init__(self, path):
        super().__init__()
        self.words, self.anchors = "", set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.anchors |= {value for name, value in attrs if name == "id"}

    def handle_data(self, data):
        self.words += data


def public_names(path):
    """Functions, classes and their methods in a source file, without those that start with _."""
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield node.name
        for inner in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                yield f"{node.name}.{inner.name}"


def page_of(folder, name):
    return folder / f"{name.replace('.', '/')}.html"


def source_of(name):
    path = ROOT / name.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def check_pages(folder, names):
    index = Text(folder / "index.html")
    for name in names:
        assert name in index.words
        page = Text(page_of(folder, name))
        source = source_of(name)
        # a module of __all__ shows what it names, wherever that is defined; another one all that it defines
        exported = next((n for n in ast.parse(source.read_text()).body if "__all__" in ast.unparse(n)), None)
        for wanted in [] if exported else public_names(source):
            assert wanted in page.anchors, f"{name}: {wanted} is not on its page"
        parts = {part for anchor in page.anchors if anchor for part in anchor.split(".")}
        private = {part for part in parts if part.startswith("_")} - {"__init__", "__version__"}
        assert not private, f"{name}: {private} on its page"


def test_some_pages(tmp_path):
    build_api = script()
    assert set(SOME) <= set(build_api.public_names())
    assert build_api.build(tmp_path, SOME) == {}
    assert build_api.problems(tmp_path) == []
    check_pages(tmp_path, SOME)
    front = Text(page_of(tmp_path, "lava_conv"))
    import lava_conv

    assert set(lava_conv.__all__) <= front.anchors
    assert "neither scaled nor normalised" in front.words, "the docstring of run"
    ca_lif = page_of(tmp_path, "lava_conv.network.neurons.ca_lif")
    assert "leak_steps: steps with a leak, 0 = every one." in " ".join(Text(ca_lif).words.split())
    assert "<strong>leak_steps:</strong>" in ca_lif.read_text() and "Alias for field" not in ca_lif.read_text()
    assert "<pre><code>v &lt;- sat24(decay(v)" in ca_lif.read_text()
    assert "NDArray[int64]" in Text(page_of(tmp_path, "lava_conv.network.bounds")).words.replace(" ", "")
    assert "membrane potentials and thresholds" in Text(page_of(tmp_path, "lava_conv.network.fixedpoint")).words
    chip = Text(page_of(tmp_path, "lava_conv.loihi.chip")).words
    assert "lava_conv/loihi/chips" in chip and str(ROOT) not in chip
    assert not any(
        "docs.pdoc.dev" in path.read_text() or "cdn" in path.read_text() for path in tmp_path.rglob("*.html")
    )


def test_faults_are_found(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.html").write_text(
        '<p id="here">Args: x</p><a href="#there">1</a><a href="inner/b.html#gone">2</a><a href="c.html">3</a>'
        '<a href="#here">4</a><a href="https://example.org">5</a><h6>Args:</h6><pre>Raises:</pre><em>x</em>'
    )
    (tmp_path / "inner" / "b.html").write_text(f"<p>{ROOT}</p><a href='../a.html#here'>6</a>")
    found = script().problems(tmp_path)
    assert found[:5] == [
        "a.html: the link #there leads to no place on its page",
        "a.html: the link inner/b.html#gone leads to no place on its page",
        "a.html: the link c.html leads to no page",
        "a.html: two * were read as emphasis; put the formula into backticks",
        "a.html: Args: is left as text",
    ]
    assert found[5:] and all(sentence.startswith("inner/b.html: holds the path /") for sentence in found[5:])


def test_only_a_reference_is_replaced(tmp_path):
    build_api = script()
    mine = tmp_path / "notes.txt"
    mine.write_text("keep")
    with pytest.raises(SystemExit, match="holds something else than an API reference"):
        build_api.build(tmp_path, ["netx_models"])
    assert mine.read_text() == "keep"
    folder = tmp_path / "api"
    for names in (["netx_models", "lava_conv.errors"], ["netx_models"]):
        build_api.build(folder, names)
    assert not page_of(folder, "lava_conv.errors").exists() and page_of(folder, "netx_models").is_file()


def test_a_missing_package_is_named(tmp_path):
    """As on a Python without Lava: one line, and the other pages are there."""
    blocked = tmp_path / "blocked" / "lava"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'lava'\", name='lava')")
    code = (
        "import pathlib, sys; sys.path.insert(0, 'docs'); import build_api\n"
        f"print(build_api.build(pathlib.Path({str(tmp_path / 'api')!r}), "
        "['netx_models', 'lava_conv.errors', 'lava_conv.backends.lava', 'processes.delay']))"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(blocked.parent), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'lava': ['lava_conv.backends.lava', 'processes.delay']}"
    assert page_of(tmp_path / "api", "lava_conv.errors").is_file()
    assert "because lava is not installed here" in (tmp_path / "api" / "index.html").read_text()


@pytest.mark.slow
def test_all_pages(tmp_path):
    """As the command does it, with warnings as errors; an environment full of values must not show."""
    folder = tmp_path / "api"
    env = os.environ | {"PYTHONPATH": str(ROOT), "SECRET_OF_MINE": "lava-conv", "VIRTUAL_ENV_PROMPT": "lava-conv"}
    command = [sys.executable, "docs/build_api.py", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == f"{folder}/index.html\n" and done.stderr == ""
    pages = "\n".join(path.read_text() for path in folder.rglob("*.html"))
    assert "VIRTUAL_ENV" not in pages and "SECRET_OF_MINE" not in pages
    names = script().public_names()
    assert len(names) > 120 and "lava_conv.cli.__main__" not in names
    check_pages(folder, names)
