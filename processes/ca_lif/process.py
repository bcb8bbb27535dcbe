"""Lava process of the calcium-gated bipolar neuron (Gao et al. 2023).

The equation and the parameters stand in `lava_conv.neurons.ca_lif`.
"""

from lava_conv.neurons.ca_lif import NEURON
from processes.neuron_process import NeuronProcess


class CaLIF(NeuronProcess):
    __doc__ = f"""Lava process of the calcium-gated bipolar neuron (Gao et al. 2023).

    {NEURON.step.__doc__}
    Parameters: {NEURON.Params.__doc__}

    Ports: a_in (summed input), s_out (signed spikes -1, 0, +1).
    Vars: all parameters, and the state {", ".join(NEURON.State._fields)}; all can be read and set between runs.
    Shape, reset schedule and checked mode: see NeuronProcess.
    """
    neuron = NEURON
