"""Graph -> an ordinary `.net` of stock SigmaDelta neurons that settles on the same integers.

One image is one wave of graded spikes: every neuron sends its whole count at once, the step after the layer before it.
`layer_integers` says what each layer's neurons hold and whether that is exact, `assembly` puts the layers together,
`stock_file` writes them, `script` writes a program that runs them.

Source: the recipe was found by measurement on lava-dl 0.6.0; its neuron is lava.proc.sdn.SigmaDelta with a threshold of
0, a state exponent of 6, and its states reset after every image.
"""

from lava_conv.lowering.layer_integers import Condition
from lava_conv.lowering.lowered import LayerDifference, Lowered, lower
from lava_conv.lowering.script import write_script
from lava_conv.lowering.stock_file import write_stock

__all__ = ["Condition", "LayerDifference", "Lowered", "lower", "write_script", "write_stock"]
