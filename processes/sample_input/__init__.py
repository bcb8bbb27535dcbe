"""Lava process that streams images."""

from processes.sample_input.process import SampleInput

__all__ = ["SampleInput"]
