"""Lava process of the dynamic-threshold bipolar neuron (Zou et al. 2024)."""

from processes.dynamic_threshold.process import DynamicThreshold

__all__ = ["DynamicThreshold"]
