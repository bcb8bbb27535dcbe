"""Loihi-class chips: does a network fit, what does it cost.

chip.py, chips/    chip descriptions: every number with its source and status
load.py            what each layer asks, as plain numbers
partition.py       cores
rules.py           what is used against what is allowed
fitting.py         `fit`: all of these
cost.py            spikes, synaptic operations, energy and latency where published
replay.py          the recorded spikes through SANA-FE's Loihi 1, in a process of its own
"""

from lava_conv.loihi.chip import Chip, load_chip
from lava_conv.loihi.fitting import Fit, fit
from lava_conv.loihi.rules import Finding

__all__ = ["Chip", "Finding", "Fit", "fit", "load_chip"]
