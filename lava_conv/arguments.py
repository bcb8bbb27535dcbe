"""What users pass where a model or images are expected: brought to one form, or refused by what it is.

torch is needed for models only; nobody holds a tensor or a loader in a process that never imported it.
"""

import copy
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lava_conv.errors import ConversionError, DataError

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")
Module = TypeVar("Module", bound="nn.Module")
INSIDE = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod",
          "AveragedModel": "module"}  # fmt: skip  # wrapper of torch -> where the model is that it runs
HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called", "_backward_hooks", "_backward_pre_hooks",
)  # fmt: skip  # where torch keeps what runs around a module
SHARDED = ("FullyShardedDataParallel",)
MODEL_KEYS = ("model", "network", "net", "state_dict", "model_state_dict", "module")  # of checkpoints


# -- models ----------------------------------------------------------------------------------------------------------


def model_of(model: object) -> "nn.Module":
    """The module that holds the layers; what is passed is not changed.

    DataParallel, DistributedDataParallel, AveragedModel and compiled modules give the module they run, and inner ones
    are unwrapped in a copy. SyncBatchNorm becomes batch normalisation with the same parameters, also in a copy.

    Args:
        model: what a user passed.

    Raises:
        ConversionError: it is no module with readable layers and weights: a state dict, a path, a class, a scripted or
            exported program, a lazy module before its first call, weights on the meta device.
    """
    from torch import nn

    while _wraps(model):
        model = getattr(model, INSIDE[type(model).__name__])
    if not isinstance(model, nn.Module):
        raise ConversionError(f"model {_first(NO_MODEL, model)}")
    _refuse_unreadable(model)
    odd = [n for n, m in model.named_modules() if n and (_wraps(m) or isinstance(m, nn.SyncBatchNorm))]
    if not odd and not isinstance(model, nn.SyncBatchNorm):
        return model
    return _plain(copied(model))


def copied(model: Module) -> Module:
    """A deep copy, also of modules that keep a computed weight, and of traced ones with hooks: torch's own copy fails
    on the former and leaves the hooks of the latter out."""
    from torch import Tensor, fx

    memo: dict[int, object] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
    twin = copy.deepcopy(model, memo)
    for old, new in zip(model.modules(), twin.modules(), strict=True):
        if isinstance(old, fx.GraphModule):
            for name in (*HOOKS, "forward"):
                if name in vars(old) and old is not new:
                    vars(new)[name] = copy.copy(vars(old)[name])
    return twin


def _wraps(model: object) -> bool:
    """Whether it is one of torch's wrappers around a module."""
    kind = type(model)
    return kind.__name__ in INSIDE and kind.__module__.partition(".")[0] == "torch"


def _plain(module: "nn.Module") -> "nn.Module":
    """The module without wrappers and SyncBatchNorm inside; changed in place."""
    from torch import nn

    while _wraps(module):
        module = getattr(module, INSIDE[type(module).__name__])
    if isinstance(module, nn.SyncBatchNorm):
        return _batch_norm(module)
    for name, child in list(module.named_children()):
        new = _plain(child)
        if new is not child:
            setattr(module, name, new)
    return module


def _any_rank(x: "Tensor") -> None:
    """What SyncBatchNorm checks of its input, which BatchNorm2d takes with four axes only."""
    if x.ndim < 2:
        raise ValueError(f"expected input with 2 axes or more, got {x.ndim}")


def _batch_norm(module: "nn.SyncBatchNorm") -> "nn.Module":
    """BatchNorm2d with the parameters and statistics of a SyncBatchNorm, for inputs of any rank as that one is."""
    from torch import nn

    new: Any = nn.BatchNorm2d(
        module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
    )
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(new, name, getattr(module, name))
    new._check_input_dim = _any_rank
    return new.train(module.training)


Table = tuple[tuple[Callable[[Any], bool], Callable[[Any], str]], ...]  # what something is -> what to do about it
PATHS = (str, bytes, os.PathLike)


def _first(table: Table, value: object) -> str | None:
    """The words of the first row that holds for `value`."""
    return next((words(value) for holds, words in table if holds(value)), None)


def _ours(value: object, *names: str) -> bool:
    """Whether it is of a class of this package with one of these names; the class itself need not be imported."""
    return type(value).__name__ in names and type(value).__module__.partition(".")[0] == "lava_conv"


def _network_in(values: object) -> str | None:
    """The key of a dictionary under which there is a network."""
    if not isinstance(values, Mapping):
        return None
    return next((key for key in MODEL_KEYS if callable(getattr(values.get(key), "state_dict", None))), None)


NO_MODEL: Table = (
    (
        lambda m: isinstance(m, PATHS),
        lambda m: (
            f"is the path {os.fspath(m)!r}; pass the network itself, with its weights loaded: "
            f"network.load_state_dict(torch.load(path)), or lava_conv.training.load_trained(path).model where it is of "
            f"`lava-conv train`"
        ),
    ),
    (
        lambda m: _network_in(m) is not None,
        lambda m: f"is a dictionary that holds the network; pass that, checkpoint[{_network_in(m)!r}]",
    ),
    (
        lambda m: isinstance(m, Mapping),
        lambda m: (
            f"is {'a state dict' if _is_state(m) else 'a dictionary'} of {len(m)} entries, which does not say "
            f"how the layers are connected; build the network, load the weights with network.load_state_dict, and pass "
            f"it"
        ),
    ),
    (
        lambda m: isinstance(m, type),
        lambda m: f"is the class {m.__name__}; pass a network made of it, {m.__name__}(...)",
    ),
    (
        lambda m: _ours(m, "Graph"),
        lambda m: "is a Graph, which is converted already; pass it to lava_conv.run or lava_conv.save",
    ),
    (
        lambda m: _ours(m, "Trained", "Calibration"),
        lambda m: f"is a {type(m).__name__}; pass its field `model`",
    ),
    (
        lambda m: type(m).__name__ == "ExportedProgram",
        lambda m: "is an ExportedProgram, whose layers are taken apart; pass the nn.Module that was exported",
    ),
    (
        lambda m: hasattr(m, "shape"),
        lambda m: f"is of type {type(m).__name__}, which holds numbers; pass the network first, then the images",
    ),
    (
        lambda m: True,
        lambda m: f"is of type {type(m).__name__}, needed is a torch.nn.Module; build the network and load its weights",
    ),
)


def _is_state(values: Mapping[object, object]) -> bool:
    """Whether a mapping looks like what state_dict() gives."""
    return bool(values) and all(isinstance(key, str) and hasattr(value, "shape") for key, value in values.items())


def _refuse_unreadable(model: "nn.Module") -> None:
    """Raise ConversionError where the layers or their values cannot be read."""
    import torch
    from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

    for name, module in model.named_modules():
        where = f"{name} of the model" if name else "model"
        if isinstance(module, torch.jit.ScriptModule | torch.jit.ScriptFunction):
            raise ConversionError(
                f"{where} is a TorchScript module, whose layers are compiled; pass the nn.Module that was scripted or "
                f"traced, with its weights loaded"
            )
        if type(module).__name__ in SHARDED:
            raise ConversionError(
                f"{where} is a {type(module).__name__}, whose weights lie in several processes; gather its full state "
                f"dict, load it into a plain network and pass that"
            )
        for parameter in (*module._parameters.values(), *module._buffers.values()):
            if isinstance(parameter, UninitializedParameter | UninitializedBuffer):
                raise ConversionError(
                    f"{where} is a {type(module).__name__} without weights, for its input size is not known yet; call "
                    f"the model on one batch first"
                )
            if parameter is not None and parameter.is_meta:
                raise ConversionError(
                    f"{where} has its weights on the device 'meta', which keeps no values; build the network on 'cpu' "
                    f"and load its weights"
                )


# -- images ----------------------------------------------------------------------------------------------------------


def images_of(images: object, name: str = "images") -> "Tensor":
    """Images as a tensor on the CPU, detached, with their own shape and dtype (float16 becomes float32).

    Args:
        images: an array (any strides and byte order), a tensor on any device, or a list of either.
        name: what to call them in messages.

    Raises:
        DataError: they are a loader, a data set, a path, a batch with labels, booleans, complex, or no numbers; or one
            is NaN or infinite; or there are none.
    """
    import torch

    if isinstance(images, torch.Tensor):
        kind = "b" if images.dtype == torch.bool else "c" if images.is_complex() or images.is_quantized else "f"
        _refuse_dtype(kind, images.dtype, name)
        found = images.detach().cpu()
    else:
        given = array_of(images, name)
        _refuse_dtype(given.dtype.kind, given.dtype, name)
        # torch takes neither negative strides nor foreign byte order nor uint16, and warns of arrays it cannot write to
        given = given.astype(np.int64) if given.dtype.kind in "iu" and given.dtype.itemsize > 1 else given
        given = given.astype(np.float64) if given.dtype.itemsize > 8 else given
        given = given.astype(given.dtype.newbyteorder("="), copy=False)
        found = torch.from_numpy(np.require(given, requirements=("C", "A", "W")))
    if not found.numel() or found.ndim == 0:
        raise DataError(f"{name} have shape {tuple(found.shape)}; pass one image at least")
    if found.dtype in (torch.float16, torch.bfloat16):
        found = found.float()
    if found.is_floating_point() and not bool(torch.isfinite(found).all()):
        raise DataError(f"{name} hold NaN or infinity; clean the data first")
    return found


def array_of(images: object, name: str = "images") -> NDArray[np.generic]:
    """Images as an array with their own shape and dtype; for where torch is not needed.

    Raises:
        DataError: they are no array; says what they look like, and what to pass.
    """
    if sentence := _first(NO_IMAGES, images):
        raise DataError(f"{name} {sentence}")
    if np.ma.is_masked(images):
        raise DataError(f"{name} are masked at some places, where there is no value; fill them first: images.filled(0)")
    try:
        if detach := getattr(images, "detach", None):
            return np.asarray(detach().cpu())
        if isinstance(images, list | tuple) and any(hasattr(image, "detach") for image in images):
            images = [image.detach().cpu().numpy() if hasattr(image, "detach") else image for image in images]
        return np.asarray(images)
    except (ValueError, TypeError) as error:
        if "shape" in str(error) or "sequence" in str(error):
            raise DataError(
                f"{name} are of different shapes; pass one array (N, C, H, W), cut or padded to one size"
            ) from None
        raise DataError(f"{name} are a {type(images).__name__}, which is no array; pass one (N, C, H, W)") from None


def _torch_kind(value: object, kind: str) -> bool:
    """Whether it is of this class of torch.utils.data."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, getattr(torch.utils.data, kind))


def _rank(value: object) -> int:
    return len(getattr(value, "shape", ()))


def _starts_with(value: object, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and isinstance(value[0], kinds)


NO_IMAGES: Table = (
    (lambda x: x is None, lambda x: "is None; pass an array of images (N, C, H, W)"),
    (
        lambda x: isinstance(x, PATHS),
        lambda x: (
            f"is the path {os.fspath(x)!r}; load it and pass the array (N, C, H, W): numpy.load, or "
            f"lava_conv.training.load_dataset"
        ),
    ),
    (
        lambda x: isinstance(x, Mapping),
        lambda x: f"is a dictionary of {', '.join(map(str, list(x)[:4]))}; pass the array of images in it",
    ),
    (
        lambda x: _ours(x, "Dataset"),
        lambda x: "is a data set; pass its images, data.x_train[:256] or data.x_test",
    ),
    (lambda x: hasattr(x, "read"), lambda x: "is an open file; load it and pass the array (N, C, H, W)"),
    (
        lambda x: callable(getattr(x, "state_dict", None)) and callable(x),
        lambda x: f"is a {type(x).__name__}; pass the network first, then the images",
    ),
    (
        lambda x: _torch_kind(x, "DataLoader"),
        lambda x: "is a DataLoader; pass one batch of it: images, labels = next(iter(loader))",
    ),
    (
        lambda x: _torch_kind(x, "Dataset"),
        lambda x: "is a torch Dataset; pass a stack of its images: torch.stack([data[i][0] for i in range(256)])",
    ),
    (
        lambda x: isinstance(x, list | tuple) and not len(x),
        lambda x: "is empty; pass one image at least",
    ),
    (
        lambda x: isinstance(x, list | tuple) and len(x) == 2 and _rank(x[0]) == 4 and _rank(x[1]) in (1, 2),
        lambda x: "is a batch of images and labels; pass the images alone, batch[0]",
    ),
    (
        lambda x: _starts_with(x, PATHS),
        lambda x: "is a list of paths; load them and pass one array (N, C, H, W)",
    ),
    (
        lambda x: not (isinstance(x, list | tuple | int | float) or hasattr(x, "__array__")),
        lambda x: f"is of type {type(x).__name__}; pass an array of images (N, C, H, W)",
    ),
)


def _refuse_dtype(kind: str, dtype: object, name: str) -> None:
    """kind: as numpy's, b, i, u, f, c or another letter."""
    if kind == "b":
        raise DataError(f"{name} have dtype bool, which does not say how bright True is; pass uint8 images, x * 255")
    if kind not in "iuf":
        raise DataError(f"{name} have dtype {dtype}; pass an array of numbers, (N, C, H, W)")


# -- what this package makes -----------------------------------------------------------------------------------------

NO_GRAPH: Table = (
    (lambda g: isinstance(g, PATHS), lambda g: f"is the path {os.fspath(g)!r}; load it first: lava_conv.load(path)"),
    (lambda g: _ours(g, "Lowered"), lambda g: f"is a {type(g).__name__}; pass its field `graph`"),
    (
        lambda g: callable(getattr(g, "state_dict", None)),
        lambda g: f"is a PyTorch network ({type(g).__name__}); convert it first, with lava_conv.convert or calibrate",
    ),
    (
        lambda g: _ours(g, "Record") or hasattr(g, "shape"),
        lambda g: f"is of type {type(g).__name__}; pass the graph first, then the images or the record",
    ),
    (
        lambda g: True,
        lambda g: f"is of type {type(g).__name__}, needed is a Graph, as lava_conv.convert, calibrate and load give it",
    ),
)


def graph_of(graph: T) -> T:
    """The graph itself.

    Raises:
        DataError: it is none; says what to do with what it is.
    """
    if not _made(graph, "Graph"):
        raise DataError(f"graph {_first(NO_GRAPH, graph)}")
    return graph


def record_of(record: T) -> T:
    """The record itself.

    Raises:
        DataError: it is none.
    """
    if not _made(record, "Record"):
        raise DataError(f"record is of type {type(record).__name__}, needed is a Record, as lava_conv.run gives it")
    return record


def _made(value: object, name: str) -> bool:
    """Whether it is of this class of the package, or of one made from it; the class itself need not be imported."""
    return any(kind.__name__ == name and kind.__module__.startswith("lava_conv.") for kind in type(value).__mro__)


def whole(value: object, name: str, least: int = 1, most: int | None = None) -> int:
    """An integer of any type, within least..most.

    Raises:
        DataError: it is none, or out of range.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least or value > (most or value):
        words = f"{least} or more" if most is None else f"{least} to {most}"
        raise DataError(f"{name} is {value!r}, allowed is a whole number, {words}")
    return int(value)


def above_zero(value: object, name: str) -> float:
    """A finite number above 0.

    Raises:
        DataError: it is none.
    """
    number = None if isinstance(value, bool) or not isinstance(value, int | float | np.number) else float(value)
    if number is None or not 0 < number < float("inf"):
        raise DataError(f"{name} is {value!r}, allowed is a number above 0")
    return number
