"""Lava process that hands spikes on a fixed number of steps later."""

from processes.delay.process import Delay

__all__ = ["Delay"]
