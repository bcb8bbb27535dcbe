"""A watched runtime for Lava networks: every fault ends in time, with a reason.

It runs any Lava network, with Lava's own processes or yours:

    >>> import numpy as np
    >>> from lava_conv.lava import watched  # before Lava
    >>> from lava.magma.core.run_configs import Loihi2SimCfg
    >>> from lava.proc.io.source import RingBuffer
    >>> from lava.proc.lif.process import LIF
    >>> source, neuron = RingBuffer(data=np.full((1, 4), 3)), LIF(shape=(1,), vth=100)
    >>> source.s_out.connect(neuron.a_in)
    >>> with watched(neuron, Loihi2SimCfg(select_tag="fixed_pt"), timeout=30) as runtime:
    ...     runtime.run(4)
    ...     neuron.u.get()
    array([765.])

No import of this package changes Lava. `watched` calls `install`, which does, once.
"""

from typing import TYPE_CHECKING

from lava_conv.lazy import exports

if TYPE_CHECKING:
    from lava_conv.lava.patches import install as install
    from lava_conv.lava.runtime import WatchedRuntime as WatchedRuntime
    from lava_conv.lava.session import watched as watched

_HOME = {
    "WatchedRuntime": "lava_conv.lava.runtime",
    "install": "lava_conv.lava.patches",
    "watched": "lava_conv.lava.session",
}

__all__ = ["WatchedRuntime", "install", "watched"]

__getattr__, __dir__ = exports(__name__, _HOME)
