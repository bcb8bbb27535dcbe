"""A model trained with quantisation -> Graph: weights exported as they are, normalisation folded into thresholds."""

import logging
from typing import Any

import torch
from torch import nn

from lava_conv.arguments import above_zero, images_of, model_of, whole
from lava_conv.conversion.assembly import Assembly
from lava_conv.conversion.verify import Activations
from lava_conv.errors import ConversionError, DataError
from lava_conv.frontends import gate
from lava_conv.frontends.frontend import Opened, open_model
from lava_conv.network.fixedpoint import STEPS_LIMIT
from lava_conv.network.graph import INPUT_CODES, Graph
from lava_conv.progress import Progress
from lava_conv.qat.layers import check_pixels

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
    if input_code not in INPUT_CODES:
        raise ConversionError(f"input_code is {input_code!r}, allowed are {' and '.join(INPUT_CODES)}")
    if max_steps is not None:
        max_steps = whole(max_steps, "max_steps", 1, STEPS_LIMIT)
    assembly = Assembly(steps, max_steps, tuple(labels), round_thresholds, input_code)
    assembly.attempts()
    images = _example(example_input, any(isinstance(m, nn.Conv1d) for m in model.modules()))
    opened = open_model(model, tuple(images.shape[1:]), input_scale)
    opened.program.refuse_unsupported()
    return assembly.graph(opened.program, images, _same_as_model(opened, images), progress)


def _same_as_model(opened: Opened, images: torch.Tensor) -> Activations:
    """The program against the user's own model on the example images, operations and counts; gives what its quantisers
    take and give."""
    program, candidate = opened.program, gate.Candidate.of_program(opened.program)
    example, activations = gate.some(images).double(), {}
    witness = gate.Witness(opened.model, example * opened.scale, candidate.origins, opened.exact)
    if opened.exact:
        every = images.double()
        gate.check(witness, candidate, "convert", every, forced=not witness.is_exact, activations=activations)
        return activations if witness.is_exact else gate.activations_of(program, images)
    flips = gate.check(witness, candidate, "convert", example, result=not candidate.known_output(witness))
    if flips.differ:
        log.info(
            "%d of %d counts on the example images differ by one from the model's, whose float32 sums lie within their "
            "rounding of a threshold", *flips,
        )  # fmt: skip
    return gate.activations_of(program, images)


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
