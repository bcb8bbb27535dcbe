"""Lava process of the calcium-gated bipolar neuron (Gao et al. 2023)."""

from processes.ca_lif.process import CaLIF

__all__ = ["CaLIF"]
