"""A plain nn.Module -> the same network, quantised for training: weights, activations, and the sums between them."""

import copy

import torch
from torch import Tensor, fx, nn

from lava_conv.arguments import images_of, model_of
from lava_conv.errors import ConversionError, DataError
from lava_conv.frontends import gate
from lava_conv.frontends.calls import plain
from lava_conv.frontends.effective import effective
from lava_conv.frontends.operations import is_leaf
from lava_conv.frontends.probe import probe
from lava_conv.frontends.tracing import trace
from lava_conv.options import takes
from lava_conv.qat.options import Preparation
from lava_conv.qat.walk import Walk


@takes(Preparation, ConversionError)
def prepare(model: nn.Module, options: Preparation) -> fx.GraphModule:
    """Quantise a plain model for training. The model itself is not changed; names in the state dict stay.

    The model is read as it runs in evaluation mode, with the weights that it then computes with (parametrisations,
    pruning and the like included), and what comes out is in the mode that the model is in. Before it is handed out, the
    quantised model without its rounding is compared with the given one, layer by layer.

    Weight layers quantise their weights, ReLU (ReLU6, Hardtanh from 0) becomes a quantised ReLU, average pooling is
    quantised after it unless the last layer absorbs it, and where a residual addition meets one neuron its summands
    share one integer grid. The input is the uint8 image itself.

    Args:
        model: traced with torch.fx; ends in an nn.Linear.
        options: how to quantise, see `lava_conv.qat.options.Preparation`.

    Raises:
        ConversionError: an option is not allowed, or everything that cannot be converted, each with place and remedy.
    """
    model = model_of(model)
    for name, parameter in model.named_parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            raise ConversionError(
                f"{name} is {parameter.dtype}, too coarse to train rounded weights; pass model.float()"
            )
    traced = trace(effective(model), is_leaf)
    example = probe(model, traced) if options.example_input is None else _example(options.example_input)
    if example is None:
        Walk(traced, options)  # what is refused anyway says more
        raise ConversionError(
            "prepare: the model takes images of none of the usual sizes, so it cannot be compared with the result; "
            "pass example_input, a few images (N, C, H, W)"
        )
    pixels = example.double()
    read = gate.Candidate.of_graph(copy.deepcopy(traced).double().cpu())
    witness = gate.Witness(model, pixels * options.input_scale, read.origins)
    refusal = None
    try:
        gate.check(witness, read, "prepare", values=witness.named)
    except ConversionError as error:
        refusal = error
    shapes = {name: tuple(value.shape[1:]) for name, value in witness.named.items()}
    prepared = Walk(traced, options, shapes).done()  # what is not supported says more than that it differs
    if refusal is not None:
        raise refusal
    gate.check(witness, gate.Candidate.of_graph(copy.deepcopy(prepared).double().cpu(), plain), "prepare", pixels)
    return prepared


def _example(images: object) -> Tensor:
    found = images_of(images, "example_input")
    if found.ndim not in (3, 4):
        raise DataError(f"example_input has shape {tuple(found.shape)}, needed is (N, C, H, W), or (N, C, L) in 1-D")
    return gate.some(found)
