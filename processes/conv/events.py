"""The sums of one frame of signed spikes, by gathering those that are there (see `lava_conv.kernels.events`)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lava_conv import kernels
from lava_conv.lava.types import Numbers
from lava_conv.network.fixedpoint import STATE_MAX, WEIGHT_MAX
from lava_conv.network.synapses import Conv, Dense

if TYPE_CHECKING or kernels.AVAILABLE:
    from lava_conv.kernels.events import Plan, gather, narrow, plan, room

FEW = 0.25  # share of spikes above which the matrix product is faster
Pair = tuple[int, int]


class Events:
    """Called with a frame (H, W, C) or (C,) of integers: int32 (H', W', O), or None where it does not serve: graded
    values, or so many spikes that a matrix product is faster. The array is used again at the next call.

    Args:
        weights: laid out for gathering, see `lava_conv.kernels.events`.
        pixels: H * W of a frame.
        channels: C of a frame.
    """

    def __init__(self, weights: "Plan", pixels: int, channels: int) -> None:
        self.plan = weights
        self.layer: Callable[..., None] = gather(None, weights.block, weights.bits)
        self.spikes = np.empty((1, pixels, channels), np.int8)
        self.room = room(1, pixels, pixels * channels)
        self.acc = np.empty((1, 1, weights.block), weights.acc)
        self.out = np.empty(weights.output, np.int32)
        self.flat = self.out.reshape(1, 1, -1, weights.output[2])

    @classmethod
    def of(
        cls, weight: Numbers, shape: tuple[int, ...], stride: Pair = (1, 1), padding: Pair = (0, 0),
        dilation: Pair = (1, 1), groups: int = 1,
    ) -> "Events | None":  # fmt: skip
        """For weights (O, I/groups, kH, kW) and frames (H, W, C); None if this form does not serve."""
        norm = int(np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(1).max(initial=0))
        if not kernels.AVAILABLE or np.abs(weight).max(initial=0) > WEIGHT_MAX or norm > STATE_MAX:
            return None
        weights = plan(Conv(weight, stride, padding, dilation, groups), (shape[2], shape[0], shape[1]))
        return None if weights is None else cls(weights, shape[0] * shape[1], shape[2])

    def __call__(self, frame: Numbers) -> NDArray[np.int32] | None:
        found = narrow(np.ascontiguousarray(frame).reshape(-1), self.spikes.reshape(-1))
        if found < 0 or found > FEW * self.spikes.size:
            return None
        if not found:
            self.out[...] = 0
            return self.out
        plan = self.plan
        self.layer(self.spikes, *self.room, plan.weight, plan.geometry, 1, self.flat, self.acc, (), (), ())
        return self.out


def warm_up(synapse: Conv | Dense) -> None:
    """Compile what this synapse needs, or load what was compiled before: once in the parent, not in each child."""
    weight = synapse.weight.reshape(len(synapse.weight), -1)
    found = Events.of(weight[:, :, None, None], (1, 1, weight.shape[1]))
    if found is None:
        return
    for kind in (np.int8, np.int32):
        one = np.zeros(weight.shape[1], kind)
        one[0] = 1
        found(one)
