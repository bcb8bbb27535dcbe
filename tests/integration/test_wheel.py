"""The wheel and the source archive: all that must be in is in, nothing of a machine or of others; both are the same."""

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from lava_conv import __version__

ROOT = Path(__file__).parents[2]
LARGEST = 60_000_000  # bytes of either; the zoo is most of it, PyPI takes 100 MB
ABOUT = f"lava_conv-{__version__}.dist-info"
PACKAGES = ("lava_conv", "processes", "netx_models")
NEEDED = ("*.py", "py.typed", "*.toml", "*.html", "*.net", "*.json", "*.npz")
HOMES = re.compile(rb"/(?:work|root|home/\w+|Users/\w+|tmp/\w+)/[\w.-]+")
FOREIGN = re.compile(r"(\.(pt|pth|ckpt|onnx|h5|safetensors|tar|gz|zip|idx\d-ubyte|pkl|lock)|/(data|runs|\.venv)/.*)$")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """By kind, the files inside: name without the archive's own folder -> content."""
    uv = shutil.which("uv")
    if uv is None or not (ROOT / ".git").exists():
        pytest.skip("needs uv and a clone")
    folder = tmp_path_factory.mktemp("dist")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).exists():
            (folder / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / "clone" / name)
    for kinds, out in ((["--wheel"], "direct"), ([], "dist")):  # without a kind the wheel is made of the source archive
        done = subprocess.run(
            [uv, "build", "-q", *kinds, "-o", str(folder / out), str(folder / "clone")],
            capture_output=True, text=True, check=False, env={**os.environ, "UV_NO_CONFIG": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
    found = {}
    for kind, pattern in (("direct", "direct/*.whl"), ("wheel", "dist/*.whl"), ("sdist", "dist/*.tar.gz")):
        (path,) = folder.glob(pattern)
        assert path.stat().st_size < LARGEST
        found[kind] = read_sdist(path) if kind == "sdist" else read_wheel(path)
    return found


def read_wheel(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def read_sdist(path):
    with tarfile.open(path) as archive:
        members = [m for m in archive.getmembers() if m.isfile()]
        return {m.name.split("/", 1)[1]: archive.extractfile(m).read() for m in members}


def shipped():
    for package in PACKAGES:
        for pattern in NEEDED:
            yield from (p for p in (ROOT / package).rglob(pattern) if "__pycache__" not in p.parts)


@pytest.mark.slow
def test_wheel_and_source_archive_hold_the_packages(built):
    wanted = {p.relative_to(ROOT).as_posix(): hashlib.sha256(p.read_bytes()).digest() for p in shipped()}
    assert len(wanted) > 150 and {
        "lava_conv/loihi/chips/loihi2.toml",
        "lava_conv/py.typed",
        "processes/py.typed",
    } <= set(wanted)
    for kind in ("wheel", "sdist"):
        inside = {name: hashlib.sha256(content).digest() for name, content in built[kind].items()}
        assert {name for name in wanted if inside.get(name) != wanted[name]} == set(), kind
    extra = [name for name in built["wheel"] if name not in wanted and ".dist-info/" not in name]
    assert all(name.startswith("lava_conv/benchmarks/") for name in extra), extra
    assert {name.partition("/")[0] for name in built["wheel"]} == {*PACKAGES, ABOUT}


@pytest.mark.slow
def test_the_source_archive_makes_the_same_wheel(built):
    assert built["wheel"] == built["direct"]
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "tests/integration/test_wheel.py"):
        assert name in built["sdist"], name
    licence = (ROOT / "LICENSE").read_bytes()
    assert built["sdist"]["LICENSE"] == licence == built["wheel"][f"{ABOUT}/licenses/LICENSE"]
    about = built["wheel"][f"{ABOUT}/METADATA"].decode()
    assert "License-Expression: BSD-3-Clause" in about and "Requires-Python: >=3.10" in about
    needs = [line for line in about.splitlines() if line.startswith("Requires-Dist: ")]
    assert all("<" in line.split(";")[0] or "==" in line.split(";")[0] for line in needs), "a version without a bound"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_nothing_of_a_machine_or_of_others_is_inside(built, kind):
    for name, content in built[kind].items():
        assert not FOREIGN.search(f"/{name}"), name
        if name != "tests/integration/test_wheel.py":
            assert not HOMES.findall(content), name
