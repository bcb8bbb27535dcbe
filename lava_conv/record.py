"""What a run leaves behind, the same for every backend."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_conv.classes import accuracy, predictions
from lava_conv.errors import DataError


class Counts(Mapping[int, NDArray[np.int64]]):
    """Layer index -> int64 (N, C, H, W) or (N, n) net spike counts.

    Kept in as few bytes as hold them, channels last where a backend has them so, and put right when asked for.
    """

    def __init__(self, kept: Mapping[int, NDArray[np.integer]], channels_last: bool = False) -> None:
        self._kept = dict(kept)
        self._last = channels_last

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        kept = self._kept[index]
        return np.ascontiguousarray(np.moveaxis(kept, -1, 1) if self._last else kept, np.int64)

    def narrow(self, index: int) -> NDArray[np.integer]:
        """The counts of a layer in the type in which they are kept, without a copy; not to be changed."""
        kept = self._kept[index]
        return np.moveaxis(kept, -1, 1) if self._last else kept

    def __iter__(self) -> Iterator[int]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"Counts({', '.join(f'layer {i}: {self[i].shape}' for i in self)})"


class NoSpikes(Mapping[int, NDArray[np.int8]]):
    """Stands for the spikes of a run that did not record them.

    Every look at it is refused, so that a loop over it never passes for layers that are silent.
    """

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise DataError("the record holds no spikes; run with record_spikes=True, on backend 'torch' or 'lava'")

    __getitem__ = __iter__ = __len__ = __contains__ = keys = values = items = get = __eq__ = _refuse

    def __repr__(self) -> str:
        return "NoSpikes()"


class Parts:
    """The arrays of a Record, filled part by part, each in the smallest type that holds its values.

    Args:
        samples: images in all.
        channels_last: how the counts that come are laid out.
    """

    def __init__(self, samples: int, channels_last: bool = False) -> None:
        self.samples, self.channels_last = samples, channels_last
        self.logits: NDArray[np.int64] = np.zeros(0, np.int64)
        self.counts: dict[int, NDArray[np.integer]] = {}
        self.spikes: dict[int, NDArray[np.int8]] = {}

    def put(
        self, start: int, logits: NDArray[np.int64], counts: Mapping[int, NDArray[np.integer]],
        spikes: Mapping[int, NDArray[np.int8]] | None = None,
    ) -> None:  # fmt: skip
        """Take over the images from `start` on: logits (steps, n, classes), counts (n, ...), spikes (steps, n, ...)."""
        if not self.logits.size:  # the first one to come shows the shapes
            self.logits = np.empty((len(logits), self.samples, logits.shape[2]), np.int64)
        rows = slice(start, start + logits.shape[1])
        self.logits[:, rows] = logits
        for index, count in counts.items():
            kept = self.counts.get(index)
            if kept is None:
                self.counts[index] = np.empty((self.samples, *count.shape[1:]), count.dtype)
            elif not np.can_cast(count.dtype, kept.dtype):  # larger values came
                self.counts[index] = kept.astype(np.promote_types(count.dtype, kept.dtype))
            self.counts[index][rows] = count
        for index, spike in (spikes or {}).items():
            if index not in self.spikes:
                self.spikes[index] = np.empty((len(spike), self.samples, *spike.shape[2:]), np.int8)
            self.spikes[index][:, rows] = spike

    def record(self, backend: str) -> "Record":
        """What was put in; `backend` in words."""
        return Record(self.logits, Counts(self.counts, self.channels_last), self.spikes or NoSpikes(), backend)


def smallest(values: NDArray[np.integer]) -> NDArray[np.integer]:
    """The same integers in the smallest type that holds them all."""
    ends = (np.min_scalar_type(int(values.min(initial=0))), np.min_scalar_type(int(values.max(initial=0))))
    return values.astype(np.promote_types(*ends), copy=False)


@dataclass(frozen=True, eq=False)
class Record:
    """The result of a run.

    Fields:
        logits: int64 (steps, N, classes), the readout after each step.
        counts: layer index -> int64 (N, C, H, W) or (N, n), net spike count after the last step.
        spikes: layer index -> int8 (steps, N, ...), of a run with record_spikes=True; layer indices as in the `.net`
            file. Else it refuses every look, see `has_spikes`.
        backend: which backend computed it, in words.
    """

    logits: NDArray[np.int64]
    counts: Mapping[int, NDArray[np.int64]]
    spikes: Mapping[int, NDArray[np.int8]] = field(default_factory=NoSpikes)
    backend: str = ""

    @property
    def has_spikes(self) -> bool:
        """Whether spikes were recorded, and there are layers that send some."""
        return not isinstance(self.spikes, NoSpikes) and len(self.spikes) > 0

    @property
    def steps(self) -> int:
        """How many time steps the record holds; 1 where only the settled result is known."""
        return self.logits.shape[0]

    @property
    def predictions(self) -> NDArray[np.int64]:
        """int64 (steps, N): the class that the logits name after each step, see `lava_conv.classes`."""
        return predictions(self.logits)

    def accuracy(self, labels: ArrayLike) -> NDArray[np.float64]:
        """Share of correct predictions after each step, float64 (steps,) of 0..1.

        Args:
            labels: the right classes, integers (N,) or (N, 1); with one or two outputs also booleans.

        Raises:
            DataError: they are no class numbers of this network, see `lava_conv.classes.check_labels`.
        """
        return accuracy(self.predictions, labels, self.logits.shape[2])


def differing_counts(a: Record, b: Record) -> NDArray[np.int64]:
    """How many counts of each image differ, int64 (N,), over the layers that both records have."""
    found = np.zeros(a.logits.shape[1], np.int64)
    for index in a.counts.keys() & b.counts.keys():
        one, other = (r.counts.narrow(index) if isinstance(r.counts, Counts) else r.counts[index] for r in (a, b))
        found += (one != other).reshape(len(found), -1).sum(1)
    return found
