"""The check after a conversion: the float model against the integers, on example images, layer by layer."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lava_conv.conversion.algebra import Part, Spikes, Sum, Sums
from lava_conv.errors import ConversionError
from lava_conv.network.graph import Graph

log = logging.getLogger(__name__)

Activations = dict[str, tuple[torch.Tensor, torch.Tensor]]  # by name, what a quantiser takes and gives

HALVES = "halves that go up instead of to the even neighbour"
FOLD_TOLERANCE = 1e-6  # of the largest value in the layer: float64 loses less, a wrong fold far more


@dataclass(frozen=True)
class Activation:
    """A quantised activation of the model: the spikes it became, the sums it quantises, and the layers that do not
    round as the model does, with the reason."""

    spikes: Spikes
    sums: Sums
    inexact: dict[int, str]


def verify(
    values: Activations, graph: Graph, images: torch.Tensor, activations: dict[str, Activation], max_steps: int
) -> None:
    """Compare the float64 model with the integers on example images, layer by layer and pass by pass.

    Folding: what each activation takes is gain * z + offset of the counts before it. Thresholds: what it gives,
    counted, is what the integer oracle counts.

    Args:
        values: what the quantisers of the float64 model take and give on the images.
        graph: what was made of it.
        images: uint8 (N, C, H, W), or (N, C, L) for a model of 1-D convolutions.
        activations: the layers they became, by the same names.
        max_steps: no neuron counts further; images that need more are left out from there on.

    Raises:
        ConversionError: names the pass and the layer.
    """
    frames = images.numpy() if images.ndim == 4 else images.numpy()[:, :, None]
    repeats = graph.steps if graph.input_code == "constant" else 1
    counts = {**graph.reference(frames).counts, 0: frames.astype(np.int64) * repeats}
    for index, layer in enumerate(graph.layers):
        if layer.is_view:
            counts[index] = layer.view(counts[graph.source(index)])
    within = np.ones(len(images), bool)  # a neuron cannot count beyond max_steps, and nothing after it is promised then
    for name in (name for name in values if name in activations):
        start, (took, value) = 0, values[name]
        given = value.numpy().reshape(len(images), value.shape[1], -1)
        taken = took.numpy().reshape(given.shape)
        activation = activations[name]
        for part, total in zip(activation.spikes.parts, activation.sums, strict=True):
            here = slice(start, start + part.channels)
            arrived = [counts[term.layer][within] for term in total.terms]
            _verify_fold(name, part, total, taken[within, here], arrived)
            expected = np.rint(given[:, here] / part.unit).astype(np.int64) + part.zero
            found = counts[part.layer].reshape(expected.shape)
            wrong = (np.minimum(expected, max_steps) != np.minimum(found, max_steps))[within]
            if wrong.any() and part.layer in activation.inexact:
                log.warning(
                    "layer %d (%s): %s change %d of %d counts on the example images, by up to %d", part.layer, name,
                    activation.inexact[part.layer], wrong.sum(), wrong.size, np.abs(expected - found)[within].max(),
                )  # fmt: skip
                return  # what follows works on other counts than the model's
            if activation.inexact.get(part.layer) == HALVES:
                log.warning(
                    "layer %d (%s): %s change no count on the example images, and may change some on others; "
                    "lava_conv.frontends.torch_ao.prepare trains a model without them", part.layer, name, HALVES,
                )  # fmt: skip
            if wrong.any():
                raise ConversionError(
                    f"threshold search: layer {part.layer} ({name}) differs from the model in {int(wrong.sum())} of "
                    f"{wrong.size} counts on the example images; this is a fault of the converter, please report it"
                )
            within &= (expected <= max_steps).reshape(len(images), -1).all(axis=1)
            start += part.channels
    if not within.all():
        log.warning(
            "%d of %d example images need more than %d spikes from some neuron, which it cannot send in %d steps; "
            "train with an upper clip (n_max) or smaller k",
            len(images) - within.sum(),
            len(images),
            max_steps,
            max_steps,
        )


def _verify_fold(name: str, part: Part, total: Sum, taken: Any, arrived: list[NDArray[np.int64]]) -> None:
    if not len(taken):
        return
    column = (-1, 1)
    folded = total.offset.reshape(column) + np.zeros_like(taken)
    for term, counts in zip(total.terms, arrived, strict=True):
        z = term.synapse.apply(counts).reshape(taken.shape)
        folded = folded + term.gain.reshape(column) * z
    error, size = float(np.abs(folded - taken).max()), max(1.0, float(np.abs(taken).max()))
    if not error <= FOLD_TOLERANCE * size:
        raise ConversionError(
            f"folding: what layer {part.layer} ({name}) takes differs from the model's by up to {error:g} of {size:g} "
            f"on the example images; this is a fault of the converter, please report it"
        )
