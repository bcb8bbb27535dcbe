"""The lowered network on a Loihi 2 board, through Intel's extension of Lava. Never tried on silicon: the selection is
tested with a stand-in, and nothing is claimed beyond that.
"""

import lava_conv.lava.start  # noqa: F401  before Lava

# isort: split
import os
import tempfile
import warnings

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2HwCfg
from lava.utils import loihi
from numpy.typing import NDArray

from lava_conv.backends.sdnn import channels_first, connect, opened
from lava_conv.errors import BackendError
from lava_conv.lava.types import LavaObject
from lava_conv.lowering import lower, write_stock
from lava_conv.network.graph import Graph
from lava_conv.record import Record

INTERVAL = 2  # steps from image to image


def on_board(graph: Graph, images: NDArray[np.uint8]) -> Record:
    """Lower the network and stream uint8 images (N, C, H, W) through it with Loihi2HwCfg.

    Returns:
        Record with one step: the settled logits; counts of the layers.

    Raises:
        BackendError: Intel's extension is not installed. ConversionError: what cannot be lowered exactly.
    """
    if not loihi.is_installed():
        raise BackendError(
            "hardware=True needs Intel's extension of Lava for Loihi 2 (lava-loihi, from Intel's research community), "
            "which is not installed; without it leave `hardware` out for the CPU simulation"
        )
    lowered = lower(graph, images)
    with tempfile.TemporaryDirectory(prefix="lava-conv-") as folder:
        path = os.path.join(folder, "lowered.net")
        write_stock(lowered, path)
        with opened(path) as network:
            source, written = connect(network, lowered, images, INTERVAL, folder, *_adapters())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Lava's, about optional packages
                try:
                    source.run(condition=RunSteps(len(images) * INTERVAL + len(lowered.stages)), run_cfg=Loihi2HwCfg())
                finally:
                    source.stop()
        sent = [channels_first(rows) for rows in written]
    return lowered.record(sent, "Loihi 2 through Lava (Loihi2HwCfg), lowered to SigmaDelta")


def _adapters() -> tuple[LavaObject, LavaObject]:
    """(into the chip, out of it), where the extension has them; None for a direct connection."""
    try:
        from lava.proc import embedded_io  # type: ignore[attr-defined]
    except ImportError:
        return None, None
    return embedded_io.spike.PyToNxAdapter, embedded_io.spike.NxToPyAdapter
