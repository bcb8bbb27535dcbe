"""What a calibration has done so far, in a file: an interrupted one goes on to the same result."""

import hashlib
import os

import torch
from torch import Tensor, nn

from lava_conv.calibration.tuning import LayerError
from lava_conv.errors import DataError
from lava_conv.qat.layers import LearnedStep, QuantisedWeight
from lava_conv.torch_tools.checkpoint import read_state, write_state

VERSION = 1
KEYS = ("step", "offset", "initial", "weight", "bias", "floor")  # what calibration changes in a module


def identity(model: nn.Module, images: Tensor, options: dict[str, object]) -> str:
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
    write_state(path, state)


def read(path: str | os.PathLike[str], who: str, model: nn.Module) -> tuple[int, list[LayerError]]:
    """Put what was kept into `model`; how many segments are done, and their errors. (0, []) if there is no file."""
    if not os.path.isfile(path):
        return 0, []
    state = read_state(path, "delete it")
    if not isinstance(state, dict) or state.get("version") != VERSION or state.get("identity") != who:
        raise DataError(
            f"{path}: was written by the calibration of another model, with other images or options; choose another "
            f"file or delete it"
        )
    for name, values in state["modules"].items():
        module = model.get_submodule(name)
        for key, value in values.items():
            if isinstance(old := getattr(module, key), nn.Parameter):
                with torch.no_grad():
                    old.copy_(value)
            else:
                setattr(module, key, nn.Parameter(value) if key == "bias" else value)
    return state["done"], [LayerError(*row) for row in state["rows"]]
