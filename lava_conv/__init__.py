"""lava-conv: quantised PyTorch networks as integer spiking networks that equal them exactly.

    model = train a network with quantisation      lava_conv.qat, lava_conv.training
    graph = convert(model, example_input)          integers only; bounds proven, thresholds searched
    graph = calibrate(float_model, images)         a pretrained network, some hundred unlabelled images
    save(graph, "m.net"); graph = load("m.net")    netx HDF5
    record = run(graph, images, backend="torch")   or "lava", "sdnn", "loihi2"; record_spikes=True keeps every spike
    run_parts(graph, images)                       the same part by part, for sets of any size
    compare(graph, images)                         names the first difference, if there is one
    lower(graph)                                   stock SigmaDelta neurons, the same integers
    graph.reference(images)                        the quantised ANN that all of them settle on
    fit(graph, chip="loihi2")                      what it takes of a chip, what breaks, what helps

Names are imported on first use: nothing here needs torch or Lava until it is asked for.
"""

from typing import TYPE_CHECKING

from lava_conv.lazy import exports

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lava_conv.analysis.comparison import compare as compare
    from lava_conv.backends import run as run
    from lava_conv.backends import run_parts as run_parts
    from lava_conv.calibration import calibrate as calibrate
    from lava_conv.frontends.convert import convert as convert
    from lava_conv.loihi import fit as fit
    from lava_conv.lowering import lower as lower
    from lava_conv.network.graph import Graph as Graph
    from lava_conv.netx import load as load
    from lava_conv.netx import save as save
    from lava_conv.record import Record as Record

_HOME = {
    "run": "lava_conv.backends",
    "run_parts": "lava_conv.backends",
    "compare": "lava_conv.analysis.comparison",
    "convert": "lava_conv.frontends.convert",
    "calibrate": "lava_conv.calibration",
    "lower": "lava_conv.lowering",
    "fit": "lava_conv.loihi",
    "Graph": "lava_conv.network.graph",
    "load": "lava_conv.netx",
    "save": "lava_conv.netx",
    "Record": "lava_conv.record",
}
_ERRORS = ("LavaConvError", "ConversionError", "NetFormatError", "RangeError", "FitError", "BackendError", "DataError")
_HOME.update(dict.fromkeys(_ERRORS, "lava_conv.errors"))

__all__ = ["__version__"]
__all__ += list(_HOME)

__getattr__, __dir__ = exports(__name__, _HOME)
