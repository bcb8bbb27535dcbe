"""CPU models of `MultiLevel`."""

from multi_level.process import MultiLevel
from processes.neuron_process import NeuronModel, neuron_model


@neuron_model(MultiLevel, "fixed_pt")
class PyMultiLevelFixed(NeuronModel):
    """LEVELS in integers."""


@neuron_model(MultiLevel, "floating_pt")
class PyMultiLevelFloat(NeuronModel):
    """LEVELS in floats."""
