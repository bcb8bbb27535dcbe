"""Lava process of the readout, an integrator without spikes."""

from lava_conv.network.neurons import accumulator
from processes.neuron_process import NeuronProcess


class Accumulator(NeuronProcess):
    """Lava process of the readout, an integrator without spikes."""

    neuron = accumulator.NEURON
