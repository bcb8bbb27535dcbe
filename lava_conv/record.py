"""What a run leaves behind, the same for every backend."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


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
    counts: dict[int, NDArray[np.int64]]
    spikes: dict[int, NDArray[np.int8]] = field(default_factory=dict)
    backend: str = ""

    @property
    def steps(self) -> int:
        return self.logits.shape[0]

    @property
    def predictions(self) -> NDArray[np.int64]:
        """int64 (steps, N): the class with the largest logit after each step; the lower index wins a tie."""
        return self.logits.argmax(axis=2)

    def accuracy(self, labels: NDArray[np.integer]) -> NDArray[np.float64]:
        """Share of correct predictions after each step, float64 (steps,)."""
        return (self.predictions == np.asarray(labels)[None]).mean(axis=1)
