"""Lava process of the readout, an integrator without spikes.

The equation and the parameters stand in `lava_conv.neurons.accumulator`.
"""

from lava_conv.neurons.accumulator import NEURON
from processes.neuron_process import NeuronProcess


class Accumulator(NeuronProcess):
    __doc__ = f"""Lava process of the readout, an integrator without spikes.

    {NEURON.step.__doc__}
    Parameters: {NEURON.Params.__doc__}

    Ports: a_in (summed input), s_out (the membrane potential).
    Vars: all parameters, and the state {", ".join(NEURON.State._fields)}; all can be read and set between runs.
    Shape, reset schedule and checked mode: see NeuronProcess.
    """
    neuron = NEURON
