"""CPU models of `CaLIF`: both call the one `step` of the neuron."""

from processes.ca_lif.process import CaLIF
from processes.neuron_process import NeuronModel, neuron_model


@neuron_model(CaLIF, "fixed_pt")
class PyCaLIFFixed(NeuronModel):
    """CALIF in integers: the values that the simulator computes. Tag fixed_pt."""


@neuron_model(CaLIF, "floating_pt")
class PyCaLIFFloat(NeuronModel):
    """CALIF by the same equations on floats; nothing is truncated. Tag floating_pt."""
