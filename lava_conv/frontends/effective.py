"""The model as it computes in evaluation mode: copies that keep nothing of how its weights came about.

PyTorch knows several ways to compute a weight anew at each call: parametrisations, the older forward-pre-hooks of
`spectral_norm`, `weight_norm` and `torch.nn.utils.prune`. What lies in `.weight` may then be older than the parameters.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from lava_conv.arguments import HOOKS, copied
from lava_conv.errors import ConversionError

Module = TypeVar("Module", bound=nn.Module)
KNOWN = ("torch.nn.", "torch.ao.", "lava_conv.", "brevitas.")  # packages whose layers are known by their class
CHECKS = ("_check_input_dim",)  # methods that compute nothing
SHOWN = 3  # tensors named in a refusal


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """`model` in evaluation mode; afterwards every module has the mode that it had."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def effective(model: Module, dtype: torch.dtype | None = None) -> Module:
    """A copy whose parameters are the weights that `model` computes with, and without hooks.

    Hooks and methods replaced on an instance are dropped from the modules, because no converted layer runs them. The
    comparison with the model as it came (`lava_conv.frontends.gate`) tells whether they mattered.

    Args:
        model: not changed; the copy has the same modes, names and device.
        dtype: in which weights are computed and kept, None: the model's.

    Raises:
        ConversionError: a parameter or buffer is not finite.
    """
    model = copied(model)
    model = model if dtype is None else model.to(dtype)
    with evaluating(model), torch.no_grad():  # in training mode spectral_norm moves its estimate at every look
        for module in list(model.modules()):
            _compute_weights(module)
    check_finite(model)
    for path, module in model.named_modules():
        for name in ("weight", "bias"):
            if isinstance(vars(module).get(name), Tensor):
                raise ConversionError(
                    f"{path} has a {name} that is no parameter but set from outside, as by a hook; put what is "
                    f"computed into an nn.Parameter before converting"
                )
        for name in HOOKS:
            if vars(module).get(name):
                setattr(module, name, OrderedDict())
        if getattr(module, "_compiled_call_impl", None) is not None:
            module._compiled_call_impl = None  # type: ignore[assignment]
        if module is not model and type(module).__module__.startswith(KNOWN) and not isinstance(module, nn.Sequential):
            for name in [
                n for n, v in vars(module).items() if callable(v) and callable(getattr(type(module), n, None))
            ]:
                if name not in CHECKS:
                    delattr(module, name)
    return model


def check_finite(model: nn.Module) -> None:
    """Refuse NaN and infinity in parameters and buffers, by name.

    Raises:
        ConversionError: names the first of them.
    """
    found = []
    observers = tuple(
        name for name, m in model.named_modules() if type(m).__module__.startswith("torch.ao.quantization.observer")
    )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if name.rpartition(".")[0] in observers or not tensor.is_floating_point() or tensor.is_meta:
            continue  # an observer that has seen nothing holds infinite limits
        wrong = int(tensor.numel() - torch.isfinite(tensor).sum())
        if wrong:
            found.append(f"{name} ({wrong} of {tensor.numel()} values)")
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise ConversionError(
            f"the model holds NaN or infinity in {', '.join(found[:SHOWN])}{more}; the training diverged, load an "
            f"earlier checkpoint"
        )


def _compute_weights(module: nn.Module) -> None:
    """Put the weights that parametrisations and the older hooks compute in the place of their ingredients."""
    if parametrize.is_parametrized(module):
        lists: Any = module.parametrizations
        weights = {name: getattr(module, name).detach().clone() for name in lists}
        trained = [name for name in lists if any(True for _ in lists[name].parameters(recurse=False))]
        # not `remove_parametrizations`, which takes the property off a class that copies of the model share
        module.__class__ = type(module).__bases__[0]  # type: ignore[assignment]
        del module.parametrizations
        for name, weight in weights.items():
            if name in trained:
                parameter: Any = nn.Parameter(weight)
                module.register_parameter(name, parameter)
            else:
                module.register_buffer(name, weight)
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
        elif isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
        elif isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, hook._tensor_name)
