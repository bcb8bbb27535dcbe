"""torch's files: tensors and plain values, written complete or not at all, read without executing anything in them."""

import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lava_conv.errors import SHOWN, DataError, one_line
from lava_conv.files import kind_of, replacing, unreadable

ZIP = b"PK\x03\x04"
SCRIPT = "constants.pkl"  # only TorchScript archives have it
KINDS = {  # of `lava_conv.files.kind_of` -> what to say of them
    "an HDF5 file": "an HDF5 file, as networks of integers are; `lava-conv run` takes those",
    "a safetensors file": "a safetensors file; load it with safetensors.torch.load_file and write it with torch.save",
}


def write_state(path: str | os.PathLike[str], state: Mapping[str, object]) -> None:
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
    if problem := unreadable(path, "checkpoint", ".pt"):
        raise DataError(f"{path}: {problem}")
    try:
        _refuse_programs(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(f"{path}: not a readable checkpoint {_unread(error, remedy)}") from None


OBJECT = re.compile(r"(?:Unsupported (?:global|class)|GLOBAL).*?([A-Za-z_][\w.]*\.\w+)")  # that torch names


def _unread(error: Exception, remedy: str) -> str:
    """Why torch did not read a file, without its advice to switch the protection off, and what to do."""
    words = str(error)
    if "weights_only" in words.lower() or "weights only" in words.lower():
        named = OBJECT.search(words)
        what = f"the object {named[1]}" if named else "an object"
        return (
            f"(it holds {what}, which only running code from the file could restore); write tensors and plain values "
            f"alone: torch.save(network.state_dict(), path)"
        )
    if isinstance(error, _OtherKind):
        return f"({error})"
    if "inline_container" in words or "PytorchStreamReader" in words:
        return f"(a damaged archive, or one that torch did not write: {reason(error)}); {remedy}"
    return f"({reason(error)}); {remedy}"


class _OtherKind(ValueError):
    """The file is whole, but of a kind that is not read here; the words name the remedy."""


def _refuse_programs(path: str | os.PathLike[str]) -> None:
    """Raise ValueError for the kinds of file in which torch before 2.6 executes code in spite of `weights_only`.

    Those are TorchScript archives and the tar files of torch before 1.6 (CVE-2025-32434); lava-dl pins torch 2.3.
    """
    if kind := KINDS.get(kind_of(path)):
        raise _OtherKind(kind)
    with open(path, "rb") as file:
        if file.read(len(ZIP)) != ZIP:
            raise ValueError("no zip file, which torch.save writes from torch 1.6 on")
        file.seek(0)
        # torch's own reader, for another one could see another directory in the same bytes
        reader: Any = torch._C.PyTorchFileReader(file)
        if SCRIPT in reader.get_all_records():
            raise _OtherKind("a TorchScript archive, which holds a program; write a state dict with torch.save")


def reason(error: Exception) -> str:
    """An exception's words in one line."""
    return one_line(error)


# -- weights of other programs ---------------------------------------------------------------------------------------

HOLDERS = ("state_dict", "model_state_dict", "model", "network", "net", "module", "weights", "params", "ema")
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")  # of DataParallel, compiled models, Lightning
WRAPPERS = re.compile(r"(^|\.)(?:module|_orig_mod)\.")
COUNTERS = ("n_averaged",)  # of AveragedModel


def load_weights(network: nn.Module, state: Any, place: str) -> None:
    """Give a network the weights of a file, whichever way other programs wrap them.

    A state dict may lie in a dictionary under "state_dict", "model" and the like, and its names may begin with those
    of wrappers ("module.", "_orig_mod."). Every weight must then be there, in its own shape, and no other.

    Args:
        network: changed in place.
        state: what `read_state` gave.
        place: where it came from, for messages.

    Raises:
        DataError: it holds no weights, or those of another network; names the first three.
    """
    weights = _weights_in(state)
    if weights is None:
        keys = ", ".join(map(str, list(state)[:4])) if isinstance(state, Mapping) else ""
        what = f"{keys}, but no weights" if keys else "no weights"
        raise DataError(f"{place}: holds {what}; write them with torch.save(network.state_dict(), path)")
    own = network.state_dict()
    weights = _renamed(weights, set(own))
    odd = [f"{name} is missing" for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    odd += [f"{name} is not the network's" for name in weights if name not in own]
    odd += [
        f"{name} has shape {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items() if name in weights and weights[name].shape != value.shape
    ]  # fmt: skip
    if odd:
        shown = ", ".join(odd[:SHOWN]) + (f" and {len(odd) - SHOWN} more ({len(odd)} in all)" if odd[SHOWN:] else "")
        raise DataError(f"{place}: its weights are of another network: {shown}; build the network that they belong to")
    network.load_state_dict(weights, strict=False)


def _weights_in(state: Any) -> dict[str, Tensor] | None:
    """The state dict in what a file holds, at most two dictionaries deep."""
    for _ in range(3):
        if not isinstance(state, Mapping):
            return None
        if state and all(isinstance(value, Tensor) for value in state.values()):
            return {str(name): value for name, value in state.items()}
        state = next((state[key] for key in HOLDERS if isinstance(state.get(key), Mapping)), None)
    return None


def _renamed(weights: dict[str, Tensor], own: set[str]) -> dict[str, Tensor]:
    """The weights under the names that fit the network best: as they are, without a prefix, without any wrapper's."""
    weights = {name: value for name, value in weights.items() if name not in COUNTERS or name in own}
    found, tried = weights, [weights]
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in found)), None) if found else None:
        found = {name.removeprefix(prefix): value for name, value in found.items()}
        tried.append(found)
    for one in tuple(tried):
        bare = {WRAPPERS.sub(r"\1", name): value for name, value in one.items()}
        if len(bare) == len(one):
            tried.append(bare)
    return min(tried, key=lambda one: len(own ^ one.keys()))
