"""Which images an epoch of training takes: all of them, or fewer of those that are learned already."""

import torch
from torch import Tensor

LAST = 0.125  # the share of the epochs, at the end, that take every image


class Selection:
    """Dynamic data pruning as in InfoBatch (Qin et al., ICLR 2024).

    An epoch leaves out a random `share` of the images whose last loss was below the mean; the others of these count
    1 / (1 - share) times, so that the sum of gradients is that of all images on average. The last eighth of the epochs
    takes every image.

    Args:
        images: how many there are.
        share: 0 takes every image always, in an order drawn anew.

    Fields:
        scores: (images,) the last loss of each; infinite before the first.
    """

    def __init__(self, images: int, share: float) -> None:
        self.share = share
        self.scores = torch.full((images,), torch.inf)

    def batches(self, epoch: int, epochs: int, batch: int, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
        """The batches of an epoch: (indices, weights of the losses), both (batch,).

        What is left beyond whole batches is not used, unless it is all there is.
        """
        order = torch.randperm(len(self.scores), generator=generator)
        weights = torch.ones(len(order))
        if self.share and epoch < epochs * (1 - LAST):
            easy = self.scores < self.scores[self.scores.isfinite()].mean()
            left_out = easy & (torch.rand(len(easy), generator=generator) < self.share)
            weights[easy] = 1 / (1 - self.share)
            order = order[~left_out[order]]
        whole = order[: len(order) // batch * batch]
        return [(chosen, weights[chosen]) for chosen in (whole if len(whole) else order).split(batch)]

    def note(self, chosen: Tensor, losses: Tensor) -> None:
        """Keep the losses (n,) of the images with these indices (n,)."""
        self.scores[chosen] = losses.detach().to("cpu", self.scores.dtype)
