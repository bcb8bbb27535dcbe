"""Fake-quantised layers: they train in float and compute, forward, what the integer network will compute.

Two recipes. Zou et al. 2024 (Front. Neurosci. 18:1449020): ternary weights, median quantisation after batch
normalisation. Gao et al. 2023 (Front. Neurosci. 17:1141701): int8 weights with a scale per channel, activations with a
learned step. The first and the last layer are integer too: uint8 pixels, int8 weights.
Gradients pass through every rounding unchanged (straight-through).
"""

import copy
import logging
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from lava_conv.errors import DataError
from lava_conv.network.fixedpoint import INPUT_MAX, TIE, WEIGHT_MAX
from lava_conv.network.neurons import ca_lif, dynamic_threshold
from lava_conv.qat.pooling import Pool, frame, window
from lava_conv.torch_tools.convolution import conv

if TYPE_CHECKING:
    from lava_conv.qat.grid import Grid

log = logging.getLogger(__name__)

BETWEEN = 0.5  # in training, interpolation may leave 0..255 by so much
TERNARY_CUT = 0.7  # weights below 0.7 * mean|w| become 0 (Zou et al. 2024)
ANCHOR_PARTS = 16  # a step beside a shortcut is a multiple of 1/16 of the shortcut's
INT8_BITS = 8
SMALLEST = 1e-8  # scales and steps stay above it
ATEN: Any = torch.ops.aten
JIT: Any = torch.jit
W = TypeVar("W", bound="QuantisedWeight")


def straight_through(exact: Tensor, smooth: Tensor) -> Tensor:
    """`exact` forward, the gradient of `smooth` backward."""
    if not torch.is_grad_enabled():
        return exact
    return smooth + (exact - smooth).detach()


def half_up(x: Tensor, tie: float = TIE) -> Tensor:
    """floor(x + 1/2). A half that floating point missed by its last bits, by `tie` at most, still goes up."""
    return torch.floor(x + (0.5 + tie))


# The three below are `straight_through` in a few passes over memory: they take much of a training step on CPUs.


class _Context(FunctionCtx):
    """What `forward` keeps for `backward`."""

    saved_tensors: tuple[Tensor, ...]
    largest: float
    zero: int
    n_max: int


class _Ternary(torch.autograd.Function):
    """sign(w) where |w| > 0.7 * mean|w|, else 0; the gradient passes unchanged."""

    @staticmethod
    def forward(ctx: _Context, w: Tensor) -> Tensor:
        cut = TERNARY_CUT * w.abs().mean()
        return torch.clamp(w, -cut, cut).neg_().add_(w).sign_()

    @staticmethod
    def backward(ctx: _Context, *grads: Tensor) -> Tensor:
        return grads[0]


class _Median(torch.autograd.Function):
    """clip(floor(2^k * y + 1/2), 0, n_max) / 2^k; the gradient passes where y lies between the clips."""

    @staticmethod
    def forward(ctx: _Context, y: Tensor, k: int, n_max: int) -> Tensor:
        ctx.save_for_backward(y)
        ctx.largest = n_max / 2**k
        count = (y * 2**k if k else y).add(0.5 + TIE).floor_().clamp_(0, n_max or None)
        return count.div_(2**k) if k else count

    @staticmethod
    def backward(ctx: _Context, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _between(grads[0], ctx.saved_tensors[0], ctx.largest), None, None


class _Step(torch.autograd.Function):
    """(clip(floor(y / unit + zero + 1/2), 0, n_max) - zero) * unit with the gradients of Esser et al. 2020: to y where
    it lies between the clips, to the unit what rounding and clips have changed, in units."""

    @staticmethod
    def forward(ctx: _Context, y: Tensor, unit: Tensor, zero: int, n_max: int) -> Tensor:
        out = (y / unit).add_(zero + 0.5 + TIE).floor_().clamp_(0, n_max or None)
        out = (out.sub_(zero) if zero else out).mul_(unit)
        ctx.save_for_backward(y, unit, out)
        ctx.zero, ctx.n_max = zero, n_max
        return out

    @staticmethod
    def backward(ctx: _Context, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        given, (y, unit, out) = grads[0], ctx.saved_tensors
        to_y = _between(given, y / unit + ctx.zero if ctx.zero else y / unit, ctx.n_max)
        wide = torch.promote_types(y.dtype, torch.float32)
        to_unit = ((given * out).sum(dtype=wide) - (to_y * y).sum(dtype=wide)) / unit
        return to_y, to_unit.to(unit.dtype), None, None


def _between(given: Tensor, y: Tensor, largest: float) -> Tensor:
    """The gradient where 0 < y < largest (0: no such limit), else 0. torch's own backward of `clamp` compares twice and
    chooses, which takes ten times as long on CPUs."""
    if largest:
        return ATEN.hardtanh_backward(given, y, 0.0, largest)
    return ATEN.threshold_backward(given, y, 0.0)


class HasUnit(Protocol):
    """What counts are given by."""

    def unit(self) -> Tensor | float:
        """The value of one count."""
        ...


class Pixels(nn.Module):
    """The entrance: images of whole numbers 0..255 (uint8, or another type that holds them) to float, times `scale`.

    The first batch after each call of `train()` or `eval()` is looked at: an integer network takes pixels and nothing
    else, so a model that is trained on normalised images would become a network of something else. In training, images
    may hold what lies between pixels (turned, mixed or resized ones), as long as it lies in 0..255.

    Args:
        scale: the value of one grey level, 1/255 for a model of images in 0..1.
        channels: that the image must have, 0: not known.

    Raises:
        DataError: the images are not pixels, or have other channels.
    """

    def __init__(self, scale: float = 1.0, channels: int = 0) -> None:
        super().__init__()
        self.scale, self.channels = scale, channels
        self.looked = False

    def unit(self) -> float:
        """The value of one count."""
        return self.scale

    def train(self, mode: bool = True) -> "Pixels":
        """As torch's; the next batch is looked at again."""
        self.looked = False
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if not self.looked and not (torch.compiler.is_compiling() or JIT.is_tracing() or x.is_meta):
            self._look(x.detach())
            self.looked = True
        x = x if x.dtype in (torch.float32, torch.float64) else x.to(torch.get_default_dtype())
        return x if self.scale == 1 else x * self.scale

    def _look(self, x: Tensor) -> None:
        if self.channels and x.ndim > 2 and x.shape[1] != self.channels:
            last = "; they look like (N, H, W, C), move the channels to axis 1" if x.shape[-1] == self.channels else ""
            raise DataError(
                f"the images have shape {tuple(x.shape)}, the network takes {self.channels} channels: (N, "
                f"{self.channels}, ...){last}"
            )
        refuse_no_pixels(x, "the images", between=self.training)


# -- weights ---------------------------------------------------------------------------------------------------------


class QuantisedWeight(nn.Module):
    """Mixin: `quantise()` gives the integer weight (with a gradient) and its scale, weight ~ integer * scale.

    `grid` is set where the neuron's step must be a whole multiple of the unit of its sum: it then decides the scale.
    `most` is the largest integer, less than int8 holds where sums would leave 24 bits or fewer bits are wanted.
    `spread` clips weights beyond so many means of |w|, without which few bits would be spent on outliers.
    `floor` is the least amplitude, per channel or one for all: weights below it are rounded more coarsely. Calibration
    sets it where finer weights would drive sums or biases out of 24 bits.
    """

    weight: Tensor
    bias: Tensor | None
    grid: "Grid | None" = None
    most: int = WEIGHT_MAX
    spread: float | None = None
    floor: Tensor | None = None

    def quantise(self) -> tuple[Tensor, Tensor]:
        """(integer weight of the weight's shape, with a gradient; its scale, (channels,) or a scalar)."""
        raise NotImplementedError(f"{type(self).__name__} must say how it quantises its weight")

    def amplitude(self) -> Tensor:
        """Per output channel, the largest weight that is not clipped; one step of int8 is at least 1/127 of it."""
        sizes = self.weight.detach().abs().flatten(1)
        largest = sizes.amax(1)
        if self.spread is not None:
            largest = torch.minimum(largest, self.spread * sizes.mean(1))
        return self.raised(largest.clamp_min(SMALLEST))

    def raised(self, amplitude: Tensor) -> Tensor:
        """The amplitude, at least `floor`."""
        return amplitude if self.floor is None else torch.maximum(amplitude, self.floor.to(amplitude))

    def scaled(self, sum: Tensor, scale: Tensor) -> Tensor:
        """The sum of integers as a float."""
        return sum * scale

    @classmethod
    def from_float(cls: type[W], module: nn.Module) -> W:
        """A copy of a torch layer, parameters and options included, that quantises its weight."""
        new = copy.copy(module)
        new.__dict__ = {name: v.copy() if isinstance(v, dict) else v for name, v in vars(module).items()}
        new.__class__ = cls
        return cast(W, new)


def as_unit(value: Tensor | float) -> Tensor:
    """The value of one count as a tensor without gradient; a Python number in float64, which 1/255 needs."""
    return value.detach() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def column(scale: Tensor, like: Tensor) -> Tensor:
    """A scale per channel in the shape that multiplies `like`, channels first; a scalar stays one."""
    return scale.reshape(-1, *[1] * (like.ndim - 1)) if scale.ndim else scale


class TernaryWeight(QuantisedWeight):
    """sign(w) where |w| > 0.7 * mean|w|, else 0; no scale factor. On a grid: a small whole multiple of it."""

    def quantise(self) -> tuple[Tensor, Tensor]:
        w = self.weight
        ternary = cast(Tensor, _Ternary.apply(w))
        if self.grid is None:
            return ternary, torch.ones((), dtype=w.dtype, device=w.device)
        scale = self.grid.scale(self)
        return ternary * column(torch.round(1 / scale).clamp(1, WEIGHT_MAX), w), scale

    def amplitude(self) -> Tensor:
        return torch.ones_like(self.weight.detach().flatten(1)[:, 0])

    def scaled(self, sum: Tensor, scale: Tensor) -> Tensor:
        return sum if self.grid is None else sum * scale  # one pass less over what is as it should be


class Int8Weight(QuantisedWeight):
    """clip(round(w / s), -most, most), s = amplitude() / most for each output channel."""

    def narrow(self, bits: int) -> None:
        """Hold weights of fewer than 8 bits; one step is 2 * mean|w| / sqrt(most) at most, where Esser et al. 2020
        begin."""
        if bits < INT8_BITS:
            self.most = (1 << (bits - 1)) - 1
            self.spread = 2 * self.most**0.5

    def quantise(self) -> tuple[Tensor, Tensor]:
        w = self.weight
        scale = self.amplitude() / self.most if self.grid is None else self.grid.scale(self)
        smooth = w / column(scale, w)
        return straight_through(torch.round(smooth).clamp(-self.most, self.most), smooth), scale


class _QuantisedConv(QuantisedWeight, _ConvNd):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.padding_mode != "zeros":  # padded beforehand by torch itself
            return super()._conv_forward(input, weight, bias)
        return conv(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def forward(self, input: Tensor) -> Tensor:
        weight, scale = self.quantise()
        out = self.scaled(self._conv_forward(input, weight, None), column(scale, input[0]))
        return out if self.bias is None else out + column(self.bias, input[0])


class QuantisedConv1d(_QuantisedConv, nn.Conv1d):
    """Conv1d on the integer weight, times its scale. Without bias: batch normalisation follows."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, bias: bool = False, **options: Any
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias=bias, **options)


class QuantisedConv2d(_QuantisedConv, nn.Conv2d):
    """Conv2d on the integer weight, times its scale. Without bias: batch normalisation follows."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        bias: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias=bias, **options)


class QuantisedLinear(QuantisedWeight, nn.Linear):
    """Linear on the integer weight, times its scale. Without bias: batch normalisation follows."""

    def __init__(self, in_features: int, out_features: int, bias: bool = False) -> None:
        super().__init__(in_features, out_features, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        weight, scale = self.quantise()
        out = self.scaled(functional.linear(input, weight), scale)
        return out if self.bias is None else out + self.bias


class TernaryConv1d(TernaryWeight, QuantisedConv1d):
    """Conv1d with weights in {-1, 0, 1}."""


class TernaryConv2d(TernaryWeight, QuantisedConv2d):
    """Conv2d with weights in {-1, 0, 1}."""


class TernaryLinear(TernaryWeight, QuantisedLinear):
    """Linear with weights in {-1, 0, 1}."""


class Int8Conv1d(Int8Weight, QuantisedConv1d):
    """Conv1d with int8 weights, one scale for each output channel."""


class Int8Conv2d(Int8Weight, QuantisedConv2d):
    """Conv2d with int8 weights, one scale for each output channel."""


class Int8Linear(Int8Weight, QuantisedLinear):
    """Linear with int8 weights, one scale for each output neuron."""


class Readout(QuantisedWeight, nn.Linear):
    """The last layer: int8 weights with one common scale, and a bias that is a whole multiple of scale * unit.

    One scale, because the classes compare their integers directly. forward gives float logits.

    Args:
        in_features: inputs.
        classes: logits.
        source: what gives its input; one count of it is worth `source.unit()`, without it 1.
    """

    source: tuple[HasUnit, ...] = ()  # a tuple, so that torch does not list the module a second time
    whole: bool = False  # round logits to the whole multiples that they are: in float64 equal integers come out equal

    def __init__(self, in_features: int, classes: int, source: HasUnit | None = None) -> None:
        super().__init__(in_features, classes)
        self.source = () if source is None else (source,)

    def quantise(self) -> tuple[Tensor, Tensor]:
        scale = self.raised(self.weight.detach().abs().amax().clamp_min(SMALLEST)) / WEIGHT_MAX
        smooth = self.weight / scale
        return straight_through(torch.round(smooth), smooth), scale

    def quantised_bias(self, scale: Tensor) -> Tensor:
        """The bias (classes,) as the nearest whole multiple of scale * unit, with a gradient."""
        grain = self.grain(scale)
        smooth = self.bias / grain
        return straight_through(torch.round(smooth), smooth) * grain

    def grain(self, scale: Tensor) -> Tensor:
        """What 1 of the integer logits is worth."""
        return scale * as_unit(self.source[0].unit() if self.source else 1.0)

    def forward(self, input: Tensor) -> Tensor:
        weight, scale = self.quantise()
        out = functional.linear(input, weight) * scale
        out = out if self.bias is None else out + self.quantised_bias(scale)
        return torch.round(out / self.grain(scale)) * self.grain(scale) if self.whole else out


# -- activations -----------------------------------------------------------------------------------------------------


class Quantiser(nn.Module):
    """A quantised activation: the count N of the neuron behind it, times `unit()`.

    Fields:
        neuron: its type in the table `lava_conv.network.neurons.NEURONS`.
        n_max: largest count, 0 = no upper clip.
        zero: the count that stands for the value 0.
        encoder: the neuron never sends negative spikes.
        tie: a half goes up, even if it is missed by so much; None: it goes to the even neighbour.
        offset: what calibration adds to y for each channel; with a constant input it comes evenly over the sample.
        initial: the same, at the beginning of the sample.
        limit: the upper clip of the float activation that it stands for (ReLU6), None: none.
    """

    neuron: str = dynamic_threshold.NEURON.type
    n_max: int = 0
    zero: int = 0
    encoder: bool = False
    tie: float | None = TIE
    offset: Tensor | None = None
    initial: Tensor | None = None
    limit: float | None = None

    def unit(self) -> Tensor | float:
        """The value of one count."""
        raise NotImplementedError(f"{type(self).__name__} must say what one count is worth")


class MedianQuant(Quantiser):
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
        return 2.0**-self.k

    def forward(self, y: Tensor) -> Tensor:
        return cast(Tensor, _Median.apply(y, self.k, self.n_max))

    def extra_repr(self) -> str:
        return f"k={self.k}, n_max={self.n_max}, encoder={self.encoder}"


class LearnedStep(Quantiser):
    """Quantised ReLU with a learned step s: N = clip(floor(y / s + 1/2), 0, levels), output N * s (Esser et al. 2020).

    N is what the neuron behind it counts, so `levels` is the number of time steps that a full count takes. The step
    starts from the first batch (2 * mean(y) / sqrt(levels)) unless it is given; its gradient is scaled as in the paper.

    Args:
        levels: largest count (activation levels above zero).
        clip: False keeps the step but drops the upper clip.
        power_of_two: round the step to a power of two.
        step: the step to begin with.
        zero: the count that stands for the value 0; with it the output may be negative (see `Stream`).
    """

    neuron = ca_lif.NEURON.type
    step_ready: Tensor
    anchor: tuple[HasUnit, ...] = ()  # the quantiser of the shortcut that is added before this one

    def __init__(
        self, levels: int = 16, clip: bool = True, power_of_two: bool = False, step: float | None = None, zero: int = 0
    ) -> None:
        super().__init__()
        self.levels, self.n_max, self.power_of_two, self.zero = levels, levels if clip else 0, power_of_two, zero
        self.step = nn.Parameter(torch.tensor(step or 1.0 / levels))
        self.register_buffer("step_ready", torch.tensor(step is not None))

    def shifted(self, y: Tensor) -> Tensor:
        """y with what calibration adds to it."""
        for extra in (self.offset, self.initial):
            y = y if extra is None else y + column(extra, y[0])
        return y

    def mean_size(self, y: Tensor) -> Tensor:
        """What the first batch says of the size of activations."""
        return (y.abs() if self.zero else functional.relu(y)).mean()

    def unit(self) -> Tensor:
        size = self.step.abs().clamp_min(SMALLEST)
        if self.power_of_two:
            return straight_through(torch.exp2(torch.round(torch.log2(size))), size)
        if self.anchor:
            part = as_unit(self.anchor[0].unit()) / ANCHOR_PARTS
            return straight_through(torch.round(size / part).clamp_min(1) * part, size)
        return size

    def forward(self, y: Tensor) -> Tensor:
        if self.training and not self.step_ready:
            with torch.no_grad():
                self.step.copy_(2 * self.mean_size(y) / self.levels**0.5)
                self.step_ready.fill_(True)
        y = self.shifted(y)
        scale = (y[0].numel() * self.levels) ** -0.5
        unit = self.unit()
        unit = straight_through(unit, unit * scale)  # the gradient of a step that all neurons share, made smaller
        return cast(Tensor, _Step.apply(y, unit, self.zero, self.n_max))

    def extra_repr(self) -> str:
        return f"levels={self.levels}, n_max={self.n_max}, power_of_two={self.power_of_two}"


class Stream(nn.Identity):
    """Marks a sum that branches before any activation, as in pre-activation residual blocks; `prepare` puts a
    quantiser there whose counts stand for values of both signs."""


class Average(nn.Module):
    """Average pooling that the last layer absorbs: one count at its input is worth `unit()` at its output.

    Args:
        pool: torch's average pooling.
        source: what gives its input.
    """

    def __init__(self, pool: Pool, source: HasUnit) -> None:
        super().__init__()
        self.pool, self.source, self.share = pool, (source,), 1.0

    def unit(self) -> Tensor | float:
        """The value of one count."""
        return self.source[0].unit() * self.share

    def forward(self, x: Tensor) -> Tensor:
        self.share = 1 / window(self.pool, frame(x.shape[1:])).divisor
        return self.pool(x)


def refuse_no_pixels(x: Tensor, what: str, between: bool = False) -> None:
    """Refuse images that are not pixels: whole numbers in 0..255, or, with `between`, anything from 0 to 255.

    Images of nothing but 0 and 1 are taken, with a warning in the log: they may be binary images, or images of 0..1
    that were rounded to whole numbers.

    Raises:
        DataError: names the values and the remedy.
    """
    if not x.numel():
        return
    low, high = float(x.min()), float(x.max())
    parts = x.is_floating_point() and bool((x != x.round()).any())
    slack = BETWEEN if between and high > 1 else 0.0
    if low >= -slack and high <= INPUT_MAX + slack and not (parts and not slack):
        if 0 < high <= 1:
            log.warning(
                "%s hold nothing but 0 and 1, where pixels go up to %d; if they are images of 0..1, pass them as uint8 "
                "0..%d and put the scale into input_scale", what, INPUT_MAX, INPUT_MAX,
            )  # fmt: skip
        return
    raise DataError(
        f"{what} hold values from {low:.4g} to {high:.4g}{' that are not whole numbers' if parts else ''}, where "
        f"pixels are whole numbers in 0..{INPUT_MAX}; pass the images as uint8, before any scaling, and put the "
        f"scale into input_scale (1/255 for a model of images in 0..1)"
    )


def check_pixels(x: Tensor) -> Tensor:
    """The images as uint8, if every value is a whole number in 0..255.

    Raises:
        ValueError: one is not.
    """
    if x.dtype == torch.uint8:
        return x
    if x.dtype == torch.bool:
        return x.to(torch.uint8)
    whole = x.round()
    if not torch.isfinite(x).all() or bool((whole != x).any()) or bool((x < 0).any()) or bool((x > INPUT_MAX).any()):
        raise ValueError("pixels must be whole numbers in 0..255")
    return x.to(torch.uint8)
