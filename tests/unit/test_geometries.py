"""No convolution's geometry ends the process or comes out wrong, by any method, in training or in the simulator."""

import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from geometry_sweep import KNOWN, differences, geometry, sweep
from torch import nn
from torch.nn import functional

import lava_conv as lc
from lava_conv import qat
from lava_conv.torch_tools import convolution
from lava_conv.torch_tools.convolution import SafeConvolutions, conv, padding_only, safe_form

forks = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # the children compute nothing


def swept(*words):
    """What the benchmark prints, run in a process of its own: one that has used torch's threads must not fork."""
    script = pathlib.Path(__file__).parents[2] / "benchmarks" / "geometries.py"
    command = [sys.executable, str(script), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=1500)


def test_known_and_random_geometries_are_exact_by_every_method():
    done = swept(40, "--together", 40, "--processes", 1)
    assert done.returncode == 0 and "crashes: 0\ndifferences: 0\n" in done.stdout, done.stdout + done.stderr
    assert "geometries tried: 40 (in " in done.stdout


@pytest.mark.slow
def test_more_geometries():
    done = swept(1000, "--first", 40)
    assert done.returncode == 0, done.stdout + done.stderr


@forks
def test_the_sweep_finds_what_dies_and_what_differs():
    def look(number):
        if number == 13:
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == 5:
            raise ValueError("five")
        return ("wrong" if number == 7 else ""), True

    outcomes = list(sweep(0, 20, together=10, look=look))
    assert [(o.first, o.stop, o.died) for o in outcomes if o.died] == [(13, 14, -signal.SIGSEGV)]
    assert sorted(d for o in outcomes for d in o.differences) == [(5, "ValueError: five"), (7, "wrong")]
    assert sum(o.lively for o in outcomes) == 18


@forks
def test_geometries_that_only_together_crash_are_named():
    seen = []

    def look(number):
        seen.append(number)
        if {4, 5} <= set(seen):
            os.kill(os.getpid(), signal.SIGKILL)
        return "", True

    outcomes = list(sweep(4, 6, together=2, look=look))
    assert [(o.first, o.stop) for o in outcomes if o.died] == [(4, 6)]


def test_padding_only_is_what_counting_says(rng):
    for _ in range(300):
        size, kernel, stride, dilation = (int(v) for v in rng.integers(1, 7, 4))
        before, after = (int(v) for v in rng.integers(0, 6, 2))
        if size + before + after <= dilation * (kernel - 1):
            continue
        ones = functional.pad(torch.ones(1, 1, size), (before, after))
        seen = functional.conv1d(ones, torch.ones(1, 1, kernel), None, stride, 0, dilation)
        assert padding_only(size, kernel, stride, before, after, dilation) == bool((seen == 0).any())


def test_safe_forms_avoid_faults_and_leave_usual_ones_alone():
    x = torch.zeros(2, 4, 8, 1)
    padded, stride, padding = safe_form(x, (3, 1), (2, 2), (1, 1), (1, 1))
    assert (padded.shape, stride, padding) == ((2, 4, 10, 3), (2, 2), (0, 0))
    thinned, stride, padding = safe_form(torch.zeros(2, 4, 8, 9), (1, 1), 2, 0, 1)
    assert (thinned.shape, stride, padding) == ((2, 4, 4, 5), (1, 1), 0)
    for shape, kernel, stride, padding in (
        ((2, 4, 8, 8), (3, 3), (2, 2), (1, 1)), ((2, 4, 1, 1), (3, 3), (1, 1), (1, 1)),
        ((2, 16, 8, 8), (1, 1), (2, 2), (0, 0)), ((2, 4, 8, 8), (3, 3), 1, "same"),
    ):  # fmt: skip
        x = torch.zeros(shape)
        found = safe_form(x, kernel, stride, padding, 1)
        assert found[0] is x and found[1:] == (stride, padding)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_paddings_by_name_and_frames_without_batch(rng, padding):
    x = torch.from_numpy(rng.integers(-9, 10, (3, 2, 3)).astype(np.float64))
    w = torch.from_numpy(rng.integers(-9, 10, (4, 3, 2, 1)).astype(np.float64))
    dilation = (4, 1) if padding == "same" else 1
    assert torch.equal(conv(x, w, None, 1, padding, dilation), functional.conv2d(x, w, None, 1, padding, dilation))


def _forms(monkeypatch):
    """How often a convolution was given another form."""
    changed = []

    def watched(x, *options):
        found = safe_form(x, *options)
        changed.append(found[0] is not x)
        return found

    monkeypatch.setattr(convolution, "safe_form", watched)
    return changed


def test_foreign_float_layers_take_the_safe_form_in_the_mode(monkeypatch, rng):
    changed = _forms(monkeypatch)
    layer = nn.Conv2d(4, 8, (3, 1), stride=2, padding=1)
    x = torch.from_numpy(rng.normal(size=(2, 4, 8, 1)).astype(np.float32))
    expected = layer(x)  # contiguous, so that it does not die
    assert changed == []
    with SafeConvolutions():
        found = layer(x)
    assert changed == [True] and torch.allclose(found, expected)
    signal_layer = nn.Conv1d(4, 8, 1, stride=2, padding=1)
    with SafeConvolutions():
        signal_layer(x[..., 0])
    assert changed == [True, True]


def test_a_signal_of_width_one_is_trained_converted_and_run(monkeypatch):
    changed = _forms(monkeypatch)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(4, 8, (3, 1), stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(8, 8, (3, 1), stride=2, padding=(1, 0)), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5),
    )  # fmt: skip
    model = qat.prepare(net, method="ca_lif", levels=8).to(memory_format=torch.channels_last).train()
    x = np.random.default_rng(0).integers(0, 256, (16, 4, 64, 1)).astype(np.uint8)
    model(torch.tensor(x).float()).sum().backward()
    assert any(changed)
    graph = lc.convert(model, x, steps=32)
    want = graph.reference(x)
    for method in ("auto", "events", "dense", "tensors"):
        found = lc.run(graph, x, method=method, record_spikes=True)
        assert all(np.array_equal(found.counts[i], counts) and counts.any() for i, counts in want.counts.items())


def test_numbers_keep_their_geometry():
    assert geometry(0) == KNOWN[0] and geometry(100) == geometry(100) != geometry(101)
    assert differences(11, training=False) == ("", True)
