"""Pretrained float ANN -> Graph, with a few hundred unlabelled images.

The model is quantised as for training, but instead of being trained its thresholds are searched and its layers adjusted
one after the other, until the spikes of each stand for the float activation; then it is converted like a trained one.
`segments` cuts the traced model at its activations, `tuning` walks through them, `response` is what neurons answer.

Sources: Li et al. 2021 (arXiv 2106.06984) and 2022 (arXiv 2205.10121), Meng et al. 2022 (Neural Networks 153:254).
"""

import copy
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from lava_conv.calibrate import checkpoint as store
from lava_conv.calibrate.distil import distil
from lava_conv.calibrate.equalise import equalise
from lava_conv.calibrate.inputs import check_statistics, fold_normalisation, normalised, to_pixels
from lava_conv.calibrate.response import KINDS, Layer
from lava_conv.calibrate.restructure import restructure
from lava_conv.calibrate.segments import BATCH, Segments, plain, quantised, watch
from lava_conv.calibrate.thresholds import Histogram
from lava_conv.calibrate.tuning import LayerError, Tuning
from lava_conv.convert import convert
from lava_conv.convolution import SafeConvolutions
from lava_conv.errors import ConversionError
from lava_conv.fixedpoint import INPUT_MAX, STATE_MAX, WEIGHT_MAX
from lava_conv.graph import INPUT_CODES, Graph
from lava_conv.qat.layers import Quantiser
from lava_conv.qat.prepare import NORMS, prepare

__all__ = ["KINDS", "METHODS", "Calibration", "LayerError", "calibrate", "calibrated", "float_predictions"]

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
ROOM = 0.95  # of 24 bits, for the sums of a layer that takes the image


class Calibration(NamedTuple):
    """The network, how far each of its layers is from the float activation, and the quantised model it was made of."""

    graph: Graph
    layers: tuple[LayerError, ...]
    model: fx.GraphModule


def calibrate(model: nn.Module, images: Any, steps: int = 32, method: str = "light", **options: Any) -> Graph:
    """Convert a pretrained float network, with a few hundred unlabelled images.

    Args:
        model: trained, in float; not changed.
        images: (N, C, H, W), uint8 or the floats that the model takes.
        steps: time steps of a sample.
        method: one of METHODS: "none", "mmse", "light", "advanced", "ttrbr", "distilled".
        options: see `calibrated`, which takes the same and returns the errors by layer too.

    Returns:
        Graph for `steps` time steps.

    Raises:
        ConversionError: an option is out of range, or everything in the model that cannot be converted.
        RangeError: sums leave 24 bits.
        DataError: images that are not the model's, a checkpoint of something else.
    """
    return calibrated(model, images, steps, method, **options).graph


def calibrated(
    model: nn.Module,
    images: Any,
    steps: int = 32,
    method: str = "light",
    *,
    neuron: str = "calif",
    levels: int | None = None,
    per_channel: bool = False,
    input_code: str = "constant",
    input_scale: float | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    max_pool: str | None = None,
    iterations: int = 1000,
    seed: int = 0,
    labels: tuple[str, ...] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> Calibration:
    """Convert a pretrained float network and say how far each layer is from it.

    `mean` and `std` are put into the first convolution. Where that one pads, the result is only approximate at the
    borders of the image: the model pads the normalised image with 0, the mean colour, and the network pads the pixels
    with 0, black. That leaves a floor which more steps do not lower, and which the errors by layer do not show, for
    they are taken from the model with `mean` and `std` in its weights. Measured on two convolutions of random weights
    and 200 images of CIFAR-10, squared error of the logits over their power: 0.147 at 32 and 0.143 at 64 steps with
    padding, 0.007 and 0.003 without. Neither `input_scale` alone nor a first layer without padding has this error.

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
        mean: the model takes (pixel * input_scale - mean) / std; per channel or one for all, None: 0. Approximate at
            the borders where the first layer pads, see above.
        std: as mean, above 0, None: 1.
        max_pool: "average" puts that in the place of max pooling (better train again then); None refuses it.
        iterations: of the reconstruction for each layer ("advanced"), or of the whole network ("distilled").
        seed: of everything random. The same seed gives the same network.
        labels: names of the classes.
        checkpoint: a file to go on from if it is there, rewritten after every layer.
        progress: called after every layer with the number done and the number in all.

    Returns:
        Calibration: the graph, an error for each spiking layer in order, and the quantised model it was made of.

    Raises:
        ConversionError: an option is out of range, or everything in the model that cannot be converted.
        RangeError: sums leave 24 bits.
        DataError: images that are not the model's, a checkpoint of something else.
    """
    levels = steps if levels is None else levels
    _check_options(steps, method, neuron, levels, input_code, iterations, max_pool)
    pixels, scale = to_pixels(images, input_scale, mean, std)
    traced = _quantisable(model, levels, scale, mean, std, max_pool, neuron)
    segments = Segments(traced)
    if per_channel:
        equalise(segments, _channel_ranges(traced, pixels, levels))
    _set_steps(traced, pixels, levels, METHODS[method].search)
    spread = input_code == "constant"
    if spread:
        _fit_24_bits(segments, tuple(pixels.shape[1:]), steps)
    options = {
        "steps": steps, "method": method, "neuron": neuron, "levels": levels, "per_channel": per_channel,
        "input_code": input_code, "scale": scale, "iterations": iterations, "seed": seed,
    }  # fmt: skip
    who = store.identity(traced, pixels, options)
    todo, untouched = METHODS[method], copy.deepcopy(traced)
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
    layer = Layer(KINDS[neuron], levels, steps, spread)
    tuning = Tuning(segments, Segments(twin), pixels, layer, todo.stages, iterations, seed, call)
    for number in range(len(segments.ends)):
        unit = number + int(todo.whole)
        row = tuning.advance(number, tune=unit >= done)
        rows += [] if row is None else [row]
        finish(unit + 1)
    graph = convert(traced, pixels[:EXAMPLES], steps, labels=labels, round_thresholds=True, input_code=input_code)
    return Calibration(graph, tuple(rows), traced)


def float_predictions(
    model: nn.Module, images: Any, input_scale: float | None = None, mean: Any = None, std: Any = None
) -> NDArray[np.int64]:
    """The classes (N,) that the float model says for uint8 images; scale, mean and std as in `calibrated`."""
    pixels, scale = to_pixels(images, input_scale, mean, std)
    model, said = model.eval(), []
    with torch.no_grad(), SafeConvolutions():
        for start in range(0, len(pixels), BATCH):
            said.append(model(normalised(pixels[start : start + BATCH], scale, mean, std)).argmax(1))
    return torch.cat(said).numpy()


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
    model: nn.Module, levels: int, scale: float, mean: Any, std: Any, max_pool: str | None, neuron: str
) -> fx.GraphModule:
    """The model with quantisers, not yet set, behind its activations."""
    if any(isinstance(m, Quantiser) for m in model.modules()):
        raise ConversionError("calibrate takes a float model; this one is quantised already, pass it to convert")
    model = copy.deepcopy(model).cpu().float().eval()
    fold_normalisation(model, mean, std)
    rebuilt, streams = restructure(model)
    if streams:
        log.info("%d residual streams branch before an activation; they become spike trains of both signs", streams)
    traced = prepare(rebuilt, "gao", levels=levels, max_pool=max_pool, input_scale=scale).eval()
    kind = KINDS[neuron]
    for module in traced.modules():
        if isinstance(module, Quantiser):
            module.neuron, module.encoder = kind.type, kind.unipolar
    for parameter in traced.parameters():
        parameter.requires_grad_(False)
    return traced


def _set_steps(traced: fx.GraphModule, pixels: Tensor, levels: int, search: bool) -> None:
    """The step of each quantiser from the distribution of the float activations that it takes."""
    found: dict[str, Histogram] = {}

    def see(path: str, taken: Tensor, given: Tensor) -> None:
        module: Any = traced.get_submodule(path)
        if isinstance(module, Quantiser):
            found.setdefault(path, Histogram()).add(given.abs())
        elif isinstance(module, NORMS):
            check_statistics(path, module, taken)

    watch(traced, pixels, see)
    for path, histogram in found.items():
        quantiser: Any = traced.get_submodule(path)
        quantiser.step.fill_(histogram.step(quantiser.zero or levels, search))
        quantiser.step_ready.fill_(True)


def _channel_ranges(traced: fx.GraphModule, pixels: Tensor, levels: int) -> dict[str, Tensor]:
    """By activation, the range of each channel that loses least."""
    found: dict[str, list[Histogram]] = {}

    def see(path: str, taken: Tensor, given: Tensor) -> None:
        module: Any = traced.get_submodule(path)
        if isinstance(module, Quantiser) and not module.zero and module.limit is None:
            histograms = found.setdefault(path, [Histogram() for _ in range(given.shape[1])])
            for channel, histogram in enumerate(histograms):
                histogram.add(given[:, channel])

    watch(traced, pixels, see)
    return {path: torch.tensor([h.step(levels, True) for h in histograms]) for path, histograms in found.items()}


def _fit_24_bits(segments: Segments, shape: tuple[int, ...], repeats: int) -> None:
    """Coarser weights where the image, coming so often, could drive a potential out of 24 bits."""
    for end in segments.quantisers:
        if segments.image not in segments.needs[end]:
            continue
        with torch.no_grad():
            base = segments.run(end, {n: torch.zeros(1, *shape) for n in segments.needs[end]})
        offset = base.reshape(base.shape[1], -1)[:, 0].abs()
        for layer in segments.layers(end):
            summand = next(s for s in layer.grid.summands if s.layer is layer)
            gain = abs(torch.as_tensor(summand.factor())) * summand.unit()
            weight = layer.weight.abs().flatten(1)
            reach = (weight.sum(1) * gain * INPUT_MAX + offset) / (weight.amax(1) * gain)
            most = int(STATE_MAX * ROOM / (repeats * float(reach.max())))
            if most < 1:
                raise ConversionError(
                    f"{end.target}: the image, coming {repeats} times, drives the sums out of 24 bits even with "
                    f"weights of -1, 0 and 1; use fewer steps or input_code='flash'"
                )
            layer.most = min(WEIGHT_MAX, most)
