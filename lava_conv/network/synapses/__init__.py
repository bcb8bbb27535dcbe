"""The synapses: what turns the spikes of one layer into the summed input `a_in` of the next. Integers only.

Shapes are C,H,W throughout. `apply` is the plain numpy form that the oracle uses; it shares no code with the simulator.
One file per class; a layer may have those in OWN as its own, the others as skips.
"""

from dataclasses import fields

import numpy as np

from lava_conv.network.synapses.base import Interval, Shape
from lava_conv.network.synapses.conv import Conv
from lava_conv.network.synapses.dense import Dense
from lava_conv.network.synapses.identity import Identity, elementwise

Weighted = Conv | Dense  # the synapses that a layer may have as its own
Synapse = Weighted | Identity
SYNAPSES: dict[str, type[Synapse]] = {synapse.file_type: synapse for synapse in (Conv, Dense, Identity)}
OWN: dict[str, type[Weighted]] = {synapse.file_type: synapse for synapse in (Conv, Dense)}  # by the kind of the layer


def same_synapse(a: Synapse | None, b: Synapse | None) -> bool:
    """Whether two synapses are of one type and hold equal values."""
    if type(a) is not type(b) or a is None or b is None:
        return a is b
    return all(np.array_equal(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))


__all__ = [
    "OWN", "SYNAPSES", "Conv", "Dense", "Identity", "Interval", "Shape", "Synapse", "Weighted", "elementwise",
    "same_synapse",
]  # fmt: skip
