"""What a backend is: one function that runs a graph on images."""

from typing import TYPE_CHECKING, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from lava_conv.network.graph import Graph
from lava_conv.progress import Progress
from lava_conv.record import Record

if TYPE_CHECKING:
    import torch


class Backend(Protocol):
    """A function that runs a graph; further keyword-only parameters with defaults are the backend's own options."""

    def __call__(
        self,
        graph: Graph,
        images: NDArray[np.uint8],
        steps: int | None,
        /,
        *,
        record_spikes: bool,
        progress: Progress | None,
    ) -> Record:
        """Run `graph`.

        Args:
            graph: the network.
            images: uint8 (N, C, H, W), neither scaled nor normalised.
            steps: time steps per sample, None: graph.steps.
            record_spikes: whether to keep every spike, beside counts and readout.
            progress: called with the images done and their total.

        Raises:
            DataError: the images are not the network's, or it has no spikes to record.
            BackendError: the run failed or stopped moving.
        """
        ...


class Options(TypedDict, total=False):
    """The options of all backends, for type checkers and editors; `run` asks the backend itself what it takes.

    Each is explained, has its default and is checked where its backend is: `lava_conv.simulation.simulate`,
    `lava_conv.backends.lava.simulate`, `lava_conv.backends.sdnn.simulate`.
    """

    device: "str | torch.device | None"
    threads: int | None
    method: str
    timeout: float
    checked: bool
    stock: bool
    interval: int
    fast: bool
    approximate: bool


if TYPE_CHECKING:  # pyright checks here that each backend is one
    from lava_conv.backends.lava import simulate as _lava
    from lava_conv.backends.loihi2 import simulate as _loihi2
    from lava_conv.backends.sdnn import simulate as _sdnn
    from lava_conv.simulation import simulate as _torch

    _BACKENDS: tuple[Backend, ...] = (_torch, _lava, _sdnn, _loihi2)
