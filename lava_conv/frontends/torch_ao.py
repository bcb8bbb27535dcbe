"""torch.ao.quantization in FX graph mode: `prepare`, the qconfig behind it, and the export of what was trained.

What `prepare_qat_fx` gives can be exported if weights are symmetric int8, activations are quantised per tensor, and
what is padded is unsigned with zero point 0 (as behind a ReLU). `prepare` makes such a model and links weights to
activations, so that every neuron's step is a whole number in its integer sum: then integer thresholds exist however
wide the layer.
"""

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.ao.quantization import (
    FakeQuantize,
    FakeQuantizeBase,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    QConfig,
    QConfigMapping,
)
from torch.ao.quantization.quantize_fx import prepare_qat_fx

from lava_conv.arguments import model_of
from lava_conv.errors import ConversionError, Problem, grouped, problem
from lava_conv.frontends import gate
from lava_conv.frontends.effective import effective
from lava_conv.frontends.exported import FixedStep, export, frozen, opened
from lava_conv.frontends.frontend import Opened
from lava_conv.frontends.nodes import exchange, insert, module_of, place, unused
from lava_conv.frontends.program import Shape
from lava_conv.frontends.tracing import trace
from lava_conv.network.fixedpoint import INPUT_MAX, WEIGHT_MAX, WEIGHT_MIN
from lava_conv.qat.layers import Pixels, column, half_up, straight_through

TIE_FLOAT32 = 2.0**-16  # halves that float32 missed by its last bits go up too
NORMALISED = (torch.ao.nn.intrinsic.qat.modules.conv_fused._ConvBnNd, torch.ao.nn.intrinsic.qat.LinearBn1d)
RELUS = (nn.ReLU,)


class _Observed(FakeQuantize):
    """torch's fake-quantiser with its observation apart from its arithmetic."""

    def observe(self, X: Tensor) -> bool:
        """Let the observer see X and take over its step; gives whether to quantise."""
        if self.observer_enabled[0] == 1:
            self.activation_post_process(X.detach())
            self.take(*self.calculate_qparams())
        return bool(self.fake_quant_enabled[0] == 1)

    def take(self, scale: Tensor, zero: Tensor) -> None:
        """Quantise with this scale and zero point from now on."""
        self.scale.resize_(scale.shape).copy_(scale)
        self.zero_point.resize_(zero.shape).copy_(zero)


class WholeStepFakeQuantize(_Observed):
    """A weight quantiser whose scale makes the neuron's step a whole multiple of the unit of its sum.

    scale = s_out / (s_in * floor(s_out / (s_in * scale of the observer))); s_in and s_out are the steps of the
    activations before and behind the layer, known once `prepare` has linked them.
    """

    link: tuple[Any, ...] = ()

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """(scale (channels,), zero point); the observer's scale until `prepare` has linked the layer."""
        scale, zero = super().calculate_qparams()
        if self.link:
            before, behind = (float(q.scale) if isinstance(q, FakeQuantizeBase) else q.unit() for q in self.link)
            scale = behind / before / torch.floor(behind / before / scale.double() + 1e-6).clamp_min(1)
        return scale, zero

    def forward(self, X: Tensor) -> Tensor:
        if not self.observe(X):
            return X
        self.take(*self.calculate_qparams())  # the activations' steps move even while this observer rests
        limits = (self.quant_min, self.quant_max)
        return torch.fake_quantize_per_channel_affine(X, self.scale, self.zero_point, self.ch_axis, *limits)


class HalfUpFakeQuantize(_Observed):
    """An activation quantiser in which a half goes up, as in integer thresholds, and not to the even neighbour.

    Halves are frequent behind an average of counts, and no evenly spaced thresholds round them to even.
    """

    def forward(self, X: Tensor) -> Tensor:
        if not self.observe(X):
            return X
        low, high = (bound - int(self.zero_point[0]) for bound in (self.quant_min, self.quant_max))
        step = self.scale.clone()  # a quantiser that stands in two places moves it again before the gradient is taken
        smooth = (X / step).clamp(low, high)
        return straight_through(half_up(smooth, TIE_FLOAT32).clamp(low, high), smooth) * step


def qconfig(levels: int = 16) -> QConfig:
    """Activations with `levels` levels above zero, per tensor; weights symmetric int8, per output channel."""
    return QConfig(activation=_activation(levels), weight=_weight(per_channel=True))


def qconfig_mapping(model: nn.Module, levels: int = 16) -> QConfigMapping:
    """`qconfig` for every layer; the last linear layer has one weight scale for all classes, which must compare."""
    mapping = QConfigMapping().set_global(qconfig(levels))
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if linear:
        mapping.set_module_name(linear[-1], QConfig(activation=_activation(levels), weight=_weight(per_channel=False)))
    return mapping


def _activation(levels: int) -> Any:
    return HalfUpFakeQuantize.with_args(
        observer=MovingAverageMinMaxObserver,
        quant_min=0,
        quant_max=levels,
        dtype=torch.quint8,
        qscheme=torch.per_tensor_affine,
        reduce_range=False,
    )


def _weight(per_channel: bool) -> Any:
    # no average over time: normalisation moves the folded weights faster than an average follows, which would clip them
    options: dict[str, Any] = {"quant_min": -WEIGHT_MAX, "quant_max": WEIGHT_MAX, "averaging_constant": 1.0}
    options["dtype"] = torch.qint8
    if per_channel:
        return WholeStepFakeQuantize.with_args(
            observer=MovingAveragePerChannelMinMaxObserver, qscheme=torch.per_channel_symmetric, ch_axis=0, **options
        )
    return FakeQuantize.with_args(observer=MovingAverageMinMaxObserver, qscheme=torch.per_tensor_symmetric, **options)


def prepare(model: nn.Module, example_input: Tensor, levels: int = 16, input_scale: float = 1.0) -> fx.GraphModule:
    """`prepare_qat_fx` with our qconfig, the image entering unquantised (it is integer already), weights linked.

    Args:
        model: a float model; it is not changed.
        example_input: (N, C, H, W), as the model takes it.
        levels: largest count of a neuron.
        input_scale: the model is trained on pixels (0..255) times this. The prepared model takes the pixels themselves.
    """
    model = model_of(model)
    fused = effective(model).train()
    prepared = prepare_qat_fx(fused, qconfig_mapping(fused, levels), (example_input,))
    _same_as_model(model, prepared, example_input)
    pixels = _strip(prepared, input_scale)
    nodes: Any = prepared.graph.nodes
    for node in nodes:
        weight = _weight_quantiser(prepared, node)
        if isinstance(weight, WholeStepFakeQuantize):
            before = _find(prepared, node.all_input_nodes[0], lambda n: n.all_input_nodes[:1])
            behind = _find(prepared, next(iter(node.users), node), lambda n: list(n.users)[:1]) if node.users else None
            if behind is not None:
                weight.link = (before or pixels, behind)
    return prepared


def _same_as_model(model: nn.Module, prepared: fx.GraphModule, example_input: Tensor) -> None:
    """torch.ao reads the model in training mode, and exchanges layers for its own: the function must be the same."""
    twin = copy.deepcopy(prepared).eval()
    for module in twin.modules():
        if isinstance(module, FakeQuantizeBase):
            module.disable_observer()
            module.disable_fake_quant()
    gate.same_result(gate.Witness(model, gate.some(example_input), set(), exact=False), twin, "torch.ao")


def _weight_quantiser(traced: fx.GraphModule, node: fx.Node) -> Any:
    return getattr(module_of(traced, node), "weight_fake_quant", None)


def _find(traced: fx.GraphModule, node: fx.Node, onward: Any) -> Any:
    """The first activation quantiser from `node` on, past what has no weights."""
    while True:
        module = module_of(traced, node)
        if isinstance(module, FakeQuantizeBase):
            return module
        following = onward(node)
        if not following or hasattr(module, "weight_fake_quant"):
            return None
        node = following[0]


def accepts(model: nn.Module) -> bool:
    """Whether torch.ao's fake-quantisers are in the model."""
    return any(isinstance(module, FakeQuantizeBase) for module in model.modules())


def open_model(model: nn.Module, shape: Shape, input_scale: float) -> Opened:
    """A model from `prepare_qat_fx`, trained, before convert_fx (see `lava_conv.frontends.frontend.FrontEnd`)."""
    model = frozen(model)
    for module in model.modules():
        if isinstance(module, FakeQuantizeBase):
            module.disable_observer()  # observers watch in evaluation mode, too
    return opened(model, export_model(model, input_scale), shape, input_scale)


def export_model(model: nn.Module, input_scale: float) -> fx.GraphModule:
    """The trained model made of our layers, with integer input and unquantised logits."""
    new = trace(effective(model).eval(), lambda m: isinstance(m, FakeQuantizeBase | Pixels) or _has_weights(m))
    if not any(isinstance(m, Pixels) for m in new.modules()):
        _strip(new, input_scale)
    problems: list[Problem] = []
    nodes: Any = list(new.graph.nodes)
    for node in nodes:
        module = module_of(new, node)
        try:
            if _has_weights(module):
                exchange(new, node, _export_weights(module))
                if "ReLU" in type(module).__name__:  # the quantiser behind it clips at 0 as well
                    node.meta.pop("call")
            elif isinstance(module, FakeQuantizeBase):
                _export_activation(new, node, module)
        except ConversionError as error:
            problems.append(problem(place(node), str(error)))
    if problems:
        raise ConversionError(f"cannot convert: {grouped(problems)}")
    for node in list(new.graph.nodes):  # type: ignore[attr-defined]
        if isinstance(module_of(new, node), RELUS):
            node.replace_all_uses_with(node.all_input_nodes[0])  # the quantiser behind it clips at 0 as well
            new.graph.erase_node(node)
    new.delete_all_unused_submodules()
    new.recompile()
    return new


def _has_weights(module: Any) -> bool:
    return hasattr(module, "weight_fake_quant")


def _strip(traced: fx.GraphModule, input_scale: float) -> Pixels:
    """The image enters as pixels and the logits leave unquantised; gives the entrance."""
    pixels = Pixels(input_scale)
    nodes: Any = list(traced.graph.nodes)
    for node in nodes:
        quantiser = module_of(traced, node)
        if not isinstance(quantiser, FakeQuantizeBase):
            if node.op == "placeholder":
                insert(traced, node, pixels, "pixels")
            continue
        before = node.all_input_nodes[0]
        of_input = before.op == "placeholder" or module_of(traced, before) is pixels
        of_output = all(user.op == "output" for user in node.users)
        if of_input and not made_for_pixels(quantiser, input_scale):
            raise ConversionError(
                f"{place(node)}: quantises the image with step {float(quantiser.scale[0]):g} and zero point "
                f"{int(quantiser.zero_point[0])}, needed are the pixels themselves (step {input_scale:g}, zero point "
                f"0, 0..255); prepare with lava_conv.frontends.torch_ao.prepare, and pass its input_scale to convert"
            )
        if of_input or of_output:
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return pixels


def calibrated(quantiser: Any) -> bool:
    """Whether the quantiser's observer has seen data (one without a range needs none)."""
    least = getattr(quantiser.activation_post_process, "min_val", torch.zeros(1))
    return bool(least.numel() and torch.isfinite(least).all())


def made_for_pixels(quantiser: Any, input_scale: float) -> bool:
    """Whether an input quantiser changes no pixel: not yet calibrated, or with exactly the pixels' grid."""
    if not calibrated(quantiser):
        return True
    top = quantiser.quant_max - quantiser.quant_min
    offset = int(quantiser.zero_point[0]) - quantiser.quant_min
    return top >= INPUT_MAX and offset == 0 and abs(float(quantiser.scale[0]) / input_scale - 1) < 1e-3


def _export_weights(module: Any) -> nn.Module:
    quantiser = module.weight_fake_quant
    if int(quantiser.zero_point.abs().max()) or quantiser.quant_min < WEIGHT_MIN or quantiser.quant_max > WEIGHT_MAX:
        raise ConversionError(
            f"its weights are quantised to {quantiser.quant_min}..{quantiser.quant_max} with zero point "
            f"{int(quantiser.zero_point.abs().max())}, allowed is symmetric int8 (zero point 0)"
        )
    if not calibrated(quantiser):
        raise ConversionError("its weight quantiser was never calibrated; run the model on data in training mode first")
    weight, bias = module.weight.detach(), module.bias
    if isinstance(module, NORMALISED):
        bn = module.bn
        factor = bn.weight.detach() / torch.sqrt(bn.running_var + bn.eps)
        weight = weight * column(factor, weight)
        bias = bn.bias.detach() + (0 if bias is None else bias.detach()) * factor - bn.running_mean * factor
    whole = isinstance(quantiser, WholeStepFakeQuantize)  # before float32 rounds it, the step is a whole multiple
    scale = quantiser.calculate_qparams()[0] if whole else quantiser.scale.detach()
    scale = scale if scale.numel() > 1 else scale.reshape(())
    # the kernel multiplies by the inverse in float32, and rounds a half to the even neighbour
    integer = torch.round(weight * (1 / column(scale, weight))).clamp(quantiser.quant_min, quantiser.quant_max)
    return export(module, integer, scale, bias)


def _export_activation(traced: fx.GraphModule, node: fx.Node, quantiser: Any) -> None:
    if quantiser.scale.numel() != 1:
        raise ConversionError("it quantises activations per channel; use per_tensor_affine")
    if not quantiser.fake_quant_enabled[0]:
        raise ConversionError("its fake quantisation is disabled; enable it and train with it")
    if not calibrated(quantiser):
        raise ConversionError("it was never calibrated; run the model on data in training mode first")
    step = float(quantiser.scale[0])
    zero = int(quantiser.zero_point[0]) - quantiser.quant_min
    top = quantiser.quant_max - quantiser.quant_min
    tie = TIE_FLOAT32 if isinstance(quantiser, HalfUpFakeQuantize) else None
    before = node.all_input_nodes[0]
    if zero and "ReLU" in type(module_of(traced, before)).__name__:
        raise ConversionError(f"its zero point is {zero} behind a ReLU, needed is 0; calibrate it on more data")
    for user in list(node.users):
        if isinstance(module_of(traced, user), RELUS):
            # A ReLU behind a signed quantiser cuts off what lies below the zero point: the counts begin there.
            user.replace_input_with(node, before)
            user.target = unused(traced, f"{user.name}_counts")
            traced.add_submodule(user.target, FixedStep(step, top - zero, tie=tie))
    if node.users:
        exchange(traced, node, FixedStep(step, top, zero, tie))
    else:
        traced.graph.erase_node(node)
