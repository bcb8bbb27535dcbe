"""Weights of one layer, adjusted until its counts stand for the float activation (Li et al. 2021, "advanced")."""

from collections.abc import Mapping

import torch
from torch import Tensor, fx
from torch.nn import functional

from lava_conv.calibration.descent import Group, descend
from lava_conv.calibration.segments import Segments
from lava_conv.qat.layers import LearnedStep

BATCH = 32
RATE = 0.01  # Adam's step, as a share of the mean |weight|


def reconstruct(
    segments: Segments, end: fx.Node, inputs: Mapping[fx.Node, Tensor], target: Tensor, iterations: int, seed: int
) -> None:
    """Adjust weights and bias of the layers in front of `end`, with straight-through gradients.

    They are kept only if the squared error over all images is smaller than it was.

    Args:
        segments: of the model; its weights change in place.
        end: the quantiser (or logits) node behind the layers.
        inputs: what the spikes that arrive stand for, (N, ...), by source.
        target: (N, ...), the float activation (for the logits: the float logits).
        iterations: steps of Adam on BATCH images each; 0 changes nothing.
        seed: of the order of the images.
    """
    quantiser = segments.called(end, LearnedStep) if end is not segments.logits else None
    layers = segments.layers(end)
    weights = [layer.weight for layer in layers]
    if not weights or not iterations:
        return
    groups: list[Group] = [{"params": [w], "lr": RATE * float(w.abs().mean())} for w in weights]
    if quantiser is not None:
        quantiser.offset = torch.zeros(target.shape[1]) if quantiser.offset is None else quantiser.offset.clone()
        groups.append({"params": [quantiser.offset], "lr": RATE * float(quantiser.unit())})
    elif layers[-1].bias is not None:
        groups.append({"params": [layers[-1].bias], "lr": RATE * float(target.std())})
    free = [w for group in groups for w in group["params"]]
    before, error = [w.clone() for w in free], _error(segments, end, inputs, target)

    def loss(chosen: Tensor) -> Tensor:
        found = _output(segments, end, {node: x[chosen] for node, x in inputs.items()})
        return functional.mse_loss(found, target[chosen])

    descend(groups, loss, len(target), BATCH, iterations, seed)
    if not _error(segments, end, inputs, target) < error:  # it may have got worse where there was nothing to gain
        for w, old in zip(free, before, strict=True):
            w.copy_(old)


def _output(segments: Segments, end: fx.Node, inputs: Mapping[fx.Node, Tensor]) -> Tensor:
    value = segments.run(end, inputs)
    return value if end is segments.logits else segments.called(end, LearnedStep)(value)


def _error(segments: Segments, end: fx.Node, inputs: Mapping[fx.Node, Tensor], target: Tensor) -> float:
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(target), BATCH):
            part = slice(start, start + BATCH)
            found = _output(segments, end, {node: x[part] for node, x in inputs.items()})
            total += float(functional.mse_loss(found, target[part], reduction="sum"))
    return total
