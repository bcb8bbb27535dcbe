"""The same networks in stock Lava and in the watched runtime: `python lava_beside.py` runs them all in stock Lava.

Each entry of NETWORKS builds one and gives (a process of it, run configuration, time steps, the Vars to look at).
"""

import json
import sys
from typing import Any

import lava_conv.lava.start  # noqa: F401  before Lava

# isort: split
import numpy as np
from lava.magma.core.decorator import implements, requires
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.dense.models import PyDenseModelBitAcc
from lava.proc.dense.process import Dense, LearningDense
from lava.proc.io.dataloader import StateDataloader
from lava.proc.io.reset import Reset
from lava.proc.io.sink import PyReceiveModelFixed, Read
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.learning_rules.stdp_learning_rule import STDPLoihi
from lava.proc.lif.process import LIF

from processes import Accumulator, CaLIF
from processes.accumulator.models import PyAccumulatorFixed

STEPS = 150  # more than two strides of the watched runtime
NETWORKS: dict[str, Any] = {}


def network(build):
    NETWORKS[build.__name__] = build
    return build


def fixed(**models):
    return Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=models.get("models", {}))


class GuardedNeuron(PyAccumulatorFixed):
    """Ours, with a phase of its own."""

    def post_guard(self):
        return self.time_step % 3 == 0

    def run_post_mgmt(self):
        self.v[...] = self.v // 2


class GuardedByInheritance(GuardedNeuron):
    """A guard that is two classes away."""


class LearningDenseOfAUser(PyDenseModelBitAcc):
    """A stock model, with a learning phase and what comes before it."""

    def pre_guard(self):
        return self.time_step % 5 == 0

    def lrn_guard(self):
        return self.time_step % 2 == 0

    def run_pre_mgmt(self):
        self.weights = self.weights + 2

    def run_lrn(self):
        self.weights = self.weights - 2 * (self.time_step % 4 == 0)


class CountingSink(PyReceiveModelFixed):
    """A stock model that counts its own phases in the data."""

    def lrn_guard(self):
        return self.time_step % 7 == 0

    def post_guard(self):
        return True

    def run_lrn(self):
        self.data[..., 0] += 1000

    def run_post_mgmt(self):
        self.data[..., 1] += 1


@implements(proc=Sink, protocol=LoihiProtocol)
@requires(CPU)
class OwnSink(PyLoihiProcessModel):
    """A user's model of the plain base."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    data: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def run_spk(self):
        self.data[..., self.time_step - 1] = self.a_in.recv()

    def post_guard(self):
        return self.time_step % 4 == 1

    def run_post_mgmt(self):
        self.data[..., self.time_step - 1] *= -1


class PausingSink(PyReceiveModelFixed):
    """A user's model that asks for a pause."""

    def run_spk(self):
        super().run_spk()
        self._req_pause = self.time_step == 70


def stream(neuron, cfg=None, high=4):
    """A source of random numbers before `neuron`, a sink behind it."""
    data = np.random.default_rng(5).integers(-high + 1, high, (*neuron.a_in.shape, STEPS))
    source, sink = Source(data=data), Sink(shape=neuron.a_in.shape, buffer=STEPS)
    source.s_out.connect(neuron.a_in)
    neuron.s_out.connect(sink.a_in)
    return source, cfg or fixed(), STEPS, [sink.data]


@network
def learning_dense():
    rng = np.random.default_rng(0)
    before, after = (rng.random((3, STEPS)) < 0.2).astype(int), (rng.random((2, STEPS)) < 0.2).astype(int)
    rule = STDPLoihi(learning_rate=1, A_plus=10, A_minus=-8, tau_plus=10, tau_minus=10, t_epoch=2)
    source, back = Source(data=before), Source(data=after)
    dense, neuron = LearningDense(weights=np.full((2, 3), 50.0), learning_rule=rule), CaLIF(shape=(2,), theta=100)
    source.s_out.connect(dense.s_in)
    dense.a_out.connect(neuron.a_in)
    back.s_out.connect(dense.s_in_bap)
    return source, Loihi2SimCfg(select_tag="floating_pt"), STEPS, [dense.weights]


@network
def read_every_fourth_step():
    neuron, read = Accumulator(shape=(2,)), Read(buffer=STEPS // 4, interval=4, offset=3)
    read.connect_var(neuron.v)
    source, cfg, steps, seen = stream(neuron)
    return source, cfg, steps, [*seen, read.data]


@network
def guarded_neuron():
    return stream(Accumulator(shape=(2,)), fixed(models={Accumulator: GuardedNeuron}))


@network
def guarded_by_inheritance():
    return stream(Accumulator(shape=(2,)), fixed(models={Accumulator: GuardedByInheritance}))


@network
def learning_dense_of_a_user():
    source = Source(data=np.ones((3, 1), int))
    dense, sink = Dense(weights=np.full((2, 3), 20), num_message_bits=4), Sink(shape=(2,), buffer=STEPS)
    source.s_out.connect(dense.s_in)
    dense.a_out.connect(sink.a_in)
    return source, fixed(models={Dense: LearningDenseOfAUser}), STEPS, [sink.data, dense.weights]


def at_the_end(model):
    source, sink = Source(data=np.arange(9).reshape(1, 9)), Sink(shape=(1,), buffer=STEPS)
    source.s_out.connect(sink.a_in)
    return source, fixed(models={Sink: model}), STEPS, [sink.data]


@network
def counting_sink():
    return at_the_end(CountingSink)


@network
def own_sink():
    return at_the_end(OwnSink)


@network
def pausing_sink():
    return at_the_end(PausingSink)


class Rows:
    """A data set for StateDataloader."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return np.array([index * 640, -index * 64]), index


def written(neuron):
    """Written to by two Resets and a data loader, in turns; what is there after the steps between.

    Within one step the order is left to chance, by stock Lava too.
    """
    read, loader = Read(buffer=STEPS // 2, interval=2, offset=1), StateDataloader(dataset=Rows(), interval=12, offset=4)
    for process in (Reset(interval=12, reset_value=64), Reset(interval=12, offset=8), loader, read):
        process.connect_var(neuron.v)
    source, cfg, steps, _ = stream(neuron)
    return source, cfg, steps, [neuron.v, read.data]


@network
def lif_written():
    """u = a_in * 64 for one step and v their sum, as an Accumulator with a shift of 6 has it."""
    return written(LIF(shape=(2,), du=4095, dv=0, vth=1 << 16))


@network
def accumulator_written():
    return written(Accumulator(shape=(2,), shift=6))


def main():
    results = {}
    for name, build in NETWORKS.items():
        process, cfg, steps, seen = build()
        process.run(RunSteps(steps), cfg)
        results[name] = [var.get().tolist() for var in seen]
        process.stop()
    print("\n" + json.dumps(results))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
