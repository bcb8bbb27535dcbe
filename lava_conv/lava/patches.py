"""What a watched runtime changes in Lava and in the process: all of it, in one explicit call.

No import changes anything. `install` replaces methods of Lava's classes (each module lists its own in REPLACED) and
registers one hook for forked children and one for the program's exit. A network that runs in stock Lava afterwards
computes the same: the new methods do stock's work unless a watched runtime has started the process.
"""

import lava_conv.lava.start  # noqa: F401  before Lava

# isort: split
import atexit
import os

from lava_conv.lava import channels, children, progress
from lava_conv.lava import vars as lava_vars

_installed = False


def install() -> None:
    """Prepare Lava and this process for watched runtimes; every call after the first does nothing.

    `watched` and `WatchedRuntime` call it themselves.
    """
    global _installed
    if _installed:
        return
    _installed = True
    for owner, name, method in (*channels.REPLACED, *progress.REPLACED, *lava_vars.REPLACED):
        setattr(owner, name, method)
    os.register_at_fork(after_in_child=children.in_child)
    atexit.register(children.stop_all)
