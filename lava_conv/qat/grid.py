"""One integer unit for everything that a neuron adds up.

A neuron sums integers, so where several layers meet (a residual addition) their products must be whole multiples of one
common unit, for each output channel. The grid finds that unit from the layers' weights, the normalisation behind them and the
unit of their inputs, and tells each layer the weight scale that puts it there; training sees the rounding. With power-of-two
steps, the unit is also the neuron's step divided by a power of two.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lava_conv.fixedpoint import WEIGHT_MAX
from lava_conv.qat.layers import QuantisedWeight, Quantiser, TernaryWeight

TERNARY_GRAIN = 8  # a ternary layer's weight spans at least so many units: its slope is met within 1/16


class Summand(NamedTuple):
    """One of the things added up: a weight layer (None: the shortcut itself), the normalisations between it and the
    neuron, and what gives its input, one count of which is worth `source.unit()`."""

    layer: QuantisedWeight | None
    norms: tuple[nn.Module, ...]
    source: Any

    def factor(self) -> Tensor | float:
        """What normalisation multiplies each channel by."""
        factor: Tensor | float = 1.0
        for norm in self.norms:
            factor = factor * norm_factor(norm)
        return factor

    def unit(self) -> Tensor:
        return torch.as_tensor(self.source.unit()).detach()


def norm_factor(norm: Any) -> Tensor:
    """gamma / sigma of a batch normalisation, from its running statistics."""
    factor = torch.rsqrt(norm.running_var + norm.eps)
    return factor if norm.weight is None else factor * norm.weight.detach()


class Grid:
    """The common unit of a neuron layer.

    Args:
        summands: all that is added up.
        quantiser: given if the neuron's step must be a power of two of the unit.
    """

    def __init__(self, summands: list[Summand], quantiser: Quantiser | None = None) -> None:
        self.summands, self.quantiser = summands, quantiser

    def unit(self) -> Tensor:
        """The value of 1 in the neuron's sum, per output channel."""
        layers = [s for s in self.summands if s.layer is not None]
        least, fine = [], []  # lower limits for int8, and what a ternary slope wishes at most
        for s in layers:
            assert s.layer is not None
            reach = s.layer.amplitude() * abs(s.factor()) * s.unit()
            least.append(reach / WEIGHT_MAX)
            if isinstance(s.layer, TernaryWeight):
                fine.append(torch.where(reach > 0, reach / TERNARY_GRAIN, torch.inf))
        unit = torch.stack(least).amax(0)
        if fine:
            wish = torch.stack(fine).amin(0)
            unit = torch.where(torch.isfinite(wish), torch.maximum(unit, wish), unit)
        unit = torch.where(unit > 0, unit, 1.0)
        shortcuts = [abs(s.factor()) * s.unit() for s in self.summands if s.layer is None]
        if shortcuts:
            smallest = torch.stack([x + 0 * unit for x in shortcuts]).amin(0)
            multiple = torch.floor(smallest / unit).clamp(1, WEIGHT_MAX)
            unit = torch.where(smallest > 0, smallest / multiple, unit)
        if self.quantiser is not None:
            step = torch.as_tensor(self.quantiser.unit()).detach()
            # rounding up keeps the weights within int8, and a shortcut (itself a power of two) a whole multiple
            power = torch.exp2(torch.floor(torch.log2(step / unit) + 1e-6))
            unit = step / power
            if shortcuts:
                unit = torch.minimum(unit, torch.stack([x + 0 * unit for x in shortcuts]).amin(0))
        return unit

    def scale(self, layer: QuantisedWeight) -> Tensor:
        """The weight scale (channels,) that puts `layer` on the grid; its own where normalisation gives zero."""
        summand = next(s for s in self.summands if s.layer is layer)
        gain = abs(summand.factor()) * summand.unit()
        natural = layer.amplitude() / WEIGHT_MAX
        gain = gain + 0 * natural
        return torch.where(gain > 0, self.unit() / gain.clamp_min(1e-30), natural)
