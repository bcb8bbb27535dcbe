"""Fake-quantised layers: they train in float and compute, forward, what the integer network will compute.

The recipe is that of Zou et al. 2024 (Front. Neurosci. 18:1449020) with the first and the last layer quantised too:
uint8 pixels, int8 first layer, ternary hidden layers, median quantisation after batch normalisation, int8 readout.
Gradients pass through every rounding unchanged (straight-through).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from lava_conv.fixedpoint import INPUT_MAX, WEIGHT_MAX

TERNARY_CUT = 0.7  # weights below 0.7 * mean|w| become 0 (Zou et al. 2024)


def straight_through(exact: Tensor, smooth: Tensor) -> Tensor:
    """`exact` forward, the gradient of `smooth` backward."""
    return smooth + (exact - smooth).detach()


class Pixels(nn.Module):
    """The entrance: uint8 images (or floats that hold 0..255) to float, unscaled; normalisation learns the rest."""

    def forward(self, x: Tensor) -> Tensor:
        return x.to(torch.get_default_dtype()) if x.dtype == torch.uint8 else x


class QuantisedWeight:
    """Mixin: `quantise()` gives the integer weight (with a gradient) and its scale, weight ~ integer * scale."""

    weight: Tensor

    def quantise(self) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} must say how it quantises its weight")


class TernaryWeight(QuantisedWeight):
    """sign(w) where |w| > 0.7 * mean|w|, else 0; no scale factor."""

    def quantise(self) -> tuple[Tensor, Tensor]:
        w = self.weight
        exact = torch.sign(w) * (w.abs() > TERNARY_CUT * w.abs().mean())
        return straight_through(exact, w), torch.ones((), dtype=w.dtype, device=w.device)


class Int8Weight(QuantisedWeight):
    """round(w / s), s = max|w| / 127 for each output channel."""

    def quantise(self) -> tuple[Tensor, Tensor]:
        w = self.weight
        scale = w.detach().abs().flatten(1).amax(1).clamp_min(1e-8) / WEIGHT_MAX
        smooth = w / scale.reshape(-1, *[1] * (w.ndim - 1))
        return straight_through(torch.round(smooth).clamp(-WEIGHT_MAX, WEIGHT_MAX), smooth), scale


class QuantisedConv2d(QuantisedWeight, nn.Conv2d):
    """Conv2d on the integer weight, times its scale. Without bias: batch normalisation follows."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, **options: object) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias=False, **options)  # type: ignore[arg-type]

    def forward(self, input: Tensor) -> Tensor:
        weight, scale = self.quantise()
        return self._conv_forward(input, weight, None) * scale.reshape(-1, 1, 1)


class QuantisedLinear(QuantisedWeight, nn.Linear):
    """Linear on the integer weight, times its scale. Without bias: batch normalisation follows."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        weight, scale = self.quantise()
        return functional.linear(input, weight) * scale


class TernaryConv2d(TernaryWeight, QuantisedConv2d):
    """Conv2d with weights in {-1, 0, 1}."""


class TernaryLinear(TernaryWeight, QuantisedLinear):
    """Linear with weights in {-1, 0, 1}."""


class Int8Conv2d(Int8Weight, QuantisedConv2d):
    """Conv2d with int8 weights, one scale for each output channel."""


class Int8Linear(Int8Weight, QuantisedLinear):
    """Linear with int8 weights, one scale for each output neuron."""


class Readout(QuantisedWeight, nn.Linear):
    """The last layer: int8 weights with one common scale, and a bias that is a whole multiple of scale * unit.

    One scale, because the classes compare their integers directly. forward gives float logits.

    Args:
        source: what gives its input; one count of it is worth `source.unit()`, without it 1.
    """

    source: tuple[nn.Module, ...] = ()  # a tuple, so that torch does not list the module a second time

    def __init__(self, in_features: int, classes: int, source: nn.Module | None = None) -> None:
        super().__init__(in_features, classes)
        self.source = () if source is None else (source,)

    def quantise(self) -> tuple[Tensor, Tensor]:
        scale = self.weight.detach().abs().amax().clamp_min(1e-8) / WEIGHT_MAX
        smooth = self.weight / scale
        return straight_through(torch.round(smooth), smooth), scale

    def quantised_bias(self, scale: Tensor) -> Tensor:
        unit = self.source[0].unit() if self.source else 1.0  # type: ignore[operator]
        grain = scale * torch.as_tensor(unit).detach()
        smooth = self.bias / grain
        return straight_through(torch.round(smooth), smooth) * grain

    def forward(self, input: Tensor) -> Tensor:
        weight, scale = self.quantise()
        return functional.linear(input, weight) * scale + self.quantised_bias(scale)


class MedianQuant(nn.Module):
    """Quantised ReLU: N = clip(floor(2^k * y + 1/2), 0, n_max), output N / 2^k; N is what the neuron counts.

    Args:
        k: level; 2^k counts make one unit.
        n_max: largest count, 0 = no upper clip.
        encoder: the neuron behind it never sends negative spikes (the first layer, whose input does not change).
    """

    def __init__(self, k: int = 0, n_max: int = 0, encoder: bool = False) -> None:
        super().__init__()
        self.k, self.n_max, self.encoder = k, n_max, encoder

    def unit(self) -> float:
        """The value of one count."""
        return 2.0**-self.k

    def forward(self, y: Tensor) -> Tensor:
        smooth = functional.relu(y) if not self.n_max else y.clamp(0, self.n_max / 2**self.k)
        exact = torch.floor(smooth * 2**self.k + 0.5)
        if self.n_max:
            exact = exact.clamp(max=self.n_max)
        return straight_through(exact / 2**self.k, smooth)

    def extra_repr(self) -> str:
        return f"k={self.k}, n_max={self.n_max}, encoder={self.encoder}"


class LearnedStep(nn.Module):
    """Quantised ReLU with a learned step s: N = clip(floor(y / s + 1/2), 0, levels), output N * s (Esser et al. 2020).

    N is what the neuron behind it counts, so `levels` is the number of time steps that a full count takes. The step
    starts from the first batch (2 * mean(y) / sqrt(levels)); its gradient is scaled as the paper says.

    Args:
        levels: largest count (activation levels above zero).
        clip: False keeps the step but drops the upper clip.
    """

    step_ready: Tensor

    def __init__(self, levels: int = 16, clip: bool = True) -> None:
        super().__init__()
        self.levels, self.clip = levels, clip
        self.step = nn.Parameter(torch.tensor(1.0 / levels))
        self.register_buffer("step_ready", torch.tensor(False))

    @property
    def n_max(self) -> int:
        """Largest count, 0 = no upper clip."""
        return self.levels if self.clip else 0

    def unit(self) -> Tensor:
        """The step: the value of one count."""
        return self.step.abs().clamp_min(1e-8)

    def forward(self, y: Tensor) -> Tensor:
        if self.training and not self.step_ready:
            with torch.no_grad():
                self.step.copy_(2 * functional.relu(y).mean() / self.levels**0.5)
                self.step_ready.fill_(True)
        scale = (y[0].numel() * self.levels) ** -0.5
        unit = self.unit()
        unit = straight_through(unit, unit * scale)  # the gradient of a step that all neurons share, made smaller
        smooth = functional.relu(y / unit)
        if self.clip:
            smooth = smooth.clamp(max=self.levels)
        return straight_through(torch.floor(smooth + 0.5), smooth) * unit

    def extra_repr(self) -> str:
        return f"levels={self.levels}, clip={self.clip}"


def check_pixels(x: Tensor) -> Tensor:
    """The images as uint8, if every value is a whole number in 0..255."""
    if x.dtype == torch.uint8:
        return x
    whole = x.round()
    if not torch.isfinite(x).all() or bool((whole != x).any()) or bool((x < 0).any()) or bool((x > INPUT_MAX).any()):
        raise ValueError("pixels must be whole numbers in 0..255")
    return x.to(torch.uint8)
