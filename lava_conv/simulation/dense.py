"""Exact integer convolutions and products on dense frames, with torch: int8 through oneDNN, float32, or float64."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lava_conv.network.fixedpoint import FLOAT32_EXACT
from lava_conv.network.synapses import Conv, Dense, Identity, Synapse, Weighted
from lava_conv.torch_tools.convolution import exact_conv2d, safe_form

Geometry = tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]  # stride, padding, dilation, groups
PACKED = 3  # forms of a synapse's weights that are kept, one for each size of batch; each is as large as the weights
ONEDNN: Any = torch.ops.onednn  # type: ignore[attr-defined]  # operators that torch makes up when they are asked for


def exact_type(synapse: Synapse, payload: int) -> torch.dtype:
    """float32 if no partial sum can reach 2**24, in whatever order it is added up; float64 otherwise."""
    return torch.float32 if synapse.magnitude * payload < FLOAT32_EXACT else torch.float64


def sums(synapse: Synapse, x: Tensor, payload: int) -> Tensor:
    """(B, ...) integers of at most `payload` -> (B, ...) sums, whole numbers, in a float type where there are weights.

    Exact.
    """
    return SUMS[type(synapse)](synapse, x, payload)


def _ready(synapse: Weighted, x: Tensor, payload: int) -> tuple[Tensor, Tensor]:
    """(the input, the weights) in a float type in which their products add up exactly."""
    kind = exact_type(synapse, payload) if float32_whole(x.device) else torch.float64
    return x.to(kind), torch.from_numpy(synapse.weight).to(x.device, kind)


def _conv(synapse: Conv, x: Tensor, payload: int) -> Tensor:
    x, weight = _ready(synapse, x, payload)
    return exact_conv2d(x, weight, synapse.stride, synapse.padding, synapse.dilation, synapse.groups)


def _dense(synapse: Dense, x: Tensor, payload: int) -> Tensor:
    return functional.linear(*_ready(synapse, x.flatten(1), payload))


def _identity(synapse: Identity, x: Tensor, payload: int) -> Tensor:
    return x.to(torch.int32) * synapse.scale


# How torch forms the sums of each class of synapses; a new class needs a line here.
SUMS: dict[type, Callable[[Any, Tensor, int], Tensor]] = {Conv: _conv, Dense: _dense, Identity: _identity}


def float32_whole(device: torch.device) -> bool:
    """Whether sums of whole numbers below 2**24 stay whole in torch's float32 kernels, as it is set now.

    On a CPU without oneDNN torch may take NNPACK's Winograd; on a GPU products may be asked for in TF32. (Where oneDNN
    is asked for bfloat16 or TF32, it keeps factors of 8 bits, which ours are, and adds in float32.)
    """
    if device.type == "cpu":
        return torch.backends.mkldnn.is_available() and torch._C._get_mkldnn_enabled()
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # torch 2.9 on
        return matmul.fp32_precision != "tf32"
    return not matmul.allow_tf32


class Int8:
    """A synapse for signed spikes through oneDNN's int8 kernels: spike + 1 is unsigned, with zero point 1."""

    def __init__(self, synapse: Weighted) -> None:
        synapse = synapse.as_events()
        self.weight = torch.from_numpy(synapse.weight)
        self.scales = torch.ones(len(self.weight))
        self.zeros = torch.zeros(len(self.weight), dtype=torch.int64)
        self.synapse = synapse
        # by the shape of the input, on which the packing may depend; the last used is the last in line
        self.packed: dict[tuple[int, ...], Tensor] = {}

    def ready(self, x: Tensor) -> Callable[[], Tensor]:
        """The product with int8 x (B, C, H, W), channels last in memory; called, it gives float32 (B, O, H', W')."""
        conv = self.synapse
        x, stride, padding = safe_form(x, conv.weight.shape[2:], conv.stride, conv.padding, conv.dilation)
        options = [list(stride), list(padding), list(conv.dilation), conv.groups]  # type: ignore[arg-type]
        shape = tuple(x.shape)
        packed = self.packed.pop(shape, None)
        if packed is None:
            packed = ONEDNN.qconv_prepack(self.weight, self.scales, 1.0, 1, *options, list(shape))
        self.packed[shape] = packed
        while len(self.packed) > PACKED:
            del self.packed[next(iter(self.packed))]
        return lambda: ONEDNN.qconv2d_pointwise(
            (x.contiguous(memory_format=torch.channels_last) + 1).view(torch.uint8), 1.0, 1, packed, self.scales,
            self.zeros, None, *options, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip


def int8_exact(synapse: Weighted, shape: tuple[int, ...]) -> bool:
    """Whether the int8 kernels give exact sums for this synapse and frames (C, H, W) of spikes.

    They are tried on two frames of random spikes, once for each geometry, in the form that `safe_form` gives it.
    """
    conv = synapse.as_events()
    geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
    return int8_works() and _tried(conv.weight.shape, geometry, tuple(shape))


@cache
def int8_works() -> bool:
    """Whether this torch and this processor have the int8 kernels, and a usual convolution is exact: tried."""
    return _tried((24, 40, 3, 3), ((1, 1), (1, 1), (1, 1), 1), (40, 6, 6))


@cache
def _tried(weight: tuple[int, ...], geometry: Geometry, shape: tuple[int, ...]) -> bool:
    generator = np.random.default_rng(0)
    x = torch.from_numpy(generator.integers(-1, 2, (2, *shape)).astype(np.int8))
    x = x.contiguous(memory_format=torch.channels_last)
    for values in (generator.integers(-127, 128, weight), np.full(weight, 127)):
        conv = Conv(values, *geometry)
        try:
            found = Int8(conv).ready(x)()
        except (AttributeError, RuntimeError, TypeError, ValueError):
            return False
        if not torch.equal(found.double(), sums(conv, x.double(), 1).double()):
            return False
    return True
