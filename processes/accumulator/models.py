"""CPU models of `Accumulator`: both call the one `step` of the neuron."""

from processes.accumulator.process import Accumulator
from processes.neuron_process import NeuronModel, neuron_model


@neuron_model(Accumulator, "fixed_pt")
class PyAccumulatorFixed(NeuronModel):
    """ACC in integers: the values that the simulator computes. Tag fixed_pt."""


@neuron_model(Accumulator, "floating_pt")
class PyAccumulatorFloat(NeuronModel):
    """ACC by the same equations on floats; nothing is truncated. Tag floating_pt."""
