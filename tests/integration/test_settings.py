"""What belongs to the whole process is after a call what it was before: with threads that overlap, with errors too."""

import gc
import locale
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import matplotlib
import numpy as np
import pytest
import scipy.sparse  # noqa: F401  it sets a filter of warnings when it is first imported,
import sklearn  # noqa: F401  and it two variables of the environment
import torch
from command import call
from nets import lively
from torch import fx, nn

import lava_conv as lc
from lava_conv import qat
from lava_conv import simulation as simulate
from lava_conv.calibration.procedure import float_predictions
from lava_conv.figures.style import as_svg, new_figure
from lava_conv.frontends.tracing import trace
from lava_conv.network import synapses
from lava_conv.simulation import dense
from lava_conv.torch_tools.convolution import exact_conv2d
from lava_conv.torch_tools.device import limit_torch_threads, torch_threads
from lava_conv.torch_tools.randomness import OwnRandom, dropped
from lava_conv.training.data import Dataset
from lava_conv.training.distillation import NetworkTeacher
from lava_conv.training.loop import Recipe, load_trained, train


def in_new_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def settings():
    """Everything that a library could change for the whole process."""
    loggers = {name: logging.getLogger(name) for name in ("", "lava_conv", "torch", "numba", "matplotlib")}
    cuda = torch.backends.cuda.matmul
    return {
        "torch threads": (torch.get_num_threads(), in_new_thread(torch.get_num_threads)),
        "interop threads": torch.get_num_interop_threads(),
        "cudnn": [getattr(torch.backends.cudnn, n) for n in ("enabled", "benchmark", "deterministic", "allow_tf32")],
        "nnpack": torch._C._get_nnpack_enabled(),
        "mkldnn": torch.backends.mkldnn.is_available() and torch._C._get_mkldnn_enabled(),
        "matmul": (cuda.allow_tf32, cuda.allow_fp16_reduced_precision_reduction, torch.get_float32_matmul_precision()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "default type": (torch.get_default_dtype(), torch.get_default_device()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled()),
        "modules": (nn.Module.__call__, nn.Module.__getattr__, fx._symbolic_trace._is_fx_tracing_flag),
        "torch random": torch.get_rng_state().numpy().tobytes(),
        "numpy random": str(np.random.get_state()),  # noqa: NPY002  the user's
        "random": random.getstate(),
        "numpy": (np.geterr(), str(np.get_printoptions())),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "signals": {s: signal.getsignal(s) for s in signal.valid_signals()},
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "start method": multiprocessing.get_start_method(allow_none=True),
        "loggers": {n: (log.level, list(log.handlers), log.propagate, log.disabled) for n, log in loggers.items()},
        "path": list(sys.path),
        "streams": (sys.stdout, sys.stderr, sys.stdin),
        "hooks": (sys.excepthook, threading.excepthook, sys.gettrace(), sys.getprofile()),
        "limits": (sys.getrecursionlimit(), sys.getswitchinterval(), gc.isenabled(), gc.get_threshold()),
        "locale": locale.setlocale(locale.LC_ALL),
        "matplotlib": (dict(matplotlib.rcParams), "matplotlib.pyplot" in sys.modules),
        "threads": {t.name for t in threading.enumerate()},
        "children": multiprocessing.active_children(),
    }


def assert_same(before):
    after = settings()
    assert [name for name in before if before[name] != after[name]] == []


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """A network in all its forms, and what every entry point does with it."""
    folder = tmp_path_factory.mktemp("settings")
    rng = np.random.default_rng(0)
    data = Dataset(
        "tiny", rng.integers(0, 256, (64, 1, 8, 8)).astype(np.uint8), rng.integers(0, 10, 64),
        rng.integers(0, 256, (20, 1, 8, 8)).astype(np.uint8), rng.integers(0, 10, 20),
    )  # fmt: skip
    recipe = Recipe(epochs=1, batch=16, dropout=0.3)
    plain = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))
    model = lively(qat.prepare(plain), (1, 8, 8))
    x = data.x_test
    graph = lc.convert(model, x, steps=8)
    lc.save(graph, folder / "a.net")
    train(data, recipe, folder / "a.pt")

    def fails(done, total):
        raise RuntimeError("stop here")

    def expect(error, action):
        with pytest.raises(error):
            action()

    return {
        **{f"run {m}": (lambda m=m: lc.run(graph, x, method=m, threads=2)) for m in simulate.METHODS},
        "run, failing": lambda: expect(RuntimeError, lambda: lc.run(graph, x, progress=fails, threads=2)),
        "run, refused": lambda: expect(lc.DataError, lambda: lc.run(graph, x.astype(float))),
        "reference": lambda: graph.reference(x),
        "prepare": lambda: qat.prepare(plain),
        "convert": lambda: lc.convert(model, x, steps=8),
        "evaluate": lambda: qat.evaluate(model, x),
        "calibrate": lambda: lc.calibrate(plain, x, 8, "advanced", iterations=3, input_scale=1 / 255),
        "calibrate, refused": lambda: expect(lc.ConversionError, lambda: lc.calibrate(plain, x, 8, "magic")),
        "float predictions": lambda: float_predictions(plain, x, 1 / 255),
        "train": lambda: train(data, recipe),
        "train, float": lambda: train(data, Recipe.flat(epochs=1, batch=16, method="float")),
        "train, failing": lambda: expect(RuntimeError, lambda: train(data, recipe, progress=fails)),
        "train, taught": lambda: train(
            data, Recipe.flat(epochs=1, batch=16, distill=0.5, teachers=(str(folder / "a.pt"),))
        ),
        "load": lambda: (lc.load(folder / "a.net"), load_trained(folder / "a.pt")),
        "save": lambda: lc.save(graph, folder / f"{threading.get_ident()}.net"),
        "compare": lambda: lc.compare(graph, x, first="torch", second="torch"),
        "teacher": lambda: NetworkTeacher(graph, x, data.y_test),
        "picture": lambda: as_svg(new_figure(1.0), "name", "words"),
    }


NAMES = (
    *(f"run {m}" for m in simulate.METHODS), "run, failing", "run, refused", "reference", "prepare", "convert",
    "evaluate", "calibrate", "calibrate, refused", "float predictions", "train", "train, float", "train, failing",
    "train, taught", "load", "save", "compare", "teacher", "picture",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_call_leaves_every_setting_as_it_was(things, name):
    before = settings()
    things[name]()
    assert_same(before)


def test_overlapping_calls_leave_every_setting_as_it_was(things):
    assert set(things) == set(NAMES)
    before = settings()
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(things[name]) for name in (*NAMES, *reversed(NAMES))]
    for job in jobs:
        job.result()
    assert_same(before)


def crossing(action):
    """Two calls of `action(progress)`: the first begins before the second and ends before it."""
    begun, inside, ended = threading.Event(), threading.Event(), threading.Event()

    def first(*_):
        begun.set()
        assert inside.wait(60)

    def second(*_):
        inside.set()
        assert ended.wait(60)

    a = threading.Thread(target=lambda: (action(first), ended.set()))
    b = threading.Thread(target=lambda: action(second))
    a.start()
    assert begun.wait(60)
    b.start()
    a.join()
    b.join()
    assert inside.is_set() and ended.is_set()


@pytest.mark.parametrize("method", simulate.METHODS)
def test_runs_that_cross_leave_every_setting_as_it_was(tmp_path, rng, method):
    from plain import write_random_net

    graph = lc.load(write_random_net(tmp_path / "a.net", rng))
    images = rng.integers(0, 256, (6, 2, 9, 7), dtype=np.uint8)
    before = settings()
    crossing(lambda progress: lc.run(graph, images, method=method, threads=2, progress=progress))
    assert_same(before)


def test_trainings_that_cross_draw_what_each_draws_alone():
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (64, 1, 8, 8)).astype(np.uint8), rng.integers(0, 10, 64)
    data = Dataset("tiny", pixels, labels, pixels, labels)
    recipe = Recipe.flat(epochs=2, batch=16, dropout=0.3, shift=1)
    alone, crossed = train(data, recipe), []
    before = settings()
    crossing(lambda progress: crossed.append(train(data, recipe, progress=progress)))
    assert_same(before)
    for trained in crossed:
        assert trained.losses == alone.losses
        for name, value in alone.model.state_dict().items():
            assert torch.equal(trained.model.state_dict()[name], value), name


def test_own_random_numbers_are_those_of_the_global_generator():
    torch.manual_seed(5)
    expected = [nn.Linear(7, 3), nn.Conv2d(2, 3, 3), nn.functional.dropout(torch.ones(50, 9), 0.3)]
    before, own = torch.get_rng_state(), torch.Generator().manual_seed(5)
    with OwnRandom(own):
        found = [nn.Linear(7, 3), nn.Conv2d(2, 3, 3)]
    assert all(
        torch.equal(a.weight, b.weight) and torch.equal(a.bias, b.bias) for a, b in zip(expected, found, strict=False)
    )
    assert torch.equal(dropped(torch.ones(50, 9), 0.3, own), expected[2])
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(own.get_state(), before)


def test_threads_of_torch_are_limited_for_one_thread_alone():
    before = torch.get_num_threads(), in_new_thread(torch.get_num_threads)
    with torch_threads(1):
        assert torch.get_num_threads() == 1
        assert in_new_thread(torch.get_num_threads) == before[1]
        with torch_threads(5):  # no more than there are
            assert torch.get_num_threads() == 1
    assert (torch.get_num_threads(), in_new_thread(torch.get_num_threads)) == before
    assert in_new_thread(lambda: (limit_torch_threads(1), torch.get_num_threads())[1]) == 1
    assert (torch.get_num_threads(), in_new_thread(torch.get_num_threads)) == before


def test_tracing_is_blind_to_modules_that_other_threads_run():
    """A foreign module that runs during a trace works, and is not in the graph; a second trace waits for the first."""
    entered, ran, found = threading.Event(), threading.Event(), []

    class Waits(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            entered.set()
            assert ran.wait(60)
            return self.layer(x)

    other = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    model = Waits()
    before = settings()
    tracing = threading.Thread(target=lambda: found.append(trace(model, lambda m: False)))
    tracing.start()
    assert entered.wait(60)
    shape = other(torch.zeros(2, 3)).shape
    second = threading.Thread(target=lambda: found.append(trace(other, lambda m: False)))
    second.start()
    ran.set()
    tracing.join()
    second.join()
    assert shape == (2, 4)
    assert [[str(n.target) for n in g.graph.nodes if n.op == "call_module"] for g in found] == [["layer"], ["0", "1"]]
    assert_same(before)


def test_concurrent_drawing_leaves_the_users_settings(monkeypatch):
    before = settings()
    figures = [new_figure(1.0) for _ in range(6)]
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda figure: as_svg(figure, "name", "words"), figures))
    assert len(set(made)) == 1
    assert_same(before)
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "path")
    with pytest.raises(AttributeError):
        as_svg(None, "name", "no figure")
    assert matplotlib.rcParams["svg.fonttype"] == "path"


def test_sums_are_exact_whatever_the_user_has_set(rng):
    conv = synapses.Conv(rng.integers(-127, 128, (40, 32, 3, 3)), padding=(1, 1))
    line = synapses.Dense(rng.integers(-127, 128, (50, 400)))
    x, flat = rng.integers(0, 256, (32, 32, 9, 9)), rng.integers(0, 256, (32, 400))
    expected, straight = conv.apply(x), line.apply(flat)

    def check():
        found = dense.sums(conv, torch.tensor(x, dtype=torch.uint8), 255)
        assert np.array_equal(found.to(torch.int64).numpy(), expected)
        found = dense.sums(line, torch.tensor(flat, dtype=torch.uint8), 255)
        assert np.array_equal(found.to(torch.int64).numpy(), straight)
        return found.dtype

    before = torch.get_float32_matmul_precision()
    try:
        for precision in ("highest", "high", "medium"):
            torch.set_float32_matmul_precision(precision)
            check()
    finally:
        torch.set_float32_matmul_precision(before)
    with torch.backends.mkldnn.flags(enabled=False):  # NNPACK's turn, which rounds
        assert check() == torch.float64
    assert not dense.float32_whole(torch.device("cuda")) or not torch.backends.cuda.matmul.allow_tf32
    weight = torch.ones(2, 1, 3, 3)
    assert torch.equal(exact_conv2d(torch.ones(1, 1, 5, 5), weight, 1, 0, 1, 1), torch.full((1, 2, 3, 3), 9.0))


def test_commands_leave_every_setting_as_it_was(tmp_path, monkeypatch):
    seen = []

    def instead(*_, **__):
        seen.append(torch.get_num_threads())
        raise lc.DataError("enough")

    monkeypatch.setattr("lava_conv.training.loop.train", instead)
    (tmp_path / "own.py").write_text("def net(): raise ValueError('no')")
    call("inspect", "no.net", cwd=tmp_path)
    before = settings()
    with torch_threads(3):
        for words in (("demo",), ("inspect", "no.net"), ("calibrate", "a.pt", "a.net", "--model", "own:net")):
            assert call(*words, cwd=tmp_path).returncode == 2, words
    assert len(seen) == 1 and seen[0] <= 2
    assert_same(before)
