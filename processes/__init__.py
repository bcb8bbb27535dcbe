"""Lava processes of the project, usable with or without the converter.

Each lives in a leaf package of its own that holds only `process.py` and `models.py`: Lava's compiler executes every
sibling file of a process to find its models, under a bare name, so imports there are absolute and free of side effects.
"""

import lava_conv.backends.lava_start  # noqa: F401  before Lava

# isort: split
from processes.accumulator.process import Accumulator
from processes.ca_lif.process import CaLIF
from processes.delay.process import Delay
from processes.dynamic_threshold.process import DynamicThreshold
from processes.sample_input.process import SampleInput
from processes.spike_probe.process import SpikeProbe

__all__ = ["Accumulator", "CaLIF", "Delay", "DynamicThreshold", "SampleInput", "SpikeProbe"]
