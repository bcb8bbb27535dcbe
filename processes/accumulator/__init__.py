"""Lava process of the readout, an integrator without spikes."""

from processes.accumulator.process import Accumulator

__all__ = ["Accumulator"]
