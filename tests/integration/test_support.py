"""The README's support table is what trying every layer gives."""

import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings("ignore")  # the toolkits'


def rows(lines):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|---")]


@pytest.fixture(scope="module")
def support():
    spec = importlib.util.spec_from_file_location("support", ROOT / "benchmarks" / "support.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def readme():
    text = (ROOT / "README.md").read_text().split("<!-- benchmarks/support.py --backends -->\n")[1]
    return rows(text.split("\n\n")[0].splitlines())


def test_front_ends(support, readme):
    pytest.importorskip("brevitas", reason="an optional extra")
    made = rows(support.table())
    assert [row[: len(made[0])] for row in readme] == made
    assert sum(row.count("yes") for row in made) > 40 and sum(row.count("refused") for row in made) >= 10


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_backends(support, readme):
    pytest.importorskip("brevitas", reason="an optional extra")
    pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")
    assert rows(support.table(backends=True)) == readme
