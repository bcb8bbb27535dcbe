"""Lava processes of the project, usable with or without the converter.

Each lives in a leaf package of its own that holds only `process.py` and `models.py`: Lava's compiler executes every
sibling file of a process to find its models, under a bare name, so imports there are absolute and free of side effects.

A file of your own that subclasses them, or uses Lava for another reason, begins with

    import lava_conv.lava.start

before anything of Lava is imported. Lava sets the start method of multiprocessing while it is imported, and that fails
with "context has already been set" if something has asked for the method before: a lock or a pool of multiprocessing, a
DataLoader with workers, a parallel loop of numba. `lava_conv.lava.start` imports Lava with the
setting cleared. Importing `processes` first does the same, but import sorters put `lava` before it.
"""

import lava_conv.lava.start  # noqa: F401  before Lava

# isort: split
from processes.accumulator.process import Accumulator
from processes.ca_lif.process import CaLIF
from processes.delay.process import Delay
from processes.dynamic_threshold.process import DynamicThreshold
from processes.sample_input.process import SampleInput
from processes.spike_probe.process import SpikeProbe

# By the type of the neuron: the process that the Lava backend makes of it.
PROCESSES = {process.neuron.type: process for process in (DynamicThreshold, CaLIF, Accumulator)}

__all__ = ["PROCESSES", "Accumulator", "CaLIF", "Delay", "DynamicThreshold", "SampleInput", "SpikeProbe"]
