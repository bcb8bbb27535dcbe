"""One fault, played by a real interpreter: `python fault_scenario.py NAME`. Prints what the user would see."""

import os
import signal
import sys
import time
import warnings

warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
from faulty.process import Faulty  # noqa: E402
from lava.magma.core.run_conditions import RunSteps  # noqa: E402
from lava.magma.core.run_configs import Loihi2SimCfg  # noqa: E402
from lava.proc.io.source import RingBuffer  # noqa: E402

from lava_conv.lava import WatchedRuntime, watched  # noqa: E402
from lava_conv.lava import memory as lava_memory  # noqa: E402
from processes import DynamicThreshold  # noqa: E402

CFG = Loihi2SimCfg(select_tag="fixed_pt")


def network(mode=None, at=3):
    source, neuron = (
        RingBuffer(data=np.ones((3, 5), int)),
        DynamicThreshold(shape=(3,), theta=0, delta=1, name="neuron"),
    )
    if mode is None:
        source.s_out.connect(neuron.a_in)
        return neuron
    faulty = Faulty(mode=mode, at=at)
    source.s_out.connect(faulty.a_in)
    faulty.s_out.connect(neuron.a_in)
    return neuron


def run_for_ever():
    with watched(network(), CFG, timeout=60) as runtime:
        print("ready", flush=True)
        while True:
            runtime.run(50)


def fail(mode):
    with watched(network(mode), CFG, timeout=3) as runtime:
        runtime.run(10)


def build_fails():
    """The model's constructor raises in the child."""
    with watched(network("before", at=None), CFG, timeout=3) as runtime:
        runtime.run(1)


def child_killed():
    with watched(network(), CFG, timeout=20) as runtime:
        runtime.run(2)
        runtime._messaging_infrastructure.actors[0].kill()
        runtime.run(2)


def child_stopped():
    with watched(network(), CFG, timeout=3) as runtime:
        runtime.run(2)
        os.kill(runtime._messaging_infrastructure.actors[1].pid, signal.SIGSTOP)
        runtime.run(2)


def memory(number, moment):
    """The process that gives out shared memory is killed or stopped, before a channel is made or during the run."""
    built = WatchedRuntime._build_channels

    def strike(runtime):
        os.kill(lava_memory.process_of(runtime._manager()).pid, number)

    def build(runtime):
        if moment == "setup":
            strike(runtime)
        built(runtime)

    WatchedRuntime._build_channels = build
    with watched(network(), CFG, timeout=3) as runtime:
        runtime.run(2)
        if moment == "run":
            strike(runtime)
        runtime.run(2)
    print("fine")


def user_error():
    with watched(network(), CFG) as runtime:
        runtime.run(2)
        raise ZeroDivisionError("in the user's code")


def stop_twice():
    with watched(network(), CFG) as runtime:
        runtime.run(2)
        runtime.stop()
        runtime.stop()
    print("fine")


def run_after_stop():
    with watched(network(), CFG) as runtime:
        runtime.run(2)
        runtime.stop()
        runtime.run(2)


def second_run():
    with watched(network(), CFG) as runtime:
        runtime.start(RunSteps(num_steps=100_000, blocking=False))
        time.sleep(0.2)
        runtime.run(2)


def never_stopped():
    context = watched(network(), CFG)
    runtime = context.__enter__()
    runtime.run(2)
    print("fine")
    globals()["kept"] = context


def pause_and_go_on():
    neuron = network()
    with watched(neuron, CFG) as runtime:
        runtime.start(RunSteps(num_steps=1_000_000, blocking=False))
        time.sleep(0.2)
        runtime.pause()
        first = neuron.v.get()
        runtime.run(10)
        assert (neuron.v.get() > first).all()
    print("fine")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs behind it with SIGINT ignored
    name = sys.argv[1]
    if name in ("before", "after", "stuck"):
        fail(name)
    elif name.startswith("memory"):
        _, how, moment = name.split()
        memory(signal.SIGKILL if how == "killed" else signal.SIGSTOP, moment)
    else:
        globals()[name]()
