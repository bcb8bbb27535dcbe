"""torch's files: tensors and plain values, written complete or not at all, read without executing anything in them."""

import os
from pathlib import Path
from typing import Any

import torch

from lava_conv.errors import DataError
from lava_conv.files import replacing


def write_state(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write `state`; folders that are missing are made.

    Raises:
        DataError: it cannot be written; what was at `path` stays.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, open(partial, "wb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: the checkpoint cannot be written ({reason(error)})") from None


def read_state(path: str | os.PathLike[str], remedy: str = "train again") -> Any:
    """What torch.save wrote, on the CPU.

    Raises:
        DataError: there is no such file, or it is damaged; `remedy` says what to do then.
    """
    if not os.path.isfile(path):
        raise DataError(f"{path}: there is no such checkpoint")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(f"{path}: not a readable checkpoint ({reason(error)}); {remedy}") from None


def reason(error: Exception) -> str:
    """An exception's words in one line, no more than 120 characters."""
    return " ".join(str(error).split())[:120] or type(error).__name__
