"""Adam with a cosine schedule on a few tensors, as both reconstructions use it."""

from collections.abc import Callable
from typing import TypedDict

import torch
from torch import Tensor


class Group(TypedDict):
    """Tensors with a learning rate of their own, as torch's optimisers take them."""

    params: list[Tensor]
    lr: float


def descend(
    groups: list[Group], loss: Callable[[Tensor], Tensor], samples: int, batch: int, iterations: int, seed: int
) -> None:
    """Make `loss` smaller by the tensors of `groups`, changed in place.

    Args:
        groups: what is adjusted; outside of this function none of their tensors asks for a gradient.
        loss: of the samples with these numbers.
        samples: how many there are to draw from.
        batch: how many are drawn for an iteration, with replacement; at most `samples`.
        iterations: steps of Adam; the rate falls as half a cosine over them.
        seed: of the drawing.
    """
    free: list[Tensor] = [w for group in groups for w in group["params"]]
    for w in free:
        w.requires_grad_(True)
    optimiser = torch.optim.Adam([dict(group) for group in groups])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(iterations):
        found = loss(torch.randint(samples, (min(batch, samples),), generator=generator))
        optimiser.zero_grad()
        found.backward()
        optimiser.step()
        schedule.step()
    for w in free:
        w.requires_grad_(False)
