"""Lava process of the neuron beside it."""

import lava_conv.lava.start  # noqa: F401  before Lava

# isort: split
from multi_level.neuron import NEURON
from processes.neuron_process import NeuronProcess


class MultiLevel(NeuronProcess):
    """Lava process of a neuron with three thresholds."""

    neuron = NEURON
