"""The spiking network in float, step by step and with a gradient: for training on what it says after few steps.

A neuron's count follows its quantised activation by at most one spike a step,

    n(t) = n(t-1) + clip(N(t) - n(t-1), -1, 1),

where N(t) is the activation of what has arrived so far. That is both neurons' dynamics for a flash input, so after each
step the logits are those of the integer simulator. Everything between activations is affine and acts on running counts.
"""

from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.fx.node import Target

from lava_conv.frontends.operations.addition import is_add
from lava_conv.qat.layers import Quantiser


class Unrolled(nn.Module):
    """A model of `lava_conv.qat.prepare` over `steps` time steps; forward gives logits (steps, N, classes).

    Batch normalisation keeps its running statistics while this trains: those of half-arrived sums would be others.

    Args:
        model: of `lava_conv.qat.prepare`; its parameters are trained.
        steps: time steps, 1 or more.
    """

    def __init__(self, model: fx.GraphModule, steps: int) -> None:
        super().__init__()
        self.model, self.steps = model, steps

    def train(self, mode: bool = True) -> "Unrolled":
        """As torch's, but batch normalisation stays in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) of 0..255 -> logits (steps, N, classes) after each step."""
        logits = _Steps(self.model, self.steps, len(x)).run(x)
        return logits.reshape(self.steps, len(x), -1)


class _Steps(fx.Interpreter):
    """Runs the graph on steps * N rows, step after step; what stands before the first neuron on N rows."""

    def __init__(self, model: fx.GraphModule, steps: int, count: int) -> None:
        super().__init__(model)
        self.extra_traceback = False  # else fx adds its own lines to the words of every error
        self.steps, self.count = steps, count

    def run_node(self, n: fx.Node) -> object:
        if is_add(n):
            a, b = (self.env[node] for node in n.all_input_nodes)
            return self._all_steps(a) + self._all_steps(b) if len(a) != len(b) else a + b
        return super().run_node(n)

    def call_module(self, target: Target, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        module = self.fetch_attr(str(target))
        if not isinstance(module, Quantiser):
            return super().call_module(target, args, kwargs)
        unit = module.unit()
        wanted = module(self._all_steps(cast(Tensor, args[0]))) / unit
        wanted = wanted.reshape(self.steps, self.count, *wanted.shape[1:])
        counts = [wanted[0].clamp(-1, 1)]
        for t in range(1, self.steps):
            counts.append(counts[-1] + (wanted[t] - counts[-1]).clamp(-1, 1))
        return torch.cat(counts) * unit

    def _all_steps(self, x: Tensor) -> Tensor:
        return x if len(x) == self.steps * self.count else x.repeat(self.steps, *[1] * (x.ndim - 1))
