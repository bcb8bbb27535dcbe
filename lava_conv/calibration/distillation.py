"""The whole quantised network, adjusted until its logits are those of the float network; no labels are needed."""

from torch import Tensor, fx
from torch.nn import functional

from lava_conv.calibration.descent import Group, descend
from lava_conv.calibration.segments import watch
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
        iterations: steps of Adam on BATCH images each; 0 changes nothing.
        seed: of the order of the images.
    """
    if not iterations:
        return
    groups: list[Group] = []
    known: set[int] = set()  # steps; activations that are joined share one
    for module in traced.modules():
        if isinstance(module, QuantisedWeight):
            groups.append({"params": [module.weight], "lr": RATE * float(module.weight.abs().mean())})
            if module.bias is not None:
                groups.append({"params": [module.bias], "lr": RATE * float(module.bias.abs().mean())})
        elif isinstance(module, LearnedStep) and id(module.step) not in known:
            known.add(id(module.step))
            groups.append({"params": [module.step], "lr": STEP_RATE * float(module.step)})
    wanted = watch(teacher, images)

    def loss(chosen: Tensor) -> Tensor:
        return functional.mse_loss(traced(images[chosen]), wanted[chosen])

    descend(groups, loss, len(images), BATCH, iterations, seed)
