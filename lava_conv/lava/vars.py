"""Access to the Vars of a watched network: a value is checked here, in the parent, before anything is sent.

Stock Lava sends first: a value without a shape, or of too many numbers, leaves a message in the channel that the next
answer is taken for, and a value that does not fit is cut by the child without a word.
"""

import lava_conv.lava.start  # noqa: F401  before Lava

# isort: split
from typing import NamedTuple

import numpy as np
from lava.magma.core.model.py.model import AbstractPyProcessModel
from lava.magma.core.process.variable import Var
from lava.magma.runtime.mgmt_token_enums import MGMT_RESPONSE
from lava.magma.runtime.runtime_services.runtime_service import AsyncPyRuntimeService
from numpy.typing import DTypeLike, NDArray
from scipy.sparse import csr_matrix, issparse

from lava_conv.errors import DataError, RangeError
from lava_conv.lava.fit import misfit
from lava_conv.lava.types import LavaObject, Unchecked

EXACT = 1 << 53  # a value travels as float64


class Place(NamedTuple):
    """Where a Var is, and what it holds.

    Fields:
        name: of the Var.
        process: the process that it belongs to.
        model: Lava's id of the process model.
        service: number of the runtime service that passes its values on.
        asynchronous: whether that service cannot set Vars.
        shape: of its values.
        holder: type of what the model keeps: np.ndarray, int, float, str or csr_matrix.
        kind: numpy dtype of its numbers.
    """

    name: str
    process: LavaObject
    model: int
    service: int
    asynchronous: bool
    shape: tuple[int, ...]
    holder: type
    kind: DTypeLike

    def __str__(self) -> str:
        return f"{self.name} of {self.process.name}"


def places(executable: LavaObject) -> dict[int, Place]:
    """The Vars of a compiled network by Lava's number of each."""
    services = list(executable.runtime_service_builders.values())
    models = executable.node_configs[0].var_models
    found = {}
    for process, builder in executable.proc_builders.items():
        for name, var in getattr(builder, "vars", {}).items():
            if var.var_id not in models:
                continue
            service, declared = models[var.var_id].runtime_srv_id, getattr(builder.proc_model, name)
            asynchronous = issubclass(services[service].rs_class, AsyncPyRuntimeService)
            found[var.var_id] = Place(
                name, process, builder._model_id, service, asynchronous, tuple(var.shape), declared.cls, declared.d_type
            )
    return found


def checked(place: Place, value: Unchecked) -> NDArray[np.float64]:
    """The numbers of `value` in the order in which Lava sends them.

    Args:
        place: of the Var.
        value: numbers of the Var's shape, or one for all of them; of a sparse Var those that are not 0.

    Raises:
        DataError: no numbers, or of another shape.
        RangeError: a number that the Var cannot hold, or that its process does not allow.
    """
    values = np.asarray(value)
    if values.dtype.kind not in "biuf":
        raise DataError(f"{place} was to be set to {_short(value)}; it takes numbers of shape {place.shape}")
    if place.holder in (str, csr_matrix):  # stock Var.set has compared the places of a sparse matrix
        return values.astype(np.float64).ravel()
    if values.ndim == 0 or values.shape == (1,):
        values = np.broadcast_to(values.reshape(()), place.shape)
    if values.shape != place.shape:
        raise DataError(
            f"{place} has the shape {place.shape}, the value has {values.shape}; give an array of that shape, or one "
            f"number for all"
        )
    problem = misfit(values, place.kind)
    if not problem and np.dtype(place.kind).kind in "iu" and (np.abs(values.astype(np.float64)) > EXACT).any():
        problem = f"a value is outside -{EXACT}..{EXACT}, which Lava's messages carry"
    if problem:
        raise RangeError(f"{place} cannot be set: {problem}")
    check = getattr(place.process, "check_var", None)
    if check and (problem := check(place.name, values)):
        raise RangeError(f"{place} cannot be set: {problem}")
    return values.astype(np.float64).ravel()


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


_stock_set = Var.set
_stock_get_in_child = AbstractPyProcessModel._get_var
_stock_set_in_child = AbstractPyProcessModel._set_var


def _set(self: LavaObject, value: Unchecked, idx: LavaObject = None) -> None:
    """Stock Lava turns a text into the numbers of its characters, whatever the Var holds, and fails on matrices."""
    if isinstance(value, str) and self.aliased_var is None and not isinstance(self.init, str):
        raise DataError(f"{self.name} was to be set to {_short(value)}; it takes numbers of shape {self.shape}")
    if self.aliased_var is None and issparse(value):
        new: LavaObject = csr_matrix(value)
        held: LavaObject = self.init
        if not issparse(held) or new.shape != held.shape or new.nnz != csr_matrix(held).nnz:
            raise DataError(
                f"{self.name} was to be set to a sparse matrix; that takes a sparse Var of the same shape, with the "
                f"same number of values in the same places"
            )
    _stock_set(self, value, idx)


def _held(model: LavaObject) -> tuple[str, LavaObject]:
    """Name and value of the Var that a command is about; the command stays in the channel."""
    name = model.var_id_to_var_map[int(model.service_to_process.peek()[0].item())]
    return name, getattr(model, name)


def _get_in_child(self: LavaObject) -> None:
    """Stock Lava never answers for a float, or a numpy number other than int32."""
    value: LavaObject = _held(self)[1]
    if not isinstance(value, float | np.generic):
        return _stock_get_in_child(self)
    self.service_to_process.recv()
    for number in (1, value):
        self.process_to_service.send(np.array([number], np.float64))


def _set_in_child(self: LavaObject) -> None:
    """Stock Lava makes a float of an int, and fills an array in the order of its memory, which need not be C's."""
    name, held = _held(self)
    kind = type(held)
    if not isinstance(held, int | float | np.generic | np.ndarray):
        return _stock_set_in_child(self)
    port = self.service_to_process
    port.recv()
    values = [port.recv()[0] for _ in range(int(port.recv()[0].item()))]
    if isinstance(held, np.ndarray):
        held[...] = np.reshape(values, held.shape)
    else:
        setattr(self, name, kind(values[0]))
    self.on_var_update()  # before the answer, which then tells of an error here too
    self.process_to_service.send(MGMT_RESPONSE.SET_COMPLETE)


REPLACED = (  # set by `patches.install`
    (Var, "set", _set),
    (AbstractPyProcessModel, "_get_var", _get_in_child),
    (AbstractPyProcessModel, "_set_var", _set_in_child),
)
