"""The integer network: layers, neurons, synapses, proven bounds, and the oracle."""
