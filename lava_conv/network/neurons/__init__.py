"""The neurons, each written once and shared by every backend. To add one: a file here, a line in the table."""

from lava_conv.network.neurons import accumulator, ca_lif, dynamic_threshold
from lava_conv.network.neurons.base import Bounds, IntegerStaircase, Neuron, map_channels

NEURONS: dict[str, Neuron] = {n.type: n for n in (dynamic_threshold.NEURON, ca_lif.NEURON, accumulator.NEURON)}
READOUT: Neuron = accumulator.NEURON  # what `convert` gives the last layer

__all__ = ["NEURONS", "READOUT", "Bounds", "IntegerStaircase", "Neuron", "map_channels"]
