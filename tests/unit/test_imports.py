"""Who may import whom, held as a table; and life without Lava."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ("lava_conv", "processes")
SHARED = ("lazy", "errors", "files", "memory", "arguments", "classes", "record", "")
FLOORS = (  # a module may import from its own floor and from those above it in this list
    SHARED,
    ("lava",),
    ("network", "torch_tools"),
    ("conversion", "qat", "frontends"),
    ("netx",),
    ("kernels",),
    ("simulation",),
    ("calibration", "training"),
    ("processes",),
    ("lowering",),
    ("backends",),
    ("analysis",),
    ("loihi",),
    ("figures",),
    ("report",),
    ("cli",),
)
WITHOUT_TORCH = {*SHARED, "network", "netx", "kernels", "loihi", "lava", "processes", "lowering", "backends", "figures"}
MAY_IMPORT = {  # package of others -> the only places that may import it; torch: `arguments` does so for torch users
    "torch": {part for floor in FLOORS for part in floor} - WITHOUT_TORCH | {"arguments"},
    "lava": {"lava", "processes", "backends.lava", "backends.sdnn", "backends.loihi2"},
    "numba": {"kernels"},
    "llvmlite": {"kernels"},
    "matplotlib": {"figures"},
    "brevitas": {"frontends.brevitas"},
    "sanafe": set(),  # GPL: it is started, never imported
    "sanafecpp": set(),
}


def modules():
    """Every module of the product by its dotted name, with its file."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def imported(path, names=MODULES):
    """Names of the modules that a file imports, those for type checkers left out."""
    for node in ast.walk(_without_type_checking(ast.parse(path.read_text()))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in names else node.module


def _without_type_checking(tree):
    class Cut(ast.NodeTransformer):
        def visit_If(self, node):
            return None if getattr(node.test, "id", "") == "TYPE_CHECKING" else self.generic_visit(node)

    return Cut().visit(tree)


def place(module):
    """(floor, part) of a module; the most specific part of FLOORS wins."""
    name = module.removeprefix("lava_conv").removeprefix(".")
    found = [
        (len(part), number, part)
        for number, floor in enumerate(FLOORS)
        for part in floor
        if name == part or (part and name.startswith(f"{part}."))
    ]
    assert found, f"{module} stands on no floor"
    return max(found)[1:]


def test_imports_go_down_the_floors():
    wrong = []
    for name, path in MODULES.items():
        floor, _ = place(name)
        for target in imported(path):
            if target.partition(".")[0] in PACKAGES and place(target)[0] > floor:
                wrong.append(f"{name} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_packages_of_others_are_imported_where_they_belong():
    wrong = []
    for name, path in MODULES.items():
        inner = name.removeprefix("lava_conv").removeprefix(".")
        for target in imported(path):
            package = target.partition(".")[0]
            allowed = MAY_IMPORT.get(package)
            if allowed is None or target == "matplotlib.figure" or inner.startswith("cli"):
                continue
            if not any(inner == part or inner.startswith(f"{part}.") for part in allowed):
                wrong.append(f"{name} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_no_import_cycle():
    edges = {
        name: {target for target in imported(path) if target in MODULES and target != name}
        for name, path in MODULES.items()
    }
    done, way = set(), []

    def visit(name):
        if name in way:
            raise AssertionError(" -> ".join([*way[way.index(name) :], name]))
        if name in done:
            return
        way.append(name)
        for target in sorted(edges[name]):
            visit(target)
        way.pop()
        done.add(name)

    for name in edges:
        visit(name)
    assert len(done) > 150


WITHOUT_LAVA = """
import importlib, pkgutil, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "lava":
            raise ModuleNotFoundError(f"No module named {name!r}")
sys.meta_path.insert(0, Block())
import lava_conv
for module in pkgutil.walk_packages(lava_conv.__path__, "lava_conv."):
    optional = ("lava.", "backends.lava", "backends.sdnn", "backends.loihi2", "frontends.brevitas")
    if not module.name.removeprefix("lava_conv.").startswith(optional):
        importlib.import_module(module.name)
assert callable(lava_conv.convert) and callable(lava_conv.compare)
from lava_conv.cli import main
sys.argv = ["lava-conv", "compare", sys.argv[1]]
main()
"""


def test_everything_imports_without_lava_and_says_so(tmp_path, trained_digits):
    import lava_conv as lc

    data, trained = trained_digits
    lc.save(lc.convert(trained.model, data.x_train[:4]), tmp_path / "d.net")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LAVA, str(tmp_path / "d.net")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "needs Lava, which is not installed" in done.stderr and "Traceback" not in done.stderr


def test_a_public_name_is_never_a_module():
    """`import lava_conv.x as m` must give a module, and `lava_conv.x` the function, whatever was imported before."""
    import lava_conv as lc

    for name in lc.__all__:
        assert not (ROOT / "lava_conv" / f"{name}.py").exists() and not (ROOT / "lava_conv" / name).exists()
        assert name in dir(lc)
        getattr(lc, name)
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        _ = lc.train


def test_what_other_tests_are_skipped_without_is_there():
    """numba is required on every Python it has reached, Lava on 3.10; a skip must not hide that they are broken."""
    from lava_conv import kernels

    if sys.version_info < (3, 15):
        assert kernels.AVAILABLE
    if sys.version_info < (3, 11):
        import lava.magma  # noqa: F401


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, lava_conv, lava_conv.network.graph, lava_conv.netx, lava_conv.loihi.cost; "
        "assert not {'torch', 'lava', 'matplotlib', 'sanafe'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
