"""How the nodes of a traced model are run: as they are, or without their rounding."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, fx, nn
from torch.nn import functional

from lava_conv.qat.layers import Average, QuantisedWeight, Quantiser
from lava_conv.qat.pooling import Checked

Call = Callable[[nn.Module, list[Tensor]], Tensor]


def quantised(module: nn.Module, inputs: list[Tensor]) -> Tensor:
    """A module as it is."""
    return module(*inputs)


def plain(module: Any, inputs: list[Tensor]) -> Tensor:
    """A module without its rounding: weights in float, a quantiser as the ReLU it stands for."""
    if isinstance(module, Quantiser):  # with a zero point: a stream of both signs
        return inputs[0] if module.zero else inputs[0].clamp(0, module.limit)
    if isinstance(module, QuantisedWeight):
        layer: Any = module
        apply = functional.linear if isinstance(module, nn.Linear) else layer._conv_forward
        return apply(inputs[0], layer.weight, layer.bias)
    if isinstance(module, Average):
        return plain(module.pool, inputs)
    if isinstance(module, Checked):
        return module.unchecked(inputs[0])
    return module(*inputs)


def run_node(traced: fx.GraphModule, node: fx.Node, values: Mapping[fx.Node, Any], call: Call = quantised) -> Any:
    """What one node of a traced model gives; `values` holds what the nodes before it gave."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: values[n])  # type: ignore[misc]
    if node.op == "call_module":
        return call(traced.get_submodule(str(node.target)), list(args))  # type: ignore[arg-type]
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)  # type: ignore[index]
    if node.op == "get_attr":
        owner, _, name = str(node.target).rpartition(".")
        return getattr(traced.get_submodule(owner), name)
    return node.target(*args, **kwargs)  # type: ignore[operator, misc]
