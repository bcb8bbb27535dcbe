"""torch's files: tensors and plain values, written complete or not at all, read without executing anything in them."""

import io
import os
from pathlib import Path
from typing import Any

import torch

from lava_conv.errors import DataError
from lava_conv.files import replacing

ZIP = b"PK\x03\x04"
SCRIPT = "constants.pkl"  # only TorchScript archives have it


def write_state(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write `state`; folders that are missing are made.

    Raises:
        DataError: it cannot be written; what was at `path` stays.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # a Ctrl-C in the midst of torch's own writing would come out as a RuntimeError
        torch.save(state, content)
        with replacing(path) as partial, open(partial, "wb") as file:
            file.write(content.getbuffer())
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: the checkpoint cannot be written ({reason(error)})") from None


def read_state(path: str | os.PathLike[str], remedy: str = "train again") -> Any:
    """What torch.save wrote, on the CPU.

    Raises:
        DataError: there is no such file, or it is damaged, or of a kind in which torch would run what it finds;
            `remedy` says what to do then.
    """
    if not os.path.isfile(path):
        raise DataError(f"{path}: there is no such checkpoint")
    try:
        _refuse_programs(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(f"{path}: not a readable checkpoint ({reason(error)}); {remedy}") from None


def _refuse_programs(path: str | os.PathLike[str]) -> None:
    """Raise ValueError for the kinds of file in which torch before 2.6 executes code in spite of `weights_only`.

    Those are TorchScript archives and the tar files of torch before 1.6 (CVE-2025-32434); lava-dl pins torch 2.3.
    """
    with open(path, "rb") as file:
        if file.read(len(ZIP)) != ZIP:
            raise ValueError("no zip file, which torch.save writes from torch 1.6 on")
        file.seek(0)
        # torch's own reader, for another one could see another directory in the same bytes
        reader: Any = torch._C.PyTorchFileReader(file)
        if SCRIPT in reader.get_all_records():
            raise ValueError("a TorchScript archive, which holds a program; write a state dict with torch.save")


def reason(error: Exception) -> str:
    """An exception's words in one line, no more than 120 characters."""
    return " ".join(str(error).split())[:120] or type(error).__name__
