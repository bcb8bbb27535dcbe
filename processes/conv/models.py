"""Fast CPU models of Lava's own Conv and Dense, bit-exact with the stock fixed_pt models.

Stock Conv runs one scipy convolution for each pair of channels. These run one matrix product a frame. Where a sum
could leave 32 bits, or the input has fractions, they compute as the stock models do.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import threadpoolctl
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import AbstractPyPort, PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.conv import utils
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights
from numpy.typing import ArrayLike

from lava_conv.lava.types import ProcParams
from lava_conv.network.fixedpoint import STATE_BITS
from processes.conv.events import Events
from processes.conv.im2col import Frames, Rows

Plan: TypeAlias = Callable[[np.ndarray], np.ndarray | None]  # None: compute as stock does


class _Fast(PyLoihiProcessModel):
    """What both share: the output of a step is sent in the next one; the plan follows when a Var changes."""

    num_message_bits: np.ndarray

    def __init__(self, proc_params: ProcParams) -> None:
        super().__init__(proc_params)
        self.plan: Plan | None = None

    def on_var_update(self) -> None:
        """Plan again at the next step."""
        self.plan = None

    def _handle_var_port(self, var_port: AbstractPyPort) -> None:
        """A RefPort that writes puts another array in the Var's place; one that reads leaves it."""
        before = getattr(self, var_port.var_name)
        super()._handle_var_port(var_port)
        if getattr(self, var_port.var_name) is not before:
            self.on_var_update()

    def start_plan(self) -> None:
        # Every process is a child of its own: BLAS threads beside one another would only take turns.
        threadpoolctl.threadpool_limits(1, "blas")

    def receive(self) -> np.ndarray:
        if self.plan is None:
            self.start_plan()
            self.graded = self.num_message_bits.item() > 0
        s_in = self.s_in.recv()
        return s_in if self.graded else s_in.astype(bool)


@implements(proc=Conv, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyConvModelFast(_Fast):
    """Lava's Conv, the same integers: spikes that are few are gathered, else one matrix product a frame."""

    free_running = True  # said where `run_spk` is, for that is what it is about
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    a_buf: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    weight: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=8)
    kernel_size: np.ndarray = LavaPyType(np.ndarray, np.int8, precision=8)
    stride: np.ndarray = LavaPyType(np.ndarray, np.int8, precision=8)
    padding: np.ndarray = LavaPyType(np.ndarray, np.int8, precision=8)
    dilation: np.ndarray = LavaPyType(np.ndarray, np.int8, precision=8)
    groups: np.ndarray = LavaPyType(np.ndarray, np.int8, precision=8)
    num_message_bits: np.ndarray = LavaPyType(np.ndarray, np.int8, precision=5)
    weight_exp: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=8)
    num_weight_bits: np.ndarray = LavaPyType(np.ndarray, np.int8, precision=5)

    def start_plan(self) -> None:
        super().start_plan()
        stride, padding, dilation = (tuple(map(int, v)) for v in (self.stride, self.padding, self.dilation))
        weight = self.weight
        # Vars of 8 bits, too few for wide depthwise layers: what was constructed holds, until someone sets them
        kernel, groups = tuple(weight.shape[1:3]), int(self.proc_params["groups"])
        kept = _same(self.kernel_size, kernel) and _same(self.groups, groups)
        if not kept:
            kernel, groups = tuple(map(int, self.kernel_size)), int(self.groups[0])
        self.geometry = kernel, stride, padding, dilation, groups
        if not kept or weight.dtype.kind == "f":
            self.plan, self.events = _stock, None
            return
        shape = tuple(self.s_in.shape)
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
            found = utils.conv(s_in, self.weight, *self.geometry)
            found = utils.signed_clamp(found, bits=STATE_BITS)
        self.a_buf = found


def _same(var: np.ndarray, value: ArrayLike) -> bool:
    return np.array_equal(var, np.ravel(value).astype(var.dtype))


def _stock(frame: np.ndarray) -> None:
    """A plan that leaves every frame to the stock computation."""


@implements(proc=Dense, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyDenseModelFast(_Fast):
    """Lava's Dense, the same integers: spikes that are few are gathered, else one matrix product a frame."""

    free_running = True  # said where `run_spk` is, for that is what it is about
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=16)
    a_buff: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=16)
    weights: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=8)
    num_message_bits: np.ndarray = LavaPyType(np.ndarray, int, precision=5)

    def __init__(self, proc_params: ProcParams) -> None:
        super().__init__(proc_params)
        self.truncated = False

    def start_plan(self) -> None:
        super().start_plan()
        self.weight_exp = int(self.proc_params.get("weight_exp", 0))
        if not self.truncated:  # stock Dense does so before the first step, and takes what is set later as it is
            mode = self.proc_params.get("sign_mode") or determine_sign_mode(self.weights)
            self.weights = clip_weights(self.weights, mode, num_bits=8)
            self.weights = truncate_weights(self.weights, mode, self.proc_params.get("num_weight_bits", 8))
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
