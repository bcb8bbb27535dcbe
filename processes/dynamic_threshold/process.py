"""Lava process of the dynamic-threshold bipolar neuron (Zou et al. 2024)."""

from lava_conv.network.neurons import dynamic_threshold
from processes.neuron_process import NeuronProcess


class DynamicThreshold(NeuronProcess):
    """Lava process of the dynamic-threshold bipolar neuron (Zou et al. 2024)."""

    neuron = dynamic_threshold.NEURON
