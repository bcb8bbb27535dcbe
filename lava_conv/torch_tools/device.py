"""The torch device that a user names, and how many threads torch's own loops take in one thread of Python."""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock

import torch

from lava_conv.errors import BackendError

OPENMP, MKL = "omp_set_num_threads", "MKL_Set_Num_Threads_Local"  # both of the calling thread alone


def find_device(device: str | torch.device | None = None) -> torch.device:
    """The device of that name, tried out; None is the CPU. Raises BackendError if nothing can be computed there."""
    try:
        place = torch.device(device or "cpu")
        torch.zeros(1, device=place).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BackendError(f"device {device!r} is not to be had ({reason}); use device='cpu'") from None
    return place


_narrowed: list[torch.dtype] = []  # the user's default, once for each use that is under way
_lock = Lock()


@contextmanager
def single_precision() -> Iterator[None]:
    """Within it new tensors are float32, whatever the user's default is (`torch.set_default_dtype`).

    The default is of the process: the first of overlapping uses changes it, the last gives it back.
    """
    with _lock:
        before = _narrowed[0] if _narrowed else torch.get_default_dtype()
        _narrowed.append(before)
        if before != torch.float32:
            torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        with _lock:
            _narrowed.pop()
            if not _narrowed and before != torch.float32:
                torch.set_default_dtype(before)


def limit_torch_threads(count: int) -> int:
    """Let torch's loops use `count` threads where this thread of Python calls them; nothing changes for other threads.

    `torch.set_num_threads` also sets what threads to come will use, for the whole process; so OpenMP and MKL are asked
    themselves. Where their functions cannot be reached nothing happens: more threads compete, and no result changes.

    Returns:
        MKL's number before, 0 if it followed OpenMP's, as the second call of `torch_threads` needs it.
    """
    torch.get_num_threads()  # the first question of a thread sets it up, which would undo what follows
    if openmp := _native(OPENMP):
        openmp(count)
    return _limit_mkl(count)


@contextmanager
def torch_threads(most: int) -> Iterator[None]:
    """Within it torch's loops use `most` threads or fewer where this thread of Python calls them."""
    before = torch.get_num_threads()
    mkl = limit_torch_threads(min(most, before))
    try:
        yield
    finally:
        limit_torch_threads(before)
        _limit_mkl(mkl)


def _limit_mkl(count: int) -> int:
    mkl = _native(MKL)
    return mkl(count) if mkl else 0


@cache
def _native(name: str) -> Callable[[int], int] | None:
    """A function of the libraries that torch's CPU part is linked with; None if it is not to be found."""
    folder = Path(torch.__file__).parent / "lib"
    library = {"nt": "torch_cpu.dll"}.get(os.name, "libtorch_cpu.so")
    for path in (folder / library, folder / "libtorch_cpu.dylib"):
        try:
            return getattr(ctypes.CDLL(str(path)), name)
        except (OSError, AttributeError):
            continue
    return None
