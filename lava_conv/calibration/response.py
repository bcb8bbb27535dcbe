"""What one layer of neurons answers to its input, in fixed point: the neurons' own `step` on levels of 2^12 parts."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lava_conv.calibration.layout import to_rows
from lava_conv.network.neurons import NEURONS, IntegerStaircase, Neuron, ca_lif, dynamic_threshold
from lava_conv.simulation.fire import fire

ONE = 1 << 12  # parts of one level: potentials of up to 2,048 levels fit 24 bits
LARGEST = (1 << 22) // ONE  # levels; a sum beyond is one that saturates the neuron all the same


class Kind(NamedTuple):
    """A neuron that networks can be calibrated for: its type, and whether it takes spikes back."""

    type: str
    unipolar: bool


KINDS = {
    "calif": Kind(ca_lif.NEURON.type, False),
    "dtb": Kind(dynamic_threshold.NEURON.type, False),
    "if": Kind(ca_lif.NEURON.type, True),
}


class Layer(NamedTuple):
    """A layer of neurons: kind, largest count, steps of a sample, whether the input is spread evenly over them."""

    kind: Kind
    levels: int
    steps: int
    spread: bool

    def respond(self, drive: NDArray[np.int32], bias: Any, initial: Any = 0.0, scale: float = 1.0) -> NDArray[np.int8]:
        """Spikes int8 (n, steps, P, C).

        Args:
            drive: (n, frames, P, C), input of each step in parts of a level; one frame repeats itself if `spread`,
                else comes alone.
            bias: levels, per channel, over the whole sample: spread evenly over its steps if `spread`.
            initial: levels, per channel, on the potential at the start of the sample.
            scale: the threshold, in levels.
        """
        neuron, params = self._params(np.asarray(bias), np.asarray(initial), scale, drive.shape[-1])
        return fire(neuron, params, drive, self.steps, int(self.spread), threads=torch.get_num_threads())

    def _params(self, bias: Any, initial: Any, scale: float, channels: int) -> tuple[Neuron, Any]:
        delta = np.full(channels, round(scale * ONE), np.int64)
        bias = np.broadcast_to(np.rint(np.clip(bias, -LARGEST, LARGEST) * ONE), channels).astype(np.int64)
        initial = np.rint(np.clip(initial, -LARGEST, LARGEST) * ONE).astype(np.int64)
        theta, repeats = -(delta // 2 + initial) - bias, self.steps if self.spread else 1
        neuron = NEURONS[self.kind.type]
        staircase = IntegerStaircase(theta, delta, 0, self.levels, int(self.kind.unipolar), repeats, initial)
        return neuron, neuron.from_staircase(staircase)


def in_parts(values: torch.Tensor, step: float) -> NDArray[np.int32]:
    """Values (m, C, ...) as parts of a level, channels last: int32 (m, P, C)."""
    return to_rows((values * (ONE / step)).round_().clamp_(-LARGEST * ONE, LARGEST * ONE).to(torch.int32))
