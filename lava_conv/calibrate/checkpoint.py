"""What a calibration has done so far, in a file: an interrupted one goes on to the same result."""

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lava_conv.calibrate.tuning import LayerError
from lava_conv.errors import DataError
from lava_conv.files import replacing
from lava_conv.qat.layers import LearnedStep, QuantisedWeight

VERSION = 1


def identity(model: nn.Module, images: Tensor, options: dict[str, Any]) -> str:
    """A digest of everything the result depends on."""
    digest = hashlib.sha256(repr(sorted(options.items())).encode())
    for name, value in [*model.state_dict().items(), ("images", images)]:
        digest.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write(path: str | os.PathLike[str], who: str, model: nn.Module, done: int, rows: list[LayerError]) -> None:
    """Keep what calibration changes, complete or not at all."""
    state = {
        "version": VERSION,
        "identity": who,
        "done": done,
        "rows": [list(row.__dict__.values()) for row in rows],
        "modules": {
            name: {key: value.detach().clone() for key in KEYS if isinstance(value := getattr(m, key, None), Tensor)}
            for name, m in model.named_modules()
            if isinstance(m, LearnedStep | QuantisedWeight)
        },
    }
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, open(partial, "wb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: the checkpoint cannot be written ({' '.join(str(error).split())})") from None


KEYS = ("step", "offset", "initial", "weight", "bias")


def read(path: str | os.PathLike[str], who: str, model: nn.Module) -> tuple[int, list[LayerError]]:
    """Put what was kept into `model`; how many segments are done, and their errors. (0, []) if there is no file."""
    if not os.path.isfile(path):
        return 0, []
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        same = state["version"] == VERSION and state["identity"] == who
    except Exception as error:
        raise DataError(
            f"{path}: not a readable checkpoint ({' '.join(str(error).split())[:120]}); delete it"
        ) from None
    if not same:
        raise DataError(
            f"{path}: was written by the calibration of another model, with other images or options; choose another "
            f"file or delete it"
        )
    for name, values in state["modules"].items():
        module: Any = model.get_submodule(name)
        for key, value in values.items():
            if isinstance(old := getattr(module, key), nn.Parameter):
                with torch.no_grad():
                    old.copy_(value)
            else:
                setattr(module, key, nn.Parameter(value) if key == "bias" else value)
    return state["done"], [LayerError(*row) for row in state["rows"]]
