"""A plain nn.Module -> the same network, quantised for training: weights, activations, and the sums between them."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from lava_conv.arguments import above_zero, images_of, model_of
from lava_conv.errors import ConversionError, DataError
from lava_conv.frontends import gate
from lava_conv.frontends.calls import plain
from lava_conv.frontends.effective import effective
from lava_conv.frontends.probe import probe
from lava_conv.frontends.tracing import trace
from lava_conv.qat import layers as own
from lava_conv.qat.walk import Walk

METHODS = ("zou", "gao")
STEPS = tuple(1 << power for power in range(16))  # allowed for step_max
ENCODER_LEVELS = 4  # the encoder sends at most 4 spikes in a row (B of Zou et al. 2024)


@dataclass(frozen=True)
class Options:
    """What `prepare` was asked for."""

    method: str
    k: int
    levels: int
    encoder_levels: int
    power_of_two: bool
    clip: bool
    n_max: int
    max_pool: str | None
    input_scale: float
    step_max: int | None
    weight_bits: int


def prepare(
    model: nn.Module,
    method: str = "zou",
    *,
    k: int = 0,
    levels: int = 16,
    encoder_levels: int = ENCODER_LEVELS,
    power_of_two: bool = False,
    clip: bool = True,
    n_max: int = 0,
    max_pool: str | None = None,
    input_scale: float = 1.0,
    step_max: int | None = None,
    weight_bits: int = own.INT8_BITS,
    example_input: Any = None,
) -> fx.GraphModule:
    """Quantise a plain model for training. The model itself is not changed; names in the state dict stay.

    The model is read as it runs in evaluation mode, with the weights that it then computes with (parametrisations,
    pruning and the like included), and what comes out is in the mode that the model is in. Before it is handed out, the
    quantised model without its rounding is compared with the given one, layer by layer.

    Weight layers quantise their weights, ReLU (ReLU6, Hardtanh from 0) becomes a quantised ReLU, average pooling is
    quantised after it unless the last layer absorbs it, and where a residual addition meets one neuron its summands
    share one integer grid. The input is the uint8 image itself.

    Args:
        model: traced with torch.fx; ends in an nn.Linear.
        method: "zou": ternary weights (int8 in the first and the last layer), level `k`, dynamic-threshold neurons.
            "gao": int8 weights per channel, `levels` activation levels with a learned step, Ca-LIF neurons.
        k: zou: 2^k counts make one unit.
        levels: gao: largest count of a neuron.
        encoder_levels: zou: largest count of the first layer, whose level is 0.
        power_of_two: every neuron's step becomes a power of two of its integer unit (needed for lowering).
        step_max: with it, the largest step, a power of two too; weights are rounded the more coarsely, and clipped at
            127 / step_max steps. 64 is what a stock neuron holds: a lowered network needs no layers that divide.
        clip: gao: False drops the upper clip at `levels`.
        n_max: zou: largest count of a hidden neuron, 0 = no upper clip as in the paper. ReLU6 and Hardtanh bring
            their own.
        max_pool: "conv" or "average": what to put in the place of max pooling; None refuses it.
        input_scale: the model is trained on pixels (0..255) times this.
        weight_bits: gao: bits of a weight, its sign among them; the first and the last layer keep 8.
        example_input: images (N, C, H, W) or (N, C, L) of 0..255, on which the two are compared. Default: random
            ones of a size that the model takes, found by trying.

    Raises:
        ConversionError: an option is out of range, or everything that cannot be converted, each with place and remedy.
    """
    options = Options(
        method, k, levels, encoder_levels, power_of_two, clip, n_max, max_pool, input_scale, step_max, weight_bits
    )
    _check_options(options)
    model = model_of(model)
    for name, parameter in model.named_parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            raise ConversionError(
                f"{name} is {parameter.dtype}, too coarse to train rounded weights; pass model.float()"
            )
    traced = trace(effective(model), lambda m: isinstance(m, own.LEAVES))
    example = probe(model, traced) if example_input is None else _example(example_input)
    if example is None:
        Walk(traced, options)  # what is refused anyway says more
        raise ConversionError(
            "prepare: the model takes images of none of the usual sizes, so it cannot be compared with the result; "
            "pass example_input, a few images (N, C, H, W)"
        )
    pixels = example.double()
    read = gate.Candidate.of_graph(copy.deepcopy(traced).double().cpu())
    witness = gate.Witness(model, pixels * options.input_scale, read.origins)
    refusal = None
    try:
        gate.check(witness, read, "prepare", values=witness.named)
    except ConversionError as error:
        refusal = error
    shapes = {name: tuple(value.shape[1:]) for name, value in witness.named.items()}
    prepared = Walk(traced, options, shapes).done()  # what is not supported says more than that it differs
    if refusal is not None:
        raise refusal
    gate.check(witness, gate.Candidate.of_graph(copy.deepcopy(prepared).double().cpu(), plain), "prepare", pixels)
    return prepared


def _example(images: Any) -> Tensor:
    found = images_of(images, "example_input")
    if found.ndim not in (3, 4):
        raise DataError(f"example_input has shape {tuple(found.shape)}, needed is (N, C, H, W), or (N, C, L) in 1-D")
    return gate.some(found)


def _check_options(o: Options) -> None:
    for name, value, allowed in (
        ("method", o.method, METHODS),
        ("max_pool", o.max_pool, (None, "conv", "average")),
        ("k", o.k, range(9)),
        ("levels", o.levels, range(1, 256)),
        ("encoder_levels", o.encoder_levels, range(1, 256)),
        ("n_max", o.n_max, range(256)),
        ("weight_bits", o.weight_bits, range(2, own.INT8_BITS + 1)),
    ):
        if value not in allowed:
            words = f"{allowed[0]}..{allowed[-1]}" if isinstance(allowed, range) else ", ".join(map(repr, allowed))
            raise ConversionError(f"prepare: {name} is {value!r}, allowed is {words}")
    try:
        above_zero(o.input_scale, "input_scale")
    except DataError as error:
        raise ConversionError(f"prepare: {error}") from None
    if o.step_max is not None and not (o.power_of_two and o.step_max in STEPS):
        raise ConversionError(
            f"prepare: step_max is {o.step_max} with power_of_two={o.power_of_two}, allowed is a power of two up to "
            f"{STEPS[-1]} together with power_of_two=True"
        )
