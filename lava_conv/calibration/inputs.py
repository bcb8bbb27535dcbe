"""The images that calibration sees, and the scale on which the float model was trained."""

import logging
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, fx, nn

from lava_conv.arguments import images_of
from lava_conv.errors import DataError
from lava_conv.frontends.nodes import insert, module_of
from lava_conv.frontends.operations import is_leaf
from lava_conv.frontends.tracing import trace
from lava_conv.network.fixedpoint import INPUT_MAX
from lava_conv.qat.layers import Pixels, check_pixels, refuse_no_pixels

log = logging.getLogger(__name__)

WHOLE = 0.02  # pixels may be so far from a whole number: float32 images that were normalised and are brought back
DEAD = 1e-3  # of eps: channels whose variance in training was below gave the same for any image
SHADES = 32  # counts for one sign of a normalised image, at least
CHANNELS = (1, 3, 4)  # of usual images
UNLIKE = 30.0  # variances in front of a normalisation that differ so much are of other images

Statistics: TypeAlias = Sequence[float] | float | None  # a mean or std: per channel, one for all, or none
Convolution: TypeAlias = nn.Conv1d | nn.Conv2d


def to_pixels(images: ArrayLike, input_scale: float | None, mean: Statistics, std: Statistics) -> tuple[Tensor, float]:
    """uint8 images, and the scale of a pixel in the model: it was trained on (pixels * scale - mean) / std.

    Args:
        images: (N, C, H, W) or (N, C, L); uint8, or the floats that the model takes.
        input_scale: None: 1/255 if floats come, or mean and std; else 1.
        mean: per channel or one for all, on the scale of pixel * input_scale; None: 0.
        std: per channel or one for all, above 0, on the same scale; None: 1.

    Returns:
        (uint8 tensor of the shape given, the scale).

    Raises:
        DataError: the images are not those that pixels give.
    """
    taken = images_of(images)
    if taken.ndim not in (3, 4) or not len(taken):
        raise DataError(f"images have shape {tuple(taken.shape)}, needed is (N, C, H, W) with at least one image")
    if taken.dtype == torch.uint8:
        refuse_no_pixels(taken, "images")
        return taken, (1.0 if mean is None and std is None else 1 / INPUT_MAX) if input_scale is None else input_scale
    if not taken.is_floating_point():
        raise DataError(
            f"images have dtype {taken.dtype}, allowed are uint8 and the floats that the model takes; pass "
            f"images.astype('uint8') if they hold 0..255"
        )
    if not torch.isfinite(taken).all():
        raise DataError("images hold NaN or infinity")
    scale = input_scale
    if scale is None:  # whole numbers above 1 are pixels as they are
        as_they_are = mean is None and std is None and bool((taken == taken.round()).all()) and float(taken.max()) > 1
        scale = 1.0 if as_they_are else 1 / INPUT_MAX
    m, s = _columns(taken, mean, std)
    pixels = (taken.double() * s + m) / scale
    whole = pixels.round()
    if float((pixels - whole).abs().max()) > WHOLE or float(whole.min()) < 0 or float(whole.max()) > INPUT_MAX:
        raise DataError(
            f"images hold values ({float(taken.min()):.3g} to {float(taken.max()):.3g}) that no uint8 pixels give "
            f"with input_scale {scale:.6g}, mean {m.flatten().tolist()} and std {s.flatten().tolist()}; pass the "
            f"uint8 images, or the mean, std and input_scale that they were normalised with"
        )
    return check_pixels(whole), scale


def normalised(pixels: Tensor, scale: float, mean: Statistics, std: Statistics) -> Tensor:
    """What the float model takes for uint8 pixels (N, C, ...)."""
    m, s = _columns(pixels, mean, std)
    return ((pixels.double() * scale - m) / s).float()


def _columns(images: Tensor, mean: Statistics, std: Statistics) -> tuple[Tensor, Tensor]:
    shape = (1, -1) + (1,) * (images.ndim - 2)
    for name, value in (("mean", mean), ("std", std)):
        if value is not None and (np.asarray(value).dtype.kind not in "iuf" or not np.isfinite(value).all()):
            raise DataError(f"{name} is {value!r}, needed are finite numbers, one for each channel or one for all")
        if value is not None and np.size(value) not in (1, images.shape[1]):
            raise DataError(
                f"{name} has {np.size(value)} numbers, needed is one for each of {images.shape[1]} channels"
            )
    values = (0.0 if mean is None else mean, 1.0 if std is None else std)
    m, s = (torch.as_tensor(v, dtype=torch.float64).reshape(-1).reshape(shape) for v in values)
    if not bool((s > 0).all()):
        raise DataError(f"std is {s.flatten().tolist()}, allowed are numbers above 0")
    return m, s


def fold_normalisation(model: nn.Module, mean: Statistics, std: Statistics, largest: float, levels: int) -> nn.Module:
    """The model with (x - mean) / std of the image inside it: the same function, of the image before normalisation.

    Where the first layer does not pad, mean and std go into its weights and bias. Where it pads, the model pads the
    normalised image with 0, which is the mean colour, and pixels are padded with black. A layer in front of it then
    gives relu(x') and relu(-x') of the normalised image x', whose padding with 0 is the mean colour again; the first
    layer takes the difference. That is exact in float; in spikes the image is rounded, to SHADES or more counts of
    either sign. Where a neuron counts less, several share the range: one counts on where the one before is full.

    Args:
        model: whose image goes into convolutions with groups=1 only; it is changed.
        mean: per channel or one for all, on the scale of the image that the model takes; None: 0.
        std: per channel or one for all, above 0; None: 1.
        largest: value of the image.
        levels: largest count of a neuron.

    Returns:
        The model, traced if mean or std is given.

    Raises:
        DataError: the image goes into something else, or mean or std do not fit its channels.
    """
    if mean is None and std is None:
        return model
    traced: fx.GraphModule = trace(model, is_leaf)
    for node in [n for n in traced.graph.nodes if n.op == "placeholder"]:
        readers: dict[int, Convolution] = {}
        for user in node.users:
            layer = module_of(traced, user)
            if not isinstance(layer, nn.Conv1d | nn.Conv2d) or layer.groups != 1:
                raise DataError(
                    f"mean and std cannot be put into {user.target}; the image must go into convolutions with "
                    f"groups=1 only"
                )
            readers[id(layer)] = layer
        layers = list(readers.values())
        if any(_pads(layer) for layer in layers) and mean is not None and np.any(np.asarray(mean) != 0):
            _both_signs(traced, node, layers, mean, std, largest, -(-SHADES // levels))
            continue
        for layer in layers:
            m, s = (v.float() for v in _columns(layer.weight, mean, std))
            with torch.no_grad():
                layer.weight /= s
                lost = (layer.weight * m).flatten(1).sum(1)
                bias = -lost if layer.bias is None else layer.bias - lost
            layer.bias = nn.Parameter(bias)
    traced.recompile()
    return traced


def _pads(layer: Convolution) -> bool:
    """Whether a convolution sees zeros around the image."""
    if isinstance(layer.padding, str):
        return layer.padding == "same" and any(k > 1 for k in layer.kernel_size)
    return any(layer.padding)


def _both_signs(
    traced: fx.GraphModule,
    image: fx.Node,
    layers: Sequence[Convolution],
    mean: Statistics,
    std: Statistics,
    largest: float,
    shares: int,
) -> None:
    """Put relu(x'), relu(-x') of the normalised image x', in `shares` parts of their range each, in front of the
    convolutions that take the image."""
    first, channels = layers[0], layers[0].in_channels
    m, s = (v.reshape(-1).float().expand(channels) for v in _columns(first.weight, mean, std))
    share = float(torch.maximum(m / s, (largest - m) / s).max()) / shares
    kind = nn.Conv1d if isinstance(first, nn.Conv1d) else nn.Conv2d
    signs = kind(channels, 2 * channels * shares, 1)
    assert signs.bias is not None
    with torch.no_grad():
        half = torch.diag(1 / s).reshape(channels, channels, *[1] * (first.weight.ndim - 2))
        signs.weight.copy_(torch.cat([half, -half] * shares))
        full = share * torch.arange(shares).repeat_interleave(2 * channels)
        signs.bias.copy_(torch.cat([-m / s, m / s] * shares) - full)
        for layer in layers:
            layer.weight = nn.Parameter(torch.cat([layer.weight, -layer.weight] * shares, 1))
            layer.in_channels = 2 * channels * shares
    behind = insert(traced, image, signs, "normalised")
    insert(traced, behind, nn.ReLU() if shares == 1 else nn.Hardtanh(0.0, share), "normalised_relu")


def check_shape(traced: fx.GraphModule, pixels: Tensor) -> dict[str, tuple[int, ...]]:
    """By the name of each node, the shape (C, ...) of what it gives for one image.

    Raises:
        DataError: the model does not take images of this shape.
    """
    found: dict[str, tuple[int, ...]] = {}

    class Shapes(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            value = super().run_node(n)
            if isinstance(value, Tensor):
                found[n.name] = tuple(value.shape[1:])
            return value

    try:
        with torch.no_grad():
            shapes = Shapes(traced)
            shapes.extra_traceback = False
            shapes.run(torch.zeros(1, *pixels.shape[1:]))
    except (RuntimeError, DataError) as error:
        last = pixels.ndim == 4 and pixels.shape[-1] in CHANNELS and pixels.shape[1] not in CHANNELS
        remedy = "they look like (N, H, W, C), pass images.transpose(0, 3, 1, 2)" if last else "pass (N, C, H, W)"
        reason = " ".join(str(error).split())
        if isinstance(error, DataError):
            reason = f"it takes {max(m.channels for m in traced.modules() if isinstance(m, Pixels))} channels"
        raise DataError(
            f"images have shape {tuple(pixels.shape)}, which the model does not take ({reason}); {remedy}"
        ) from None
    finally:
        traced.eval()  # the entrance looks at the first images again
    return found


def check_scale(model: nn.Module, images: ArrayLike, given: bool) -> None:
    """Say aloud where nothing tells on which scale the model was trained.

    Args:
        model: as it came.
        images: as they came.
        given: whether an input_scale, mean or std was given.

    Raises:
        DataError: the model scales its images itself, and a scale is given all the same.
    """
    itself = any(isinstance(m, Pixels) for m in model.modules())
    if itself and given:
        raise DataError("the model scales its images itself (qat.Pixels); leave out input_scale, mean and std")
    known = any(getattr(m, "running_var", None) is not None for m in model.modules())
    if str(getattr(images, "dtype", "")).endswith("uint8") and not (given or itself or known):
        log.warning(
            "nothing tells the scale of the images that the model was trained on; it is taken to be 0..%d. Pass "
            "input_scale=1/%d if it was 0..1, or input_scale=1 to confirm", INPUT_MAX, INPUT_MAX,
        )  # fmt: skip


def check_statistics(place: str, module: nn.Module, values: Tensor) -> None:
    """Refuse images whose scale is plainly not the one that the model's normalisation has seen.

    Channels that had (next to) no variance in training say nothing. The rest must be off in the middle of them, and in
    the sum of their variances, which the rarely active ones do not decide.
    """
    if not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) or module.running_var is None or len(values) < 2:
        return
    trained, here = module.running_var, values.transpose(0, 1).flatten(1).var(1)
    alive = (trained > DEAD * module.eps) & (trained > DEAD**2 * trained.max())
    if not alive.any():
        return
    ratio = float((here[alive] / trained[alive]).median())
    total = float(here[alive].sum() / trained[alive].sum())
    if max(ratio, total) <= 1 / UNLIKE or min(ratio, total) >= UNLIKE:
        raise DataError(
            f"{place}: the images give {ratio:.3g} times the variance that the model was trained with; pass the "
            f"input_scale (1/255 if it was trained on images of 0..1), mean and std of its training"
        )
