"""Random numbers of our own: what we draw leaves torch's global generators, which are the user's, where they are."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

DRAWING = {Tensor.uniform_, Tensor.normal_, Tensor.bernoulli_, Tensor.random_, Tensor.exponential_}
DRAWING |= {
    function
    for function in vars(nn.init).values()
    if inspect.isfunction(function) and "generator" in inspect.signature(function).parameters
}


class OwnRandom(TorchFunctionMode):
    """Within it new layers on the CPU, made in this thread, are filled from `generator`, not from torch's global one.

    The numbers are those that the global one gives from the same state.

    Args:
        generator: of the CPU; None: a new one.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.generator = torch.Generator() if generator is None else generator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in DRAWING and kwargs.get("generator") is None and (args[0] if args else kwargs["tensor"]).is_cpu:
            kwargs["generator"] = self.generator
        return func(*args, **kwargs)


def dropped(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """`functional.dropout` with a generator of the CPU, whatever the device: this share of x becomes 0."""
    kept = torch.empty(x.shape, dtype=x.dtype).bernoulli_(1 - share, generator=generator).div_(1 - share)
    return x * kept.to(x.device)
