"""Lava process of the calcium-gated bipolar neuron (Gao et al. 2023)."""

from lava_conv.network.neurons import ca_lif
from processes.neuron_process import NeuronProcess


class CaLIF(NeuronProcess):
    """Lava process of the calcium-gated bipolar neuron (Gao et al. 2023)."""

    neuron = ca_lif.NEURON
