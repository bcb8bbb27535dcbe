#!/usr/bin/env python
"""Random networks, written and used in every usual way, through each front end: is any number wrong without a word?

python benchmarks/silent.py                    600 networks (minutes, one core), a table, every difference and crash
python benchmarks/silent.py --first 600        other 600
python benchmarks/silent.py --only 17          one, with its source and what happened
python benchmarks/silent.py --kind hooks       those of one kind

The measure is the user's own module, run by plain PyTorch in evaluation mode and float64, never the product's trace:
what a front end made of it must compute the same with its quantisation left out, and the integer graph must give the
counts and logits of the quantised model. A model that draws random numbers, or whose output for an image depends on
the other images, has no such graph and must be refused. Verdicts:

exact      accepted, and everything is equal
refused    a LavaConvError before any training; `late` one from convert, of a model that a front end had accepted
crash      any other exception
silent     accepted, and something differs
void       the network does not run in PyTorch either
"""

import argparse
import collections
import copy
import os
import random
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from silent_networks import GROUPS, Network, network
from silent_usage import CHANGES, USAGES
from torch import nn
from torch.nn import functional as F

import lava_conv as lc
from lava_conv import qat
from lava_conv.calibrate import calibrated
from lava_conv.qat.layers import QuantisedWeight, Quantiser

SCALE = 1 / 255
EXAMPLES, IMAGES = 4, 24  # the conversion checks itself on the first few of those that the sweep looks at
STEPS = 16
CLOSE = 1e-4  # of the largest value: parametrisations may compute in float32, a wrong function is far off
NOISE = re.compile(r"While executing|Original traceback|Traceback|object at 0x|NoneType|Proxy\(|symbolically traced")
LONGEST = 2000
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
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "lava_conv" in f.filename and "benchmarks" not in f.filename]
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
            model(images.to(_dtype(model)))
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


def _dtype(model: nn.Module) -> torch.dtype:
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


# -- the quantisation left out ------------------------------------------------------------------------------------------


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
    if limit is None and isinstance(module, qat.MedianQuant) and not module.encoder and module.n_max not in (0, N_MAX):
        limit = module.n_max / 2**module.k
    return y.clamp(0, limit)


# -- the quantised model in integers ------------------------------------------------------------------------------------


def quantised(model: nn.Module, images: torch.Tensor) -> tuple[list[Any], Truth]:
    """Counts of each quantiser at each call, and the logits: by PyTorch alone. The model is used up."""
    counts: list[Any] = []

    def keep(module: Any, args: Any, given: torch.Tensor) -> None:
        counts.append((given / torch.as_tensor(module.unit()).double() + module.zero).numpy())

    found = truth(model, images)
    images = images.to(_dtype(model))
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
            for index, found in free.items():
                found = np.minimum(found, max_count).reshape(len(images), found.shape[1], -1)
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
        raise Difference(f"one logit: predictions {sorted(set(found.tolist()))}, its sign says {wanted.mean():.0%} are 1")


# -- front ends ---------------------------------------------------------------------------------------------------------


@dataclass
class Case:
    """One network, one way of using it, one front end."""

    seed: int
    front: str
    network: Network
    usage: tuple[str, str] | None
    change: str | None
    options: dict[str, Any]
    scale: float = SCALE

    def model(self) -> nn.Module:
        """The user's model; every call makes an equal one."""
        try:
            made: Any = self.network.make(self.seed, self.scale)
            if self.usage:
                kind, name = self.usage
                made = USAGES[kind][name](made, random.Random(self.seed))
        except Exception as error:
            raise Void(f"{type(error).__name__}: {error}") from None
        return made

    def images(self) -> np.ndarray:
        return np.random.default_rng(self.seed).integers(0, 256, (IMAGES, *self.network.shape), np.uint8)

    def kinds(self) -> list[str]:
        found = [group for group, _ in self.network.unusual]
        found += [name for name in ("max_pool", "normalised") if self.options.get(name)]
        found += [self.usage[0]] if self.usage else []
        return (found + (["prepared model changed"] if self.change else [])) or ["plain"]

    def words(self) -> str:
        what = [f"{g}: {n}" for g, n in self.network.unusual]
        what += [": ".join(self.usage)] if self.usage else []
        what += [f"{name}={self.options[name]}" for name in ("max_pool", "normalised") if self.options.get(name)]
        return "; ".join(what + ([self.change] if self.change else []))


def _trained(case: Case, model: Any, images: torch.Tensor) -> Any:
    """A batch in training mode, which starts the steps, and two steps of training."""
    torch.manual_seed(case.seed)
    model.train()
    images = images.to(_dtype(model))
    model(images)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if parameters:
        optimiser = torch.optim.Adam(parameters, 1e-3)
        for _ in range(2):
            logits = model(images)
            loss = F.cross_entropy(logits, torch.arange(len(images)) % logits.shape[1])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


def _trainable(case: Case, images: torch.Tensor) -> None:
    """Void if the user's own model cannot be trained like that."""
    try:
        _trained(case, case.model(), images)
    except Exception as error:
        raise Void(f"training: {type(error).__name__}: {error}") from None


def _changed(case: Case, model: Any) -> Any:
    if not case.change:
        return model
    try:
        return CHANGES[case.change](model, random.Random(case.seed))
    except Exception as error:
        raise Void(f"{type(error).__name__}: {error}") from None


def _twin(case: Case, model: Any, make: Callable[[], Any]) -> Any:
    """An equal model. Some parametrisations cannot be copied, and replaced functions hold on to what they replaced."""
    return make() if case.usage or case.change else copy.deepcopy(model)


def _late(make: Callable[[], Any]) -> Any:
    try:
        return product(make)
    except lc.LavaConvError as error:
        raise Late(error) from error


def _prepare(case: Case) -> None:
    images = case.images()
    floats = torch.from_numpy(images).double() * SCALE
    max_pool = case.options.get("max_pool")
    original = case.model()
    wanted = truth(case.model(), floats)
    if max_pool == "average" and "axPool" in case.network.source + case.network.source.replace("max_p", "axP"):
        wanted = None
    before = _state(original)
    square = len(set(images.shape[2:])) == 1
    options = dict(case.options, input_scale=SCALE)
    if case.seed % 2 or not square:  # else it finds a size by trying
        options["example_input"] = images[:EXAMPLES]
    prepared = product(lambda: qat.prepare(original, **options))
    _unchanged(original, before)
    clips = re.search(r"ardtanh|clamp|clip|elu6|hreshold", case.network.source)
    if max_pool is None and not (case.options["method"] == "zou" and clips):
        same_function(unquantised(prepared, torch.from_numpy(images)), wanted, "prepare")
    elif wanted is not None and wanted.logits is None:
        raise Difference(f"prepare: accepted, but {wanted.reason}")
    if max_pool:
        _same_shapes(case.model(), prepared, floats)
    pixels = torch.from_numpy(images).float()
    try:
        trained = product(lambda: _trained(case, prepared, pixels))
    except Crash:
        _trainable(case, floats.float())
        raise
    trained = _changed(case, trained)
    again = lambda: _trained(case, qat.prepare(case.model(), **options), pixels)  # noqa: E731
    twin = _twin(case, trained, lambda: _changed(case, again()))
    before = _state(trained)
    graph = _convert(case, trained, images)
    _unchanged(trained, before)
    same_integers(twin, graph, images)


def _convert(case: Case, model: Any, images: np.ndarray) -> lc.Graph:
    """A changed model was never accepted, so its refusal is not late."""
    if case.change:
        return product(lambda: lc.convert(model, images[:EXAMPLES], steps=STEPS))
    return _late(lambda: lc.convert(model, images[:EXAMPLES], steps=STEPS))


def _same_shapes(original: nn.Module, prepared: nn.Module, floats: torch.Tensor) -> None:
    """With max_pool, layers of the same name give the same shapes."""
    shapes: list[dict[str, Any]] = [{}, {}]
    for model, images, seen in ((original, floats, shapes[0]), (prepared, floats * 255, shapes[1])):
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                module.register_forward_hook(lambda m, a, out, n=name, s=seen: s.update({n: tuple(out.shape)}))
        with torch.no_grad():
            try:
                copy.deepcopy(model).eval().float()(images.float())
            except RuntimeError as error:
                raise Difference(f"prepare, max_pool: the model does not run: {error}") from None
    different = {n: (s, shapes[1][n]) for n, s in shapes[0].items() if n in shapes[1] and shapes[1][n] != s}
    if different:
        raise Difference(f"prepare, max_pool: shapes {different}")


def _hand(case: Case) -> None:
    images = case.images()
    _trainable(case, torch.from_numpy(images).float())
    make = lambda: _changed(case, _trained(case, case.model(), torch.from_numpy(images).float()))  # noqa: E731
    model = make()
    twin = _twin(case, model, make)
    before = _state(model)
    graph = product(lambda: lc.convert(model, images[:EXAMPLES], steps=STEPS))
    _unchanged(model, before)
    same_integers(twin, graph, images)


def _calibrate(case: Case) -> None:
    images = case.images()
    options = dict(case.options)
    given: dict[str, Any] = {"input_scale": SCALE}
    floats = torch.from_numpy(images).double() * SCALE
    if options.pop("normalised", False):
        given |= {"mean": [0.4] * images.shape[1], "std": [0.3] * images.shape[1]}
        floats = (floats - 0.4) / 0.3
    wanted, original = truth(case.model(), floats), case.model()
    before = _state(original)
    made = product(lambda: calibrated(original, images, **given, **options))
    _unchanged(original, before)
    plain = unquantised(made.model, torch.from_numpy(images))
    if options["method"] == "light" and wanted.logits is not None and plain.shape == wanted.logits.shape:
        shift = (wanted.logits - plain).mean(0)  # the bias of the logits is tuned, too
        plain = plain + shift.clamp(*(0.1 * wanted.logits.abs().max() * torch.tensor([-1, 1])))
    same_function(plain, wanted, "calibrate")
    if wanted.logits is None:
        raise Difference(f"calibrate: accepted, but {wanted.reason}")
    logits = made.graph.reference(images if images.ndim == 4 else images[:, :, None]).logits[0]
    with torch.no_grad():
        theirs = copy.deepcopy(made.model).double().eval()(torch.from_numpy(images).double())
    correlated(logits, theirs.numpy(), "the graph and the calibrated model", 0.9)
    same_predictions(made.graph.reference(images if images.ndim == 4 else images[:, :, None]).predictions[0], wanted.logits.numpy())


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


def _torch_ao(case: Case) -> None:
    from torch.ao.quantization import disable_fake_quant, disable_observer

    from lava_conv.qat.toolkits import torch_ao

    images = case.images()
    pixels = torch.from_numpy(images).float()
    wanted, original = truth(case.model(), pixels.double() * SCALE), case.model()
    before = _state(original)
    try:
        prepared = torch_ao.prepare(original, pixels * SCALE, levels=case.options["levels"], input_scale=SCALE)
    except lc.LavaConvError:
        raise
    except Exception as error:
        if _theirs(error):
            raise Void(f"torch.ao itself: {type(error).__name__}: {error}") from None
        raise Crash(f"{type(error).__name__}: {error}") from error
    _unchanged(original, before)
    try:
        trained = _trained(case, prepared, pixels)
    except Exception as error:
        _trainable(case, pixels * SCALE)
        if _theirs(error):
            raise Void(f"torch.ao itself: {type(error).__name__}: {error}") from None
        raise Crash(f"training: {type(error).__name__}: {error}") from error
    pixels = pixels.to(_dtype(original))
    bare = torch_ao.prepare(case.model(), pixels * SCALE, levels=case.options["levels"], input_scale=SCALE)
    bare = bare.eval().apply(disable_fake_quant).apply(disable_observer)
    with torch.no_grad():
        made = bare(pixels).double()
    graph = _late(lambda: lc.convert(trained, images[:EXAMPLES], steps=STEPS))
    if wanted.logits is None:
        raise Difference(f"torch.ao: accepted, but {wanted.reason}")
    if made.shape != wanted.logits.shape or not bool((made - wanted.logits).abs().max() <= 1e-2 * wanted.logits.abs().max()):
        raise Difference("torch.ao: prepared without fake quantisation, it is another function")
    _near(graph, trained.apply(disable_observer), pixels, images, "torch.ao")


def _theirs(error: Exception) -> bool:
    """Whether an exception comes from the toolkit's own code, which any user would meet without us."""
    frames = traceback.extract_tb(error.__traceback__)
    return not any("lava_conv" in f.filename for f in frames[-3:])


def _near(graph: lc.Graph, model: Any, floats: torch.Tensor, images: np.ndarray, what: str) -> None:
    """A toolkit's model in float32, in which single counts move."""
    with torch.no_grad():
        theirs = model.eval()(floats).double().numpy()
    reference = graph.reference(images if images.ndim == 4 else images[:, :, None])
    same_order(reference.logits[0], theirs, what, 0.02, 0.15)
    correlated(reference.logits[0], theirs, what, 0.98)
    same_predictions(reference.predictions[0], theirs)


def _brevitas(case: Case) -> None:
    images = case.images()
    floats = torch.from_numpy(images).float() * SCALE
    model = case.model()
    try:
        model = _trained(case, model, floats)
        with torch.no_grad():
            wanted = truth(copy.deepcopy(model), floats.double())
    except Exception as error:
        raise Void(f"{type(error).__name__}: {error}") from None
    before = _state(model)
    graph = product(
        lambda: lc.convert(model, images[:EXAMPLES], steps=STEPS, input_scale=SCALE, round_thresholds=True)
    )
    _unchanged(model, before)
    if wanted.logits is None:
        raise Difference(f"Brevitas: accepted, but {wanted.reason}")
    _near(graph, model, floats, images, "Brevitas")


def _state(model: Any) -> Any:
    try:
        values = {n: v.detach().clone() for n, v in model.state_dict(keep_vars=True).items() if isinstance(v, torch.Tensor)}
    except Exception:
        values = {}
    return values, {n: (m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for n, m in model.named_modules()}


def _unchanged(model: Any, before: Any) -> None:
    values, flags = _state(model)
    if flags != before[1]:
        raise Difference("the user's model came back with another mode or other hooks")
    changed = [n for n, v in before[0].items() if n not in values or not torch.equal(values[n].nan_to_num(), v.nan_to_num())]
    if changed:
        raise Difference(f"the user's model came back with another {changed[0]}")


FRONTS: dict[str, tuple[Callable[[Case], None], int]] = {  # and how many of twenty cases
    "prepare": (_prepare, 9),
    "calibrate": (_calibrate, 5),
    "hand-written": (_hand, 2),
    "torch.ao": (_torch_ao, 2),
    "Brevitas": (_brevitas, 2),
}


# -- cases --------------------------------------------------------------------------------------------------------------


def _by_hand(text: str) -> str:
    """The pieces in our own layers."""
    text = re.sub(r"«nn\.((?:Adaptive)?AvgPool2d\([^«»]*\))»", r"«nn.Sequential(nn.\1, qat.MedianQuant(1, 8))»", text)
    text = re.sub(r"nn\.ReLU\([^()]*\)|nn\.ReLU6\([^()]*\)", "qat.MedianQuant(1, 8)", text)
    text = text.replace("F.relu(", "«qat.MedianQuant(1, 8)»(").replace("nn.Conv2d(", "qat.TernaryConv2d(")
    return text.replace("nn.Linear($N, $K", "qat.Readout($N, $K").replace("nn.Linear(", "qat.TernaryLinear(")


def _in_brevitas(text: str) -> str:
    text = re.sub(r"nn\.ReLU\([^()]*\)|nn\.ReLU6\([^()]*\)", "qnn.QuantReLU(bit_width=3)", text)
    text = text.replace("F.relu(", "«qnn.QuantReLU(bit_width=3)»(").replace("nn.Conv2d(", "qnn.QuantConv2d(")
    return text.replace("nn.Linear(", "qnn.QuantLinear(")


def case(seed: int) -> Case:
    """The case of a seed, always the same."""
    rng = random.Random(seed)
    front = rng.choices(list(FRONTS), [share for _, share in FRONTS.values()])[0]
    usage = change = None
    if rng.random() < 0.35:
        kind = rng.choice(list(USAGES))
        usage = (kind, rng.choice(list(USAGES[kind])))
    if front in ("prepare", "hand-written") and rng.random() < 0.3 and usage is None:
        change = rng.choice(list(CHANGES))
    count = rng.choices((0, 1, 2), (0.75, 0.2, 0.05) if usage or change else (0.05, 0.75, 0.2))[0]
    wanted = rng.sample(GROUPS, count)
    if front == "Brevitas":
        import brevitas.nn  # noqa: F401
    translate, first = {
        "hand-written": (_by_hand, "x = «qat.Pixels(1 / 64)»(x)"), "Brevitas": (_in_brevitas, "")
    }.get(front, (str, ""))  # fmt: skip
    made = network(rng, wanted, translate, first)
    if front == "hand-written":  # the image needs int8 weights
        made.source = made.source.replace("qat.TernaryConv", "qat.Int8Conv", 1)
    options: dict[str, Any] = {}
    if front == "prepare":
        options = {"method": rng.choice(("gao", "gao", "zou")), "levels": rng.choice((4, 7, 15)), "n_max": N_MAX,
                   "k": rng.choice((0, 1, 2)), "power_of_two": rng.random() < 0.2, "weight_bits": rng.choice((8, 8, 4))}  # fmt: skip
        if re.search(r"[mM]ax_?[pP]ool", made.source):
            options["max_pool"] = rng.choice((None, "conv", "average"))
    elif front == "calibrate":
        constant = rng.random() < 0.5
        options = {"steps": 64 if constant else 32, "levels": 64 if constant else 31,
                   "method": rng.choice(("none", "mmse", "light")), "neuron": rng.choice(("calif", "calif", "dtb", "if")),
                   "per_channel": rng.random() < 0.3, "input_code": "constant" if constant else "flash",
                   "normalised": rng.random() < 0.15}  # fmt: skip
    elif front == "torch.ao":
        options = {"levels": rng.choice((7, 15))}
    scale = 1.0 if front == "hand-written" else SCALE
    return Case(seed, front, made, usage, change, options, scale)


class Result(NamedTuple):
    """verdict: see the head of the file. detail: the sentence, or what differs. flaw: what is wrong with a refusal."""

    seed: int
    front: str
    kinds: list[str]
    words: str
    verdict: str
    detail: str
    flaw: str
    seconds: float


def judge(seed: int) -> Result:
    """Build the case of a seed and say what became of it."""
    begin = time.time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            one = case(seed)
        except Exception as error:
            return Result(seed, "", ["plain"], "", "void", f"{type(error).__name__}: {error}", "", time.time() - begin)
        flaw = ""
        try:
            FRONTS[one.front][0](one)
            verdict, detail = "exact", ""
        except Void as error:
            verdict, detail = "void", str(error)
        except Difference as error:
            verdict, detail = "silent", str(error)
        except Late as error:
            verdict, detail, flaw = "late", str(error), _flaw(str(error))
        except lc.LavaConvError as error:
            verdict, detail, flaw = "refused", str(error), _flaw(str(error))
        except Crash as error:
            verdict, detail = "crash", str(error)
        except Exception as error:  # a fault of this program
            verdict, detail = "void", f"SWEEP {traceback.format_exc()[-1500:]}" if DEBUG else f"SWEEP {error}"
        finally:
            for hooks in (nn.modules.module._global_forward_hooks, nn.modules.module._global_forward_pre_hooks):
                hooks.clear()
    return Result(seed, one.front, one.kinds(), one.words(), verdict, detail, flaw, time.time() - begin)


def _flaw(sentence: str) -> str:
    if len(sentence) >= LONGEST:
        return f"{len(sentence)} characters"
    if found := NOISE.search(sentence):
        return f"noise: {found[0]}"
    return "blames itself" if "fault of the converter" in sentence else ""


DEBUG = bool(os.environ.get("SILENT_DEBUG"))
VERDICTS = ("exact", "refused", "late", "crash", "silent", "void")


def table(results: list[Result]) -> list[str]:
    """By front end, then by kind of variation, how many ended in each verdict. A case of two kinds counts in both."""
    lines = ["| | " + " | ".join(VERDICTS) + " |", "|---" * (len(VERDICTS) + 1) + "|"]
    rows: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for result in results:
        rows[f"**{result.front}**"][result.verdict] += 1
        for kind in set(result.kinds):
            rows[kind][result.verdict] += 1
    for name in sorted(rows, key=lambda n: (not n.startswith("**"), n)):
        lines.append(f"| {name} | " + " | ".join(str(rows[name][v] or "") for v in VERDICTS) + " |")
    total = collections.Counter(result.verdict for result in results)
    return [*lines, f"| {len(results)} networks | " + " | ".join(str(total[v]) for v in VERDICTS) + " |"]


def _shorten(text: str, length: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=600, help="how many networks")
    parser.add_argument("--only", type=int, nargs="+", help="these seeds, with the source of each network")
    parser.add_argument("--kind", help="print refusals of cases of this kind of variation, too")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.only:
        for seed in chosen.only:
            one = case(seed)
            print(f"{one.network.source}\n# images {one.network.shape}, {one.front} {one.options}, {one.words()}")
            result = judge(seed)
            print(f"# {result.verdict} ({result.seconds:.1f} s): {result.detail}\n")
        return
    results, begin = [], time.time()
    for seed in range(chosen.first, chosen.first + chosen.count):
        result = judge(seed)
        results.append(result)
        if result.verdict in ("silent", "crash") or result.detail.startswith("SWEEP") or result.flaw or (chosen.kind in result.kinds):
            flaw = f" [{result.flaw}]" if result.flaw else ""
            print(f"{result.verdict}{flaw} {seed} ({result.front}; {result.words}): {_shorten(result.detail)}", flush=True)
    print("\n".join(table(results)))
    print(f"{time.time() - begin:.0f} s in all, the slowest {max(r.seconds for r in results):.1f} s "
          f"(seed {max(results, key=lambda r: r.seconds).seed})")  # fmt: skip
    sys.exit(any(r.verdict in ("silent", "crash") for r in results))


if __name__ == "__main__":
    main()
