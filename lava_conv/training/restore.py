"""A network of integers -> the model that it came from, so that training goes on where only the `.net` file is left.

What the file does not hold is chosen anew: the float weights behind the integers, the value of one count, the
statistics that normalisation keeps, and the value of 1 in the logits.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from lava_conv.errors import DataError
from lava_conv.frontends.operations.normalisation import NORMS
from lava_conv.network.graph import Graph, Layer
from lava_conv.network.neurons import NEURONS, IntegerStaircase
from lava_conv.qat.layers import MedianQuant, Pixels, QuantisedWeight, Quantiser, Readout, as_unit
from lava_conv.training.distillation import fitted_scale

SIZE = 0.1  # mean |w| of the float weights: Adam at 1e-3 needs some 100 steps to turn one over


class Stage(NamedTuple):
    """Weights and what follows them, both None behind the readout.

    Fields:
        name: of the weights in the model.
        weights: their module.
        norm: batch normalisation.
        quantiser: the quantised activation.
    """

    name: str
    weights: Any
    norm: Any = None
    quantiser: Any = None


def restore(model: fx.GraphModule, graph: Graph, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """Give a model, in place, parameters with which it computes what the network computes.

    Args:
        model: fresh from `lava_conv.qat.prepare`, method "dynamic_threshold", with the options of the model that was
            converted; a chain of layers.
        graph: the network.
        images: (N, C, H, W), some hundred, to measure the statistics of normalisation on.
        labels: (N,) of these images; 1 in the logits is worth what fits them best.

    Raises:
        DataError: model and network do not go together; says where they differ.
    """
    pixels, stages = _stages(model)
    layers = [layer for layer in graph.layers if layer.synapse is not None]
    if any(layer.skips or layer.source is not None for layer in graph.layers) or graph.input_code != "flash":
        raise DataError("it has shortcuts or a constant input; start from a checkpoint instead")
    if odd := {layer.neuron for layer in layers[:-1]} - {MedianQuant.neuron}:
        raise DataError(
            f"it has {min(odd)} neurons, only those of method dynamic_threshold can be trained on; start from a "
            f"checkpoint"
        )
    if len(stages) != len(layers):
        raise DataError(f"it has {len(layers)} layers with weights, the model has {len(stages)}; name its own model")
    with torch.no_grad():
        unit = as_unit(pixels.unit())
        for stage, layer in zip(stages, layers, strict=True):
            scale = _take_weights(stage, layer)
            if stage.quantiser is not None:
                before, unit = unit, _take_unit(stage, layer)
                _normalise_as(stage, layer, (before * scale).double(), unit.double())
        readout, last = stages[-1].weights, _staircase(layers[-1])
        if readout.bias is not None:
            bias = torch.tensor(-last.theta / (1 << last.shift))
            readout.bias.copy_(bias * readout.grain(readout.quantise()[1]))
        logits = model.eval()(torch.from_numpy(images).to(torch.get_default_dtype()))
        value = fitted_scale(logits, torch.from_numpy(labels))
        for parameter in readout.parameters():
            parameter.mul_(value)


def _stages(model: fx.GraphModule) -> tuple[Pixels, list[Stage]]:
    """The entrance and the stages of a chain, in the order in which the model calls them."""
    pixels, stages = Pixels(), []
    nodes: Any = model.graph.nodes
    for node in nodes:
        module = model.get_submodule(node.target) if node.op == "call_module" else None
        if node.op in ("call_function", "call_method"):
            raise DataError("the model has shortcuts; start from a checkpoint instead")
        if isinstance(module, Pixels):
            pixels = module
        elif isinstance(module, QuantisedWeight):
            stages.append(Stage(node.target, module))
        elif isinstance(module, NORMS):
            stages[-1] = stages[-1]._replace(norm=module)
        elif isinstance(module, Quantiser):
            stages[-1] = stages[-1]._replace(quantiser=module)
    for stage in stages:
        if not isinstance(stage.weights, Readout) and (stage.norm is None or stage.quantiser is None):
            raise DataError(f"{stage.name} of the model has no normalisation and activation of its own")
    return pixels, stages


def _take_weights(stage: Stage, layer: Layer) -> Tensor:
    """Put float weights behind the integers; the scale that they are quantised with."""
    weights, synapse = stage.weights, layer.synapse
    assert synapse is not None
    if weights.grid is not None:
        raise DataError(
            f"{stage.name}: only a checkpoint holds what the model's weights and steps share; start from one"
        )
    integers = torch.tensor(synapse.weight).to(weights.weight)
    if weights.weight.ndim == 3 and integers.ndim == 4 and integers.shape[2] == 1:
        integers = integers[:, :, 0]
    if integers.shape != weights.weight.shape:
        there, here = tuple(integers.shape), tuple(weights.weight.shape)
        raise DataError(f"{stage.name}: its weights have shape {there}, those of the model {here}; name its own model")
    weights.weight.copy_(integers * (SIZE / integers.abs().mean().clamp_min(SIZE)))
    if weights.bias is not None:
        weights.bias.zero_()
    held, scale = weights.quantise()
    if not torch.equal(held, integers):
        raise DataError(
            f"{stage.name}: the model cannot hold its weights; give the method and bits it was trained with"
        )
    return scale


def _staircase(layer: Layer) -> IntegerStaircase:
    """What the neurons of a layer settle on."""
    to_staircase = NEURONS[layer.neuron].to_staircase
    assert to_staircase is not None
    return to_staircase(layer.params)


def _take_unit(stage: Stage, layer: Layer) -> Tensor:
    """The value of one count of the neurons; refuse those that count otherwise than the model."""
    there, here = _staircase(layer).max_count, stage.quantiser.n_max
    if there != here:
        raise DataError(
            f"{stage.name}: its neurons count up to {there}, those of the model up to {here} (0: no limit); give the "
            f"options it was trained with"
        )
    return as_unit(stage.quantiser.unit())


def _normalise_as(stage: Stage, layer: Layer, grain: Tensor, unit: Tensor) -> None:
    """Let batch normalisation, when it is called next, take the statistics of its input, and parameters with which
    floor(y / unit + 1/2) is the count of the neurons; 1 of their integer input is worth `grain` in that input.

    Half of 1 is added to the potential: no integer changes sides, and rounded parameters move none either.
    """
    staircase = _staircase(layer)
    theta, delta = torch.tensor(staircase.theta), torch.tensor(staircase.delta)
    slope = unit * (1 << staircase.shift) / delta / grain
    offset = unit * ((0.5 - theta) / delta - 0.5)

    def measure(norm: Any, inputs: tuple[Tensor]) -> None:
        hook.remove()
        x = inputs[0].transpose(0, 1).flatten(1).double()
        var, mean = torch.var_mean(x, 1, correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
        norm.weight.copy_(slope * (var + norm.eps).sqrt())
        norm.bias.copy_(offset + slope * mean)

    hook = stage.norm.register_forward_pre_hook(measure)
