"""Fast CPU models of Lava's stock Conv and Dense, for any Lava network, in one line:

run_cfg = fast_sim_cfg()        instead of Loihi2SimCfg(select_tag="fixed_pt")
"""

from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense

from lava_conv.lava.types import LavaObject
from processes.conv.models import PyConvModelFast, PyDenseModelFast

FAST_MODELS: dict[type, type] = {Conv: PyConvModelFast, Dense: PyDenseModelFast}

__all__ = ["FAST_MODELS", "PyConvModelFast", "PyDenseModelFast", "fast_sim_cfg"]


def fast_sim_cfg(**options: LavaObject) -> Loihi2SimCfg:
    """Lava's CPU simulation in fixed point with the fast models; `options` as for Loihi2SimCfg."""
    models = FAST_MODELS | options.pop("exception_proc_model_map", {})
    return Loihi2SimCfg(**{"select_tag": "fixed_pt", "exception_proc_model_map": models, **options})
