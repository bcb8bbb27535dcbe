"""Fast CPU models of Lava's own Conv and Dense, bit-exact with the stock fixed_pt models.

Stock Conv runs one scipy convolution for each pair of channels. These run one matrix product a frame.
"""

from typing import Any

import numpy as np
import threadpoolctl
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights

from processes.conv.events import Events
from processes.conv.im2col import Frames, Rows


class _Fast(PyLoihiProcessModel):
    """What both share: the output of a step is sent in the next one; the plan follows when a Var is set."""

    free_running = True
    num_message_bits: Any

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.plan: Any = None

    def _set_var(self) -> None:
        super()._set_var()
        self.plan = None

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
        groups = int(self.proc_params["groups"])  # the Var is 8 bits wide, too few for wide depthwise layers
        shape = tuple(self.s_in.shape)
        self.plan = Frames(self.weight, shape, stride, padding, dilation, groups)
        flipped = self.weight[:, ::-1, ::-1].transpose(0, 3, 1, 2)
        self.events = Events.of(flipped, shape, stride, padding, dilation, groups)

    def run_spk(self) -> None:
        self.a_out.send(self.a_buf)
        s_in = self.receive()
        found = self.events(s_in) if self.events else None
        self.a_buf = self.plan(s_in) if found is None else found


@implements(proc=Dense, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyDenseModelFast(_Fast):
    """Lava's Dense, the same integers: spikes that are few are gathered, else one matrix product a frame."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=16)
    a_buff: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=16)
    weights: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=8)
    num_message_bits: np.ndarray = LavaPyType(np.ndarray, int, precision=5)

    def start_plan(self) -> None:
        super().start_plan()
        self.weight_exp = self.proc_params.get("weight_exp", 0)
        mode = self.proc_params.get("sign_mode") or determine_sign_mode(self.weights)
        weights = clip_weights(self.weights, mode, num_bits=8)
        weights = truncate_weights(weights, mode, self.proc_params.get("num_weight_bits", 8)).astype(np.int64)
        self.plan = Rows(weights)
        # weights that are all multiples of the power of two by which the sum is divided can be divided themselves
        part = 1 << max(0, -int(self.weight_exp))
        divided = weights // part if self.weight_exp <= 0 and not (weights % part).any() else None
        self.events = None if divided is None else Events.of(divided[:, :, None, None], (1, 1, weights.shape[1]))

    def run_spk(self) -> None:
        self.a_out.send(self.a_buff)
        s_in = self.receive()
        found = self.events(s_in) if self.events else None
        if found is None:
            total, exponent = self.plan(s_in), self.weight_exp
            found = np.left_shift(total, exponent) if exponent > 0 else np.right_shift(total, -exponent)
        self.a_buff = found.reshape(-1).astype(np.int32, copy=False)
