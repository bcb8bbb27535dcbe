"""In-place operations of a traced model, written as what they do to every name of the tensor they change.

`y = x; x.relu_()` changes y, too. A graph of nodes has no such effect at a distance: after the in-place operation every
later use of x, of y and of whatever shares their memory must take its result instead.
"""

import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from lava_conv.errors import ConversionError
from lava_conv.qat.layers import Pixels

OPERATORS = {
    operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul,
    operator.itruediv: operator.truediv, operator.ifloordiv: operator.floordiv, operator.imod: operator.mod,
    operator.ipow: operator.pow, operator.iand: operator.and_, operator.ior: operator.or_, operator.ixor: operator.xor,
}  # fmt: skip
SAME = ("contiguous", "float", "double", "detach", "to", "cpu", "requires_grad_", "type_as", "alias")  # may give itself
VIEWS = (
    "view", "reshape", "flatten", "squeeze", "unsqueeze", "transpose", "permute", "chunk", "split", "narrow", "select",
    "expand", "unflatten", "view_as", "reshape_as", "swapaxes", "movedim", "t", "unbind", "getitem",
    "tensor_split", "expand_as", "unfold", "diagonal", "ravel",
)  # fmt: skip
SAME_MODULES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
VIEW_MODULES = (nn.Flatten, nn.Unflatten)
ATTRIBUTES = ("T", "mT", "H", "mH", "data")  # of a tensor, that share its memory


def without_aliases(traced: fx.GraphModule) -> None:
    """Replace in-place operations; `traced` computes the same as the model did, whoever shares memory.

    Raises:
        ConversionError: a tensor is used after another view of its memory was changed.
    """
    memory: dict[fx.Node, fx.Node] = {}  # the node that owns the memory of each
    whole: dict[fx.Node, fx.Node] = {}  # the node that has the same elements in the same shape
    now: dict[fx.Node, fx.Node] = {}  # what stands for a node since its memory was changed
    stale: dict[fx.Node, fx.Node] = {}  # changed through a view of another shape, by which node
    in_place = {m for m in traced.modules() if getattr(m, "inplace", False) is True}
    nodes: Any = list(traced.graph.nodes)
    for node in nodes:
        for used in node.all_input_nodes:
            if used in stale:
                raise ConversionError(
                    f"{_name(node)} uses {used.name}, whose memory {_name(stale[used])} changed in place through "
                    f"another view of it; write that operation without in-place"
                )
        for used, new in now.items():
            node.replace_input_with(used, new)
        before = node.all_input_nodes[0] if node.all_input_nodes else None
        kind = _sharing(traced, node) if before is not None else None
        memory[node] = memory[before] if kind is not None and before is not None else node
        whole[node] = whole[before] if kind == "same" and before is not None else node
        changed = _changed(traced, node, in_place)
        if changed is None:
            continue
        for other, owner in memory.items():
            if other is node or owner is not memory[changed]:
                continue
            if whole[other] is whole[changed]:
                now[other] = node
                now.update({old: node for old, new in now.items() if new is other})
            else:
                stale[other] = node
        memory[node], whole[node] = memory[changed], whole[changed]
        _out_of_place(node)
    for module in in_place:
        module.inplace = False  # type: ignore[assignment]
    traced.graph.lint()
    traced.recompile()


def _name(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def _function_name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _sharing(traced: fx.GraphModule, node: fx.Node) -> str | None:
    """Whether the node's result is its first input ("same"), or may be another view of it ("view")."""
    if node.op == "call_module":
        module: Any = traced.get_submodule(str(node.target))
        if isinstance(module, SAME_MODULES) or (isinstance(module, Pixels) and module.scale == 1):
            return "same"
        return "view" if isinstance(module, VIEW_MODULES) else None
    if node.op in ("call_method", "call_function"):
        name = _function_name(node)
        if name == "getattr":
            return "view" if node.args[1] in ATTRIBUTES else None
        if name in SAME or (name.startswith("dropout") and not _training(node)):
            return "same"
        return "view" if name in VIEWS else None
    return None


def _training(node: fx.Node) -> bool:
    return bool(node.args[2] if len(node.args) > 2 else node.kwargs.get("training", True))


def _changed(traced: fx.GraphModule, node: fx.Node, in_place: set[nn.Module]) -> fx.Node | None:
    """The tensor that the node changes in place, None if it changes none."""
    first = node.args[0] if node.args else None
    if node.kwargs.get("out") is not None:
        raise ConversionError(f"{node.name} writes into a tensor (out=); write it as an assignment")
    if not isinstance(first, fx.Node):
        return None
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        return first if module in in_place and not isinstance(module, SAME_MODULES) else None
    if node.op not in ("call_method", "call_function"):
        return None
    name = _function_name(node)
    found = node.target in OPERATORS or _kwarg_in_place(node) or _trailing(name)
    return first if found and _sharing(traced, node) != "same" else None


def _kwarg_in_place(node: fx.Node) -> bool:
    if node.kwargs.get("inplace") is True:
        return True
    where = {functional.relu: 1, functional.relu6: 1, functional.hardtanh: 3, functional.leaky_relu: 2,
             functional.elu: 2, functional.silu: 1, functional.hardswish: 1, functional.dropout: 3}  # fmt: skip
    place = where.get(node.target)  # type: ignore[call-overload]
    return place is not None and len(node.args) > place and node.args[place] is True


def _trailing(name: str) -> bool:
    return bool(name.endswith("_") and not name.endswith("__") and name not in SAME) or name == "setitem"


def _out_of_place(node: fx.Node) -> None:
    """The same operation, giving a tensor of its own."""
    if node.op == "call_module":
        return
    node.kwargs = {name: value for name, value in node.kwargs.items() if name != "inplace"}
    if node.target in OPERATORS:
        node.target = OPERATORS[node.target]  # type: ignore[index]
    elif _function_name(node) == "setitem":
        return  # has no form that gives a tensor; it is refused by name where operations are looked up
    elif isinstance(node.target, str):
        node.target = node.target.removesuffix("_")
    elif node.target in _FUNCTIONS:
        node.target = _FUNCTIONS[node.target]


_FUNCTIONS: dict[Any, Any] = {
    getattr(space, f"{name}_"): getattr(space, name)
    for space in (torch, functional)
    for name in ("relu", "clamp", "sigmoid", "tanh", "leaky_relu", "hardtanh", "elu", "selu", "dropout", "abs", "neg")
    if hasattr(space, f"{name}_") and hasattr(space, name)
}
