"""The measure of `silent.py`: what PyTorch alone says of a user's module, of a prepared model without quantisation, and
of the counts of a quantised one."""

import copy
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

import lava_conv as lc
from lava_conv import qat
from lava_conv.qat.layers import QuantisedWeight, Quantiser

SCALE = 1 / 255
EXAMPLES, IMAGES = 4, 24  # the conversion checks itself on the first few of those that the sweep looks at
STEPS = 16
CLOSE = 1e-4  # of the largest value: parametrisations may compute in float32, a wrong function is far off
N_MAX = 11  # no clip of a piece gives it, so that a quantiser tells its own clip from the option's


class Difference(Exception):
    """What a front end made is not what the user wrote."""


class Void(Exception):
    """The network does not run, with or without the product."""


class Late(Exception):
    """Refused after it was accepted."""


class Crash(Exception):
    """The product raised something that is no LavaConvError."""


def product(call: Callable[[], Any]) -> Any:
    """What a call of the product gives."""
    try:
        return call()
    except lc.LavaConvError:
        raise
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "lava_conv/" in f.filename]
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "PyTorch"
        raise Crash(f"{type(error).__name__}: {error} ({where})") from error


class Truth(NamedTuple):
    """What the user's module gives for the images: float64 (N, classes); or why no graph can."""

    logits: Any
    reason: str = ""


def truth(model: nn.Module, images: torch.Tensor) -> Truth:
    """The module is used up: it ends in float64 and evaluation mode."""
    with torch.no_grad():
        try:
            model.eval()
            model(images.to(dtype_of(model)))
            try:
                model.double()
                images = images.double()
                first = _run(model, images)
            except Exception:  # code that names float32
                model.float()
                images = images.float()
                first = _run(model, images)
        except Exception as error:
            raise Void(f"{type(error).__name__}: {error}") from None
        if not isinstance(first, torch.Tensor):
            return Truth(None, "its output is not one tensor")
        second = _run(model, images)
        try:
            half = _run(model, images[: len(images) // 2])
        except Exception:
            half = first[:1]
    if not torch.equal(first.nan_to_num(), second.nan_to_num()):
        return Truth(None, "it draws random numbers, or changes with every call")
    if len(first) != len(images) or len(half) != len(images) // 2:
        return Truth(None, "it mixes images")
    if not _close(half, first[: len(half)]):
        return Truth(None, "the output for an image depends on the others")
    if not torch.isfinite(first).all():
        return Truth(None, "its output is not finite")
    return Truth(first.double())


def dtype_of(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters()), torch.float32)


def _run(model: nn.Module, images: torch.Tensor) -> Any:
    torch.manual_seed(torch.seed() % 2**31)
    return model(images.clone())


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    a, b = a.double().nan_to_num(), b.double().nan_to_num()
    return a.shape == b.shape and bool((a - b).abs().max() <= CLOSE * b.abs().max().clamp_min(1e-9))


def same_function(made: torch.Tensor, wanted: Truth, what: str) -> None:
    """made: what the front end's model gives with its quantisation left out."""
    if wanted.logits is None:
        raise Difference(f"{what}: accepted, but {wanted.reason}")
    if made.shape != wanted.logits.shape:
        raise Difference(f"{what}: shape {tuple(made.shape)}, the model gives {tuple(wanted.logits.shape)}")
    if not _close(made, wanted.logits):
        error = float((made - wanted.logits).abs().max() / wanted.logits.abs().max().clamp_min(1e-9))
        raise Difference(f"{what}: logits differ by up to {error:.2g} of the largest")


# -- the quantisation left out -----------------------------------------------------------------------------------------


def unquantised(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The prepared model with float weights, and the float activations in place of its quantisers."""
    model = copy.deepcopy(model).double().eval()
    for module in model.modules():
        if isinstance(module, QuantisedWeight):
            module.quantise = lambda m=module: (m.weight, m.weight.new_ones(()))
            module.scaled = lambda sum, scale: sum  # type: ignore[method-assign]
            module.quantised_bias = lambda scale, m=module: m.bias  # type: ignore[attr-defined]
            module.whole = False  # type: ignore[attr-defined]
        elif isinstance(module, Quantiser):
            module.forward = lambda y, m=module: _activation(m, y)
    with torch.no_grad():
        try:
            return model(images.double())
        except RuntimeError:  # what holds modules that no copy reaches computes in float32
            return model.float()(images.float()).double()


def _activation(module: Any, y: torch.Tensor) -> torch.Tensor:
    if module.zero:
        return y
    limit = module.limit
    if isinstance(module, qat.MedianQuant) and module.n_max and (limit is not None or module.n_max != N_MAX):
        clip = module.n_max / 2**module.k  # the nearest whole count is what quantisation makes of the limit
        if limit is None:
            limit = None if module.encoder else clip
        elif abs(clip - limit) > 0.5 / 2**module.k:
            limit = clip
    return y.clamp(0, limit)


# -- the quantised model in integers -----------------------------------------------------------------------------------


def quantised(model: nn.Module, images: torch.Tensor) -> tuple[list[Any], Truth]:
    """Counts of each quantiser at each call, and the logits: by PyTorch alone. The model is used up."""
    counts: list[Any] = []

    def keep(module: Any, args: Any, given: torch.Tensor) -> None:
        counts.append((given / torch.as_tensor(module.unit()).double() + module.zero).numpy())

    found = truth(model, images)
    images = images.to(dtype_of(model))
    for module in model.modules():
        if isinstance(module, Quantiser):
            module.register_forward_hook(keep)
        if isinstance(module, qat.Readout):
            module.whole = bool(module.source)
    with torch.no_grad():
        logits = _run(model, images)
    return counts, found if found.logits is None else Truth(logits)


def same_integers(model: Any, graph: lc.Graph, images: np.ndarray, max_count: int = 64) -> None:
    """Every count of every quantiser in every image, then the order of the logits."""
    counts, wanted = quantised(model, torch.from_numpy(images))
    if wanted.logits is None:
        raise Difference(f"convert: accepted, but {wanted.reason}")
    reference = product(lambda: graph.reference(images if images.ndim == 4 else images[:, :, None]))
    free = dict(reference.counts)
    for number, exact in enumerate(counts):
        whole = np.rint(exact)
        if not np.abs(exact - whole).max() < 1e-6:
            raise Difference(f"convert: what quantiser {number} gives are not counts")
        flat = np.minimum(whole, max_count).reshape(len(images), exact.shape[1], -1)
        start = 0
        while start < flat.shape[1]:
            for index, given in free.items():
                found = np.minimum(given, max_count).reshape(len(images), given.shape[1], -1)
                if np.array_equal(found, flat[:, start : start + found.shape[1]]):
                    del free[index]
                    start += found.shape[1]
                    break
            else:
                raise Difference(f"convert: no layer has the counts of quantiser {number} of {len(counts)}")
    same_order(reference.logits[0], wanted.logits.numpy(), "convert", 1e-7)
    same_predictions(reference.predictions[0], wanted.logits.numpy())


def same_order(found: Any, wanted: Any, what: str, margin: float, allowed: float = 0.0) -> None:
    """The classes of each image come in the same order, apart from those that are closer than `margin`."""
    if found.shape != wanted.shape:
        raise Difference(f"{what}: logits of shape {found.shape}, the model gives {wanted.shape}")
    size = np.abs(wanted).max() or 1.0
    apart = wanted[:, :, None] - wanted[:, None]
    wrong = (np.sign(found[:, :, None] - found[:, None]) != np.sign(apart)) & (np.abs(apart) > margin * size)
    if found.shape[1] == 1:
        wrong = (np.sign(found) != np.sign(wanted)) & (np.abs(wanted) > margin * size)
    share = wrong.reshape(len(found), -1).any(1).mean()
    if share > allowed:
        raise Difference(f"{what}: the order of the classes differs in {share:.0%} of the images")


def same_predictions(found: Any, logits: Any) -> None:
    wanted = (logits[:, 0] > 0).astype(int) if logits.shape[1] == 1 else None
    if wanted is not None and (found != wanted).mean() > 0.2:
        said = sorted(set(found.tolist()))
        raise Difference(f"one logit: predictions {said}, its sign says {wanted.mean():.0%} are 1")


def correlated(found: Any, wanted: Any, what: str, least: float) -> None:
    """Over images, each class about its mean: a constant network agrees with everything."""
    if found.shape != wanted.shape:
        raise Difference(f"{what}: shapes {found.shape} and {wanted.shape}")
    a, b = (v - v.mean(0) for v in (found.astype(np.float64), wanted))
    if np.abs(b).max() <= 1e-3 * np.abs(wanted).max() or not a.any():
        return
    value = float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
    if not value >= least:
        raise Difference(f"{what}: correlation {value:.2f}")
