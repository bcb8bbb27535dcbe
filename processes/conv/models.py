"""Fast CPU models of Lava's own Conv and Dense, bit-exact with the stock fixed_pt models.

Stock Conv runs one scipy convolution for each pair of channels. These run one matrix product a frame. Where a sum
could leave 32 bits, or the input has fractions, they compute as the stock models do.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import threadpoolctl
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.proc.conv import utils
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights
from numpy.typing import ArrayLike

from lava_conv.lava.types import LavaObject, ModelInPort, ProcParams
from lava_conv.network.fixedpoint import STATE_BITS
from processes.conv.events import Events
from processes.conv.im2col import Frames, Rows
from processes.declarations import cpu_model, in_port, out_port, var

Plan: TypeAlias = Callable[[np.ndarray], np.ndarray | None]  # None: compute as stock does


class _Fast(PyLoihiProcessModel):
    """What both share: the output of a step is sent in the next one; the plan follows when a Var changes."""

    s_in: ModelInPort
    num_message_bits: np.ndarray

    def __init__(self, proc_params: ProcParams) -> None:
        super().__init__(proc_params)
        self.plan: Plan = _stock
        self.planned = False
        self.arguments: ProcParams = proc_params

    def on_var_update(self) -> None:
        """Plan again at the next step."""
        self.planned = False

    def _handle_var_port(self, var_port: LavaObject) -> None:
        """A RefPort that writes puts another array in the Var's place; one that reads leaves it."""
        before = getattr(self, var_port.var_name)
        super()._handle_var_port(var_port)
        if getattr(self, var_port.var_name) is not before:
            self.on_var_update()

    def start_plan(self) -> None:
        # Every process is a child of its own: BLAS threads beside one another would only take turns.
        threadpoolctl.threadpool_limits(1, "blas")

    def receive(self) -> np.ndarray:
        if not self.planned:
            self.start_plan()
            self.planned = True
            self.graded = self.num_message_bits.item() > 0
        s_in = self.s_in.recv()
        return s_in if self.graded else s_in.astype(bool)


@cpu_model(Conv, "fixed_pt")
class PyConvModelFast(_Fast):
    """Lava's Conv, the same integers: spikes that are few are gathered, else one matrix product a frame."""

    free_running = True  # said where `run_spk` is, for that is what it is about
    s_in = in_port(np.int32, precision=24)
    a_out = out_port(np.int32, precision=24)
    a_buf = var(np.int32, precision=24)
    weight = var(np.int32, precision=8)
    kernel_size = var(np.int8, precision=8)
    stride = var(np.int8, precision=8)
    padding = var(np.int8, precision=8)
    dilation = var(np.int8, precision=8)
    groups = var(np.int8, precision=8)
    num_message_bits = var(np.int8, precision=5)
    weight_exp = var(np.int32, precision=8)
    num_weight_bits = var(np.int8, precision=5)

    def start_plan(self) -> None:
        super().start_plan()
        stride, padding, dilation = map(_pair, (self.stride, self.padding, self.dilation))
        weight = self.weight
        # Vars of 8 bits, too few for wide depthwise layers: what was constructed holds, until someone sets them
        kernel, groups = (weight.shape[1], weight.shape[2]), int(self.arguments["groups"])
        kept = _same(self.kernel_size, kernel) and _same(self.groups, groups)
        if not kept:
            kernel, groups = _pair(self.kernel_size), int(self.groups[0])
        self.geometry = kernel, stride, padding, dilation, groups
        if not kept or weight.dtype.kind == "f":
            self.plan, self.events = _stock, None
            return
        height, width, channels = self.s_in.shape
        shape = (height, width, channels)
        self.plan = Frames(weight, shape, stride, padding, dilation, groups)
        flipped = weight[:, ::-1, ::-1].transpose(0, 3, 1, 2)
        self.events = Events.of(flipped, shape, stride, padding, dilation, groups)

    def run_spk(self) -> None:
        self.a_out.send(self.a_buf)
        s_in = self.receive()
        found = self.events(s_in) if self.events and s_in.dtype.kind != "f" else None
        if found is None:
            found = self.plan(s_in)
        if found is None:
            total: LavaObject = utils.conv(s_in, self.weight, *self.geometry)
            clamped: LavaObject = utils.signed_clamp(total, bits=STATE_BITS)
            found = clamped
        self.a_buf = found


def _pair(var: np.ndarray) -> tuple[int, int]:
    return int(var[0]), int(var[1])


def _same(var: np.ndarray, value: ArrayLike) -> bool:
    return np.array_equal(var, np.ravel(value).astype(var.dtype))


def _stock(frame: np.ndarray) -> None:
    """A plan that leaves every frame to the stock computation."""


@cpu_model(Dense, "fixed_pt")
class PyDenseModelFast(_Fast):
    """Lava's Dense, the same integers: spikes that are few are gathered, else one matrix product a frame."""

    free_running = True  # said where `run_spk` is, for that is what it is about
    s_in = in_port(np.int32, precision=24)
    a_out = out_port(np.int32, precision=16)
    a_buff = var(np.int32, precision=16)
    weights = var(np.int32, precision=8)
    num_message_bits = var(int, precision=5)

    def __init__(self, proc_params: ProcParams) -> None:
        super().__init__(proc_params)
        self.truncated = False

    def start_plan(self) -> None:
        super().start_plan()
        self.weight_exp = int(self.arguments.get("weight_exp", 0))
        if not self.truncated:  # stock Dense does so before the first step, and takes what is set later as it is
            mode = self.arguments.get("sign_mode") or determine_sign_mode(self.weights)
            clipped: LavaObject = clip_weights(self.weights, mode, num_bits=8)
            truncated: LavaObject = truncate_weights(clipped, mode, self.arguments.get("num_weight_bits", 8))
            self.weights = truncated
            self.truncated = True
        self.events = None
        if self.weights.dtype.kind == "f":
            self.plan = _stock
            return
        weights = self.weights.astype(np.int64)
        self.plan = Rows(weights)
        # weights that are all multiples of the power of two by which the sum is divided can be divided themselves
        part = 1 << max(0, -self.weight_exp)
        if self.weight_exp <= 0 and not (weights % part).any():
            self.events = Events.of((weights // part)[:, :, None, None], (1, 1, weights.shape[1]))

    def run_spk(self) -> None:
        self.a_out.send(self.a_buff)
        s_in = self.receive()
        found = self.events(s_in) if self.events and s_in.dtype.kind != "f" else None
        if found is None:
            total, exponent = self.plan(s_in), self.weight_exp
            if total is None:
                total = self.weights.dot(s_in) if self.graded else self.weights[:, s_in].sum(axis=1)
            found = np.left_shift(total, exponent) if exponent > 0 else np.right_shift(total, -exponent)
        self.a_buff = found.reshape(-1).astype(np.int32, copy=False)
