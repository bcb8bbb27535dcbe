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

import torch
from torch import fx, nn
from torch.nn import functional

from lava_conv.errors import ConversionError
from lava_conv.frontends.aliases import without_aliases
from lava_conv.frontends.effective import evaluating
from lava_conv.frontends.tracer import Tracer

ADD = (operator.add, operator.iadd, torch.add)
CAT = (torch.cat, torch.concat, torch.concatenate)


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


def place(node: fx.Node) -> str:
    """Where a node stands in the user's model, for messages: module path, or the call and the module it is in."""
    if node.op == "call_module":
        return str(node.target)
    stack: dict[str, Any] = node.meta.get("nn_module_stack") or {}
    scope = [str(path) for path in stack if path]
    return f"{node.name} (in {scope[-1]})" if scope else node.name


def name_of(node: fx.Node) -> str:
    """The called function or method, for messages."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def remedy_of(node: fx.Node, general: str) -> str:
    """What to do about a call that has no form here."""
    return str(node.meta.get("remedy", general))


def is_add(node: fx.Node) -> bool:
    """Whether the node adds two tensors."""
    called = (node.op == "call_function" and node.target in ADD) or (
        node.op == "call_method" and node.target in ("add", "add_")
    )
    tensors = [a for a in node.args if isinstance(a, fx.Node)]
    return called and len(node.args) == 2 and len(tensors) == 2 and not node.kwargs


def cat_inputs(node: fx.Node) -> list[fx.Node] | None:
    """The tensors that a concatenation along the channels joins; None if the node is none."""
    if node.op != "call_function" or node.target not in CAT:
        return None
    tensors = node.args[0] if node.args else node.kwargs.get("tensors")
    axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    if axis not in (1, -3) or not isinstance(tensors, list | tuple):
        return None
    return [t for t in tensors if isinstance(t, fx.Node)]


def insert(traced: fx.GraphModule, node: fx.Node, module: nn.Module, name: str) -> fx.Node:
    """A call of a new submodule on the output of `node`; the old users of `node` take its result."""
    target = unused(traced, name)
    traced.add_submodule(target, module)
    users = list(node.users)
    with traced.graph.inserting_after(node):
        new = traced.graph.call_module(target, (node,))
    new.meta = {name: value for name, value in node.meta.items() if name != "call"}
    for user in users:
        user.replace_input_with(node, new)
    return new


def module_of(traced: fx.GraphModule, node: fx.Node) -> Any:
    """The module that a node calls, None if it calls none."""
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def exchange(traced: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    """Put `module` where the node's module is, for all its calls."""
    parent, _, name = str(node.target).rpartition(".")
    setattr(traced.get_submodule(parent), name, module)


def unused(traced: fx.GraphModule, name: str) -> str:
    """`name`, with a number behind it if the model already has such a submodule or attribute."""
    candidate, number = name.replace(".", "_"), 1
    while hasattr(traced, candidate):
        number += 1
        candidate = f"{name}_{number}".replace(".", "_")
    return candidate


# -- functional calls ------------------------------------------------------------------------------------------------


def _get(node: fx.Node, number: int, name: str, default: Any = None) -> Any:
    return node.args[number] if len(node.args) > number else node.kwargs.get(name, default)


def _clamp(node: fx.Node) -> nn.Module | None:
    low, high = _get(node, 1, "min"), _get(node, 2, "max")
    if low != 0 or isinstance(high, fx.Node) or (high is not None and high <= 0):
        node.meta["remedy"] = (
            "only clamps from 0 to a number above 0 are spike counts; use nn.ReLU, or nn.Hardtanh(0, b)"
        )
        return None
    return nn.ReLU() if high is None else nn.Hardtanh(0.0, float(high))


def _hardtanh(node: fx.Node) -> nn.Module | None:
    low, high = _get(node, 1, "min_val", -1.0), _get(node, 2, "max_val", 1.0)
    return None if isinstance(low, fx.Node) or isinstance(high, fx.Node) else nn.Hardtanh(float(low), float(high))


def _pool(kind: Any) -> Callable[[fx.Node], nn.Module]:
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")

    def make(node: fx.Node) -> nn.Module:
        options = {n: _get(node, i, n) for i, n in enumerate(names, 1)}
        return kind(**{n: v for n, v in options.items() if v is not None})

    return make


def _max_pool(kind: Any) -> Callable[[fx.Node], nn.Module]:
    def make(node: fx.Node) -> nn.Module:
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
        options = {n: _get(node, i, n) for i, n in enumerate(names, 1)}
        return kind(**{n: v for n, v in options.items() if v is not None})

    return make


def _mean(node: fx.Node) -> nn.Module | None:
    axes, keep = _get(node, 1, "dim"), _get(node, 2, "keepdim", False)
    if not isinstance(axes, list | tuple) or sorted(a % 4 for a in axes) != [2, 3]:
        return None
    pool = nn.AdaptiveAvgPool2d(1)
    return pool if keep else nn.Sequential(pool, nn.Flatten())


def _flatten(node: fx.Node) -> nn.Module:
    return nn.Flatten(_get(node, 1, "start_dim", 0), _get(node, 2, "end_dim", -1))


def _view(node: fx.Node) -> nn.Module | None:
    """view and reshape that keep the batch and flatten the rest: (x.size(0), -1) or (-1, n)."""
    shape: Any = node.args[1] if len(node.args) == 2 and isinstance(node.args[1], list | tuple) else node.args[1:]
    if len(shape) != 2:
        return None
    batch, rest = shape
    of_batch = isinstance(batch, fx.Node) and name_of(batch) in ("size", "getitem", "getattr")
    return nn.Flatten() if (of_batch and (rest == -1 or isinstance(rest, int))) or batch == -1 else None


def _dropout(kind: Any) -> Callable[[fx.Node], nn.Module | None]:
    def make(node: fx.Node) -> nn.Module | None:
        if _get(node, 2, "training", True):  # traced as evaluation runs
            node.meta["remedy"] = "it drops values in evaluation mode, too; pass training=self.training"
            return None
        return kind(_get(node, 1, "p", 0.5))

    return make


def _nothing(node: fx.Node) -> nn.Module:
    return nn.Identity()


CALLS: dict[Any, Callable[[fx.Node], nn.Module | None]] = {
    functional.relu: lambda node: nn.ReLU(),
    torch.relu: lambda node: nn.ReLU(),
    torch.relu_: lambda node: nn.ReLU(),
    "relu": lambda node: nn.ReLU(),
    "relu_": lambda node: nn.ReLU(),
    functional.relu6: lambda node: nn.ReLU6(),
    functional.hardtanh: _hardtanh,
    torch.clamp: _clamp,
    "clamp": _clamp,
    "clamp_": _clamp,
    functional.leaky_relu: lambda node: nn.LeakyReLU(_get(node, 1, "negative_slope", 0.01)),
    functional.gelu: lambda node: nn.GELU(_get(node, 1, "approximate", "none")),
    functional.silu: lambda node: nn.SiLU(),
    functional.elu: lambda node: nn.ELU(_get(node, 1, "alpha", 1.0)),
    functional.hardswish: lambda node: nn.Hardswish(),
    torch.sigmoid: lambda node: nn.Sigmoid(),
    torch.tanh: lambda node: nn.Tanh(),
    functional.avg_pool1d: _pool(nn.AvgPool1d),
    functional.avg_pool2d: _pool(nn.AvgPool2d),
    functional.adaptive_avg_pool1d: lambda node: nn.AdaptiveAvgPool1d(_get(node, 1, "output_size")),
    functional.adaptive_avg_pool2d: lambda node: nn.AdaptiveAvgPool2d(_get(node, 1, "output_size")),
    functional.max_pool1d: _max_pool(nn.MaxPool1d),
    functional.max_pool2d: _max_pool(nn.MaxPool2d),
    torch.max_pool2d: _max_pool(nn.MaxPool2d),
    torch.mean: _mean,
    "mean": _mean,
    torch.flatten: _flatten,
    "flatten": _flatten,
    "view": _view,
    "reshape": _view,
    torch.reshape: _view,
    functional.dropout: _dropout(nn.Dropout),
    functional.dropout1d: _dropout(nn.Dropout1d),
    functional.dropout2d: _dropout(nn.Dropout2d),
    "contiguous": _nothing,
    "float": _nothing,
}


def _modules_for_calls(traced: fx.GraphModule) -> None:
    nodes: Any = list(traced.graph.nodes)
    for node in nodes:
        key = node.target
        if node.op in ("call_function", "call_method") and key in CALLS and isinstance(_get(node, 0, "input"), fx.Node):
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
