"""What the activations of a trained model are on given images, in the counts of the spiking network made of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from lava_conv.errors import DataError
from lava_conv.frontends.effective import effective
from lava_conv.frontends.operations import is_leaf
from lava_conv.frontends.operations.activation import RELUS
from lava_conv.frontends.tracing import trace
from lava_conv.network.graph import Graph
from lava_conv.qat.evaluation import in_float64
from lava_conv.qat.layers import Quantiser


class _Keeper(fx.Interpreter):
    """Runs the traced model and keeps what its activations give, quantised ones in counts."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False  # else fx adds its own lines to the words of every error
        self.found: list[NDArray[np.float64]] = []

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().call_module(target, args, kwargs)
        module: Any = self.fetch_attr(target)
        if isinstance(module, Quantiser):
            self.found.append((value / module.unit() + module.zero).numpy())
        elif isinstance(module, RELUS):
            self.found.append(value.numpy())
        return value


def in_counts(
    model: nn.Module, graph: Graph, images: NDArray[np.uint8], counts: Mapping[int, NDArray[np.integer]]
) -> dict[int, NDArray[np.float64]]:
    """The model's activations for each spiking layer, as what its neurons should count.

    A quantised activation says itself what one count is worth. A float one does not: its unit is the one, for each
    channel, that brings it nearest to `counts` (least squares).

    Args:
        model: that `graph` was made of, quantised, or float where the graph was calibrated.
        graph: the network; its spiking layers must be the model's activations, in order.
        images: uint8 (N, C, H, W).
        counts: layer index -> (N, ...), of the spiking network on the same images.

    Returns:
        Layer index -> float64 (N, ...).

    Raises:
        DataError: the model's activations are not one for each spiking layer, in order.
    """
    traced = trace(in_float64(effective(model, torch.float64)), is_leaf)
    keeper = _Keeper(traced)
    with torch.inference_mode():
        keeper.run(torch.tensor(images, dtype=torch.float64))
    layers = [(i, layer.shape) for i, layer, neuron in graph.neuron_layers() if neuron.spiking]
    shapes = [given.shape[1:] for given in keeper.found]
    if [shape for _, shape in layers] != shapes:
        raise DataError(
            f"the model has {len(shapes)} activations, the network {len(layers)} spiking layers of other shapes or "
            f"order; give the checkpoint that the network was made of"
        )
    quantised = any(isinstance(m, Quantiser) for m in traced.modules())
    return {
        i: given if quantised else _scaled(given, counts[i]) for (i, _), given in zip(layers, keeper.found, strict=True)
    }


def _scaled(given: NDArray[np.float64], counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """The activations (N, C, ...) over the unit of each channel."""
    axes = tuple(a for a in range(given.ndim) if a != 1)
    n = counts.astype(np.float64)
    along, size = (given * n).sum(axes, keepdims=True), (n * n).sum(axes, keepdims=True)
    general = along.sum() / max(size.sum(), 1.0) or 1.0
    unit = np.where(along > 0, along / np.maximum(size, 1.0), general)
    return given / unit
