"""To be imported before Lava, which sets multiprocessing's start method and fails if it is set already.

It is as soon as numba, a DataLoader or the like has asked for it. Only "fork" will do for Lava.
"""

import importlib.util
import multiprocessing
import sys
from pathlib import Path

from lava_conv.errors import BackendError

if (method := multiprocessing.get_start_method(allow_none=True)) not in (None, "fork"):
    raise BackendError(
        f"the start method of multiprocessing is {method!r}, Lava needs 'fork'; leave set_start_method out, or run "
        f"Lava in a program of its own"
    )
multiprocessing.set_start_method(None, force=True)


def missing(backend: str, needs: str, error: ImportError) -> BackendError:
    """What to raise where an import of Lava, or of this project's processes, has failed.

    Args:
        backend: the name that a user gives.
        needs: what has to be installed, as the beginning of a sentence.
        error: of the import.
    """
    for name, ours in (("processes", Path(__file__).parents[2] / "processes"), ("lava", None)):
        origin = _origin(name)
        if origin is not None and origin.parent != ours:  # Lava itself is a folder without a file of its own
            return BackendError(
                f"backend {backend!r} needs the package {name!r} of {'lava-conv' if ours else 'lava-nc'}, and {origin} "
                f"hides it; rename that file or folder, or run from another one"
            )
    return BackendError(
        f"backend {backend!r} needs {needs} not installed ({error}); use Python 3.10 with lava-nc==0.10.0 and "
        f"lava-dl==0.6.0, or backend='torch', which computes the same integers"
    )


def _origin(name: str) -> Path | None:
    """The file that a top-level module comes from, None if there is none."""
    try:
        spec = getattr(sys.modules.get(name), "__spec__", None) or importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).resolve() if spec is not None and spec.has_location and spec.origin else None
