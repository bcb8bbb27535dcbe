"""Brevitas (optional, `lava-conv[brevitas]`): export of QuantConv1d/2d, QuantLinear, QuantReLU, QuantIdentity.

Weights: symmetric int8 or fewer bits, per tensor or per output channel (per tensor in the last layer). Activations: per
tensor, a fixed number of bits; behind what is padded unsigned, as QuantReLU gives them.
"""

from typing import Any

import brevitas.nn as qnn
import torch
from brevitas.nn.mixin.base import QuantLayerMixin
from torch import fx, nn

from lava_conv.errors import ConversionError, Problem, grouped, problem
from lava_conv.frontends.effective import effective
from lava_conv.frontends.exported import FixedStep, export, frozen, opened
from lava_conv.frontends.frontend import Opened
from lava_conv.frontends.nodes import exchange, insert, module_of, place
from lava_conv.frontends.program import Shape
from lava_conv.frontends.tracing import trace
from lava_conv.network.fixedpoint import INPUT_MAX
from lava_conv.qat.layers import Pixels

WEIGHTS = (qnn.QuantConv1d, qnn.QuantConv2d, qnn.QuantLinear)
ACTIVATIONS = (qnn.QuantReLU, qnn.QuantIdentity, qnn.QuantHardTanh)


def accepts(model: nn.Module) -> bool:
    """Whether Brevitas layers are in the model."""
    return any(isinstance(module, QuantLayerMixin) for module in model.modules())


def open_model(model: nn.Module, shape: Shape, input_scale: float) -> Opened:
    """A trained model (see `lava_conv.frontends.frontend.FrontEnd`)."""
    model = frozen(model)
    return opened(model, export_model(model, input_scale), shape, input_scale)


def export_model(model: nn.Module, input_scale: float) -> fx.GraphModule:
    """The trained model made of our layers, with integer input."""
    new = trace(effective(model).eval(), lambda m: isinstance(m, QuantLayerMixin))
    nodes: Any = list(new.graph.nodes)
    entrance = insert(new, next(n for n in nodes if n.op == "placeholder"), Pixels(input_scale), "pixels")
    problems: list[Problem] = []
    for node in list(new.graph.nodes):  # type: ignore[attr-defined]
        module = module_of(new, node)
        try:
            if isinstance(module, WEIGHTS):
                exchange(new, node, _weights(module))
            elif isinstance(module, ACTIVATIONS):
                if node.all_input_nodes[0].name == entrance.name:
                    _refuse_other_pixels(module.act_quant, input_scale)
                    exchange(new, node, nn.Identity())
                else:
                    exchange(new, node, _activation(module.act_quant, relu=isinstance(module, qnn.QuantReLU)))
            elif isinstance(module, QuantLayerMixin):
                raise ConversionError(
                    f"is a {type(module).__name__}, which has no counterpart here; use QuantConv1d/2d, QuantLinear, "
                    f"QuantReLU and QuantIdentity with nn.AvgPool2d and plain additions"
                )
        except ConversionError as error:
            problems.append(problem(place(node), str(error)))
    if problems:
        raise ConversionError(f"cannot convert: {grouped(problems)}")
    new.recompile()
    return new


def _weights(module: Any) -> nn.Module:
    if not module.weight_quant.is_quant_enabled:
        raise ConversionError("its weights are not quantised; give it a weight_quant")
    for name in ("input_quant", "output_quant", "bias_quant"):
        if getattr(module, name).is_quant_enabled:
            remedy = "a bias needs none: thresholds hold it exactly" if name == "bias_quant" else "use QuantIdentity"
            raise ConversionError(f"it has an {name}; leave it out ({remedy})")
    with torch.no_grad():
        weight = module.quant_weight()
    if float(weight.zero_point.abs().max()) or float(weight.bit_width) > 8:
        raise ConversionError(
            f"its weights have {int(weight.bit_width)} bits and zero point {float(weight.zero_point.abs().max()):g}, "
            f"allowed is symmetric with up to 8 bits"
        )
    scale = weight.scale.reshape(-1) if weight.scale.numel() > 1 else weight.scale.reshape(())
    return export(module, weight.int(float_datatype=True), scale, module.bias)


def _limits(quantiser: Any) -> tuple[float, int, int]:
    """Step, largest count and the count of 0 of an activation quantiser."""
    if not quantiser.is_quant_enabled:
        raise ConversionError("its quantisation is disabled; enable it")
    scale, bits = quantiser.scale(), int(quantiser.bit_width())
    if scale is None or scale.numel() != 1:
        raise ConversionError("it quantises activations per channel; use a per-tensor scale")
    if quantiser.rounding_mode != "ROUND":
        raise ConversionError(f"it rounds by {quantiser.rounding_mode}; use ROUND")
    if float(quantiser.zero_point()):
        raise ConversionError("its zero point is not 0; use a symmetric or an unsigned quantiser")
    narrow = int(bool(quantiser.is_narrow_range))
    top = (1 << bits) - 1 - narrow
    return float(scale), top, (1 << (bits - 1)) - narrow if quantiser.is_signed else 0


def _activation(quantiser: Any, relu: bool) -> FixedStep:
    step, top, zero = _limits(quantiser)
    return FixedStep(step, top - zero, 0) if relu else FixedStep(step, top, zero)


def _refuse_other_pixels(quantiser: Any, input_scale: float) -> None:
    if not quantiser.is_quant_enabled:
        return
    step, top, zero = _limits(quantiser)
    if top - zero < INPUT_MAX or abs(step / input_scale - 1) > 1e-6:
        raise ConversionError(
            f"it quantises the image with step {step:g} up to {top - zero}, needed are the pixels themselves (step "
            f"{input_scale:g}, 0..{INPUT_MAX}); leave it out, the image is integer already"
        )
