"""The lowered network on a Loihi 2 board, through Intel's extension of Lava. Never tried on silicon: it is tested with
a stand-in for the board, and nothing is claimed beyond that.
"""

from lava_conv.lava.start import missing  # before Lava

# isort: split
import warnings

import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import BackendError
from lava_conv.lava.types import LavaObject
from lava_conv.lowering import lower
from lava_conv.network.graph import Graph
from lava_conv.progress import Progress
from lava_conv.record import Record

try:
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2HwCfg
    from lava.utils import loihi

    from lava_conv.backends.sdnn import refuse_spikes, streaming
except ImportError as error:
    raise missing("loihi2", "Lava, lava-dl and Intel's extension of Lava for Loihi 2, which are", error) from None

INTERVAL = 2  # steps from image to image


def simulate(
    graph: Graph,
    images: NDArray[np.uint8],
    steps: int | None = None,
    *,
    record_spikes: bool = False,
    progress: Progress | None = None,
) -> Record:
    """Lower the network and stream uint8 images (N, C, H, W) through it on a board, with Loihi2HwCfg.

    Args:
        graph: the network; it is lowered as `lava_conv.lower` does it, ranges measured on `images` where not proven.
        images: uint8 (N, C, H, W), streamed in this order.
        steps: taken for the other backends' sake; one image is one wave of graded spikes, the Record has one step.
        record_spikes: refused: the Record holds counts and logits, no spikes.
        progress: called once, at the end.

    Returns:
        Record with one step: the settled logits; counts of the layers.

    Raises:
        BackendError: Intel's extension is not installed.
        ConversionError: what cannot be lowered exactly.
        DataError: spikes are to be recorded.
    """
    refuse_spikes(record_spikes, "loihi2")
    if not loihi.is_installed():
        raise BackendError(
            "backend 'loihi2' needs Intel's extension of Lava for Loihi 2 (lava-loihi, from Intel's research "
            "community) and a board, and the extension is not installed; backend='sdnn' runs the same lowered network "
            "on Lava's CPU simulation"
        )
    lowered = lower(graph, images)
    with streaming(lowered, images, INTERVAL, *_adapters()) as (source, sent), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lava's, about optional packages
        try:
            source.run(condition=RunSteps(len(images) * INTERVAL + len(lowered.stages)), run_cfg=Loihi2HwCfg())
        finally:
            source.stop()
    if progress:
        progress(len(images), len(images))
    return lowered.record(sent, "Loihi 2 through Lava (Loihi2HwCfg), lowered to SigmaDelta")


def _adapters() -> tuple[LavaObject, LavaObject]:
    """(into the chip, out of it), where the extension has them; None for a direct connection."""
    try:
        from lava.proc import embedded_io  # type: ignore[attr-defined]
    except ImportError:
        return None, None
    return embedded_io.spike.PyToNxAdapter, embedded_io.spike.NxToPyAdapter
