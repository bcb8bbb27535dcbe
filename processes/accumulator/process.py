"""Lava process of the readout, an integrator without spikes.

The equation and the parameters stand in `lava_conv.network.neurons.accumulator`.
"""

from lava_conv.network.neurons.accumulator import NEURON
from processes.neuron_process import NeuronProcess, told


class Accumulator(NeuronProcess):  # noqa: D101  told by the neuron
    __doc__ = told("Lava process of the readout, an integrator without spikes.", "the membrane potential", NEURON)
    neuron = NEURON
