"""Lava's channels without listener threads, and several time steps per command: both make small steps cheap.

Stock Lava starts a thread per port, which forwards each message under the interpreter's lock, and its service sends
each process one command per time step. Here a port waits on the semaphore itself, and where all models of a
network follow their data (see `free_running`), one command lets them run many steps; the data channels alone keep them
in order, as a network of processes that block on reading (Kahn 1974). Both concern watched runtimes only.
"""

import lava_conv.lava.start  # noqa: F401  before Lava

# isort: split
import time
from collections.abc import Callable
from multiprocessing import Semaphore as semaphore
from multiprocessing.synchronize import Semaphore
from typing import TypeVar, cast

import numpy as np
from lava.magma.compiler.channels.interfaces import Channel
from lava.magma.compiler.channels.pypychannel import CspRecvPort, CspSelector, CspSendPort
from lava.magma.core.model.py.model import PyLoihiProcessModel
from numpy.typing import DTypeLike

from lava_conv.lava.types import LavaObject, Numbers

T = TypeVar("T")
SLOTS = 4  # messages in flight per channel between models: few, so that they stay in the cache
POLL = 0.0002  # seconds between looks at several channels at once
STOCK_FREE_RUNNING = ("lava.proc.conv.models", "lava.proc.dense.models", "lava.proc.io.source", "lava.proc.io.sink")
PHASES = (  # what makes more of a time step than `run_spk`; a stride has none of it
    *("pre_guard", "lrn_guard", "post_guard", "run_pre_mgmt", "run_lrn", "run_post_mgmt", "run"),
    *("_spike", "_pre_mgmt", "_lrn", "_post_mgmt", "_host", "add_ports_for_polling", "advance_to_time_step"),
)


class _Port:
    """What both ends share: a ring of arrays in shared memory, and a semaphore for each direction."""

    def __init__(
        self, name: str, memory: LavaObject, shape: tuple[int, ...], kind: LavaObject, size: int,
        full: Semaphore, free: Semaphore,
    ) -> None:  # fmt: skip
        self._name, self._shape, self._dtype, self._size = name, tuple(shape), kind, size  # Lava's properties read them
        self.full, self.free = full, free
        self.memory, self.at = memory, 0
        self.slots: list[Numbers] = []
        self.observer: LavaObject = None  # stock selectors set it; nothing here calls it

    def start(self) -> None:
        """Lay the ring's arrays over the shared memory; no thread is started."""
        kind = np.dtype(np.int32 if self._dtype == 4 else self._dtype)  # 4: Lava's number for int32
        length = int(np.prod(self._shape)) * kind.itemsize
        self.slots = [
            np.ndarray(self._shape, kind, self.memory.buf[length * i : length * (i + 1)]) for i in range(self._size)
        ]

    def next_slot(self) -> Numbers:
        """The current array of the ring; advances to the next one."""
        slot = self.slots[self.at]
        self.at = (self.at + 1) % self._size
        return slot

    def join(self) -> None:
        """No thread to end."""


class DirectSendPort(_Port, CspSendPort):
    """Sends into a ring of arrays; blocks while it is full."""

    def probe(self) -> bool:
        """Whether `send` would not block."""
        if not self.free.acquire(block=False):
            return False
        self.free.release()
        return True

    def send(self, data: Numbers) -> None:
        """Copy a message of the channel's shape into the ring, once there is room."""
        if data.shape != self._shape:
            raise AssertionError(f"{self._name}: data of shape {data.shape} for a channel of {self._shape}")
        self.free.acquire()
        self.next_slot()[...] = data
        self.full.release()


class DirectRecvPort(_Port, CspRecvPort):
    """Receives from a ring of arrays; blocks while it is empty."""

    held = False  # a message was found and not yet taken

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for a message, at most `seconds`; return whether there is one."""
        self.held = self.held or self.full.acquire(timeout=seconds)
        return self.held

    def probe(self) -> bool:
        """Whether `recv` would not block."""
        return self.wait(0)

    def peek(self) -> Numbers:
        """A copy of the next message, which stays where it is; blocks until there is one."""
        self.wait()
        return self.slots[self.at].copy()

    def recv(self) -> Numbers:
        """A copy of the next message, which is taken; blocks until there is one."""
        self.wait()
        self.held = False
        data = self.next_slot().copy()
        self.free.release()
        return data


class DirectChannel(Channel):
    """Drop-in for Lava's PyPyChannel, without its watchdogs: a watched runtime looks after its children itself."""

    def __init__(
        self, infrastructure: LavaObject, source: str, target: str, shape: tuple[int, ...], kind: DTypeLike, size: int,
        *watchdogs: object,
    ) -> None:  # fmt: skip
        if not source.endswith("_src"):  # Lava's name for the channels of its service, which carry Vars too
            size = min(size, SLOTS)
        memory = infrastructure.smm.create_shared_memory(int(np.prod(shape) * np.dtype(kind).itemsize * size))
        full, free = semaphore(0), semaphore(size)
        self._source = DirectSendPort(source, memory, shape, kind, size, full, free)
        self._target = DirectRecvPort(target, memory, shape, kind, size, full, free)

    @property
    def src_port(self) -> DirectSendPort:
        """The sender's end."""
        return self._source

    @property
    def dst_port(self) -> DirectRecvPort:
        """The receiver's end."""
        return self._target


_stock_select = CspSelector.select


def _select(self: CspSelector, *channel_actions: tuple[LavaObject, Callable[[], T]]) -> T:
    """Wait for one of several channels; a single direct one without looking again and again."""
    if not all(isinstance(channel, DirectRecvPort) for channel, _ in channel_actions):
        return cast(T, _stock_select(self, *channel_actions))
    if len(channel_actions) == 1:
        channel, action = channel_actions[0]
        channel.wait()
        return action()
    while True:
        for channel, action in channel_actions:
            if channel.probe():
                return action()
        time.sleep(POLL)


REPLACED = ((CspSelector, "select", _select),)  # set by `patches.install`


def free_running(builder: LavaObject) -> bool:
    """Whether a process only follows its data, so that it may run several steps to a command.

    That takes a model whose `run_spk` is known to (`_declared`), with no phase of its own beside it, inherited or not,
    and without RefPorts.

    Args:
        builder: Lava's builder of the process, which knows its model and its ports.
    """
    model = builder.proc_model
    return (
        issubclass(model, PyLoihiProcessModel)
        and not getattr(builder, "ref_ports", True)
        and _declared(model)
        and all(getattr(model, name) is getattr(PyLoihiProcessModel, name) for name in PHASES)
    )


def _declared(model: type) -> bool:
    """Whether the class whose `run_spk` it is says `free_running = True`, or is one of Lava's own that are known to."""
    for base in model.__mro__:
        if "free_running" in vars(base):
            return bool(vars(base)["free_running"])
        if base.__module__ in STOCK_FREE_RUNNING:
            return True
        if "run_spk" in vars(base):
            return False
    return False
