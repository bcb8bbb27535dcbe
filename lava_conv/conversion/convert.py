"""A model trained with quantisation -> Graph: weights exported as they are, normalisation folded into thresholds.

The model is traced with torch.fx; `builder` makes layers of neurons of it, node by node, and `verify` checks them.
"""

import logging
from typing import Any

import torch
from torch import fx, nn

from lava_conv import __version__
from lava_conv.arguments import above_zero, images_of, model_of, whole
from lava_conv.conversion.builder import Walk, handler
from lava_conv.conversion.verify import verify
from lava_conv.errors import ConversionError, DataError, Problem, RangeError, grouped
from lava_conv.frontends import gate, toolkits
from lava_conv.frontends.effective import effective
from lava_conv.frontends.tracing import cat_inputs, is_add, name_of, place, remedy_of, trace
from lava_conv.network.fixedpoint import MAX_STEPS, STEPS_LIMIT
from lava_conv.network.graph import INPUT_CODES, Graph
from lava_conv.progress import Progress
from lava_conv.qat.evaluation import in_float64
from lava_conv.qat.layers import LEAVES, Pixels, check_pixels
from lava_conv.qat.preparation import REMEDIES

log = logging.getLogger(__name__)


def convert(
    model: nn.Module,
    example_input: Any,
    steps: int = 8,
    max_steps: int | None = None,
    labels: tuple[str, ...] = (),
    input_scale: float = 1.0,
    round_thresholds: bool = False,
    input_code: str = "flash",
    progress: Progress | None = None,
) -> Graph:
    """Convert a model trained with quantisation.

    Args:
        model: from `lava_conv.qat.prepare`, made of the layers of `lava_conv.qat`, or prepared by a toolkit
            (torch.ao.quantization in FX graph mode, Brevitas). Training mode does not matter.
        example_input: a few images (N, C, H, W), uint8 or floats that hold 0..255; conversion checks itself on them.
            For a model of 1-D convolutions (N, C, L); the graph then takes (N, C, 1, L).
        steps: time steps a sample takes by default.
        max_steps: steps for which bounds and thresholds are proven (a neuron counts at most so far). Default: the most
            that fits the hardware, up to 64.
        labels: names of the classes.
        input_scale: a toolkit's model was trained on pixels (0..255) times this.
        round_thresholds: where no integer thresholds do exactly what the model does, take the nearest instead of
            refusing; the log says how many counts that changes. For models trained elsewhere.
        input_code: "flash": the image comes at the first step alone. "constant": at every step, worth 1/steps each, and
            Ca-LIF neurons get their bias as a leak over the sample. Every neuron then sends its count evenly over the
            steps, so that deep networks settle sooner; the network is for exactly so many steps.
        progress: called after every node of the model with the number done and the number in all.

    Returns:
        Graph whose settled counts equal the model's quantised activations, for every image.

    Raises:
        ConversionError: lists everything that cannot be converted, each with its place and remedy.
        RangeError: no integer thresholds within 24 bits do what the model does.
    """
    model, steps = model_of(model), whole(steps, "steps", 1, STEPS_LIMIT)
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise DataError(f"labels is {labels!r}, needed are the names of the classes, as a tuple of texts")
    input_scale = above_zero(input_scale, "input_scale")
    one_dimensional = any(isinstance(m, nn.Conv1d) for m in model.modules())
    images = _example(example_input, one_dimensional)
    exported = toolkits.canonical(model, input_scale)
    if exported is None:
        traced = trace(in_float64(effective(model, torch.float64)), lambda m: isinstance(m, LEAVES))
    else:
        model, traced = exported[0], in_float64(exported[1])
    _refuse_unknown(traced)
    activations = _same_as_model(model, traced, images, input_scale, own=exported is None)
    if input_code not in INPUT_CODES:
        raise ConversionError(f"input_code is {input_code!r}, allowed are {' and '.join(INPUT_CODES)}")
    repeats = steps if input_code == "constant" else 1
    if repeats > 1 and max_steps is None:
        max_steps = steps
    if max_steps is not None:
        max_steps = whole(max_steps, "max_steps", 1, STEPS_LIMIT)
        if max_steps < steps:
            raise ConversionError(f"max_steps is {max_steps}, allowed is at least steps = {steps}")
        tries = [max_steps]
    else:
        tries = sorted({n for n in (MAX_STEPS, 48, 32, 24, 16, 12, 8, 4, steps) if n >= steps}, reverse=True)
    shape = tuple(images.shape[1:])
    shape = (shape[0], 1, shape[1]) if one_dimensional else shape
    integers: dict[nn.Module, Any] = {}
    for attempt in tries:
        try:
            walk = Walk(traced, shape, attempt, round_thresholds, repeats, progress, integers).finish()
            made_by = f"lava-conv {__version__}"
            graph = Graph(tuple(walk.layers), steps, input_code, labels=tuple(labels), generator=made_by)
            graph.check(attempt)
        except RangeError as error:
            if attempt == tries[-1]:
                raise
            log.info("thresholds for up to %d steps do not exist (%s); trying fewer", attempt, error)
            continue
        log.info("bounds and thresholds are proven for up to %d steps", attempt)
        verify(activations, graph, images, walk.activations, attempt)
        return graph
    raise AssertionError("unreachable: the last attempt returns or raises")


def _same_as_model(
    model: nn.Module, traced: fx.GraphModule, images: torch.Tensor, input_scale: float, own: bool
) -> gate.Activations:
    """The traced model against the user's own on the example images, operations and counts; what its quantisers take
    and give."""
    example, activations = gate.some(images).double(), {}
    if own:
        witness = gate.Witness(model, example, gate.called(traced))
        every = images.double()
        gate.check(witness, traced, "convert", inputs=every, forced=not witness.is_exact, activations=activations)
        return activations if witness.is_exact else gate.activations_of(traced, images)
    with_pixels = any(isinstance(m, Pixels) for m in model.modules())
    witness = gate.Witness(model, example if with_pixels else example * input_scale, gate.called(traced), exact=False)
    flips = gate.check(witness, traced, "convert", inputs=example, result=not gate.known_result(witness, traced))
    if flips.differ:
        log.info(
            "%d of %d counts on the example images differ by one from the model's, whose float32 sums lie within their "
            "rounding of a threshold", *flips,
        )  # fmt: skip
    return gate.activations_of(traced, images)


def _example(example_input: Any, one_dimensional: bool) -> torch.Tensor:
    example = images_of(example_input, "example_input")
    rank, words = (3, "(N, C, L)") if one_dimensional else (4, "(N, C, H, W)")
    if example.ndim == rank - 1:
        example = example[None]
    if one_dimensional and example.ndim == 4 and example.shape[2] == 1:
        example = example[:, :, 0]
    if example.ndim != rank or not len(example):
        raise DataError(f"example_input has shape {tuple(example.shape)}, needed is {words} with at least one image")
    try:
        return check_pixels(example)
    except ValueError:
        raise DataError(
            "example_input holds values that are not whole numbers in 0..255; pass the uint8 images, unscaled"
        ) from None


UNQUANTISED = "its weights are not quantised; pass the model through lava_conv.qat.prepare and train it"
UNQUANTISED_RELU = "its output is not quantised; pass the model through lava_conv.qat.prepare and train it"
UNCONVERTED = (
    REMEDIES
    | dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Linear), UNQUANTISED)
    | dict.fromkeys((nn.ReLU, nn.ReLU6, nn.Hardtanh), UNQUANTISED_RELU)
)
GENERAL_REMEDY = "it has no spiking counterpart here; leave it out, or build the model from lava_conv.qat layers"


def _refuse_unknown(traced: fx.GraphModule) -> None:
    """Everything unsupported at once: whoever trained for hours should not find the problems one by one."""
    problems = []
    nodes: Any = traced.graph.nodes
    for node in nodes:
        if node.op == "call_module":
            module = traced.get_submodule(node.target)
            if handler(module) is None:
                remedy = next((text for kind, text in UNCONVERTED.items() if isinstance(module, kind)), GENERAL_REMEDY)
                if ".quantized" in type(module).__module__:
                    remedy = "it is what torch.ao's convert_fx made; pass the trained model as it was before convert_fx"
                problems.append(Problem(place(node), f"is a {type(module).__name__}", remedy))
        elif node.op in ("call_function", "call_method", "get_attr") and not is_add(node) and cat_inputs(node) is None:
            problems.append(Problem(place(node), f"calls {name_of(node)}", remedy_of(node, GENERAL_REMEDY)))
    if problems:
        raise ConversionError(f"cannot convert: {grouped(problems)}")
