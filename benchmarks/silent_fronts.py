"""The front ends that `silent.py` puts a network through, and what each result is compared with."""

import copy
import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from silent_networks import Network
from silent_oracle import (
    EXAMPLES,
    IMAGES,
    SCALE,
    STEPS,
    Crash,
    Difference,
    Late,
    Void,
    correlated,
    dtype_of,
    product,
    same_function,
    same_integers,
    same_order,
    same_predictions,
    truth,
    unquantised,
)
from silent_usage import CHANGES, USAGES
from torch import nn
from torch.nn import functional as F

import lava_conv as lc
from lava_conv import qat


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
    images = images.to(dtype_of(model))
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


def _prepared(case: Case, model: nn.Module, options: dict[str, Any]) -> Any:
    torch.manual_seed(case.seed)  # what replaces max pooling begins with random weights
    return qat.prepare(model, **options)


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
    prepared = product(lambda: _prepared(case, original, options))
    _unchanged(original, before)
    if max_pool is None:
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
    again = lambda: _trained(case, _prepared(case, case.model(), options), pixels)  # noqa: E731
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
    made = product(lambda: lc.calibrate(original, images, **given, **options))
    _unchanged(original, before)
    plain = unquantised(made.model, torch.from_numpy(images))
    if options["method"] == "light" and wanted.logits is not None and plain.shape == wanted.logits.shape:
        shift = (wanted.logits - plain).mean(0)  # the bias of the logits is tuned, too
        plain = plain + shift.clamp(*(0.1 * wanted.logits.abs().max() * torch.tensor([-1, 1])))
    same_function(plain, wanted, "calibrate")
    if wanted.logits is None:
        raise Difference(f"calibrate: accepted, but {wanted.reason}")
    reference = product(lambda: made.reference(images if images.ndim == 4 else images[:, :, None]))
    with torch.no_grad():
        theirs = copy.deepcopy(made.model).double().eval()(torch.from_numpy(images).double())
    correlated(reference.logits[0], theirs.numpy(), "the graph and the calibrated model", 0.9)
    same_predictions(reference.predictions[0], wanted.logits.numpy())


def _torch_ao(case: Case) -> None:
    from torch.ao.quantization import disable_fake_quant, disable_observer

    from lava_conv.frontends import torch_ao

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
    pixels = pixels.to(dtype_of(original))
    bare = torch_ao.prepare(case.model(), pixels * SCALE, levels=case.options["levels"], input_scale=SCALE)
    bare = bare.eval().apply(disable_fake_quant).apply(disable_observer)
    with torch.no_grad():
        made = bare(pixels).double()
    graph = _late(lambda: lc.convert(trained, images[:EXAMPLES], steps=STEPS))
    if wanted.logits is None:
        raise Difference(f"torch.ao: accepted, but {wanted.reason}")
    size = wanted.logits.abs().max()
    if made.shape != wanted.logits.shape or not bool((made - wanted.logits).abs().max() <= 1e-2 * size):
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
    graph = product(lambda: lc.convert(model, images[:EXAMPLES], steps=STEPS, input_scale=SCALE, round_thresholds=True))
    _unchanged(model, before)
    if wanted.logits is None:
        raise Difference(f"Brevitas: accepted, but {wanted.reason}")
    _near(graph, model, floats, images, "Brevitas")


def _state(model: Any) -> Any:
    try:
        state = model.state_dict(keep_vars=True)
        values = {n: v.detach().nan_to_num() for n, v in state.items() if isinstance(v, torch.Tensor)}
    except Exception:
        values = {}
    return values, {n: (m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for n, m in model.named_modules()}


def _unchanged(model: Any, before: Any) -> None:
    values, flags = _state(model)
    if flags != before[1]:
        raise Difference("the user's model came back with another mode or other hooks")
    changed = [n for n, v in before[0].items() if n not in values or not torch.equal(values[n], v)]
    if changed:
        raise Difference(f"the user's model came back with another {changed[0]}")


FRONTS: dict[str, tuple[Callable[[Case], None], int]] = {  # and how many of twenty cases
    "prepare": (_prepare, 9),
    "calibrate": (_calibrate, 5),
    "hand-written": (_hand, 2),
    "torch.ao": (_torch_ao, 2),
    "Brevitas": (_brevitas, 2),
}
