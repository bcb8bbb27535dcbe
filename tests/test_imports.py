"""Who may import whom, held as a table; and life without Lava."""

import ast
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
CORE = {"errors", "fixedpoint", "classes", "entrance"}  # they need nothing but each other
MAY = {
    "errors": set(),
    "fixedpoint": CORE,
    "classes": {"errors"},
    "entrance": {"errors"},
    "files": {"errors"},
    "device": CORE,
    "convolution": set(),
    "randomness": set(),
    "neurons": CORE | {"neurons"},
    "synapses": CORE,
    "record": CORE,
    "memory": CORE,
    "graph": CORE | {"memory", "neurons", "synapses", "record"},
    "netx": CORE | {"files", "graph", "netx", "neurons", "synapses"},
    "kernels": CORE | {"kernels", "neurons", "synapses", ""},
    "simulate": CORE
    | {"convolution", "device", "graph", "kernels", "memory", "neurons", "record", "simulate", "synapses", ""},
    "qat": CORE | {"convolution", "qat", "randomness"},
    "algebra": CORE | {"synapses"},
    "verify": CORE | {"algebra", "graph", "qat"},
    "assemble": CORE | {"algebra", "graph", "neurons", "qat", "synapses", "verify", ""},
    "convert": CORE | {"assemble", "graph", "qat", "verify", ""},
    "backends": CORE | {"graph", "memory", "record"},
    "backends.loihi2": CORE | {"backends.lava_start", "backends.sdnn", "graph", "lower", "record"},
    "backends.lava": CORE
    | {
        "backends.loihi2",
        "graph",
        "neurons",
        "record",
        "synapses",
        "backends.lava_progress",
        "backends.lava_runtime",
        "backends.lava_start",
        "processes",
    },
    "backends.lava_runtime": CORE
    | {
        "backends.lava_channels",
        "backends.lava_memory",
        "backends.lava_progress",
        "backends.lava_segments",
        "backends.lava_start",
        "backends.lava_vars",
        "backends",
    },
    "backends.lava_channels": {"backends.lava_start"},
    "backends.lava_progress": CORE | {"backends.lava_channels", "backends.lava_start"},
    "backends.lava_vars": CORE | {"backends.lava_start"},
    "backends.lava_memory": set(),
    "backends.lava_segments": set(),
    "backends.lava_start": CORE,
    "lower": CORE | {"files", "graph", "lower", "memory", "netx", "record", "synapses"},
    "backends.sdnn": CORE
    | {"graph", "lower", "netx", "record", "synapses", "processes"}
    | {"backends.lava_progress", "backends.lava_runtime", "backends.lava_start"},
    "compare": CORE | {"backends", "graph", "memory", "record"},
    "settling": CORE | {"backends", "early_exit", "graph", "record"},
    "activity": CORE | {"backends", "graph", "record"},
    "loihi": CORE | {"activity", "backends", "graph", "loihi", "lower", "record", "synapses"},
    "early_exit": CORE | {"graph", "record", "synapses"},
    "data": CORE | {"files"},
    "calibrate": CORE
    | {
        "convolution",
        "algebra",
        "assemble",
        "calibrate",
        "convert",
        "checkpoint",
        "device",
        "graph",
        "neurons",
        "qat",
        "simulate",
        "synapses",
    },
    "augment": set(),
    "checkpoint": CORE | {"files"},
    "distributed": CORE | {"qat"},
    "train": CORE
    | {
        "convolution",
        "randomness",
        "augment",
        "checkpoint",
        "data",
        "device",
        "distill",
        "distributed",
        "netx",
        "qat",
        "restore",
        "selection",
    },
    "selection": set(),
    "distill": {"graph", "simulate"},
    "restore": CORE | {"distill", "graph", "qat"},
    "activations": CORE | {"graph", "qat"},
    "figures": CORE | {"activity", "early_exit", "figures", "files", "graph", "loihi", "record", "synapses", ""},
    "report": CORE
    | {"activity", "backends", "early_exit", "figures", "files", "graph", "loihi", "record", "report"}
    | {"settling", "synapses", ""},
    "processes": CORE | {"kernels", "neurons", "processes", "synapses", "backends.lava_start", ""},
}
TORCH = {
    "convolution",
    "randomness",
    "activations",
    "assemble",
    "augment",
    "calibrate",
    "checkpoint",
    "device",
    "distill",
    "distributed",
    "entrance",
}
TORCH |= {"simulate", "qat", "convert", "verify", "train", "selection", "restore"}
LAVA = {
    "backends.lava",
    "backends.lava_channels",
    "backends.lava_runtime",
    "backends.lava_progress",
    "backends.lava_vars",
    "backends.sdnn",
    "backends.loihi2",
    "processes",
}


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] == "processes":
        return "processes"
    if parts[1] == "backends" and parts[-1] != "__init__":
        return ".".join(parts[1:])
    return parts[1]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_import_table():
    checked = 0
    for path in sorted([*ROOT.glob("lava_conv/**/*.py"), *ROOT.glob("processes/**/*.py")]):
        name = module_of(path)
        if path == ROOT / "lava_conv" / "__init__.py" or name == "cli":
            continue
        checked += 1
        for target in imported(path):
            parts = target.split(".")
            if parts[0] == "torch":
                assert name in TORCH, f"{path} imports torch"
            elif parts[0] in ("numba", "llvmlite"):
                assert name == "kernels", f"{path} imports numba"
            elif parts[0] == "matplotlib":
                assert name == "figures" or parts[1:] == ["figure"], f"{path} imports matplotlib"
            elif parts[0] == "lava":
                assert name in LAVA, f"{path} imports lava"
            elif parts[0] in ("sanafe", "sanafecpp"):
                raise AssertionError(f"{path} imports SANA-FE, which is GPL; it is started, never imported")
            elif parts[0] == "processes":
                assert "processes" in MAY[name], f"{path} imports processes"
            elif parts[0] == "lava_conv":
                inner = ".".join(parts[1:3]) if parts[1:2] == ["backends"] else (parts[1] if len(parts) > 1 else "")
                assert inner in MAY[name], f"{path} imports {target}"
    assert checked > 30


WITHOUT_LAVA = """
import importlib, pkgutil, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "lava":
            raise ModuleNotFoundError(f"No module named {name!r}")
sys.meta_path.insert(0, Block())
import lava_conv
for module in pkgutil.walk_packages(lava_conv.__path__, "lava_conv."):
    optional = ("backends.lava", "backends.sdnn", "backends.loihi2", "qat.toolkits.brevitas")
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


def test_names_stay_functions_after_their_modules_are_imported():
    import lava_conv as lc
    import lava_conv.compare
    import lava_conv.convert

    assert callable(lc.convert) and callable(lc.compare) and callable(lava_conv.convert)


def test_what_other_tests_are_skipped_without_is_there():
    """numba is required on every Python it has reached, Lava on 3.10; a skip must not hide that they are broken."""
    from lava_conv import kernels

    if sys.version_info < (3, 15):
        assert kernels.AVAILABLE
    if sys.version_info < (3, 11):
        import lava.magma  # noqa: F401


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, lava_conv, lava_conv.graph, lava_conv.netx, lava_conv.loihi.fitting, lava_conv.loihi.cost; "
        "assert not {'torch', 'lava', 'matplotlib', 'sanafe'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
