"""Stock netx files, as lava-dl writes them: read safely, described, and what of them has no counterpart here.

They hold no format, version or steps, and neurons of other kinds, so they cannot be run here; `reading` takes the files
that can.
"""

import math
import os
from collections.abc import Callable
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import ConversionError, NetFormatError
from lava_conv.network.fixedpoint import WEIGHT_MAX, WEIGHT_MIN
from lava_conv.network.neurons import NEURONS
from lava_conv.network.summary import aligned
from lava_conv.network.synapses import Conv, Dense, Weighted
from lava_conv.netx.hdf5 import (
    MAX_ITEM,
    Weight,
    opened,
    read_dataset,
    read_geometry,
    read_group,
    read_layers,
    read_shape,
    read_text,
    read_weight,
    shown,
    shown_name,
)

REMEDY = "write it again with the tool that made it"
RANKS = {"conv": 4, "dense": 2}  # of the weight
# By the type of a layer: (weight, group, path) -> its synapse.
READERS: dict[str, Callable[[NDArray[np.int8], h5py.Group, str], Weighted]] = {
    "conv": lambda weight, group, path: Conv(weight, *read_geometry(group, path)),
    "dense": lambda weight, group, path: Dense(weight),
}
MAX_PARAMETERS = 100  # of a neuron; lava-dl's have up to ten or so
TYPES = {
    "pool": "pooling is not in the format; average pooling is a depthwise convolution of ones, max pooling is replaced "
    "before training",
    "average": "averaging the outputs is not in the format; a dense readout adds them up",
    "dense_rec": "recurrent layers have no counterpart here",
    "dense_comp": "complex layers have no counterpart here",
    "convT": "transposed convolutions are not in the format; use a convolution",
    "unpool": "unpooling is not in the format; use a convolution",
    "concat": "concatenation is not in the format; parallel skips into the next layer do the same",
}
OTHER_TYPE = "this layer type is not in the format"
LEAKY = "it leaks and resets hard, so its count is no quantised activation; convert the network as a quantised ANN"
NEURON_TYPES = {
    "LOIHI": LEAKY,
    "CUBA": LEAKY,
    "ALIF": LEAKY,
    "SDNN": "it sends graded changes, not signed spikes; convert the quantised model to CALIF or DTB neurons",
    "RF": "resonant neurons have no counterpart here",
    "RF_IZ": "resonant neurons have no counterpart here",
}
OTHER_NEURON = "this neuron is not in the format"
# Of a layer, beside what the format knows: what it means, and why it cannot stay.
EXTRAS = {
    "bias": "the bias belongs to the neuron here (neuron/bias, once a sample)",
    "delay": "axonal delays have no counterpart here; every path delivers in the same step",
}


Parameter = bool | int | float | str


class StockLayer(NamedTuple):
    """One layer as the file has it. weight: shape of its weights; low, high: their range; parameters: the neuron's
    scalars. problems: why it cannot be run here."""

    type: str
    shape: tuple[int, ...]
    weight: tuple[int, ...] | None
    low: float
    high: float
    neuron: str
    parameters: dict[str, Parameter]
    problems: tuple[str, ...]


class StockNet(NamedTuple):
    """A stock file. problems: sentences about the file as a whole, then by layer, equal ones told once."""

    layers: tuple[StockLayer, ...]
    problems: tuple[str, ...]


def is_stock(path: str | os.PathLike[str]) -> bool:
    """Whether this is an HDF5 file with netx layers that does not say it is of our format."""
    try:
        with opened(path, REMEDY) as file:
            return "format" not in file.attrs and "layer" in file
    except NetFormatError:  # told by who reads it
        return False


def describe(path: str | os.PathLike[str]) -> StockNet:
    """Read a stock file and say what of it is not supported.

    Raises:
        NetFormatError: the file is missing, damaged, or not laid out as netx; names the path inside the file.
    """
    with opened(path, REMEDY) as file:
        groups = read_layers(file)
        layers: list[StockLayer] = []
        for index, group in enumerate(groups):
            before = layers[-1].shape if layers else None
            layers.append(_layer(group, f"/layer/{index}", before, index == len(groups) - 1))
    whole = ["/@format, version and steps are missing: nothing says how long a sample takes and how the image comes in"]
    return StockNet(tuple(layers), (*whole, *_together(layers)))


def _together(layers: list[StockLayer]) -> list[str]:
    """Each problem once, with all the layers that have it."""
    places: dict[str, list[int]] = {}
    for index, layer in enumerate(layers):
        for problem in layer.problems:
            places.setdefault(problem, []).append(index)
    return [f"/layer/{', '.join(map(str, where))}: {problem}" for problem, where in places.items()]


def _layer(group: h5py.Group, path: str, before: tuple[int, ...] | None, last: bool) -> StockLayer:
    kind = read_text(group, "type", path)
    shape = read_shape(group, path) if "shape" in group else ()
    neuron, parameters = _neuron(group, path)
    problems: list[str] = []
    if kind == "input":
        if "neuron" in group:
            problems.append(f"the input has a neuron ({neuron}); here the image itself goes into the first layer")
    elif kind not in (*RANKS, "flatten"):
        problems.append(f"type {shown(kind)}: {TYPES.get(kind, OTHER_TYPE)}")
    weight, low, high = None, 0.0, 0.0
    if "weight" in group:
        found = read_weight(group, "weight", path, ranks=(0, 1, 2, 3, 4, 5), keep=False)
        weight, low, high = found.shape, float(found.low), float(found.high)
        if kind in RANKS:
            problems += _synapse_problems(group, path, kind, found, shape, before)
    elif kind in RANKS:
        problems.append("weight is missing")
    if kind in RANKS:
        problems += [f"{name}: {why}" for name, why in EXTRAS.items() if name in group]
        problems += _neuron_problems(neuron, last)
    return StockLayer(shown_name(kind), shape, weight, low, high, neuron, parameters, tuple(problems))


def _neuron(group: h5py.Group, path: str) -> tuple[str, dict[str, Parameter]]:
    if "neuron" not in group:
        return "", {}
    group, path = read_group(group, "neuron", f"{path}/neuron"), f"{path}/neuron"
    kind = read_text(group, "type", path) if "type" in group else "without type"
    found: dict[str, Parameter] = {}
    names = sorted(set(group) - {"type"})
    if len(names) > MAX_PARAMETERS:
        raise NetFormatError(f"{path} holds {len(names):,} parameters, allowed are {MAX_PARAMETERS}")
    for name in names:
        found[shown_name(name)] = _parameter(group, name, path)
    return shown_name(kind), found


def _parameter(group: h5py.Group, name: str, path: str) -> Parameter:
    """A scalar, or in words what there is else."""
    data = read_dataset(group, name, path)
    if data.size == 1 and data.ndim < 2 and data.dtype.kind in "SO":
        return shown_name(read_text(group, name, path))
    if data.size == 1 and data.dtype.kind in "biuf" and data.dtype.itemsize <= MAX_ITEM:
        value = np.asarray(data[()]).item()
        return value if math.isfinite(value) else str(value)  # as JSON knows neither NaN nor infinity
    return f"{shown_name(data.dtype)} {data.shape}"


def _neuron_problems(neuron: str, last: bool) -> list[str]:
    if not neuron:
        return ["it has no neuron; every conv and dense layer needs one" + (", the last one ACC" if last else "")]
    if neuron not in NEURONS:
        return [f"neuron {neuron}: {NEURON_TYPES.get(neuron, OTHER_NEURON)}"]
    return []


def _synapse_problems(
    group: h5py.Group, path: str, kind: str, weight: Weight, shape: tuple[int, ...], before: tuple[int, ...] | None
) -> list[str]:
    if len(weight.shape) != RANKS[kind]:
        return [f"weight has rank {len(weight.shape)}, allowed is {RANKS[kind]} for {kind}"]
    problems = []
    if not weight.whole:
        problems.append("weight holds values that are not integers; stock netx cuts them off, here they are refused")
    if weight.excess is not None:
        problems.append(f"weight goes to {weight.excess:g}, allowed is {WEIGHT_MIN}..{WEIGHT_MAX}")
    try:
        # zeros stand for the weight: only its shape decides
        blank = np.zeros(weight.shape, np.int8)
        synapse = READERS[kind](blank, group, path)
        flat = synapse.input_rank == 1
        made = synapse.output_shape(_flat(before) if flat else before or ())
    except (ConversionError, NetFormatError) as error:
        return [*problems, str(error)]
    if made != (_flat(shape) if flat else shape):
        problems.append(f"shape is {shape}, but input and weight make it {made}")
    elif flat and len(shape) != 1:
        problems.append("a dense layer's shape is one number here; the others are 1 and can be left out")
    return problems


def _flat(shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """(n, 1, 1) and its like as (n,), because stock files write flat layers either way."""
    shape = shape or ()
    return (math.prod(shape),) if sum(size > 1 for size in shape) <= 1 else shape


def table(net: StockNet) -> str:
    """The layers as text: type, shape, weights and their range, neuron and its parameters."""
    rows: list[tuple[str, ...]] = [("layer", "type", "shape", "weights", "range", "neuron", "parameters")]
    for index, layer in enumerate(net.layers):
        size = "-" if layer.weight is None else "x".join(map(str, layer.weight)) or "1"
        span = "-" if layer.weight is None else f"{layer.low:g}..{layer.high:g}"
        parameters = ", ".join(f"{name} {value}" for name, value in layer.parameters.items())
        shape = "x".join(map(str, layer.shape)) or "-"
        rows.append((str(index), layer.type, shape, size, span, layer.neuron or "-", parameters or "-"))
    return aligned(rows)
