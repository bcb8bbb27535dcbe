"""No import changes Lava, torch or the process; `install` does, explicitly and once."""

import doctest
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")
ROOT = Path(__file__).parents[2]

LOOK = """
import atexit, importlib, logging, multiprocessing, os, pkgutil, signal, sys, warnings
import brevitas.nn, click, h5py, matplotlib.figure, numba, numpy, rich, scipy.optimize, sklearn.datasets, torch
import lava_conv.lava.start
import lava.lib.dl.netx.hdf5
import lava.proc.conv.models, lava.proc.dense.models, lava.proc.io.sink, lava.proc.io.source, lava.proc.io.reset
import lava.magma.core.run_configs, lava.magma.runtime.runtime, lava.magma.compiler.channels.pypychannel
import torch.nn.functional, torch.fx, torch.utils.data, torch.ao.quantization, torch.ao.nn.quantized

def state():
    seen = {}
    for name, module in list(sys.modules.items()):
        if module is None or name.split(".")[0] not in ("lava", "torch"):
            continue
        for key, value in list(vars(module).items()):
            if type(value).__name__ != "module":
                seen[name, key] = id(value)
            if isinstance(value, type) and value.__module__.split(".")[0] in ("lava", "torch"):
                for inner, held in list(vars(value).items()):
                    if inner not in ("__abstractmethods__", "__slotnames__", "_abc_impl") and callable(held):
                        seen[value.__module__, value.__qualname__, inner] = id(held)
    return seen

def process():
    root = logging.getLogger()
    return dict(start=multiprocessing.get_start_method(allow_none=True), filters=warnings.filters[:],
                environment=hash(tuple(os.environ.items())), level=root.level, handlers=root.handlers[:],
                interrupt=signal.getsignal(signal.SIGINT), dtype=torch.get_default_dtype(),
                threads=torch.get_num_threads())

"""

IMPORTS = """
forks = []
os.register_at_fork = lambda **hooks: forks.append(hooks)
before, around = state(), process()
import lava_conv, processes
for package in (lava_conv, processes):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.startswith("lava_conv.benchmarks"):
            importlib.import_module(module.name)
after = state()
changed = [key for key in before if after.get(key) != before[key]]
assert not changed, changed
assert not (wrong := [k for k, v in process().items() if around[k] != v]), wrong
ours = [hooks for hooks in forks if any("lava_conv" in str(hook.__module__) for hook in hooks.values())]
assert not ours, ours
"""

INSTALL = """
from lava_conv.lava import install
assert "lava_conv.lava.patches" in sys.modules
hooks = []
os.register_at_fork = lambda **given: hooks.append(given)
before, exits = state(), atexit._ncallbacks()
install()
once, once_exits = state(), atexit._ncallbacks()
assert len(hooks) == 1 and once_exits == exits + 1
changed = sorted(key[1:] for key in before if once[key] != before[key])
print(changed)
install()
assert state() == once and atexit._ncallbacks() == once_exits and len(hooks) == 1
"""


def child(code):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOOK + code],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_no_import_changes_lava_torch_or_the_process():
    child(IMPORTS)


def test_install_changes_these_methods_and_only_once():
    changed = child(INSTALL)
    for pair in (
        ("CspSelector", "select"),
        ("PyLoihiProcessModel", "_spike"),
        ("PyInPortVectorDense", "recv"),
        ("PyOutPortVectorDense", "send"),
        ("LoihiPyRuntimeService", "_handle_pause"),
        ("Var", "set"),
        ("AbstractPyProcessModel", "_get_var"),
        ("AbstractPyProcessModel", "_set_var"),
    ):
        assert str(pair) in changed
    assert changed.count("(") == 8


@pytest.mark.parametrize("method", [None, "fork"])
def test_lava_is_imported_whatever_set_the_start_method(method):
    """Stock Lava fails with "context has already been set" where the method was set before."""
    code = (
        f"import multiprocessing as mp; mp.set_start_method({method!r}, force=True); import lava_conv.lava.start; "
        "import lava.magma.runtime.runtime, lava_conv.lava.runtime; assert mp.get_start_method(True) == 'fork'"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_example_of_the_package_runs():
    import lava_conv.lava

    failed, tried = doctest.testmod(lava_conv.lava)
    assert tried > 7 and failed == 0


def test_public_names_of_the_package():
    import lava_conv.lava as package

    assert set(package.__all__) <= set(dir(package))
    assert all(callable(getattr(package, name)) for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing
