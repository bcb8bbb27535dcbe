"""Import this before Lava, whose own import fails where multiprocessing's start method is set already.

numba and a DataLoader set it on first use. This module imports Lava with the setting cleared; afterwards the method is
"fork", as after any import of Lava. Nothing else of the process changes.
"""

import importlib
import importlib.util
import multiprocessing
import sys
from pathlib import Path

from lava_conv.errors import BackendError

LAVA_SETS_IT = "lava.magma.runtime.message_infrastructure.multiprocessing"


def _import_lava() -> None:
    """Import the module of Lava that sets the start method, also where the method is set already."""
    if LAVA_SETS_IT in sys.modules:
        return
    method = multiprocessing.get_start_method(allow_none=True)
    if method not in (None, "fork"):
        raise BackendError(
            f"the start method of multiprocessing is {method!r}, Lava needs 'fork'; leave set_start_method out, or run "
            f"Lava in a program of its own"
        )
    multiprocessing.set_start_method(None, force=True)
    try:
        importlib.import_module(LAVA_SETS_IT)
    except ImportError:
        multiprocessing.set_start_method(method, force=True)  # without Lava nothing changes; `missing` reports it


_import_lava()


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
