"""Graph <-> `.net` (netx HDF5): the only folder that knows the schema.

Beyond the layout of stock netx, its neurons and skips: `from` in a layer names the layer that it reads, where that is
not the one before (branches); a skip may be dense. Files of lava-dl itself are looked at by `stock`.
"""

from lava_conv.netx.reading import load
from lava_conv.netx.writing import save, save_stock

__all__ = ["load", "save", "save_stock"]
