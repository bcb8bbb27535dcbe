"""The whole quantised network, adjusted until its logits are those of the float network; no labels are needed."""

from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from lava_conv.calibrate.segments import watch
from lava_conv.qat.layers import LearnedStep, QuantisedWeight

BATCH = 64
RATE = 0.003  # Adam's step, as a share of the mean |weight|, or of a threshold
STEP_RATE = 0.001


def distil(traced: fx.GraphModule, teacher: fx.GraphModule, images: Tensor, iterations: int, seed: int) -> None:
    """Adjust weights, biases and steps by the logits of `teacher`, with straight-through gradients.

    Args:
        traced: quantised, its steps set; changed in place.
        teacher: the same network before anything was adjusted; it runs without rounding.
        images: float (N, C, H, W), pixels.
    """
    if not iterations:
        return
    groups: list[dict[str, Any]] = []
    for module in traced.modules():
        if isinstance(module, QuantisedWeight):
            groups.append({"params": [module.weight], "lr": RATE * float(module.weight.abs().mean())})
            if module.bias is not None:
                groups.append({"params": [module.bias], "lr": RATE * float(module.bias.abs().mean())})
        elif isinstance(module, LearnedStep):
            groups.append({"params": [module.step], "lr": STEP_RATE * float(module.step)})
            if module.offset is not None:
                module.offset = module.offset.clone()
                groups.append({"params": [module.offset], "lr": RATE * float(module.step)})
    with torch.no_grad():
        wanted = torch.cat(
            [watch(teacher, images[i : i + BATCH], lambda *_: None) for i in range(0, len(images), BATCH)]
        )
    wanted = wanted.clone()
    free = [w for group in groups for w in group["params"]]
    for w in free:
        w.requires_grad_(True)
    optimiser = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(iterations):
        chosen = torch.randint(len(images), (min(BATCH, len(images)),), generator=generator)
        found = traced(images[chosen])
        loss = functional.mse_loss(found, wanted[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    for w in free:
        w.requires_grad_(False)
