"""Steps of the quantisers from the distribution of the float activations."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BINS = 4096
SEARCHED = 95  # thresholds 100 %, 99 %, ... of the largest activation (Li et al. 2021)


class Histogram:
    """Activations from 0 up, in BINS bins whose width doubles when a larger value comes."""

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.top, self.largest = 0.0, 0.0

    def add(self, values: Tensor) -> None:
        """Count values of any shape; what is not above 0 counts as 0."""
        values = values.detach().flatten().float()
        self.largest = max(self.largest, float(values.max()))
        self.top = self.top or self.largest
        while self.top and self.largest > self.top:
            folded = self.counts.reshape(-1, 2).sum(1)
            self.counts, self.top = np.concatenate([folded, np.zeros(BINS // 2, np.int64)]), 2 * self.top
        if not self.top:
            self.counts[0] += values.numel()
            return
        found = torch.histc(values.clamp_min(0), BINS, 0, self.top)
        self.counts += found.numpy().astype(np.int64)

    def step(self, levels: int, search: bool) -> float:
        """The value of one count: largest / levels, or with `search` the one that rounds and clips with the least
        squared error. Half a step is added before rounding down, as the neurons do."""
        if not self.largest:
            return 1.0 / levels
        if not search:
            return self.largest / levels
        centres = (np.arange(BINS) + 0.5) * self.top / BINS
        used = self.counts > 0
        centres, weights = centres[used], self.counts[used]
        steps = self.largest * (1 - 0.01 * np.arange(SEARCHED)) / levels
        rounded = np.clip(np.floor(centres / steps[:, None] + 0.5), 0, levels) * steps[:, None]
        return float(steps[((rounded - centres) ** 2 @ weights).argmin()])
