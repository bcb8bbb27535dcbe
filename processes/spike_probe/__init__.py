"""Lava process that records a port into a file."""

from processes.spike_probe.process import SpikeProbe

__all__ = ["SpikeProbe"]
