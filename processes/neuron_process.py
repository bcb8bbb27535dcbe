"""What the neuron processes share: ports, Vars, the reset schedule, and the host that calls the neuron's `step`."""

from typing import Any

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from lava_conv import kernels
from lava_conv.errors import RangeError
from lava_conv.fixedpoint import STATE_BITS, STATE_MAX, STATE_MIN
from lava_conv.neurons import Neuron, map_channels

if kernels.AVAILABLE:
    from lava_conv.kernels.neuron import arguments, compiled, leaves_range


class NeuronProcess(AbstractProcess):
    """Base of the neuron processes.

    Parameters (besides the neuron's own, which may be scalars or arrays that broadcast to `shape`):
        shape: shape of the population, channels last as in Lava, e.g. (H, W, C) or (n,).
        reset_interval: steps a sample takes; 0 = the state is never reset.
        reset_offset: first step (counted from 0) of the first sample at this population.
        checked: raise RangeError when a membrane potential leaves 24 bits, instead of saturating.
    """

    neuron: Neuron
    _runtime: Any = None  # Lava asks for it when a process is deleted whose __init__ did not come to its end

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        reset_interval: int = 0,
        reset_offset: int = 0,
        checked: bool = False,
        name: str | None = None,
        **values: Any,
    ) -> None:
        shape = tuple(int(n) for n in np.atleast_1d(shape))
        params = self.neuron.Params(**values)
        label = name or type(self).__name__
        if problem := self.neuron.check(params):
            raise RangeError(f"{label}: {problem}")
        found = {name: np.ravel(value)[np.ravel(value) % 1 != 0] for name, value in values.items()}
        fractions = [f"{name} is {float(odd[0])}" for name, odd in found.items() if odd.size]
        super().__init__(
            shape=shape,
            name=name,
            label=label,
            reset_interval=int(reset_interval),
            reset_offset=int(reset_offset),
            checked=bool(checked),
            fractions=fractions,
        )
        self.shape = shape
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        for field in self.neuron.channel_fields:
            value = np.broadcast_to(np.asarray(getattr(params, field)), shape)
            setattr(self, field, Var(shape=shape, init=np.array(value)))
        for field in self.neuron.scalar_fields:
            setattr(self, field, Var(shape=(1,), init=int(getattr(params, field))))
        whole = map_channels(self.neuron, params, lambda x: np.broadcast_to(np.asarray(x), shape))
        state = self.neuron.initial_state(whole, np.zeros(shape, np.int64))
        for field, start in state._asdict().items():
            value = np.atleast_1d(np.array(start))
            setattr(self, field, Var(shape=value.shape, init=value))


class NeuronModel(PyLoihiProcessModel):
    """Host of a neuron: receives a_in, resets on schedule, advances the neuron by its one `step`, sends the spikes.

    Subclasses declare the LavaPyTypes. `neuron` is the table entry. Integers run compiled where numba is there; floats
    run through the same equations in numpy.
    """

    free_running = True
    neuron: Neuron
    a_in: Any
    s_out: Any

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._label: str = proc_params["label"]
        if (fractions := proc_params["fractions"]) and "fixed_pt" in self.tags:
            raise RangeError(
                f"{self._label}: {fractions[0]}, the fixed_pt model takes whole numbers; scale everything to "
                f"integers, or choose floating_pt in the run configuration"
            )
        self._interval: int = proc_params["reset_interval"]
        self._offset: int = proc_params["reset_offset"]
        self._checked: bool = proc_params["checked"]
        self._params: Any = None

    def on_var_update(self) -> None:
        self._params = None  # a parameter may have been set from outside

    def run_spk(self) -> None:
        if self._params is None:
            self._prepare()
        a_in = self.a_in.recv()
        now = self.time_step - 1 - self._offset
        fresh = bool(self._interval) and now >= 0 and now % self._interval == 0
        self.s_out.send(self._step_compiled(a_in, fresh) if self._compiled else self._step(a_in, fresh))

    def _prepare(self) -> None:
        scalars = {name: int(getattr(self, name)[0]) for name in self.neuron.scalar_fields}
        channels = {name: getattr(self, name) for name in self.neuron.channel_fields}
        self._params = self.neuron.Params(**channels, **scalars)
        whole = kernels.AVAILABLE and self.v.dtype == np.int32
        self._compiled = compiled(self.neuron) if whole else None
        states = tuple(getattr(self, name).reshape(-1) for name in self.neuron.State._fields)
        flat = tuple(np.ascontiguousarray(value, np.int32).reshape(-1) for value in channels.values())
        self._arguments = (states, flat, tuple(scalars.values()) or (0,))
        self._spikes = np.empty(self.v.shape, np.int8 if self.neuron.spiking else np.int32)

    def _step_compiled(self, a_in: np.ndarray, fresh: bool) -> np.ndarray:
        """The state's arrays change in place."""
        drive = np.ascontiguousarray(a_in).reshape(1, 1, -1)
        if self._checked and leaves_range(self.neuron)(drive, fresh, *self._arguments):
            self._step(a_in, fresh)  # says where
        self._compiled(drive, 0, 1, self._spikes.reshape(1, 1, -1), 0, 0, drive.size, fresh, *self._arguments)
        return self._spikes

    def _step(self, a_in: np.ndarray, fresh: bool) -> np.ndarray:
        whole = np.issubdtype(self.v.dtype, np.integer)
        if whole:
            a_in = a_in.astype(np.int64)  # shifted, it may exceed 32 bits before it is saturated
        if fresh:
            state = self.neuron.initial_state(self._params, np.zeros_like(self.v))
        else:
            state = self.neuron.State(*(getattr(self, name) for name in self.neuron.State._fields))
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
                f"{self._label}, neuron {where}, step {self.time_step}: the membrane potential would be {v[where]}, "
                f"the limit is {STATE_BITS} bits ({STATE_MIN}..{STATE_MAX}); use a smaller shift or smaller weights"
            )


def warm_up(neuron: Neuron, checked: bool) -> None:
    """Compile the neuron, or load what was compiled before: once in the parent, and not in each of its children."""
    if kernels.AVAILABLE and (function := compiled(neuron)):
        one = np.zeros((1, 1, 1), np.int32)
        spikes = np.zeros((1, 1, 1), np.int8 if neuron.spiking else np.int32)
        values = arguments(neuron, neuron.Params(*[1] * len(neuron.Params._fields)), 1)  # type: ignore[attr-defined]
        function(one, 0, 1, spikes, 0, 0, 1, False, *values)
        if checked:
            leaves_range(neuron)(one, False, *values)
