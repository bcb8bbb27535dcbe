"""What the neuron processes share: ports, Vars, the reset schedule, and the host that calls the neuron's `step`."""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from lava_conv import kernels
from lava_conv.errors import DataError, RangeError
from lava_conv.lava.types import LavaObject, ModelInPort, ModelOutPort, Numbers, ProcParams, Unchecked
from lava_conv.network.fixedpoint import STATE_BITS, STATE_MAX, STATE_MIN
from lava_conv.network.neurons import Neuron, map_channels
from lava_conv.network.neurons.base import Values, out_of_range
from processes.arguments import numbers, shape_of, whole
from processes.declarations import cpu_model, in_port, out_port, var
from processes.var_model import VarModel

if TYPE_CHECKING or kernels.AVAILABLE:
    from lava_conv.kernels.neuron import arguments, compiled, leaves_range


Model = TypeVar("Model", bound="type[NeuronModel]")


def described(what: str, neuron: Neuron) -> str:
    """The docstring of a neuron's process: equation and parameters as the neuron itself has them."""
    sends = "signed spikes -1, 0, +1" if neuron.spiking else "the membrane potential"
    equation = inspect.cleandoc(neuron.step.__doc__ or "")
    _, _, parameters = inspect.cleandoc(neuron.Params.__doc__ or "").partition("Fields:\n")
    state = ", ".join(neuron.State._fields)
    return f"""{what}

{equation}

Parameters:
{parameters}

Ports: a_in (summed input), s_out ({sends}).

Vars: all parameters, and the state {state}; all can be read and set before and between runs, and reached by
RefPorts during one.

Shape, reset schedule and checked mode: see `processes.neuron_process.NeuronProcess`.
"""


class NeuronProcess(AbstractProcess):
    """Base of the neuron processes. The neuron's own parameters may be scalars or arrays that broadcast to `shape`.

    Parameters:
        shape: shape of the population, channels last as in Lava, e.g. (H, W, C) or (n,).
        reset_interval: steps a sample takes; 0 = the state is never reset.
        reset_offset: first step (counted from 0) of the first sample at this population.
        checked: raise RangeError when a membrane potential leaves 24 bits, instead of saturating.
        name: of the process, None: Lava's own.

    Raises:
        TypeError: a parameter is missing, or the neuron has none of that name.
        DataError: a parameter is no number, or does not broadcast to `shape`.
        RangeError: a parameter is out of range.
    """

    neuron: ClassVar[Neuron]
    _runtime: LavaObject = None  # Lava asks for it when a process is deleted whose __init__ did not come to its end

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__doc__ = described(cls.__doc__ or "", cls.neuron)

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        reset_interval: int = 0,
        reset_offset: int = 0,
        checked: bool = False,
        name: str | None = None,
        **values: Unchecked,
    ) -> None:
        label = name or type(self).__name__
        shape = shape_of(label, shape)
        params = self._checked(label, shape, values)
        fractions = [f"{name} is {odd}" for name in values if (odd := _fraction(getattr(params, name))) is not None]
        super().__init__(
            shape=shape,
            name=name,
            label=label,
            reset_interval=whole(label, "reset_interval", reset_interval, 0),
            reset_offset=whole(label, "reset_offset", reset_offset, 0),
            checked=bool(checked),
            fractions=fractions,
        )
        self.shape = shape
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        for field in self.neuron.channel_fields:
            setattr(self, field, Var(shape=shape, init=np.array(np.broadcast_to(getattr(params, field), shape))))
        for field in self.neuron.scalar_fields:
            setattr(self, field, Var(shape=(1,), init=int(getattr(params, field))))
        full = map_channels(self.neuron, params, lambda x: np.broadcast_to(np.asarray(x), shape))
        state = self.neuron.initial_state(full, np.zeros(shape, np.int64))
        for field, start in state._asdict().items():
            value = np.atleast_1d(np.array(start))
            setattr(self, field, Var(shape=value.shape, init=value))

    def _checked(self, label: str, shape: tuple[int, ...], values: dict[str, Unchecked]) -> Values:
        """The neuron's Params, of arrays that broadcast to `shape` and of ints."""
        fields = self.neuron.channel_fields + self.neuron.scalar_fields
        if unknown := [name for name in values if name not in fields]:
            raise TypeError(f"{label}: there is no parameter {unknown[0]}; there are {', '.join(fields)}")
        checked: dict[str, Numbers | int] = {}
        for name, value in {name: numbers(label, name, value) for name, value in values.items()}.items():
            checked[name] = value
            if name in self.neuron.scalar_fields:
                if value.size != 1 or _fraction(value) is not None:
                    raise RangeError(f"{label}: {name} is {values[name]}, allowed is one integer")
                checked[name] = int(value.reshape(()))
                continue
            try:
                np.broadcast_to(value, shape)
            except ValueError:
                raise DataError(
                    f"{label}: {name} has the shape {value.shape}, which does not broadcast to {shape}; channels come "
                    f"last, so a value per channel is {shape[-1:]}"
                ) from None
        try:
            params = self.neuron.Params(**checked)
        except TypeError:
            defaults = getattr(self.neuron.Params, "_field_defaults", {})
            missing = [name for name in fields if name not in checked and name not in defaults]
            raise TypeError(f"{label}: {', '.join(missing)} must be given") from None
        if problem := self.neuron.check(params):
            raise RangeError(f"{label}: {problem}")
        return params

    def check_var(self, name: str, value: np.ndarray) -> str | None:
        """What is out of range if the Var `name` is set to `value`, as a sentence, or None.

        Parameters that must fit one another are set one after another, so each is looked at alone here; together
        they are checked at the next step.
        """
        if name in self.neuron.State._fields:
            return _state_out_of_range(self.neuron, name, value)
        return next(out_of_range(name, value, r.low, r.high) for r in self.neuron.ranges if r.name == name)


def _fraction(value: Unchecked) -> float | None:
    """The first number that is not whole, if there is one."""
    odd = np.ravel(value)[np.ravel(value) % 1 != 0]
    return float(odd[0]) if odd.size else None


def _state_out_of_range(neuron: Neuron, name: str, value: np.ndarray) -> str | None:
    if name == neuron.State._fields[0]:
        return out_of_range(name, value, STATE_MIN, STATE_MAX)
    return out_of_range(name, value, 0, int(np.iinfo(np.int32).max))  # counts, of spikes and of steps


class NeuronModel(VarModel):
    """Host of a neuron: receives a_in, resets on schedule, advances the neuron by its one `step`, sends the spikes.

    `neuron_model` declares ports and Vars. Integers run compiled where numba is there; floats run through the same
    equations in numpy.
    """

    free_running = True
    neuron: ClassVar[Neuron]
    a_in: ModelInPort
    s_out: ModelOutPort

    def __init__(self, proc_params: ProcParams) -> None:
        super().__init__(proc_params)
        if (fractions := proc_params["fractions"]) and "fixed_pt" in self.tags:
            raise RangeError(
                f"{self.label}: {fractions[0]}, the fixed_pt model takes whole numbers; scale everything to "
                f"integers, or choose floating_pt in the run configuration"
            )
        self._interval: int = proc_params["reset_interval"]
        self._offset: int = proc_params["reset_offset"]
        self._checked: bool = proc_params["checked"]
        self._params: Values = None

    @classmethod
    def before_fork(cls, proc_params: ProcParams) -> None:
        """Compile the neuron in the parent: once for all of its processes, and not while it is watched for a stall."""
        if "fixed_pt" in cls.tags:
            warm_up(cls.neuron, proc_params["checked"])

    def on_var_update(self) -> None:
        """Read the parameters again at the next step."""
        self._params = None  # a parameter may have been set from outside

    def run_spk(self) -> None:
        """One time step."""
        if self._params is None:
            self._prepare()
        a_in = self.received(self.a_in, "a_in") if self._whole else self.a_in.recv()
        now = self.time_step - 1 - self._offset
        fresh = bool(self._interval) and now >= 0 and now % self._interval == 0
        self.s_out.send(self._advance(a_in, fresh))

    def _prepare(self) -> None:
        scalars = {name: int(getattr(self, name)[0]) for name in self.neuron.scalar_fields}
        channels = {name: getattr(self, name) for name in self.neuron.channel_fields}
        self._potential = getattr(self, self.neuron.State._fields[0])
        self._whole = self._potential.dtype == np.int32
        wide = {name: value.astype(np.int64) for name, value in channels.items()} if self._whole else channels
        params = self.neuron.Params(**wide, **scalars)
        problems = (_state_out_of_range(self.neuron, name, getattr(self, name)) for name in self.neuron.State._fields)
        if problem := self.neuron.check(params) or next(filter(None, problems), None):
            raise RangeError(f"{self.label}, step {self.time_step}: {problem}")
        self._params = params
        function = compiled(self.neuron) if self._whole and kernels.AVAILABLE else None
        if function is not None:
            self._compiled: Callable[..., None] = function
        self._advance = self._step_compiled if function is not None else self._step
        states = tuple(getattr(self, name).reshape(-1) for name in self.neuron.State._fields)
        flat = tuple(np.ascontiguousarray(value, np.int32).reshape(-1) for value in channels.values())
        self._arguments = (states, flat, tuple(scalars.values()) or (0,))
        self._spikes = np.empty(self._potential.shape, np.int8 if self.neuron.spiking else np.int32)

    def _step_compiled(self, a_in: Numbers, fresh: bool) -> Numbers:
        """The state's arrays change in place."""
        drive = np.ascontiguousarray(a_in).reshape(1, 1, -1)
        if self._checked and leaves_range(self.neuron)(drive, fresh, *self._arguments):
            self._step(a_in, fresh)  # says where
        self._compiled(drive, 0, 1, self._spikes.reshape(1, 1, -1), 0, 0, drive.size, fresh, *self._arguments)
        return self._spikes

    def _step(self, a_in: Numbers, fresh: bool) -> Numbers:
        kind = np.int64 if self._whole else float  # shifted, an input may exceed 32 bits before it is saturated
        a_in = a_in.astype(kind)
        if fresh:
            state = self.neuron.initial_state(self._params, np.zeros(self._potential.shape, kind))
        else:
            state = self.neuron.State(*(getattr(self, name).astype(kind) for name in self.neuron.State._fields))
        if self._checked:
            self._check(self.neuron.integrate(state, a_in, self._params))
        spikes, state = self.neuron.step(state, a_in, self._params)
        for name, value in zip(self.neuron.State._fields, state, strict=True):
            getattr(self, name)[...] = value
        return spikes

    def _check(self, v: np.ndarray) -> None:
        bad = (v < STATE_MIN) | (v > STATE_MAX)
        if bad.any():
            where = tuple(int(i) for i in np.argwhere(bad)[0])
            raise RangeError(
                f"{self.label}, neuron {where}, step {self.time_step}: the membrane potential would be {v[where]}, "
                f"the limit is {STATE_BITS} bits ({STATE_MIN}..{STATE_MAX}); use a smaller shift or smaller weights"
            )


def neuron_model(process: type[NeuronProcess], kind: str) -> Callable[[Model], Model]:
    """Makes the decorated class a CPU model of a neuron's process: its ports and Vars are those of the neuron's fields.

    Args:
        process: of the neuron.
        kind: "fixed_pt" for integers of 32 bits, spikes of 8; "floating_pt" for floats. It is the model's tag.
    """
    neuron, whole = process.neuron, kind == "fixed_pt"
    number = np.int32 if whole else float
    sent = np.int8 if whole and neuron.spiking else number
    state = neuron.State._fields

    def decorate(model: Model) -> Model:
        model.neuron, model.a_in, model.s_out = neuron, in_port(number), out_port(sent)
        for name in (*neuron.channel_fields, *state):
            setattr(model, name, var(number))
        for name in neuron.scalar_fields:
            setattr(model, name, var(np.int32 if whole else np.int64))
        return cpu_model(process, kind)(model)

    return decorate


def warm_up(neuron: Neuron, checked: bool) -> None:
    """Compile the neuron, or load what was compiled before: once in the parent, and not in each of its children."""
    if kernels.AVAILABLE and (function := compiled(neuron)):
        one = np.zeros((1, 1, 1), np.int32)
        spikes = np.zeros((1, 1, 1), np.int8 if neuron.spiking else np.int32)
        values = arguments(neuron, neuron.Params(*[1] * len(neuron.Params._fields)), 1)
        function(one, 0, 1, spikes, 0, 0, 1, False, *values)
        if checked:
            leaves_range(neuron)(one, False, *values)
