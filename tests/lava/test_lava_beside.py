"""Phases, guards, learning and RefPorts: the watched runtime does what stock Lava does, as often and in that order."""

import importlib
import json
import os
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")

from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import Dense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava_beside import NETWORKS, GuardedNeuron

import lava_conv as lc
from lava_conv.lava import watched
from lava_conv.lava.channels import free_running
from lava_conv.lava.runtime import STRIDE
from processes import Accumulator
from processes.accumulator.models import PyAccumulatorFixed

HERE = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="session")
def stock():
    """What stock Lava makes of all networks, in an interpreter of its own: it leaves threads behind."""
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}
    done = subprocess.run(
        [sys.executable, str(HERE / "lava_beside.py")], capture_output=True, text=True, env=environment, timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", NETWORKS)
def test_as_stock_lava(name, stock):
    process, cfg, steps, seen = NETWORKS[name]()
    with watched(process, cfg, timeout=60) as runtime:
        runtime.run(steps)
        found = [var.get() for var in seen]
    for one, other in zip(found, stock[name], strict=True):
        assert np.array_equal(one, other) and one.any()


def test_an_accumulator_that_is_written_to_does_as_lif(stock):
    assert stock["accumulator_written"] == stock["lif_written"]


def stride(models=None):
    """Of a small network of processes that all follow their data, with other models for some."""
    source, dense = Source(data=np.ones((2, 1), int)), Dense(weights=np.eye(2))
    neuron, sink = Accumulator(shape=(2,)), Sink(shape=(2,), buffer=200)
    source.s_out.connect(dense.s_in)
    dense.a_out.connect(neuron.a_in)
    neuron.s_out.connect(sink.a_in)
    cfg = Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=models or {})
    with watched(source, cfg) as runtime:
        runtime.run(STRIDE + 6)
        return runtime._stride, sink.data.get()[:, : STRIDE + 6]


class Renamed(PyAccumulatorFixed):
    """Nothing but a name."""


class OwnSteps(PyAccumulatorFixed):
    """Its steps may look at anything."""

    def run_spk(self):
        super().run_spk()


class Promised(OwnSteps):
    """Its author knows that they do not."""

    free_running = True

    def run_spk(self):
        super().run_spk()


class PromisedAndGuarded(GuardedNeuron):
    """A promise that its guard contradicts."""

    free_running = True


def test_only_what_has_nothing_but_its_steps_runs_free():
    free, expected = stride()
    assert free == STRIDE
    for model, wanted in ((Renamed, STRIDE), (OwnSteps, 1), (Promised, STRIDE), (PromisedAndGuarded, 1)):
        found, sent = stride({Accumulator: model})
        assert found == wanted, model
        assert np.array_equal(sent, expected) != issubclass(model, GuardedNeuron)


def test_every_process_of_ours_runs_free():
    """One that does not makes the whole network wait for a command at each step."""
    models = [
        model
        for name in ("accumulator", "ca_lif", "conv", "delay", "dynamic_threshold", "sample_input", "spike_probe")
        for model in vars(importlib.import_module(f"processes.{name}.models")).values()
        if isinstance(model, type) and getattr(model, "implements_process", None) is not None
    ]
    assert len(models) >= 10
    for model in models:
        assert free_running(SimpleNamespace(proc_model=model, ref_ports={})), model


class SetsAGuard(PyAccumulatorFixed):
    """A guard that no class shows."""

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.post_guard = lambda: True


class AsksForAPause(PyAccumulatorFixed):
    """A request that no class shows."""

    def _step_compiled(self, a_in, fresh):
        self._req_pause = self.time_step == 5
        return super()._step_compiled(a_in, fresh)

    def _step(self, a_in, fresh):
        self._req_pause = self.time_step == 5
        return super()._step(a_in, fresh)


@pytest.mark.parametrize(("model", "what"), [(SetsAGuard, "sets post_guard"), (AsksForAPause, "asks to pause")])
def test_what_cannot_be_known_before_is_refused(model, what):
    with pytest.raises(lc.BackendError, match=f"{model.__name__} {what}.*free_running = False"):
        stride({Accumulator: model})
