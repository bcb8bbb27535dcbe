"""Pretrained float ANN -> Graph, with a few hundred unlabelled images.

The model is quantised as for training, but instead of being trained its thresholds are searched and its layers adjusted
one after the other, until the spikes of each stand for the float activation; then it is converted like a trained one.
`segments` cuts the traced model at its activations, `tuning` walks through them, `response` is what neurons answer.

Sources: Li et al. 2021 (arXiv 2106.06984) and 2022 (arXiv 2205.10121), Meng et al. 2022 (Neural Networks 153:254).
"""

import contextlib
import copy
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, fx, nn

from lava_conv.arguments import copied, model_of
from lava_conv.calibration import checkpoint as store
from lava_conv.calibration.branches import exchanged_pools, own_quantisers, restore_pools
from lava_conv.calibration.distillation import distil
from lava_conv.calibration.equalise import equalise
from lava_conv.calibration.inputs import (
    Statistics,
    check_scale,
    check_shape,
    check_statistics,
    fold_normalisation,
    normalised,
    to_pixels,
)
from lava_conv.calibration.response import KINDS, Layer
from lava_conv.calibration.restructure import restructure
from lava_conv.calibration.segments import BATCH, Segments, watch
from lava_conv.calibration.thresholds import Histogram
from lava_conv.calibration.tuning import LayerError, Tuning
from lava_conv.calibration.widths import Widths
from lava_conv.classes import check_labels, predictions
from lava_conv.conversion.assembly import Assembly
from lava_conv.errors import ConversionError, DataError, RangeError, one_line
from lava_conv.frontends import gate
from lava_conv.frontends.calls import plain, quantised
from lava_conv.frontends.convert import convert
from lava_conv.frontends.effective import effective
from lava_conv.frontends.module import read
from lava_conv.frontends.operations.normalisation import NORMS
from lava_conv.network.fixedpoint import INPUT_MAX
from lava_conv.network.graph import INPUT_CODES, Graph
from lava_conv.progress import Progress
from lava_conv.qat.evaluation import exact
from lava_conv.qat.layers import LearnedStep, Quantiser
from lava_conv.qat.preparation import prepare
from lava_conv.torch_tools.convolution import SafeConvolutions
from lava_conv.torch_tools.device import single_precision

__all__ = [
    "KINDS",
    "METHODS",
    "Calibration",
    "Comparison",
    "LayerError",
    "calibrate",
    "float_predictions",
]

log = logging.getLogger(__name__)


class Method(NamedTuple):
    """What a method does. search: thresholds with the least squared error, not the largest activation. whole: the whole
    network is adjusted first, by its logits. stages: what is then done to each layer, in this order."""

    search: bool = True
    whole: bool = False
    stages: tuple[str, ...] = ()


METHODS = {
    "none": Method(search=False),
    "mmse": Method(),
    "light": Method(stages=("bias",)),
    "advanced": Method(stages=("weights", "bias", "initial")),
    "ttrbr": Method(stages=("scale", "bias")),
    "distilled": Method(whole=True, stages=("bias",)),
}
EXAMPLES = 8  # images on which the conversion checks itself
POOR = 0.8  # agreement below which a calibration says so aloud
CHANGED = 0.95  # the same, of the float network after an exchange


class Comparison(NamedTuple):
    """What is predicted for the calibration images, beside what the model predicts as it came.

    Fields:
        images: how many.
        agreement: share, 0..1, on which the calibrated network, after its last step, predicts what the model does.
        float_agreement: the same of the float network that was calibrated, after pooling was exchanged and mean and std
            were folded: below 1 the exchange is to blame, which calibration cannot mend.
        exchanged: module paths of the max pooling that became average pooling.
        accuracy: of the calibrated network, None without `targets`.
        model_accuracy: of the model as it came, None without `targets`.
    """

    images: int
    agreement: float
    float_agreement: float
    exchanged: tuple[str, ...] = ()
    accuracy: float | None = None
    model_accuracy: float | None = None

    @property
    def warning(self) -> str:
        """What is poor, the reason and the remedy, as a sentence; "" if nothing is."""
        if self.exchanged and self.float_agreement < CHANGED:
            return (
                f"average pooling in the place of max pooling ({_few(self.exchanged)}) changes "
                f"{1 - self.float_agreement:.1%} of the float network's predictions, and the calibrated network agrees "
                f"with the model as it came on {self.agreement:.1%} of {self.images} images; train the model again "
                f"with average pooling, then calibrate it"
            )
        if self.float_agreement < CHANGED:
            return (
                f"folding changes {1 - self.float_agreement:.1%} of the float network's predictions, which it must "
                f"not; this is a fault of the calibration, please report it"
            )
        if self.agreement < POOR:
            return (
                f"the calibrated network agrees with the model as it came on {self.agreement:.1%} of {self.images} "
                f"images; use more steps, method='advanced', per_channel=True or more images, and check input_scale, "
                f"mean and std"
            )
        return ""


def _few(names: Sequence[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


@dataclass(frozen=True, eq=False, kw_only=True)
class Calibration(Graph):
    """A calibrated network: a Graph that also says how near it is to the float network.

    Fields:
        layer_errors: how far each spiking layer is from the activation of the model as it came.
        model: the quantised model that the graph was made of.
        comparison: predictions beside those of the model as it came.
    """

    layer_errors: tuple[LayerError, ...]
    model: fx.GraphModule = field(repr=False)
    comparison: Comparison

    @cached_property
    def graph(self) -> Graph:
        """The network alone, without the model."""
        return Graph(**_graph_fields(self))


def _graph_fields(graph: Graph) -> dict[str, Any]:
    return {one.name: getattr(graph, one.name) for one in fields(Graph) if one.init}


@single_precision()
def calibrate(
    model: nn.Module,
    images: ArrayLike,
    steps: int = 32,
    method: str = "light",
    *,
    neuron: str = "calif",
    levels: int | None = None,
    per_channel: bool = False,
    input_code: str = "constant",
    input_scale: float | None = None,
    mean: Statistics = None,
    std: Statistics = None,
    max_pool: str | None = None,
    iterations: int = 1000,
    seed: int = 0,
    labels: tuple[str, ...] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    targets: ArrayLike | None = None,
) -> Calibration:
    """Convert a pretrained float network with a few hundred unlabelled images, and say how near it is to the network.

    `mean` and `std` become part of the network. Where the first layer pads, the model pads the normalised image with 0,
    the mean colour, but the network can pad pixels only with black. It therefore gets a layer of neurons in front, two
    for each pixel (more with fewer than 32 levels), which count how far the pixel is above and below the mean. The
    float function is exactly that of the model, borders included, and the image is rounded to these counts. Without
    padding none of this is needed.

    Args:
        model: trained, of the layers that `lava_conv.qat.prepare` takes; it is not changed. Average pooling
            becomes synapses of ones, with neurons behind it unless the last layer absorbs it; residual blocks may be of
            either kind (activation after or before).
        images: a few hundred, unlabelled, (N, C, H, W): uint8, or the floats that the model takes.
        steps: time steps of a sample.
        method: "none": thresholds at the largest activation. "mmse": thresholds with the least squared error. "light":
            and a bias per channel that gives its spikes the right mean. "advanced": weights of each layer
            reconstructed, then bias and initial potential (Li et al. 2021). "ttrbr": thresholds with the least error of
            the spiking layer itself, then the bias (our interpretation of Meng et al. 2022). "distilled": all weights
            and thresholds adjusted together until the quantised network's logits are the float network's, then the bias
            by its own activations (ours; the better, the more images there are).
        neuron: "calif" or "dtb" (signed spikes), or "if", the unipolar neuron of the papers.
        levels: largest count of a neuron, default `steps`.
        per_channel: a threshold for each channel, wherever only weights read it.
        input_code: "constant": the image at every step, so that counts grow evenly. "flash": once; then choose `levels`
            below `steps`, for a count of n takes n steps.
        input_scale: the model was trained on pixels (0..255) times this. Default: 1/255 if float images, mean or std
            are given, else 1.
        mean: the model takes (pixel * input_scale - mean) / std; per channel or one for all, None: 0. See above for a
            first layer that pads.
        std: as mean, above 0, None: 1.
        max_pool: "average" puts that in the place of max pooling (better train again then); None refuses it.
        iterations: of the reconstruction for each layer ("advanced"), or of the whole network ("distilled").
        seed: of everything random. The same seed gives the same network.
        labels: names of the classes.
        checkpoint: a file to go on from if it is there, rewritten after every layer.
        progress: called after every layer with the number done and the number in all.
        targets: the right class of each image (N,), only to report the accuracy on them.

    Returns:
        Calibration: the graph, with an error for each spiking layer in order, the quantised model it was made of, and
        how far its predictions are those of the model as it came, before any exchange of pooling. Poor agreement is
        logged as a warning.

    Raises:
        ConversionError: an option is out of range, or everything in the model that cannot be converted.
        RangeError: sums leave 24 bits.
        DataError: images that are not the model's, a checkpoint of something else.
    """
    model = model_of(model)
    levels = steps if levels is None else levels
    _check_options(steps, method, neuron, levels, input_code, iterations, max_pool)
    pixels, scale = to_pixels(images, input_scale, mean, std)
    check_scale(model, images, not (input_scale is None and mean is None and std is None))
    traced = _quantisable(model, pixels, levels, scale, mean, std, max_pool, neuron)
    spread = input_code == "constant"
    repeats = steps if spread else 1
    segments = Segments(traced)
    shapes = check_shape(traced, pixels)
    widths = Widths(segments, shapes, levels, repeats)
    _rehearse(traced, tuple(pixels.shape[1:]), Assembly(steps, steps, (), True, input_code), widths if spread else None)
    logits = _float_logits(model, pixels, scale, mean, std)
    told, outputs = predictions(logits), logits.shape[1]
    classes = None if targets is None else check_labels(targets, len(pixels), outputs)
    if per_channel:
        equalise(segments, _channel_ranges(traced, pixels, levels))
    _set_steps(traced, pixels, levels, METHODS[method].search)
    _fit(widths, spread)
    options = {
        "steps": steps, "method": method, "neuron": neuron, "levels": levels, "per_channel": per_channel,
        "input_code": input_code, "scale": scale, "iterations": iterations, "seed": seed,
    }  # fmt: skip
    who = store.identity(traced, pixels, options)
    exchanged, untouched = exchanged_pools(traced), copy.deepcopy(traced)
    same = float((predictions(watch(untouched, pixels)) == told).mean())
    restore_pools(untouched)
    todo = METHODS[method]
    done, rows = (0, []) if checkpoint is None else store.read(checkpoint, who, traced)
    units = int(todo.whole) + len(segments.ends)

    def finish(number: int) -> None:
        if checkpoint is not None and number > done:
            store.write(checkpoint, who, traced, number, rows)
        if progress:
            progress(number, units)

    twin, call = untouched, plain
    if todo.whole:
        if not done:
            distil(traced, untouched, pixels.float(), iterations, seed)
        # what the spikes are to come near is now what the quantised network itself computes
        twin, call = copy.deepcopy(traced), quantised
        for quantiser in twin.modules():
            if isinstance(quantiser, Quantiser):
                quantiser.offset = quantiser.initial = None  # what a resumed calibration had found by then
        finish(1)
    neurons = Layer(KINDS[neuron], levels, steps, spread)
    tuning = Tuning(segments, Segments(twin), pixels, neurons, todo.stages, iterations, seed, call, widths)
    for number in range(len(segments.ends)):
        unit = number + int(todo.whole)
        row = tuning.advance(number, tune=unit >= done)
        rows += [] if row is None else [row]
        finish(unit + 1)
    graph = convert(traced, pixels[:EXAMPLES], steps, labels=labels, round_thresholds=True, input_code=input_code)
    assert tuning.logits is not None
    return Calibration(
        **_graph_fields(graph),
        layer_errors=tuple(rows),
        model=traced,
        comparison=_compared(predictions(tuning.logits), told, same, exchanged, classes),
    )


def _fit(widths: Widths, spread: bool) -> None:
    """Weights that fit 24 bits, as far as can be known before the layers are tuned."""
    if spread:
        widths.fit_image()
    for end in widths.segments.ends:
        widths.fit(end)


def _compared(
    said: NDArray[np.int64],
    told: NDArray[np.int64],
    same: float,
    exchanged: list[str],
    classes: NDArray[np.int64] | None,
) -> Comparison:
    accuracy, of_model = (None if classes is None else float((p == classes).mean()) for p in (said, told))
    agreement = float((said == told).mean())
    comparison = Comparison(len(said), agreement, same, tuple(exchanged), accuracy, of_model)
    if comparison.warning:
        log.warning("%s", comparison.warning)
    return comparison


def _rehearse(traced: fx.GraphModule, shape: tuple[int, ...], assembly: Assembly, widths: Widths | None) -> None:
    """Convert once before any image is looked at: whatever the structure forbids is told now, not at the end."""
    if widths:
        widths.fit_image()
    with contextlib.suppress(RangeError):  # of steps that are not found yet
        assembly.layers(read(cast(fx.GraphModule, exact(traced)), shape), assembly.steps)


def _float_logits(model: nn.Module, pixels: Tensor, scale: float, mean: Statistics, std: Statistics) -> Tensor:
    """What the model, as it came, says for uint8 pixels; it is not changed."""
    model, found = copied(model_of(model)).cpu().float().eval(), []
    with torch.no_grad(), SafeConvolutions():
        for start in range(0, len(pixels), BATCH):
            part = normalised(pixels[start : start + BATCH], scale, mean, std)
            try:
                found.append(model(part))
            except RuntimeError as error:
                raise DataError(
                    f"the model does not take images of shape {tuple(part.shape)} ({one_line(error)}); pass those it "
                    f"was trained on"
                ) from error
    return torch.cat(found)


def float_predictions(
    model: nn.Module,
    images: ArrayLike,
    input_scale: float | None = None,
    mean: Statistics = None,
    std: Statistics = None,
) -> NDArray[np.int64]:
    """The classes (N,) that the float model says for uint8 images; scale, mean and std as in `calibrate`."""
    pixels, scale = to_pixels(images, input_scale, mean, std)
    return predictions(_float_logits(model, pixels, scale, mean, std))


def _check_options(
    steps: int, method: str, neuron: str, levels: int, input_code: str, iterations: int, max_pool: str | None
) -> None:
    for name, value, allowed in (
        ("method", method, METHODS), ("neuron", neuron, KINDS), ("input_code", input_code, INPUT_CODES),
        ("steps", steps, range(1, 256)), ("levels", levels, range(1, 256)), ("iterations", iterations, range(10**7)),
        ("max_pool", max_pool, (None, "average")),  # a convolution in its place would have to be trained
    ):  # fmt: skip
        if value not in allowed:
            words = f"{allowed[0]}..{allowed[-1]}" if isinstance(allowed, range) else ", ".join(map(str, allowed))
            raise ConversionError(f"calibrate: {name} is {value!r}, allowed is {words}")


def _quantisable(
    model: nn.Module,
    pixels: Tensor,
    levels: int,
    scale: float,
    mean: Statistics,
    std: Statistics,
    max_pool: str | None,
    neuron: str,
) -> fx.GraphModule:
    """The model with quantisers, not yet set, behind its activations."""
    if any(isinstance(m, Quantiser) for m in model.modules()):
        raise ConversionError("calibrate takes a float model; this one is quantised already, pass it to convert")
    plain_model = effective(model).cpu().float().eval()
    rebuilt, streams = restructure(fold_normalisation(plain_model, mean, std, INPUT_MAX * scale, levels))
    if streams:
        log.info("%d residual streams branch before an activation; they become spike trains of both signs", streams)
    check_shape(rebuilt, pixels)
    traced = prepare(
        rebuilt, "ca_lif", levels=levels, max_pool=max_pool, input_scale=scale, example_input=pixels[:EXAMPLES]
    ).eval()
    own_quantisers(traced)
    _same_as_model(model, traced, gate.some(pixels).double(), scale, mean, std)
    kind = KINDS[neuron]
    for module in traced.modules():
        if isinstance(module, Quantiser):
            module.neuron, module.encoder = kind.type, kind.unipolar
    for parameter in traced.parameters():
        parameter.requires_grad_(False)
    return traced


def _same_as_model(
    model: nn.Module, traced: fx.GraphModule, pixels: Tensor, scale: float, mean: Statistics, std: Statistics
) -> None:
    """The network without its rounding, and with max pooling put back, against the model as it came."""
    twin = copy.deepcopy(traced).double()
    restore_pools(twin)
    folded = mean is not None or std is not None  # in float32
    candidate = gate.Candidate.of_graph(twin, plain)
    images = normalised(pixels, scale, mean, std).double()
    witness = gate.Witness(model, images, candidate.origins, exact=not folded)
    gate.check(witness, candidate, "calibrate", pixels)


def _set_steps(traced: fx.GraphModule, pixels: Tensor, levels: int, search: bool) -> None:
    """The step of each quantiser from the distribution of the float activations that it takes."""
    found: dict[int, tuple[Quantiser, Histogram]] = {}  # by step: activations that are joined or added share one

    def see(path: str, taken: Tensor, given: Tensor) -> None:
        module = traced.get_submodule(path)
        if isinstance(module, Quantiser):
            found.setdefault(id(module.step), (module, Histogram()))[1].add(given.abs())
        elif isinstance(module, NORMS):
            check_statistics(path, module, taken)

    watch(traced, pixels, see)
    for quantiser, histogram in found.values():
        quantiser.step.fill_(histogram.step(quantiser.zero or levels, search))
    for module in traced.modules():
        if isinstance(module, LearnedStep):
            module.step_ready.fill_(True)


def _channel_ranges(traced: fx.GraphModule, pixels: Tensor, levels: int) -> dict[str, Tensor]:
    """By activation, the range of each channel that loses least; 0 for a channel that no image moves."""
    found: dict[str, list[Histogram]] = {}

    def see(path: str, taken: Tensor, given: Tensor) -> None:
        module = traced.get_submodule(path)
        if isinstance(module, Quantiser) and not module.zero and module.limit is None:
            histograms = found.setdefault(path, [Histogram() for _ in range(given.shape[1])])
            for channel, histogram in enumerate(histograms):
                histogram.add(given[:, channel])

    watch(traced, pixels, see)
    return {
        path: torch.tensor([h.step(levels, True) if h.largest else 0.0 for h in histograms])
        for path, histograms in found.items()
    }
