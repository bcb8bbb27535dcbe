"""The torch device that a user names."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lava_conv.errors import BackendError


def find_device(device: str | torch.device | None = None) -> torch.device:
    """The device of that name, tried out; None is the CPU. Raises BackendError if nothing can be computed there."""
    try:
        place = torch.device(device or "cpu")
        torch.zeros(1, device=place).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BackendError(f"device {device!r} is not to be had ({reason}); use device='cpu'") from None
    return place


@contextmanager
def single_precision() -> Iterator[None]:
    """Within it new tensors are float32, whatever the user's default is (`torch.set_default_dtype`)."""
    before = torch.get_default_dtype()
    if before == torch.float32:  # nothing of the process is touched where nothing need be
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
