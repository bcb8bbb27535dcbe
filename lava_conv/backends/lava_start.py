"""To be imported before Lava, which sets multiprocessing's start method and fails if it is set already.

It is as soon as numba, a DataLoader or the like has asked for it. Only "fork" will do for Lava.
"""

import multiprocessing

from lava_conv.errors import BackendError

if (method := multiprocessing.get_start_method(allow_none=True)) not in (None, "fork"):
    raise BackendError(
        f"the start method of multiprocessing is {method!r}, Lava needs 'fork'; leave set_start_method out, or run "
        f"Lava in a program of its own"
    )
multiprocessing.set_start_method(None, force=True)
