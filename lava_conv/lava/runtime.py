"""A Lava runtime that cannot hang: stock `Runtime`, with every wait replaced by a watched one.

Stock Lava waits without end for children that raised, died or never answered. Here each wait polls the children: one
that failed ends the run with its own traceback, one that died or stopped moving ends it with its name, and whatever
happens the children and their shared memory are gone afterwards.
"""

import lava_conv.lava.start  # noqa: F401  before Lava

# isort: split
import contextlib
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar, cast

import numpy as np
from lava.magma.compiler.channels.interfaces import ChannelType
from lava.magma.core.process.message_interface_enum import ActorType
from lava.magma.core.run_conditions import AbstractRunCondition, RunSteps
from lava.magma.runtime.mgmt_token_enums import MGMT_COMMAND, MGMT_RESPONSE, enum_equal, enum_to_np
from lava.magma.runtime.runtime import Runtime
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from lava_conv.errors import BackendError, DataError, RangeError
from lava_conv.lava import children
from lava_conv.lava import memory as lava_memory
from lava_conv.lava import segments as lava_segments
from lava_conv.lava import vars as lava_vars
from lava_conv.lava.channels import DirectChannel, DirectRecvPort, DirectSendPort, free_running
from lava_conv.lava.patches import install
from lava_conv.lava.progress import Board
from lava_conv.lava.types import LavaObject, Numbers, Process, Segment, Structure, Unchecked
from lava_conv.progress import Progress

T = TypeVar("T")
STRIDE = 64  # steps to a command, where all models follow their data; a pause waits for the end of one
POLL = 0.0005  # seconds between looks at the children while nothing arrives
POLL_MAX = 0.01
STOP_TIMEOUT = 5.0  # seconds an orderly stop may take before the children are killed


class WatchedRuntime(Runtime):
    """Drop-in Runtime: `run`, `wait()`, `pause`, `stop` and Var access end within a bounded time.

    `watched` makes one. Every method raises BackendError, with the name of the process, where a child failed, died or
    stood still; the children and their shared memory are gone then.

    Args:
        executable: as compiled by Lava.
        timeout: seconds in which no process moves, or no answer comes, after which a run is given up.
    """

    def __init__(self, executable: LavaObject, timeout: float = 60.0) -> None:
        children.check_timeout(timeout)
        install()
        super().__init__(executable, ActorType.MultiProcessing, loglevel=logging.CRITICAL)
        self._timeout = timeout
        self._board = Board({builder._model_id: proc.name for proc, builder in executable.proc_builders.items()})
        self._stride = STRIDE if all(map(free_running, executable.proc_builders.values())) else 1
        self._parent = os.getpid()
        self._reached: Callable[[int], object] | None = None  # during a run, takes the time step that all reached
        self._places = lava_vars.places(executable)
        self._ended = False
        self._reason = "was stopped"  # why it ended, once it has
        self._note: Path | None = None
        self._memory: tuple[Process | None, list[Segment]] | None = None  # who gave out the segments, and which
        self._children = children.Children([proc.name for proc in executable.proc_builders])

    def initialize(self, node_cfg_idx: int = 0) -> None:
        """Start the children and wait until every process model is built.

        Args:
            node_cfg_idx: Lava's number of the node configuration; there is one.

        Raises:
            BackendError: not the main thread, a daemon process, or a process model that cannot be built.
        """
        children.check_may_start()
        children.keep(self)
        lava_segments.sweep()
        children.forking = True
        self._board.put_up()
        try:
            self._set_up_channels()
            structure = self._structure
            handles = list(structure.smm._shared_memory_handles)
            self._memory = lava_memory.process_of(structure.smm), handles  # Lava forgets them while it stops
            self._note = lava_segments.write_down(id(self), [handle._name.lstrip("/") for handle in handles])
            self._build_processes()
            self._build_runtime_services()
            self._start_ports()
            children.forking = False
            for number, answers in enumerate(self.exception_q):
                name = self._children.name(number)
                error = self._wait(lambda q=answers: children.take(q), f"building {name}")[0]
                if error is not None:
                    self._end(children.failure(name, error, getattr(error, "trace", "")))
        except BaseException:
            self.kill()
            raise
        finally:
            children.forking = False
        for answers in self.exception_q:
            answers.close()
            answers.join_thread()
        self.exception_q = []
        self._is_initialized = True

    def _set_up_channels(self) -> None:
        with lava_memory.Patience(self._manager, self._timeout) as patience:
            try:
                self._build_watchdog_manager()
                self._build_message_infrastructure()
                self._use_direct_channels(patience.beat)
                self._build_channels()
                self._build_sync_channels()
            except Exception as error:
                if lava_memory.died(self._manager()):
                    raise BackendError(
                        f"the process that gives out Lava's shared memory was killed, or did not answer for "
                        f"{self._timeout:g} s, while the network was set up; look for memory pressure or a kill, and "
                        f"run it again"
                    ) from error
                raise

    @property
    def _structure(self) -> Structure:
        return cast(Structure, self._messaging_infrastructure)

    @property
    def _answers(self) -> Sequence[DirectRecvPort]:
        return cast(Sequence[DirectRecvPort], self.service_to_runtime)

    def _manager(self) -> LavaObject:
        return getattr(self._messaging_infrastructure, "smm", None)

    def _use_direct_channels(self, heard: Callable[[], None]) -> None:
        structure = self._structure
        stock = structure.channel_class

        def of(channel_type: ChannelType) -> type:
            heard()  # Lava asks for the class before it makes a channel of it
            return DirectChannel if channel_type == ChannelType.PyPy else stock(channel_type)

        structure.channel_class = of

    def _run(self, run_condition: AbstractRunCondition) -> None:
        """Hand the run on in strides: each command of the service is for so many steps."""
        steps = run_condition.num_steps if isinstance(run_condition, RunSteps) else sys.maxsize
        self._board.announce(steps, self._stride)
        if isinstance(run_condition, RunSteps):
            run_condition = RunSteps(-(-steps // self._stride), run_condition.blocking)
        super()._run(run_condition)

    def start(self, run_condition: AbstractRunCondition) -> None:
        """Begin a run: RunSteps (which may wait for the end) or RunContinuous, until `pause` or `stop`.

        Raises:
            BackendError: the network was stopped, or is running.
            RangeError: the number of steps is no integer of 1 or more.
        """
        if self._ended:
            raise BackendError(f"this Lava network {self._reason}; build it again to run it once more")
        if isinstance(run_condition, RunSteps):
            steps = run_condition.num_steps  # Lava takes -1 for its command to stop, and so on
            if not isinstance(steps, int | np.integer) or steps < 1:
                raise RangeError(f"the number of time steps is {steps!r}, allowed is an integer of 1 or more")
        if self._is_running:
            raise BackendError("this Lava network is still running; wait for it, pause it or stop it first")
        try:
            super().start(run_condition)
        except BaseException:
            self.kill()
            raise

    def run(self, steps: int, progress: Progress | None = None) -> None:
        """Run for `steps` time steps and wait, watched; Vars can be read and set afterwards, and run called again.

        Args:
            steps: time steps, 1 or more.
            progress: called now and then with the time step that every process has reached, and `steps`.

        Raises:
            BackendError: a process failed, died or stood still for `timeout` seconds; names it and its time step.
            RangeError: `steps` is no integer of 1 or more.
        """
        self._reached = None if progress is None else lambda step: progress(step, steps)
        try:
            self.start(RunSteps(num_steps=steps, blocking=True))
        finally:
            self._reached = None
        if progress:
            progress(self._board.steps()[0], steps)

    def _get_resp_for_run(self) -> None:
        if not self._is_running:
            return
        for port in self._answers:
            answer = self._answer(port, "running")
            if enum_equal(answer, MGMT_RESPONSE.REQ_PAUSE):
                return self.pause()
            if enum_equal(answer, MGMT_RESPONSE.REQ_STOP):
                return self.stop()
            if not enum_equal(answer, MGMT_RESPONSE.DONE):
                self._collect()
        self._is_running = False

    def _collect(self) -> None:
        """Raise what a child failed of: its ERROR travels faster than its traceback."""
        self._wait(lambda: None, "collecting the traceback of a failed process", limit=STOP_TIMEOUT)

    def pause(self) -> None:
        """Pause a run started with blocking=False; Vars can be read and set, and run() goes on from here."""
        if not self._is_running:
            return
        for port in self.runtime_to_service:
            port.send(MGMT_COMMAND.PAUSE)
        for port in self._answers:
            # The run may have ended by itself just before: then its DONE comes first.
            while not enum_equal(self._answer(port, "pausing"), MGMT_RESPONSE.PAUSED):
                pass
        self._is_running = False

    def _answer(self, port: DirectRecvPort, phase: str) -> Numbers:
        return self._wait(lambda: (port.recv(),) if port.probe() else None, phase, doze=port.wait)[0]

    def get_var(self, var_id: int, idx: LavaObject = None) -> NDArray[np.float64]:
        """What `Var.get` gives: the values of a Var as its process holds them, float64 in the Var's shape.

        Works from the start on, before the first run too, and whenever no run is under way.

        Args:
            var_id: Lava's number of the Var.
            idx: index of the values to return, None: all of them.

        Raises:
            BackendError: the network has ended or is running, a child failed, died or did not answer in time.
        """
        place = self._place(var_id, "read")
        values = self._fetch(place, var_id)
        if place.holder not in (str, csr_matrix):
            if values.size != math.prod(place.shape):
                raise BackendError(f"{place} is declared with shape {place.shape}, and holds {values.size} values")
            values = values.reshape(place.shape)
        return values if idx is None else values[idx]

    def set_var(self, var_id: int, value: Unchecked, idx: object = None) -> None:
        """What `Var.set` does: replace all values of a Var, checked before anything is sent.

        Args:
            var_id: Lava's number of the Var.
            value: numbers of the Var's shape, or one for all of them.
            idx: not supported, because stock Lava writes such values to the first places.

        Raises:
            DataError: no numbers, or of another shape; or an idx.
            RangeError: a number that the Var cannot hold (see its dtype), or that its process does not allow.
            BackendError: the network has ended or is running, a child failed, died or did not answer in time.
        """
        place = self._place(var_id, "set")
        if idx is not None:
            raise DataError(f"{place} cannot be set in part; get it, change the array, and set the whole")
        values = lava_vars.checked(place, value)
        if place.asynchronous:
            raise BackendError(f"{place} cannot be set: its process runs asynchronously, and Lava has no way to")
        if place.holder is csr_matrix and len(kept := self._fetch(place, var_id)) != len(values):
            raise DataError(f"{place} holds {len(kept)} values that are not 0, the value has {len(values)}")
        with self._exchange():
            head = MGMT_COMMAND.SET_DATA, place.model, var_id, len(values)
            self._send(place, "setting", *head, *values)
            if not enum_equal(self._receive(place, "setting"), MGMT_RESPONSE.SET_COMPLETE):
                self._collect()

    def _place(self, var_id: int, done: str) -> lava_vars.Place:
        """Where a Var is, if it can be read or set now."""
        place = self._places.get(var_id)
        if place is None:
            raise BackendError(f"Lava's Var number {var_id} cannot be {done}: no process model of this network has it")
        if self._ended:
            raise BackendError(f"{place} cannot be {done}: this Lava network {self._reason}")
        if self._is_running:
            raise BackendError(f"{place} cannot be {done} during a run; wait for it or pause it first")
        if not self._is_initialized:
            raise BackendError(f"{place} cannot be {done} before the network has started")
        return place

    @contextlib.contextmanager
    def _exchange(self) -> Iterator[None]:
        """Messages that belong together: after half of them the next answer would be taken for the wrong one."""
        try:
            yield
        except BaseException:
            self.kill()
            raise

    def _fetch(self, place: lava_vars.Place, var_id: int) -> NDArray[np.float64]:
        with self._exchange():
            self._send(place, "reading", MGMT_COMMAND.GET_DATA, place.model, var_id)
            count = int(self._receive(place, "reading")[0])
            if count < 0:  # an ERROR
                self._collect()
            return np.array([self._receive(place, "reading")[0] for _ in range(count)], np.float64)

    def _send(self, place: lava_vars.Place, phase: str, *messages: LavaObject) -> None:
        port = cast(Sequence[DirectSendPort], self.runtime_to_service)[place.service]
        for message in messages:
            if not port.probe():
                self._wait(lambda: port.probe() or None, f"{phase} {place}")
            port.send(message if isinstance(message, np.ndarray) else enum_to_np(message))

    def _receive(self, place: lava_vars.Place, phase: str) -> Numbers:
        port = self._answers[place.service]
        return port.recv() if port.wait(POLL_MAX) else self._answer(port, f"{phase} {place}")

    def stop(self) -> None:
        """End the children in order where they wait, else at once, and free the shared memory; never raises."""
        if self._ended or os.getpid() != self._parent:
            return
        if self._is_running or not self._is_started:
            self.kill()
            return
        worker = threading.Thread(target=self._orderly_stop, daemon=True)
        worker.start()
        worker.join(STOP_TIMEOUT)
        self.kill()

    def _orderly_stop(self) -> None:
        with contextlib.suppress(Exception):
            super().stop()

    def kill(self, reason: str | None = None) -> None:
        """End the children and free the shared memory, now; harmless when that has happened already.

        Args:
            reason: what later calls say about it, None: that it was stopped.
        """
        if self._ended or os.getpid() != self._parent:
            return
        self._ended = True
        self._reason = f"has ended ({reason})" if reason else self._reason
        self._is_running = self._is_started = False
        children.forget(self)
        if self._messaging_infrastructure is None:
            return
        structure = self._structure
        for actor in structure.actors:
            with contextlib.suppress(ValueError, OSError):
                actor.kill()
        for actor in structure.actors:
            with contextlib.suppress(ValueError, OSError, EOFError, AssertionError):
                actor.join()
        for port in self._open_ports:
            with contextlib.suppress(Exception):
                port.join()
        self._open_ports.clear()
        if structure.smm is not None:
            now = lava_memory.process_of(structure.smm), list(structure.smm._shared_memory_handles)
            lava_memory.end(structure.smm, *(self._memory or now))
        lava_segments.give_back(self._note)
        for answers in self.exception_q or []:
            answers.close()

    def _wait(
        self,
        ready: Callable[[], T | None],
        phase: str,
        limit: float | None = None,
        doze: Callable[[float], object] = time.sleep,
    ) -> T:
        """Poll `ready` until it gives something; meanwhile look after the children, and see that they move."""
        structure = self._structure
        pause, begun, seen = POLL, time.monotonic(), -1
        seconds = self._timeout if limit is None else limit
        while True:
            value = ready()
            if value is not None:
                return value
            if end := self._children.ended(structure.actors, phase):
                self._end(end)
            step, total = self._board.steps()
            if total != seen and limit is None:
                begun, seen = time.monotonic(), total
                if self._reached:
                    self._reached(step)
            if time.monotonic() > begun + seconds:
                still = f"Lava did not move for {seconds:g} s while {phase}; it hangs at {self._board.stalled()}"
                self.kill(still)
                raise BackendError(f"{still}; the run was ended, try a larger timeout or fewer samples")
            doze(pause)
            pause = min(pause * 1.5, POLL_MAX)

    def _end(self, end: children.End) -> NoReturn:
        self.kill(end.reason)
        raise end.error
