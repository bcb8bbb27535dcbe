"""Types at the border to Lava. `Any` stands here once per reason; the rest of the package uses these names.

Arrays: NDArray[dtype] in the signature, the shape in the docstring.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from numpy.typing import DTypeLike, NDArray

# Lava creates the attributes of its process models, ports and processes at run time, from the Vars and ports that a
# class declares; it has no annotations for them.
LavaObject: TypeAlias = Any
# The values of a process's constructor arguments, of any type.
ProcParams: TypeAlias = Mapping[str, Any]
# Integers or floats of whichever width was sent; the shape is that of the port.
Numbers: TypeAlias = NDArray[Any]
# A number, an array or a sparse matrix, not yet checked.
Unchecked: TypeAlias = Any


class ModelInPort(Protocol):
    """An InPort as a process model holds it."""

    shape: tuple[int, ...]
    csp_ports: Sequence[LavaObject]
    _d_type: DTypeLike

    def recv(self) -> Numbers:
        """What arrives in this step."""
        ...


class ModelOutPort(Protocol):
    """An OutPort as a process model holds it."""

    def send(self, data: Numbers) -> None:
        """Send it in this step."""
        ...


class Process(Protocol):
    """An operating-system process, as multiprocessing starts it."""

    @property
    def pid(self) -> int | None:
        """Its number, None before it has started."""
        ...

    def is_alive(self) -> bool:
        """Whether it runs."""
        ...

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, at most `timeout` seconds."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


class Segment(Protocol):
    """One segment of shared memory."""

    _name: str

    def unlink(self) -> None:
        """Free it."""
        ...


class Structure(Protocol):
    """Lava's message infrastructure: the children and the shared memory of one network."""

    actors: Sequence[LavaObject]
    smm: LavaObject
    channel_class: Callable[[LavaObject], type]
