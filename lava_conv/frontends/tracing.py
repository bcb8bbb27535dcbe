"""A model as a torch.fx graph in which every operation but addition and concatenation is a module.

`F.relu(x)`, `torch.flatten(x, 1)`, `x.view(x.size(0), -1)` and their like become the modules that do the same, so that
`prepare` and `convert` know one form of each operation. What has no such form is collected, to be told all at once.
In-place operations become what they do to every name of the tensor (`aliases`).
"""

import operator
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import fx, nn

from lava_conv.errors import ConversionError
from lava_conv.frontends.aliases import without_aliases
from lava_conv.frontends.effective import evaluating
from lava_conv.frontends.nodes import argument, name_of, unused
from lava_conv.frontends.operations import CALLS
from lava_conv.frontends.tracer import Tracer


class _Proxy(fx.Proxy):
    """Keeps `x += y` apart from `x = x + y`, which torch.fx records as the same: it changes other names of x, too."""

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})


def _in_place_method(target: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", target, (self, other), {})

    return method


for _name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior", "ixor"):
    setattr(_Proxy, f"__{_name}__", _in_place_method(getattr(operator, _name)))


def trace(model: nn.Module, is_leaf: Callable[[nn.Module], bool]) -> fx.GraphModule:
    """Trace `model` as it runs in evaluation mode, then turn functional calls into modules.

    Every node that calls a module notes in `meta["call"]` which of the user's modules that was, and for which time, so
    that `lava_conv.frontends.gate` can compare the two. Modules keep their modes.

    Args:
        model: shares its parameters with what is returned.
        is_leaf: which modules, besides torch's own, are kept whole.

    Raises:
        ConversionError: the forward cannot be traced, or changes a tensor in place through another view of it.
    """

    class OurTracer(Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return is_leaf(m) or super().is_leaf_module(m, module_qualified_name)

        def proxy(self, node: fx.Node) -> fx.Proxy:
            return _Proxy(node, self)

    own_forward = vars(model).pop("forward", None)
    try:
        with evaluating(model):
            tracer = OurTracer()
            graph = tracer.trace(model) if own_forward is None else _traced_with(tracer, model, own_forward)
    except Exception as error:
        if own_forward is not None:
            raise ConversionError(
                "the model's forward was replaced on the instance by a function that cannot be read; write it as the "
                "forward of its class"
            ) from error
        raise ConversionError(f"the model's forward cannot be traced: {_reason(error)}") from error
    traced = fx.GraphModule(model, graph)
    times: dict[str, int] = {}
    nodes: Any = list(traced.graph.nodes)
    for node in nodes:
        if node.op != "output" and not node.args and isinstance(node.kwargs.get("input"), fx.Node):
            rest = dict(node.kwargs)
            node.args, node.kwargs = (rest.pop("input"),), rest
        if node.op == "call_module":
            node.meta["call"] = (node.target, times.get(node.target, 0))
            times[node.target] = times.get(node.target, 0) + 1
    without_aliases(traced)
    _modules_for_calls(traced)
    return traced


def _traced_with(tracer: fx.Tracer, model: nn.Module, forward: Any) -> fx.Graph:
    """The graph of a model whose forward was replaced on the instance; torch.fx looks at the class alone."""
    kind = type(model)
    method = getattr(forward, "__func__", None)
    replaced = method if method is not None else lambda self, x: forward(x)
    model.__class__ = type(kind.__name__, (kind,), {"forward": replaced, "__module__": kind.__module__})
    try:
        return tracer.trace(model)
    finally:
        model.__class__ = kind


def _reason(error: Exception) -> str:
    """What a user can do about an exception in tracing, with the line of the model where it was raised."""
    here = Path(__file__).resolve().parent.parent
    frames = [
        f for f in traceback.extract_tb(error.__traceback__)
        if here not in Path(f.filename).resolve().parents and "torch" not in Path(f.filename).parts
    ]  # fmt: skip
    where = f' in line {frames[-1].lineno} of {Path(frames[-1].filename).name} ("{frames[-1].line}")' if frames else ""
    words = " ".join(str(error).split())
    if isinstance(error, fx.proxy.TraceError) or "Proxy" in words:
        return f"control flow or Python numbers depend on a tensor{where}; write it with tensor operations"
    return f"it raises {type(error).__name__}{where} ({words}); mend the model's forward"


def _modules_for_calls(traced: fx.GraphModule) -> None:
    nodes: Any = list(traced.graph.nodes)
    for node in nodes:
        key = node.target
        if (
            node.op in ("call_function", "call_method")
            and key in CALLS
            and isinstance(argument(node, 0, "input"), fx.Node)
        ):
            module = CALLS[key](node)
            if module is not None:
                _replace(traced, node, module)
    nodes = list(traced.graph.nodes)
    for node in reversed(nodes):  # sizes that only a view asked for
        if node.op in ("call_function", "call_method") and not node.users and name_of(node) in _SIZES:
            traced.graph.erase_node(node)
    traced.recompile()


_SIZES = ("size", "getattr", "getitem")


def _replace(traced: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    """The functional call becomes calls of modules (a Sequential one call an item)."""
    items = list(module) if isinstance(module, nn.Sequential) else [module]
    last = node.args[0]
    for item in items:
        target = unused(traced, node.name)
        traced.add_submodule(target, item)
        with traced.graph.inserting_before(node):
            new = traced.graph.call_module(target, (last,))
        new.meta = dict(node.meta)
        last = new
    node.replace_all_uses_with(last)  # type: ignore[arg-type]
    traced.graph.erase_node(node)
