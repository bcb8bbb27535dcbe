"""A neuron's own `step`, compiled: the same source, on single integers, in a loop that the processor vectorises."""

import hashlib
import inspect
import logging
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numba.core.errors import NumbaError
from numba.extending import overload, register_jitable

from lava_conv import fixedpoint
from lava_conv.neurons.base import Neuron

log = logging.getLogger(__name__)

# `size` neurons from `o0` on, over all time steps. Names in braces are filled in from the neuron's tuples, because a
# compiled loop needs each array by a name of its own.
SOURCE = """
def {name}(drive, at, hold, out, to, o0, size, fresh, states, channels, scalars):
    {states}, = states
    {channels}, = channels
    {scalars}, = scalars
{slices}
    if fresh:
        for i in range(size):
            state = initial_state(Params({params}), zero)
{store}
    frames = len(drive)
    for t in range(len(out)):
        gain = 1 if t < frames else hold
        d, o = drive[min(t, frames - 1), at][:size], out[t, to][o0:o0 + size]
        for i in range(size):
            spike, state = step(State({state}), int32(d[i]) * gain, Params({params}))
            o[i] = spike
{store}


def {name}_leaves(drive, fresh, states, channels, scalars):
    {states}, = states
    {channels}, = channels
    {scalars}, = scalars
    d, low, high = drive[0, 0], 0, 0
    for i in range(len(d)):
        if fresh:
            v = integrate(initial_state(Params({params}), zero), d[i], Params({params}))
        else:
            v = integrate(State({state}), d[i], Params({params}))
        low, high = min(low, v), max(high, v)
    return low < lowest or high > highest
"""


@overload(fixedpoint.saturate)
def _saturate(x):  # type: ignore[no-untyped-def]  # numba compares the signatures, annotations too
    low, high = fixedpoint.STATE_MIN, fixedpoint.STATE_MAX
    return lambda x: min(max(x, low), high)


@overload(fixedpoint.is_float)
def _is_float(x):  # type: ignore[no-untyped-def]
    return lambda x: False


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """njit without the interpreter's lock; kept on disk where that is possible."""
    try:
        return njit(cache=True, nogil=True, error_model="numpy", **options)(function)
    except RuntimeError:  # no place to keep it, as in a zipped or read-only installation without a home
        return njit(nogil=True, error_model="numpy", **options)(function)


@cache
def compiled(neuron: Neuron) -> Any:
    """The neuron as a jitted function, or None if its `step` uses what numba does not know.

    The function: (drive, at, hold, out, to, o0, size, fresh, states, channels, scalars) -> None, where

        drive: whole numbers (frames, rows, >= size), of which row `at` is the input of neurons o0 .. o0 + size - 1.
        hold: what happens where there are more steps than frames, 1: the last frame repeats itself, 0: nothing comes.
        out: (T, rows, n), row `to` takes their spikes.
        fresh: start from the initial state; otherwise go on from `states`.
        states: tuple of int32 (n,), one for each field of State, changed in place. channels: tuple of int32 (n,), one
        for each channel field; scalars: tuple of ints (see `arguments`).
    """
    function = _built(neuron)[0]
    try:
        _try(neuron, function)
    except NumbaError as error:
        log.info("%s runs uncompiled: %s", neuron.type, " ".join(str(error).split())[:200])
        return None
    return function


@cache
def leaves_range(neuron: Neuron) -> Any:
    """(drive (1, 1, n), fresh, states, channels, scalars) -> whether a potential of this step would leave 24 bits."""
    return _built(neuron)[1]


@cache
def _built(neuron: Neuron) -> tuple[Any, Any]:
    """SOURCE filled in for this neuron, as jitted functions."""
    module = sys.modules[neuron.step.__module__]
    for helper in vars(module).values():
        if inspect.isfunction(helper) and helper.__module__ == module.__name__:
            register_jitable(helper)
    state, channel, scalar = neuron.State._fields, neuron.channel_fields, neuron.scalar_fields  # type: ignore[attr-defined]
    arrays = [f"s_{n}" for n in state] + [f"p_{n}" for n in channel]
    name = f"step_{neuron.type}_{_fingerprint(module)}"
    source = SOURCE.format(
        name=name,
        states=", ".join(f"s_{n}" for n in state),
        channels=", ".join(f"p_{n}" for n in channel),
        scalars=", ".join(f"p_{n}" for n in scalar) or "_",
        slices="\n".join(f"    {n} = {n}[o0:o0 + size]" for n in arrays),
        params=", ".join(f"{n}=p_{n}[i]" if n in channel else f"{n}=p_{n}" for n in channel + scalar),
        state=", ".join(f"s_{n}[i]" for n in state),
        store="\n".join(f"            s_{n}[i] = state.{n}" for n in state),
    )
    scope = {
        "initial_state": njit(neuron.initial_state),
        "integrate": njit(neuron.integrate),
        "step": njit(neuron.step),
        "Params": neuron.Params,
        "State": neuron.State,
        "zero": np.int32(0),
        "int32": np.int32,
        "lowest": fixedpoint.STATE_MIN,
        "highest": fixedpoint.STATE_MAX,
        "__name__": __name__,  # where numba looks for what it kept
    }
    exec(compile(source, __file__, "exec"), scope)
    return jit(scope[name]), jit(scope[f"{name}_leaves"])


@cache
def scan(neuron: Neuron) -> Any:
    """A layer of them: (drive (n, frames, rows, C), hold, out (n, T, rows, C), states, channels, scalars) -> None."""
    advance = compiled(neuron)

    def layer(drive: Any, hold: int, out: Any, states: Any, channels: Any, scalars: Any) -> None:
        for image in range(len(out)):
            d, o = drive[image], out[image]
            for row in range(out.shape[2]):
                advance(d, row, hold, o, row, 0, out.shape[3], True, states, channels, scalars)

    layer.__name__ = layer.__qualname__ = f"scan_{advance.__name__}"
    return jit(layer)


def arguments(neuron: Neuron, params: Any, size: int) -> tuple[Any, Any, Any]:
    """states, channels, scalars for `size` neurons; per-channel values repeat along the last axis of the layer."""
    states = tuple(np.zeros(size, np.int32) for _ in neuron.State._fields)  # type: ignore[attr-defined]
    channels = []
    for name in neuron.channel_fields:
        value = np.asarray(getattr(params, name)).ravel()
        channels.append(np.resize(value, size).astype(np.int32))
    return states, tuple(channels), tuple(int(getattr(params, name)) for name in neuron.scalar_fields) or (0,)


@jit
def tally(spikes: Any, counts: Any) -> None:
    """Net counts (n, C, P) of spikes (n, T, P, C), channels first, in a type that holds them."""
    images, steps, pixels, channels = spikes.shape
    row = np.empty(channels, counts.dtype)
    for image in range(images):
        for p in range(pixels):
            for c in range(channels):
                row[c] = 0
            for t in range(steps):
                s = spikes[image, t, p]
                for c in range(channels):
                    row[c] += s[c]
            for c in range(channels):
                counts[image, c, p] = row[c]


def _try(neuron: Neuron, function: Any) -> None:
    params = neuron.Params(*[1] * len(neuron.Params._fields))  # type: ignore[attr-defined]
    drive, out = np.zeros((1, 1, 1), np.int32), np.zeros((1, 1, 1), np.int8 if neuron.spiking else np.int32)
    function(drive, 0, 1, out, 0, 0, 1, True, *arguments(neuron, params, 1))


def _fingerprint(module: Any) -> str:
    """numba keeps what it compiled until this file changes; the name changes with the sources it comes from."""
    text = "".join(inspect.getsource(m) for m in (module, fixedpoint))
    return hashlib.sha256(text.encode()).hexdigest()[:8]
