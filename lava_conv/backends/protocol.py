"""What a backend is: one function that runs a graph on images."""

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from lava_conv.network.graph import Graph
from lava_conv.record import Record


class Backend(Protocol):
    """A function that runs a graph; further keyword arguments with defaults are the backend's own options."""

    def __call__(
        self, graph: Graph, images: NDArray[np.uint8], steps: int | None, record: tuple[str, ...], /
    ) -> Record:
        """Run `graph`.

        Args:
            graph: the network.
            images: uint8 (N, C, H, W), neither scaled nor normalised.
            steps: time steps per sample, None: graph.steps.
            record: ("spikes",) to keep every spike, () for counts and readout only.

        Raises:
            DataError: the images are not the network's.
            BackendError: the run failed or stopped moving.
        """
        ...


if TYPE_CHECKING:  # pyright checks here that each backend is one
    from lava_conv.backends.lava import simulate as _lava
    from lava_conv.backends.sdnn import simulate as _sdnn
    from lava_conv.simulation import simulate as _torch

    _BACKENDS: tuple[Backend, ...] = (_torch, _lava, _sdnn)
