"""CPU models of `DynamicThreshold`: both call the one `step` of the neuron."""

from processes.dynamic_threshold.process import DynamicThreshold
from processes.neuron_process import NeuronModel, neuron_model


@neuron_model(DynamicThreshold, "fixed_pt")
class PyDynamicThresholdFixed(NeuronModel):
    """DTB in integers: the values that the simulator computes. Tag fixed_pt."""


@neuron_model(DynamicThreshold, "floating_pt")
class PyDynamicThresholdFloat(NeuronModel):
    """DTB by the same equations on floats; nothing is truncated. Tag floating_pt."""
