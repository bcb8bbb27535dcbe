"""How much memory is free, and a refusal before a result would take more."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lava_conv.errors import DataError

if TYPE_CHECKING:
    from lava_conv.network.graph import Graph

WORKING = 1 << 28  # bytes that a run needs besides its result: chunks of all threads, weights in the form of a kernel
CGROUPS, SELF = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def free_bytes() -> int | None:
    """Bytes that this process can still take: of the machine, and of its control group. None if the system tells none.

    Memory that only caches files counts as free.
    """
    found = [amount for amount in (_machine(), _group()) if amount is not None]
    return min(found) if found else None


def check_memory(need: int, what: str, remedy: str) -> None:
    """Refuse what would not fit.

    Args:
        need: bytes of the result; WORKING is added.
        what: the result, in words.
        remedy: what to do instead.

    Raises:
        DataError: less is free.
    """
    free = free_bytes()
    if free is not None and need + WORKING > free:
        raise DataError(f"{what} takes {need / 2**30:.1f} GiB, free are {free / 2**30:.1f} GiB; {remedy}")


def record_bytes(graph: "Graph", samples: int, steps: int, keep_spikes: bool, count_bytes: int | None = None) -> int:
    """Bytes of a Record: logits (int64), counts, and with `keep_spikes` spikes (int8).

    Args:
        graph: the network.
        samples: images.
        steps: time steps of each.
        keep_spikes: whether spikes are kept.
        count_bytes: of one count; default: the fewest that hold `steps` spikes of both signs.
    """
    neurons = sum(int(np.prod(layer.shape)) for _, layer, neuron in graph.neuron_layers() if neuron.spiking)
    each = np.min_scalar_type(-steps - 1).itemsize if count_bytes is None else count_bytes
    return samples * (neurons * (each + (steps if keep_spikes else 0)) + 8 * steps * graph.classes)


def _machine() -> int | None:
    try:
        with open("/proc/meminfo") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):  # not every system tells
        return None


def _group() -> int | None:
    """Of the control groups that a container or a batch system put this process into."""
    found = []
    for folder, most, taken, cache in _groups():
        try:
            limit, used = (int((folder / name).read_text()) for name in (most, taken))
            stat = (folder / "memory.stat").read_text().split()
        except (OSError, ValueError):  # absent, or "max"
            continue
        found.append(limit - used + int(dict(zip(stat[::2], stat[1::2], strict=False)).get(cache, 0)))
    return min(found, default=None)


def _groups() -> list[tuple[Path, str, str, str]]:
    """Folders of the group and of what holds it, each with the names of its files, of version 2 and version 1.

    Inside a container the group's own path may not be mounted; the root of the mount is then the group.
    """
    try:
        lines = [line.split(":", 2) for line in SELF.read_text().splitlines()]
    except OSError:
        return []
    found = []
    for _, controllers, path in lines:
        inner = [Path(*Path(path.lstrip("/")).parts[:n]) for n in range(len(Path(path.lstrip("/")).parts) + 1)]
        if controllers == "":
            found += [(CGROUPS / p, "memory.max", "memory.current", "inactive_file") for p in inner]
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            found += [(CGROUPS / "memory" / p, *names) for p in inner]
    return found
