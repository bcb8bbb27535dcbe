"""The time step and activity of every child, in memory shared with the parent, so that a stall is named.

Children write one row each: the time step and what they are doing. The hooks sit on Lava's own base classes and do
nothing unless a watched runtime has put up its board; they cost two writes a step.
"""

import lava_conv.lava.start  # noqa: F401  before Lava

# isort: split
import mmap

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPortVectorDense, PyOutPortVectorDense
from lava.magma.runtime.runtime_services.runtime_service import LoihiPyRuntimeService
from numpy.typing import NDArray

from lava_conv.errors import BackendError
from lava_conv.lava.channels import PHASES
from lava_conv.lava.types import LavaObject, Numbers
from lava_conv.progress import Progress

IDLE, COMPUTING, RECEIVING, SENDING = range(4)
DOING = {
    IDLE: "between two steps",
    COMPUTING: "computing",
    RECEIVING: "waiting for input",
    SENDING: "waiting to send",
}

DECLARE = (
    "while the network runs many steps to a command; write `free_running = False` into the class, and every step is "
    "a command of its own"
)

_board: "Board | None" = None  # inherited by the children through fork


class Board:
    """Shared rows (time step, doing), one for each model id."""

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names
        self._memory = mmap.mmap(-1, (len(names) + 2) * 16)
        values: NDArray[np.int64] = np.frombuffer(self._memory, np.int64).reshape(-1, 2)
        self.rows = {model: values[number] for number, model in enumerate(names)}
        self.order = values[len(names) :].ravel()  # number of the run, its steps, steps to a command

    def announce(self, steps: int, stride: int) -> None:
        """Set the steps of the next run, and how many of them one command covers."""
        self.order[:3] = self.order[0] + 1, steps, stride

    def put_up(self) -> None:
        """Make it the one that children forked from now on write to."""
        global _board
        _board = self

    def steps(self) -> tuple[int, int]:
        """The time step that every child has reached, and the sum of all theirs, which grows while anything moves."""
        reached = [int(row[0]) for row in self.rows.values()]
        return min(reached, default=0), sum(reached)

    def stalled(self) -> str:
        """The process that holds the others up: one that computes, else one between two steps, else the earliest."""
        order = (COMPUTING, IDLE, SENDING, RECEIVING)
        found = min(self.rows.items(), key=lambda item: (order.index(int(item[1][1])), int(item[1][0])), default=None)
        if found is None:
            return "no process"
        model, (step, doing) = found
        return f"{self.names[model]}, {DOING[int(doing)]} in step {int(step)}"


def _row(model: LavaObject) -> NDArray[np.int64] | None:
    return None if _board is None else _board.rows.get(model.model_id)


_stock_spike = PyLoihiProcessModel._spike
_stock_recv = PyInPortVectorDense.recv
_stock_send = PyOutPortVectorDense.send
_stock_pause = LoihiPyRuntimeService._handle_pause


def _spike(self: LavaObject) -> None:
    """One command of the service: the steps of a stride, and the answer after the last."""
    row = _row(self)
    if row is None or _board is None:
        return _stock_spike(self)
    run, steps, stride, _ = map(int, _board.order)
    if getattr(self, "_run_number", None) != run:
        self._run_number, self._run_steps = run, 0
    count = min(stride, steps - self._run_steps)
    self._run_steps += count
    if count > 1 and (own := [name for name in PHASES if name in self.__dict__]):
        raise BackendError(f"{type(self).__name__} sets {own[0]} on the instance, {DECLARE}")
    for _ in range(count - 1):
        self.time_step += 1
        row[0], row[1] = self.time_step, COMPUTING
        self.run_spk()
        if self._req_pause or self._req_stop:
            raise BackendError(f"{type(self).__name__} asks to pause or stop in step {self.time_step}, {DECLARE}")
    row[0], row[1] = self.time_step + 1, COMPUTING
    _stock_spike(self)
    row[1] = IDLE


def _recv(self: LavaObject) -> Numbers:
    row = _row(self._process_model)
    if row is None:
        return _stock_recv(self)
    row[1] = RECEIVING
    if len(self.csp_ports) == 1:  # nothing to add up; but the type is what adding to zeros of the port's type gives
        value = receive(self)
        value = value.astype(np.result_type(value, self._d_type), copy=False)
    else:
        value = _stock_recv(self)
    row[1] = COMPUTING
    return value


def receive(port: LavaObject) -> Numbers:
    """What arrives at an InPort with one connection, in the type in which it was sent."""
    (source,) = port.csp_ports
    return port._transformer.transform(source.recv(), source)


def _send(self: LavaObject, data: Numbers) -> None:
    row = _row(self._process_model)
    if row is None:
        return _stock_send(self, data)
    row[1] = SENDING
    _stock_send(self, data)
    row[1] = COMPUTING


def _handle_pause(self: LavaObject) -> None:
    """Stock Lava never clears this flag, and so never reports the end of a run that follows a pause."""
    _stock_pause(self)
    self.pausing = False


REPLACED = (  # set by `patches.install`
    (PyLoihiProcessModel, "_spike", _spike),
    (PyInPortVectorDense, "recv", _recv),
    (PyOutPortVectorDense, "send", _send),
    (LoihiPyRuntimeService, "_handle_pause", _handle_pause),
)


def by_sample(progress: Progress | None, samples: int, steps: int, depth: int) -> Progress | None:
    """From the time step that every process has reached to the number of images finished."""
    if progress is None:
        return None
    done = 0

    def reached(step: int, _: int) -> None:
        nonlocal done
        finished = min(samples, max(done, (step - depth) // steps))
        if finished > done:
            progress(finished, samples)
            done = finished

    return reached
