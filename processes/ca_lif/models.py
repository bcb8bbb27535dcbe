"""CPU models of `CaLIF`: both call the one `step` of the neuron."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_conv.network.neurons.ca_lif import NEURON
from processes.ca_lif.process import CaLIF
from processes.neuron_process import NeuronModel


@implements(proc=CaLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyCaLIFFixed(NeuronModel):
    """CALIF in integers: the values that the simulator computes. Tag fixed_pt."""

    neuron = NEURON
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int8)
    theta: np.ndarray = LavaPyType(np.ndarray, np.int32)
    bias: np.ndarray = LavaPyType(np.ndarray, np.int32)
    leak: np.ndarray = LavaPyType(np.ndarray, np.int32)
    v_init: np.ndarray = LavaPyType(np.ndarray, np.int32)
    v_neg: np.ndarray = LavaPyType(np.ndarray, np.int32)
    shift: np.ndarray = LavaPyType(np.ndarray, np.int32)
    max_count: np.ndarray = LavaPyType(np.ndarray, np.int32)
    dv: np.ndarray = LavaPyType(np.ndarray, np.int32)
    leak_steps: np.ndarray = LavaPyType(np.ndarray, np.int32)
    unipolar: np.ndarray = LavaPyType(np.ndarray, np.int32)
    v: np.ndarray = LavaPyType(np.ndarray, np.int32)
    ca: np.ndarray = LavaPyType(np.ndarray, np.int32)
    k: np.ndarray = LavaPyType(np.ndarray, np.int32)


@implements(proc=CaLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyCaLIFFloat(NeuronModel):
    """CALIF by the same equations on floats; nothing is truncated. Tag floating_pt."""

    neuron = NEURON
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    theta: np.ndarray = LavaPyType(np.ndarray, float)
    bias: np.ndarray = LavaPyType(np.ndarray, float)
    leak: np.ndarray = LavaPyType(np.ndarray, float)
    v_init: np.ndarray = LavaPyType(np.ndarray, float)
    v_neg: np.ndarray = LavaPyType(np.ndarray, float)
    shift: np.ndarray = LavaPyType(np.ndarray, np.int64)
    max_count: np.ndarray = LavaPyType(np.ndarray, np.int64)
    dv: np.ndarray = LavaPyType(np.ndarray, np.int64)
    leak_steps: np.ndarray = LavaPyType(np.ndarray, np.int64)
    unipolar: np.ndarray = LavaPyType(np.ndarray, np.int64)
    v: np.ndarray = LavaPyType(np.ndarray, float)
    ca: np.ndarray = LavaPyType(np.ndarray, float)
    k: np.ndarray = LavaPyType(np.ndarray, np.int64)
