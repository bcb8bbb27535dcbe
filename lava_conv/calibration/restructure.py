"""Residual blocks whose stream branches before any activation, rewritten so that only spike trains are added.

The residual stream of a pre-activation block is a sum that is normalised in one branch and added to in the other; a
neuron sums spikes, so the stream itself must be one. TTRBR (Meng et al. 2022) restructures residual blocks to that end;
how is not in its abstract, so this is our interpretation: neurons on the stream whose counts stand for values of both
signs, so that both summands of every addition are spike trains that enter one neuron.
"""

from torch import fx, nn

from lava_conv.frontends.nodes import insert, module_of
from lava_conv.frontends.operations import is_leaf
from lava_conv.frontends.operations.addition import is_add
from lava_conv.frontends.operations.identity import NOTHING
from lava_conv.frontends.operations.normalisation import NORMS
from lava_conv.frontends.tracing import trace
from lava_conv.qat.layers import Stream


def restructure(model: nn.Module) -> tuple[fx.GraphModule, int]:
    """The model traced, with a `Stream` behind every sum that one branch adds to and another does not; their number."""
    traced = trace(model, is_leaf)
    found = [node for node in traced.graph.nodes if _is_sum(traced, node) and _branches(traced, node)]
    for node in found:
        insert(traced, node, Stream(), f"{node.name}_stream")
    traced.graph.lint()
    traced.recompile()
    return traced, len(found)


def _is_sum(traced: fx.GraphModule, node: fx.Node) -> bool:
    return is_add(node) or isinstance(module_of(traced, node), (nn.Conv1d, nn.Conv2d, *NORMS))


def _branches(traced: fx.GraphModule, node: fx.Node) -> bool:
    users = list(node.users)
    while len(users) == 1 and isinstance(module_of(traced, users[0]), NOTHING):
        users = list(users[0].users)
    return len(users) > 1 and any(map(is_add, users)) and not all(map(is_add, users))
