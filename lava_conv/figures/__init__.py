"""Pictures of a network and of what it did, as matplotlib figures.

Every function takes plain results (a Graph, a Record, labels) and returns a `Figure` that belongs to no window and no
global state: show it in a notebook, or pass it to `save_png` or `as_svg`. Nothing here runs a network.
"""

from lava_conv.figures.accuracy import accuracy_by_step
from lava_conv.figures.agreement import Agreement, agreement, agreement_by_layer
from lava_conv.figures.cores import occupancy
from lava_conv.figures.network import network
from lava_conv.figures.predictions import changed, confusion, find_changes
from lava_conv.figures.spikes import activity_by_step, raster
from lava_conv.figures.style import WIDTH, as_svg, save_png
from lava_conv.figures.tradeoff import Published, Tradeoff, accuracy_by_operations, best_of

__all__ = [
    "WIDTH",
    "Agreement",
    "Published",
    "Tradeoff",
    "accuracy_by_operations",
    "accuracy_by_step",
    "activity_by_step",
    "agreement",
    "agreement_by_layer",
    "as_svg",
    "best_of",
    "changed",
    "confusion",
    "find_changes",
    "network",
    "occupancy",
    "raster",
    "save_png",
]
