"""Lava process of the dynamic-threshold bipolar neuron (Zou et al. 2024).

The equation and the parameters stand in `lava_conv.neurons.dynamic_threshold`.
"""

from lava_conv.neurons.dynamic_threshold import NEURON
from processes.neuron_process import NeuronProcess


class DynamicThreshold(NeuronProcess):
    __doc__ = f"""Lava process of the dynamic-threshold bipolar neuron (Zou et al. 2024).

    {NEURON.step.__doc__}
    Parameters: {NEURON.Params.__doc__}

    Ports: a_in (summed input), s_out (signed spikes -1, 0, +1).
    Vars: all parameters, and the state {", ".join(NEURON.State._fields)}; all can be read and set between runs.
    Shape, reset schedule and checked mode: see NeuronProcess.
    """
    neuron = NEURON
