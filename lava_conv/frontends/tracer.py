"""Tracing beside other threads.

While torch.fx traces, `nn.Module.__call__` and `__getattr__` are its own, for the whole process. Two traces at a time
would each take the other's for torch's, and keep it; a module that another thread runs would land in the trace, or fail
because it is not of the model.
"""

from collections.abc import Callable
from threading import RLock, get_ident
from typing import Any

from torch import fx, nn

_turn = RLock()  # one trace at a time


class Tracer(fx.Tracer):
    """torch's, one at a time, and blind to what other threads run meanwhile."""

    _thread = 0

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        with _turn:
            self._thread = get_ident()
            return super().trace(root, concrete_args)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)
