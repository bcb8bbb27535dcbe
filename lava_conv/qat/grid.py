"""One integer unit for everything that a neuron adds up.

A neuron sums integers, so where several layers meet (a residual addition) their products must be whole multiples of
one common unit, for each output channel. The grid finds that unit from the layers' weights, the normalisation behind
them and the unit of their inputs, and tells each layer the weight scale that puts it there; training sees the rounding.
The neuron's step is a whole multiple of the unit too, or, if asked for, a power of two of it.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lava_conv.network.fixedpoint import WEIGHT_MAX
from lava_conv.qat.layers import ANCHOR_PARTS, HasUnit, QuantisedWeight, Quantiser, TernaryWeight, as_unit

TERNARY_GRAIN = 8  # a ternary layer's weight spans at least so many units: its slope is met within 1/16
SLACK = 1e-6  # a ratio so close below a whole number is one


class Summand(NamedTuple):
    """One of the things added up.

    Fields:
        layer: the weight layer, None: the shortcut itself.
        norms: the normalisations between it and the neuron.
        source: what gives its input, one count of which is worth `source.unit()`.
    """

    layer: QuantisedWeight | None
    norms: tuple[nn.Module, ...]
    source: HasUnit

    def factor(self) -> Tensor | float:
        """What normalisation multiplies each channel by."""
        factor: Tensor | float = 1.0
        for norm in self.norms:
            factor = factor * norm_factor(norm)
        return factor

    def unit(self) -> Tensor:
        """The value of one count at its input."""
        return as_unit(self.source.unit())

    def reach(self) -> Tensor:
        """What the largest weight makes of one count, per channel."""
        assert self.layer is not None
        return self.layer.amplitude() * abs(self.factor()) * self.unit()


def _denominator(ratio: Tensor) -> int:
    """The smallest power of two, up to ANCHOR_PARTS, that makes every ratio whole; 1 if none does."""
    part = 1
    while part <= ANCHOR_PARTS:
        if bool(((ratio * part - torch.round(ratio * part)).abs() < SLACK)[torch.isfinite(ratio)].all()):
            return part
        part *= 2
    return 1


def norm_factor(norm: Any) -> Tensor:
    """gamma / sigma of a batch normalisation, from its running statistics."""
    factor = torch.rsqrt(norm.running_var + norm.eps)
    return factor if norm.weight is None else factor * norm.weight.detach()


class Grid:
    """The common unit of a neuron layer; the neuron's step is a whole multiple of it.

    That makes integer thresholds exact however wide the layer: with a whole step, rounding the first threshold up to
    the next integer changes no count.

    Args:
        summands: all that is added up.
        quantiser: the activation behind the sum.
        power_of_two: the step is to be a power of two of the unit.
        step_max: the largest such power, None: any. A shortcut's unit is met before it. Weights that reach further than
            127 / step_max steps are clipped.
    """

    def __init__(
        self, summands: list[Summand], quantiser: Quantiser, power_of_two: bool = False, step_max: int | None = None
    ) -> None:
        self.summands, self.quantiser = summands, quantiser
        self.power_of_two, self.step_max = power_of_two, step_max

    def unit(self) -> Tensor:
        """The value of 1 in the neuron's sum, per output channel."""
        step = as_unit(self.quantiser.unit())
        unit = self._whole(self._finest(), step)
        if self.step_max is None:
            return unit
        # a weight further than a stock neuron can hold it is clipped
        reach = torch.stack([s.reach() for s in self.summands if s.layer is not None]).amax(0)
        return torch.where(reach > step * (WEIGHT_MAX / self.step_max), torch.minimum(unit, step / self.step_max), unit)

    def _whole(self, unit: Tensor, step: Tensor) -> Tensor:
        """A unit no finer than `unit` of which step and shortcuts are whole multiples."""
        shortcuts = [abs(s.factor()) * s.unit() + 0 * unit for s in self.summands if s.layer is None]
        if shortcuts:
            smallest = torch.stack(shortcuts).amin(0)
            most = 1 << (WEIGHT_MAX.bit_length() - 1) if self.power_of_two else WEIGHT_MAX
            # one count of the shortcut is a whole multiple too, and a multiple that keeps the step whole
            part = _denominator(step / smallest)
            multiple = (torch.floor(smallest / unit / part).clamp_min(1) * part).clamp(max=most // part * part)
            if self.power_of_two:
                multiple = torch.exp2(torch.floor(torch.log2(multiple)))
            unit = torch.where(smallest > 0, smallest / multiple, unit)
            if not self.power_of_two or bool((smallest > 0).all()):
                return unit
        ratio = step / unit
        if self.power_of_two:
            return step / torch.exp2(torch.floor(torch.log2(ratio) + SLACK)).clamp(max=self.step_max or torch.inf)
        return step / torch.floor(ratio + SLACK).clamp_min(1)

    def _finest(self) -> Tensor:
        """The finest unit on which the weights fit int8 and a ternary slope is met well."""
        least, fine = [], []
        for s in self.summands:
            if s.layer is not None:
                reach = s.reach()
                least.append(reach / s.layer.most)
                if isinstance(s.layer, TernaryWeight):
                    fine.append(torch.where(reach > 0, reach / TERNARY_GRAIN, torch.inf))
        unit = torch.stack(least).amax(0)
        if fine:
            wish = torch.stack(fine).amin(0)
            unit = torch.where(torch.isfinite(wish), torch.maximum(unit, wish), unit)
        return torch.where(unit > 0, unit, 1.0)

    def scale(self, layer: QuantisedWeight) -> Tensor:
        """The weight scale (channels,) that puts `layer` on the grid; its own where normalisation gives zero."""
        summand = next(s for s in self.summands if s.layer is layer)
        gain = abs(summand.factor()) * summand.unit()
        natural = layer.amplitude() / layer.most
        gain = gain + 0 * natural
        return torch.where(gain > 0, self.unit() / gain.clamp_min(1e-30), natural)
