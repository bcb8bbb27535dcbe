"""The torch device that a user names."""

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
