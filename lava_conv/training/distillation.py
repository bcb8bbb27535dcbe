"""Distillation: a network learns what trained ones say of its images (Hinton et al. 2015), not their labels alone."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lava_conv.network.graph import Graph

BATCH = 250


class NetworkTeacher(nn.Module):
    """A network of integers as a teacher: its logits after its own steps, on the scale that fits labels best.

    Args:
        graph: the network.
        images: (N, C, H, W), to find the scale.
        labels: (N,).
    """

    def __init__(self, graph: Graph, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        super().__init__()
        self.graph, self.scale = graph, 1.0
        self.scale = fitted_scale(self(torch.from_numpy(images)), torch.from_numpy(labels))

    def forward(self, x: Tensor) -> Tensor:
        from lava_conv.simulation import simulate  # numba takes half a second, which other trainings need not wait

        record = simulate(self.graph, x.to("cpu", torch.uint8).numpy())
        return torch.from_numpy(record.logits[-1]).to(x.device, torch.float32) * self.scale


def soft_labels(
    teachers: Sequence[nn.Module], images: Sequence[Tensor], mirrored: bool, device: str | torch.device, bf16: bool
) -> Tensor:
    """What the teachers say, once for all epochs (not of each crop): log of the mean of their probabilities.

    Args:
        teachers: in evaluation mode, (N, C, H, W) to (N, outputs).
        images: what each of them sees of the same images, uint8 (N, C, H, W).
        mirrored: the mean is over images and their mirror images.
        device: where to compute.
        bf16: convolutions and products in bfloat16.

    Returns:
        (N, classes) float32 on the CPU.
    """
    total = torch.zeros(())
    for teacher, seen in zip(teachers, images, strict=True):
        network, said = teacher.to(device=device, dtype=torch.float32).eval(), []
        with torch.inference_mode(), torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
            for part in seen.split(BATCH):
                x = part.to(device, torch.float32)
                views = [x, x.flip(3)] if mirrored else [x]
                said.append(
                    torch.stack([class_scores(network(view).float()).softmax(1) for view in views]).mean(0).cpu()
                )
        total = total + torch.cat(said)
    return (total / len(teachers)).log().clone()


def class_scores(logits: Tensor) -> Tensor:
    """A score for each class, (N, classes), whose softmax is the probability: of one logit 0 and itself, as in
    `lava_conv.classes`. Its cross-entropy is then the binary cross-entropy of the logit."""
    return functional.pad(logits, (1, 0)) if logits.shape[1] == 1 else logits


def divergence(logits: Tensor, soft: Tensor, temperature: float) -> Tensor:
    """temperature^2 * KL(teacher || student) of each image, both sides softened by the temperature, (N,).

    Args:
        logits: scores of the student, (N, classes), see `class_scores`.
        soft: of `soft_labels`, (N, classes).
        temperature: above 0; the square keeps the gradient's size.
    """
    student, teacher = (functional.log_softmax(value / temperature, 1) for value in (logits, soft))
    return temperature**2 * functional.kl_div(student, teacher, reduction="none", log_target=True).sum(1)


def fitted_scale(logits: Tensor, labels: Tensor) -> float:
    """The factor that makes logits say how sure they may be of the labels: that of the least cross-entropy (Guo et al.
    2017), found among 64 in each factor of 10.

    Args:
        logits: (N, outputs), of any size.
        labels: (N,).
    """
    logits = logits.double()
    factors = torch.logspace(-3, 2, 5 * 64 + 1, dtype=torch.float64) / logits.std().clamp_min(torch.finfo().tiny)
    scores = class_scores(logits)
    losses = [float(functional.cross_entropy(scores * factor, labels)) for factor in factors]
    return float(factors[losses.index(min(losses))])
