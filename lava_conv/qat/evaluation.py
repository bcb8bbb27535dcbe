"""The quantised model evaluated exactly: in float64, where every quantisation falls as its equation says."""

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lava_conv.arguments import copied, images_of, model_of
from lava_conv.errors import DataError, one_line
from lava_conv.progress import Progress
from lava_conv.qat.layers import Readout, check_pixels

Module = TypeVar("Module", bound=nn.Module)


def exact(model: nn.Module) -> nn.Module:
    """A copy of `model` in eval mode and float64, in which every quantisation falls as the equations say.

    In float32 the normalisation rounds, and a value next to a step of the staircase may fall on its other side. Logits
    are rounded to the whole multiples that they are, so that classes whose integers are equal are equal here, too.
    """
    return in_float64(copied(model_of(model)))


def in_float64(model: Module) -> Module:
    """`exact` of the model itself."""
    model = model.double().eval()
    for module in model.modules():
        if isinstance(module, Readout) and module.source:
            module.whole = True
    return model


def pixels_of(images: object, name: str = "images") -> torch.Tensor:
    """Images as uint8 tensor, whatever integer or float dtype they come in.

    Raises:
        DataError: they are no images (see `lava_conv.arguments.images_of`), or not whole numbers in 0..255.
    """
    found = images_of(images, name)
    try:
        return check_pixels(found)
    except ValueError:
        low, high = float(found.min()), float(found.max())
        raise DataError(
            f"{name} hold values ({low:.3g} to {high:.3g}) that are not whole numbers in 0..255; pass uint8 images, "
            f"neither scaled nor normalised"
        ) from None


def evaluate(model: nn.Module, images: Any, batch: int = 256, progress: Progress | None = None) -> NDArray[np.float64]:
    """Logits float64 (N, outputs) of the quantised model on uint8 images (N, C, H, W), computed in float64.

    `lava_conv.classes.predictions` names their classes.

    Args:
        model: quantised; wrappers such as DataParallel are looked through (see `lava_conv.arguments.model_of`).
        images: whole numbers in 0..255, of any integer or float dtype.
        batch: images at a time.
        progress: called after each batch with the images done and their total.

    Raises:
        ConversionError: there is no readable model.
        DataError: images that are not pixels, or that the model does not take, or logits of another shape.
    """
    if not isinstance(batch, int) or batch < 1:
        raise DataError(f"batch is {batch!r}, allowed is a whole number of 1 or more")
    model, pixels = exact(model).cpu(), pixels_of(images)
    logits: list[NDArray[np.float64]] = []
    with torch.inference_mode():
        for start in range(0, len(pixels), batch):
            part = pixels[start : start + batch]
            try:
                found = model(part.double())
            except RuntimeError as error:
                shape = tuple(part.shape)
                raise DataError(f"the model does not take images of shape {shape} ({one_line(error)})") from error
            if not isinstance(found, torch.Tensor) or found.ndim != 2 or len(found) != len(part):
                shape = tuple(getattr(found, "shape", ())) or type(found).__name__
                raise DataError(
                    f"the model gives {shape} for {len(part)} images, needed are logits (N, outputs); let it return "
                    f"them alone, with the axis of the outputs also where there is one"
                )
            logits.append(found.numpy())
            if progress:
                progress(start + len(part), len(pixels))
    return np.concatenate(logits)
