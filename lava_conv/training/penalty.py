"""Penalties that make the spiking network sparser and sooner settled, added to the loss while the ANN trains."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lava_conv.qat.layers import Quantiser


class SpikePenalty:
    """What the counts N of all neurons cost, a differentiable scalar of each batch:

        cost = spikes * mean(N) + late * mean(N * (N - 1) / 2)

    The mean is over images and neurons, so `mean(N)` is the net spikes of a neuron. A neuron sends at most one spike a
    step, so its n-th spike comes n - 1 steps after its first at the soonest: N * (N - 1) / 2 is the sum of these
    delays, which every layer behind waits for.

    Args:
        model: of `lava_conv.qat.prepare`.
        spikes: weight of the number of spikes.
        late: weight of their delays.
    """

    def __init__(self, model: nn.Module, spikes: float, late: float) -> None:
        self.spikes, self.late = spikes, late
        self._quantisers = [module for module in model.modules() if isinstance(module, Quantiser)]
        self._costs: list[Tensor] = []
        self._neurons = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The costs of what the model computes inside the block count."""
        handles = [module.register_forward_hook(self._note) for module in self._quantisers]
        self._costs, self._neurons = [], 0
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def cost(self) -> Tensor:
        """The penalty of the block: a scalar in float32 or wider."""
        return torch.stack(self._costs).sum() / self._neurons

    def _note(self, module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        assert isinstance(module, Quantiser)
        count = out / module.unit() + module.zero
        wide = torch.promote_types(out.dtype, torch.float32)
        cost = self.spikes * count.sum(dtype=wide)
        if self.late:
            cost = cost + self.late / 2 * (count * (count - 1)).sum(dtype=wide)
        self._costs.append(cost / len(out))
        self._neurons += out[0].numel()
