"""What a toolkit exports: integer weights with their scales, quantisers with fixed steps. Nothing here is trained."""

from typing import Any

import torch
from torch import Tensor, fx, nn

from lava_conv.arguments import copied
from lava_conv.errors import ConversionError
from lava_conv.frontends.frontend import Opened
from lava_conv.frontends.module import read
from lava_conv.frontends.program import Shape
from lava_conv.network.neurons import ca_lif
from lava_conv.qat.evaluation import in_float64
from lava_conv.qat.layers import (
    Pixels,
    QuantisedConv1d,
    QuantisedConv2d,
    QuantisedLinear,
    QuantisedWeight,
    Quantiser,
    column,
    half_up,
)
from lava_conv.torch_tools.randomness import OwnRandom


def frozen(model: nn.Module) -> nn.Module:
    """A copy of a toolkit's model in evaluation mode, against which its Program is compared.

    Raises:
        ConversionError: it has hooks of its own.
    """
    if model._forward_hooks or model._forward_pre_hooks:
        raise ConversionError("the model has forward hooks, which no converted network runs; remove them")
    return copied(model).eval()


def opened(model: nn.Module, exported: fx.GraphModule, shape: Shape, input_scale: float) -> Opened:
    """What a toolkit's front end gives.

    Args:
        model: from `frozen`.
        exported: the same network, made of our layers.
        shape: of one image.
        input_scale: the model was trained on pixels (0..255) times this; one with `Pixels` in it takes pixels.
    """
    takes_pixels = any(isinstance(module, Pixels) for module in model.modules())
    return Opened(model, read(in_float64(exported), shape), 1.0 if takes_pixels else input_scale, exact=False)


class _Exported(QuantisedWeight):
    integer: Tensor
    scale: Tensor

    def quantise(self) -> tuple[Tensor, Tensor]:
        return self.integer, self.scale


class ExportedConv1d(_Exported, QuantisedConv1d):
    """Conv1d with the integer weight and the scale that it was given."""


class ExportedConv2d(_Exported, QuantisedConv2d):
    """Conv2d with the integer weight and the scale that it was given."""


class ExportedLinear(_Exported, QuantisedLinear):
    """Linear with the integer weight and the scale that it was given."""


def export(module: Any, integer: Tensor, scale: Tensor, bias: Tensor | None) -> Any:
    """A convolution or linear layer of the geometry of `module`, with integer weights.

    Args:
        module: Conv1d, Conv2d or Linear, or a toolkit's form of it; its options are taken over, not its parameters.
        integer: whole numbers in the shape of module.weight.
        scale: (channels,) or a scalar; weight = integer * scale.
        bias: (channels,), float, or None.

    Returns:
        ExportedConv1d, ExportedConv2d or ExportedLinear; nothing in it is trained.
    """
    options = {name: getattr(module, name) for name in ("stride", "padding", "dilation", "groups", "padding_mode")
               if hasattr(module, name)}  # fmt: skip
    if isinstance(module, nn.Linear):
        with OwnRandom():
            new: Any = ExportedLinear(module.in_features, module.out_features)
    else:
        kind = ExportedConv1d if isinstance(module, nn.Conv1d) else ExportedConv2d
        with OwnRandom():  # its weights are replaced
            new = kind(module.in_channels, module.out_channels, module.kernel_size, **options)  # type: ignore[arg-type]
    del new.weight
    new.register_buffer("weight", integer.detach().double() * column(scale.detach().double(), integer))
    new.register_buffer("integer", integer.detach().double())
    new.register_buffer("scale", scale.detach().double())
    if bias is not None:
        del new.bias  # the parameter that the constructor registered as absent
        new.register_buffer("bias", bias.detach().double())
    return new


class FixedStep(Quantiser):
    """A quantiser with a fixed step, zero point and rounding, as toolkits export them.

    N = clip(round(y / step) + zero, 0, n_max), output (N - zero) * step.

    Args:
        step: the value of one count, > 0.
        n_max: largest count.
        zero: the count that stands for the value 0.
        tie: as in `Quantiser`; None rounds half to even.
    """

    neuron = ca_lif.NEURON.type

    def __init__(self, step: float, n_max: int, zero: int = 0, tie: float | None = None) -> None:
        super().__init__()
        self.n_max, self.zero, self.tie = n_max, zero, tie
        self.register_buffer("step", torch.tensor(step, dtype=torch.float64))

    def unit(self) -> Any:
        """The value of one count: the step, float64."""
        return self.step

    def forward(self, y: Tensor) -> Tensor:
        smooth = y / self.step
        exact = torch.round(smooth) if self.tie is None else half_up(smooth, self.tie)
        return (exact + self.zero).clamp(0, self.n_max).sub(self.zero).mul(self.step).to(y.dtype)

    def extra_repr(self) -> str:
        return f"step={float(self.step):g}, n_max={self.n_max}, zero={self.zero}"  # type: ignore[arg-type]
