"""Lava process of the calcium-gated bipolar neuron (Gao et al. 2023).

The equation and the parameters stand in `lava_conv.network.neurons.ca_lif`.
"""

from typing import Any

import numpy as np

from lava_conv.network.neurons.ca_lif import NEURON
from processes.neuron_process import NeuronProcess, told


class CaLIF(NeuronProcess):  # noqa: D101  told by the neuron
    __doc__ = told(
        "Lava process of the calcium-gated bipolar neuron (Gao et al. 2023).", "signed spikes -1, 0, +1", NEURON
    )
    neuron = NEURON

    def companions(self, name: str, value: Any) -> dict[str, Any]:
        """A v_neg below 0 is that of the symmetrical form, -theta."""
        return {"theta": np.maximum(-value, 1)} if name == "v_neg" else {}
