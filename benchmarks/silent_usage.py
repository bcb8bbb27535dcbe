"""What users do to a network before they prepare it (USAGES), and to the prepared one before they convert it (CHANGES).

Each takes the model and a random generator and gives the model to go on with, perhaps another one; LookupError: this
network has nothing that it could be done to.
"""

import copy
import io
import pickle
import random
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

Usage = Callable[[Any, random.Random], Any]
WEIGHTS = (nn.Conv1d, nn.Conv2d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def some(model: nn.Module, rng: random.Random, *kinds: type) -> Any:
    """One of the modules of these kinds (leaves only)."""
    found = [m for m in model.modules() if isinstance(m, kinds) and not list(m.children())]
    if not found:
        raise LookupError("no such module")
    return rng.choice(found)


def container(model: nn.Module, rng: random.Random) -> Any:
    found = [m for m in model.modules() if list(m.children()) and m is not model]
    if not found:
        raise LookupError("no containers")
    return rng.choice(found)


def leaf(model: nn.Module, rng: random.Random) -> Any:
    return some(model, rng, nn.Module)


# -- hooks -------------------------------------------------------------------------------------------------------------


def _double(module: Any, args: Any, output: Any) -> Any:
    return output * 2 if isinstance(output, torch.Tensor) else None


def _halve_input(module: Any, args: Any) -> Any:
    return (args[0] * 0.5, *args[1:])


def _look(module: Any, args: Any, output: Any) -> None:
    module.__dict__["seen"] = module.__dict__.get("seen", 0) + 1


def _in_place(module: Any, args: Any, output: Any) -> None:
    with torch.no_grad():
        output.mul_(2)


def _with_kwargs(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
    return output + 1


def _hook(where: Callable[..., Any], hook: Any, pre: bool = False, **options: Any) -> Usage:
    def apply(model: Any, rng: random.Random) -> Any:
        module = where(model, rng)
        (module.register_forward_pre_hook if pre else module.register_forward_hook)(hook, **options)
        return model

    return apply


def _root(model: Any, rng: random.Random) -> Any:
    return model


def _backward_hooks(model: Any, rng: random.Random) -> Any:
    leaf(model, rng).register_full_backward_hook(lambda module, grad_input, grad_output: None)
    model.register_full_backward_hook(lambda module, grad_input, grad_output: None)
    return model


def _other_hooks(model: Any, rng: random.Random) -> Any:
    model.register_state_dict_pre_hook(lambda *args: None)
    model.register_load_state_dict_post_hook(lambda *args: None)
    next(model.parameters()).register_hook(lambda grad: grad * 2)
    return model


def _weight_hook(model: Any, rng: random.Random) -> Any:
    """A pre-hook that makes the weight, as spectral_norm of old does."""
    module = some(model, rng, *WEIGHTS)
    raw = nn.Parameter(module.weight.detach().clone())
    del module.weight
    module.register_parameter("raw", raw)
    module.weight = raw.detach() * 0
    module.register_forward_pre_hook(lambda m, args: setattr(m, "weight", m.raw * 0.5))
    return model


# -- forward replaced --------------------------------------------------------------------------------------------------


def _replaced(where: Callable[..., Any]) -> Usage:
    def apply(model: Any, rng: random.Random) -> Any:
        module = where(model, rng)
        old = module.forward
        module.forward = lambda *args, **kwargs: old(*args, **kwargs) * 1.5
        return model

    return apply


def _method_replaced(model: Any, rng: random.Random) -> Any:
    def forward(self: Any, x: Any) -> Any:
        return type(self).forward(self, x) - 0.25

    module = some(model, rng, *WEIGHTS, nn.ReLU)
    module.forward = types.MethodType(forward, module)
    return model


def _wrapped_forward(model: Any, rng: random.Random) -> Any:
    """As decorators of timers and mixed precision do: the same function."""
    old = model.forward
    model.forward = lambda x: old(x)  # noqa: PLW0108
    return model


def _call_replaced(model: Any, rng: random.Random) -> Any:
    module = some(model, rng, *WEIGHTS)
    module.__class__ = type("Called", (type(module),), {"__call__": lambda self, x: nn.Module.__call__(self, x) * 3})
    return model


# -- parametrisations --------------------------------------------------------------------------------------------------


def _weight(how: Callable[[Any], Any]) -> Usage:
    def apply(model: Any, rng: random.Random) -> Any:
        how(some(model, rng, *WEIGHTS))
        return model

    return apply


def _all_weights(how: Callable[[Any], Any]) -> Usage:
    def apply(model: Any, rng: random.Random) -> Any:
        for module in list(model.modules()):
            if isinstance(module, WEIGHTS) and not parametrize.is_parametrized(module):
                how(module)
        return model

    return apply


class Halved(nn.Module):
    def forward(self, w: Any) -> Any:
        return w * 0.5


class Centred(nn.Module):
    def forward(self, w: Any) -> Any:
        return w - w.flatten(1).mean(1).reshape(-1, *[1] * (w.ndim - 1))


class Noisy(nn.Module):
    def forward(self, w: Any) -> Any:
        return w + 0.1 * torch.randn_like(w)


def _parametrised(name: str, how: type, *kinds: type) -> Usage:
    def apply(model: Any, rng: random.Random) -> Any:
        module = some(model, rng, *kinds)
        if getattr(module, name) is None:
            raise LookupError(name)
        parametrize.register_parametrization(module, name, how())
        return model

    return apply


def _stale_spectral(model: Any, rng: random.Random) -> Any:
    """weights loaded into a normalised network that has not run since."""
    module = some(model, rng, *WEIGHTS)
    nn.utils.spectral_norm(module)
    state = {n: v.clone() * (3 if n.endswith("weight_orig") else 1) for n, v in model.state_dict().items()}
    model.load_state_dict(state)
    return model


def _stale_weight_norm(model: Any, rng: random.Random) -> Any:
    nn.utils.weight_norm(some(model, rng, *WEIGHTS))
    model.load_state_dict({n: v.clone() * (2 if n.endswith("_g") else 1) for n, v in model.state_dict().items()})
    return model


def _pruned_then_changed(model: Any, rng: random.Random) -> Any:
    module = some(model, rng, *WEIGHTS)
    prune.random_unstructured(module, "weight", 0.4)
    with torch.no_grad():
        module.weight_orig.mul_(2)
    return model


def _pruned_bias(model: Any, rng: random.Random) -> Any:
    module = some(model, rng, *WEIGHTS)
    if module.bias is None:
        raise LookupError("no bias")
    prune.random_unstructured(module, "bias", 0.5)
    return model


def _pruned_for_good(model: Any, rng: random.Random) -> Any:
    module = some(model, rng, *WEIGHTS)
    prune.l1_unstructured(module, "weight", 0.3)
    prune.remove(module, "weight")
    return model


def _tied(model: Any, rng: random.Random) -> Any:
    layers = [m for m in model.modules() if isinstance(m, WEIGHTS)]
    pairs = [(a, b) for a in layers for b in layers if a is not b and a.weight.shape == b.weight.shape]
    if not pairs:
        raise LookupError("no two alike")
    a, b = rng.choice(pairs)
    b.weight = a.weight
    return model


def _module_shared(model: Any, rng: random.Random) -> Any:
    """One module object in two places."""
    named = [(n, m) for n, m in model.named_modules() if isinstance(m, (*WEIGHTS, *NORMS))]
    pairs = [(n, b) for n, a in named for m, b in named if n != m and type(a) is type(b) and str(a) == str(b)]
    if not pairs:
        raise LookupError("no two alike")
    name, module = rng.choice(pairs)
    holder, _, last = name.rpartition(".")
    setattr(model.get_submodule(holder), last, module)
    return model


# -- values ------------------------------------------------------------------------------------------------------------


def _norm(name: str, value: float, share: float = 0.5) -> Usage:
    def apply(model: Any, rng: random.Random) -> Any:
        tensor = getattr(some(model, rng, *NORMS), name)
        if tensor is None:
            raise LookupError(name)
        with torch.no_grad():
            tensor[: max(1, int(len(tensor) * share))] = value
        return model

    return apply


def _values(kinds: tuple[type, ...], name: str, value: float, all: bool = False) -> Usage:
    def apply(model: Any, rng: random.Random) -> Any:
        tensor = getattr(some(model, rng, *kinds), name)
        if tensor is None:
            raise LookupError(name)
        with torch.no_grad():
            tensor.fill_(value) if all else tensor.view(-1)[:1].fill_(value)
        return model

    return apply


def _filter(factor: float) -> Usage:
    def apply(model: Any, rng: random.Random) -> Any:
        with torch.no_grad():
            some(model, rng, *WEIGHTS).weight[0] *= factor
        return model

    return apply


def _cast(dtype: torch.dtype) -> Usage:
    return lambda model, rng: model.to(dtype)


def _mixed_dtype(model: Any, rng: random.Random) -> Any:
    some(model, rng, *WEIGHTS).double()
    return model


# -- modes and wrappers ------------------------------------------------------------------------------------------------


def _frozen_norms(model: Any, rng: random.Random) -> Any:
    model.train()
    for module in model.modules():
        if isinstance(module, NORMS):
            module.eval()
    return model


def _one_in_training(model: Any, rng: random.Random) -> Any:
    some(model.eval(), rng, nn.Module).train()
    return model


def _trained_norm_in_eval(model: Any, rng: random.Random) -> Any:
    module = some(model.eval(), rng, *NORMS)
    module.train()
    return model


def _no_gradients(model: Any, rng: random.Random) -> Any:
    return model.requires_grad_(False)


def _loaded(model: Any, rng: random.Random) -> Any:
    other = copy.deepcopy(model)
    with torch.no_grad():
        for value in other.parameters():
            value.mul_(0.8)
    model.load_state_dict(other.state_dict(), assign=rng.random() < 0.5)
    return model


class Outer(nn.Module):
    """A wrapper that scales the image, or the logits."""

    def __init__(self, model: nn.Module, before: float = 1.0, after: float = 1.0) -> None:
        super().__init__()
        self.model, self.before, self.after = model, before, after

    def forward(self, x: Any) -> Any:
        x = x if self.before == 1 else x * self.before
        x = self.model(x)
        return x if self.after == 1 else x * self.after


class TwoPasses(nn.Module):
    """Test-time augmentation: the same network twice."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Any) -> Any:
        return self.model(x) + self.model(x.flip(-1))


class Options(nn.Module):
    """A forward with a second argument that has a default."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Any, gain: float = 2.0) -> Any:
        return self.model(x) * gain


def _traced(model: Any, rng: random.Random) -> Any:
    return torch.fx.symbolic_trace(model)


def _graph_edited(model: Any, rng: random.Random) -> Any:
    traced = torch.fx.symbolic_trace(model)
    last = next(n for n in traced.graph.nodes if n.op == "output")
    with traced.graph.inserting_before(last):
        new = traced.graph.call_function(torch.neg, (last.args[0],))
    last.args = (new,)
    traced.recompile()
    return traced


def _fx_module_assigned(model: Any, rng: random.Random) -> Any:
    """A GraphModule whose code was replaced without its graph."""
    traced = torch.fx.symbolic_trace(model)
    old = traced.forward
    traced.forward = lambda x: -old(x)
    return traced


def _pickled(model: Any, rng: random.Random) -> Any:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def _swapped(model: Any, rng: random.Random) -> Any:
    """A submodule exchanged for another after construction."""
    named = [n for n, m in model.named_modules() if isinstance(m, nn.ReLU)]
    if not named:
        raise LookupError("no ReLU")
    holder, _, last = rng.choice(named).rpartition(".")
    setattr(model.get_submodule(holder), last, nn.Hardtanh(0.0, 0.5))
    return model


def _attribute(kinds: tuple[type, ...], name: str, value: Any) -> Usage:
    def apply(model: Any, rng: random.Random) -> Any:
        setattr(some(model, rng, *kinds), name, value)
        return model

    return apply


def _ran_often(model: Any, rng: random.Random) -> Any:
    return model


HOOKS: dict[str, Usage] = {
    "forward hook that doubles, leaf": _hook(leaf, _double),
    "forward hook that doubles, weights": _hook(lambda m, r: some(m, r, *WEIGHTS), _double),
    "forward hook that doubles, activation": _hook(lambda m, r: some(m, r, nn.ReLU), _double),
    "forward hook that doubles, norm": _hook(lambda m, r: some(m, r, *NORMS), _double),
    "forward hook that doubles, container": _hook(container, _double),
    "forward hook that doubles, root": _hook(_root, _double),
    "forward hook in place, leaf": _hook(lambda m, r: some(m, r, *WEIGHTS, *NORMS), _in_place),
    "forward hook in place, container": _hook(container, _in_place),
    "forward hook that looks, leaf": _hook(leaf, _look),
    "forward hook that looks, container": _hook(container, _look),
    "forward hook that looks, root": _hook(_root, _look),
    "forward hook with keyword arguments": _hook(leaf, _with_kwargs, with_kwargs=True),
    "pre-hook that halves, leaf": _hook(leaf, _halve_input, pre=True),
    "pre-hook that halves, weights": _hook(lambda m, r: some(m, r, *WEIGHTS), _halve_input, pre=True),
    "pre-hook that halves, container": _hook(container, _halve_input, pre=True),
    "pre-hook that halves, root": _hook(_root, _halve_input, pre=True),
    "pre-hook that makes the weight": _weight_hook,
    "backward hooks": _backward_hooks,
    "hooks on state and gradients": _other_hooks,
}
FORWARDS: dict[str, Usage] = {
    "forward replaced, root": _replaced(_root),
    "forward replaced, leaf": _replaced(leaf),
    "forward replaced, weights": _replaced(lambda m, r: some(m, r, *WEIGHTS)),
    "forward replaced, activation": _replaced(lambda m, r: some(m, r, nn.ReLU)),
    "forward replaced, container": _replaced(container),
    "forward replaced by a method": _method_replaced,
    "forward wrapped": _wrapped_forward,
    "__call__ of a subclass": _call_replaced,
}
PARAMETRISED: dict[str, Usage] = {
    "spectral_norm, old": _weight(nn.utils.spectral_norm),
    "spectral_norm, old, everywhere": _all_weights(nn.utils.spectral_norm),
    "spectral_norm, old, loaded": _stale_spectral,
    "spectral_norm": _weight(parametrizations.spectral_norm),
    "spectral_norm, everywhere": _all_weights(parametrizations.spectral_norm),
    "weight_norm, old": _weight(nn.utils.weight_norm),
    "weight_norm, old, loaded": _stale_weight_norm,
    "weight_norm": _weight(parametrizations.weight_norm),
    "orthogonal": _parametrised("weight", Centred, *WEIGHTS),
    "prune": _weight(lambda m: prune.l1_unstructured(m, "weight", 0.4)),
    "prune, then changed": _pruned_then_changed,
    "prune the bias": _pruned_bias,
    "prune channels": _weight(lambda m: prune.ln_structured(m, "weight", 0.3, 2, 0)),
    "prune, made permanent": _pruned_for_good,
    "weight halved": _parametrised("weight", Halved, *WEIGHTS),
    "bias halved": _parametrised("bias", Halved, *WEIGHTS),
    "gamma halved": _parametrised("weight", Halved, *NORMS),
    "running_var halved": _parametrised("running_var", Halved, *NORMS),
    "noisy weight": _parametrised("weight", Noisy, *WEIGHTS),
    "weights tied": _tied,
    "module shared": _module_shared,
}
VALUES: dict[str, Usage] = {
    "gamma 0": _norm("weight", 0.0),
    "gamma all 0": _norm("weight", 0.0, 1.0),
    "gamma negative": _norm("weight", -0.8),
    "gamma tiny": _norm("weight", 1e-9),
    "variance tiny": _norm("running_var", 1e-12),
    "variance 0": _norm("running_var", 0.0),
    "variance large": _norm("running_var", 1e8),
    "mean large": _norm("running_mean", 50.0),
    "weights of one filter 0": _filter(0.0),
    "weights of one filter tiny": _filter(1e-9),
    "weights of one filter large": _filter(1e3),
    "all weights 0": _values(WEIGHTS, "weight", 0.0, True),
    "NaN in a weight": _values(WEIGHTS, "weight", float("nan")),
    "NaN in a bias": _values(WEIGHTS, "bias", float("nan")),
    "infinity in a weight": _values(WEIGHTS, "weight", float("inf")),
    "-infinity in a bias": _values(WEIGHTS, "bias", float("-inf")),
    "NaN in gamma": _values(NORMS, "weight", float("nan")),
    "NaN in the mean": _values(NORMS, "running_mean", float("nan")),
    "infinite variance": _values(NORMS, "running_var", float("inf")),
    "negative variance": _values(NORMS, "running_var", -0.5),
    "float64": _cast(torch.float64),
    "float16": _cast(torch.float16),
    "bfloat16": _cast(torch.bfloat16),
    "one layer float64": _mixed_dtype,
}
MODES: dict[str, Usage] = {
    "training mode": lambda model, rng: model.train(),
    "norms frozen": _frozen_norms,
    "one module in training": _one_in_training,
    "one norm in training": _trained_norm_in_eval,
    "no gradients": _no_gradients,
    "state loaded": _loaded,
    "deep copy": lambda model, rng: copy.deepcopy(model),
    "submodule exchanged": _swapped,
    "stride set afterwards": _attribute((nn.Conv1d, nn.Conv2d), "dilation", (1, 1)),
    "eps set afterwards": _attribute(NORMS, "eps", 0.3),
    "padding_mode set afterwards": _attribute((nn.Conv1d, nn.Conv2d), "padding_mode", "circular"),
    "traced with torch.fx": _traced,
    "traced and edited": _graph_edited,
    "traced, forward replaced": _fx_module_assigned,
    "Sequential around it": lambda model, rng: nn.Sequential(model),
    "Sequential around it, twice": lambda model, rng: nn.Sequential(nn.Sequential(nn.Identity(), model)),
    "wrapper, image * 2": lambda model, rng: Outer(model, 2.0, 1.0),
    "wrapper, logits * -1": lambda model, rng: Outer(model, 1.0, -1.0),
    "wrapper that changes nothing": lambda model, rng: Outer(model),
    "wrapper with an option": lambda model, rng: Options(model),
    "flips averaged": lambda model, rng: TwoPasses(model),
    "DataParallel": lambda model, rng: nn.DataParallel(model),
    "torch.compile": lambda model, rng: torch.compile(model, backend="eager"),
    "torch.jit.script": lambda model, rng: torch.jit.script(model),
    "AveragedModel": lambda model, rng: torch.optim.swa_utils.AveragedModel(model),
}
USAGES = {
    "hooks": HOOKS,
    "forward replaced": FORWARDS,
    "parametrisation": PARAMETRISED,
    "values": VALUES,
    "mode, wrapper": MODES,
}


# -- the prepared model ------------------------------------------------------------------------------------------------


def _quantiser(model: Any, rng: random.Random) -> Any:
    from lava_conv.qat.layers import Quantiser

    return some(model, rng, Quantiser)


def _set_quantiser(name: str, value: Any) -> Usage:
    def apply(model: Any, rng: random.Random) -> Any:
        module = _quantiser(model, rng)
        if not hasattr(module, name):
            raise LookupError(name)
        setattr(module, name, value)
        return model

    return apply


def _step(value: float) -> Usage:
    def apply(model: Any, rng: random.Random) -> Any:
        module = _quantiser(model, rng)
        if not hasattr(module, "step"):
            raise LookupError("no step")
        with torch.no_grad():
            module.step.fill_(value)
        return model

    return apply


def _scaled_weights(model: Any, rng: random.Random) -> Any:
    with torch.no_grad():
        some(model, rng, *WEIGHTS).weight.mul_(-1.7)
    return model


def _pixels_scale(model: Any, rng: random.Random) -> Any:
    from lava_conv.qat.layers import Pixels

    some(model, rng, Pixels).scale *= 2
    return model


def _bias_given(model: Any, rng: random.Random) -> Any:
    module = some(model, rng, nn.Conv1d, nn.Conv2d)
    module.bias = nn.Parameter(torch.randn(module.out_channels) * 0.3)
    return model


CHANGES: dict[str, Usage] = {
    **{f"prepared: {n}": u for group in (HOOKS, FORWARDS, PARAMETRISED, VALUES) for n, u in group.items()},
    "prepared: quantiser doubled by a hook": _hook(_quantiser, _double),
    "prepared: quantiser's input halved by a hook": _hook(_quantiser, _halve_input, pre=True),
    "prepared: quantiser's forward replaced": _replaced(_quantiser),
    "prepared: n_max set to 2": _set_quantiser("n_max", 2),
    "prepared: k set to 1": _set_quantiser("k", 1),
    "prepared: levels set to 3": _set_quantiser("levels", 3),
    "prepared: tie set to None": _set_quantiser("tie", None),
    "prepared: tie set to 0.3": _set_quantiser("tie", 0.3),
    "prepared: step NaN": _step(float("nan")),
    "prepared: step 0": _step(0.0),
    "prepared: step negative": _step(-0.1),
    "prepared: step infinite": _step(float("inf")),
    "prepared: weights scaled": _scaled_weights,
    "prepared: image scale doubled": _pixels_scale,
    "prepared: bias added": _bias_given,
    "prepared: deep copy": lambda model, rng: copy.deepcopy(model),
    "prepared: saved and loaded": _pickled,
    "prepared: pickled": lambda model, rng: pickle.loads(pickle.dumps(model)),
    "prepared: training mode": lambda model, rng: model.train(),
    "prepared: one norm in training": _trained_norm_in_eval,
    "prepared: state loaded": _loaded,
    "prepared: no gradients": _no_gradients,
    "prepared: float64": _cast(torch.float64),
    "prepared: float16": _cast(torch.float16),
    "prepared: bfloat16": _cast(torch.bfloat16),
    "prepared: Sequential around it": lambda model, rng: nn.Sequential(model),
    "prepared: wrapper, image * 2": lambda model, rng: Outer(model, 2.0, 1.0),
    "prepared: wrapper, logits * -1": lambda model, rng: Outer(model, 1.0, -1.0),
    "prepared: wrapper that changes nothing": lambda model, rng: Outer(model),
    "prepared: flips averaged": lambda model, rng: TwoPasses(model),
    "prepared: DataParallel": lambda model, rng: nn.DataParallel(model),
    "prepared: torch.compile": lambda model, rng: torch.compile(model, backend="eager"),
    "prepared: AveragedModel": lambda model, rng: torch.optim.swa_utils.AveragedModel(model),
    "prepared: graph edited": _graph_edited,
    "prepared: forward replaced": _fx_module_assigned,
    "prepared: dilation set": _attribute((nn.Conv1d, nn.Conv2d), "padding_mode", "reflect"),
    "prepared: eps set": _attribute(NORMS, "eps", 0.3),
}  # fmt: skip
