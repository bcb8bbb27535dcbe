"""Activations that share a unit, each with a quantiser of its own; and the pooling that an exchange has replaced."""

import copy

from torch import fx, nn

from lava_conv.frontends.nodes import module_of, unused
from lava_conv.qat.layers import Quantiser


def own_quantisers(traced: fx.GraphModule) -> None:
    """Give every activation a quantiser module of its own, in place.

    `prepare` lets activations that are joined or added share one quantiser, so that their counts have one unit. They
    keep that one step (the parameter is the same object), but what calibration adds per channel belongs to each alone.
    """
    known: set[str] = set()
    for node in traced.graph.nodes:
        module = module_of(traced, node)
        if not isinstance(module, Quantiser):
            continue
        if str(node.target) not in known:
            known.add(str(node.target))
            continue
        new = copy.copy(module)
        new.__dict__ = {name: v.copy() if isinstance(v, dict) else v for name, v in vars(module).items()}
        node.target = unused(traced, node.name)
        traced.add_submodule(node.target, new)
    traced.recompile()


def exchanged_pools(traced: fx.GraphModule) -> list[str]:
    """Module paths of the averages that `prepare` put in the place of max pooling."""
    return [path for path, module in traced.named_modules() if hasattr(module, "stands_for")]


def restore_pools(traced: fx.GraphModule) -> None:
    """Put the max pooling back, in place: the float network is then the model as it came."""
    for path in exchanged_pools(traced):
        parent, _, name = path.rpartition(".")
        owner = traced.get_submodule(parent)
        pool: tuple[nn.Module, ...] = getattr(owner, name).stands_for
        setattr(owner, name, pool[0])
