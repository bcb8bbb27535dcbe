"""Nodes of a traced model: their names and places for messages, and the modules that they call."""

from typing import Any

from torch import fx, nn


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


def argument(node: fx.Node, number: int, name: str, default: Any = None) -> Any:
    """An argument of a call, by position or by name."""
    return node.args[number] if len(node.args) > number else node.kwargs.get(name, default)
