"""Lava process of the dynamic-threshold bipolar neuron (Zou et al. 2024).

The equation and the parameters stand in `lava_conv.network.neurons.dynamic_threshold`.
"""

from lava_conv.network.neurons.dynamic_threshold import NEURON
from processes.neuron_process import NeuronProcess, told


class DynamicThreshold(NeuronProcess):  # noqa: D101  told by the neuron
    __doc__ = told(
        "Lava process of the dynamic-threshold bipolar neuron (Zou et al. 2024).", "signed spikes -1, 0, +1", NEURON
    )
    neuron = NEURON
