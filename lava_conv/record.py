"""What a run leaves behind, the same for every backend."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_conv.classes import accuracy, predictions


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

    def __iter__(self) -> Iterator[int]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"Counts({', '.join(f'layer {i}: {self[i].shape}' for i in self)})"


@dataclass(frozen=True, eq=False)
class Record:
    """The result of a run.

    Fields:
        logits: int64 (steps, N, classes), the readout after each step.
        counts: layer index -> int64 (N, C, H, W) or (N, n), net spike count after the last step.
        spikes: layer index -> int8 (steps, N, ...), only if recorded; layer indices as in the `.net` file.
        backend: which backend computed it, in words.
    """

    logits: NDArray[np.int64]
    counts: Mapping[int, NDArray[np.int64]]
    spikes: dict[int, NDArray[np.int8]] = field(default_factory=dict)
    backend: str = ""

    @property
    def steps(self) -> int:
        """How many time steps the record holds; 1 where only the settled result is known."""
        return self.logits.shape[0]

    @property
    def predictions(self) -> NDArray[np.int64]:
        """int64 (steps, N): the class that the logits name after each step, see `lava_conv.classes`."""
        return predictions(self.logits)

    def accuracy(self, labels: Any) -> NDArray[np.float64]:
        """Share of correct predictions after each step, float64 (steps,) of 0..1.

        Args:
            labels: the right classes, integers (N,) or (N, 1); with one or two outputs also booleans.

        Raises:
            DataError: they are no class numbers of this network, see `lava_conv.classes.check_labels`.
        """
        return accuracy(self.predictions, labels, self.logits.shape[2])
