"""A neuron's own `step`, compiled: the same source, on single integers, in a loop that the processor vectorises."""

import ast
import hashlib
import inspect
import logging
import re
import sys
import textwrap
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np
from numba import njit, types
from numba.core.errors import NumbaError
from numba.extending import overload, register_jitable

from lava_conv.network import fixedpoint
from lava_conv.network.neurons.base import Neuron

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
    frames, moved = len(drive), True
    for t in range(len(out)):
        gain = 1 if t < frames else hold
        d, o = drive[min(t, frames - 1), at][:size], out[t, to][o0:o0 + size]
        if settling and not moved:
            before = out[t - 1, to][o0:o0 + size]
            for i in range(size):
                o[i] = before[i]
            continue
        moved = gain != 0
        for i in range(size):
            spike, state = step(State({state}), int32(d[i]) * gain, Params({params}))
            o[i] = spike
            if settling:
                moved |= {changed}
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
    kind = np.int32 if x == types.int32 else np.int64
    low, high = kind(fixedpoint.STATE_MIN), kind(fixedpoint.STATE_MAX)
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


def bound(function: Any, name: str, **values: Any) -> Any:
    """A copy of `function` in which global names stand for `values`.

    Not a closure, because numba does not find a closure again that another process kept on disk.
    """
    copy = FunctionType(function.__code__.replace(co_name=name), {**function.__globals__, **values}, name)
    copy.__qualname__ = name
    return copy


@cache
def compiled(neuron: Neuron, narrow: bool = False, settling: bool = False) -> Any:
    """The neuron as a jitted function, or None if its `step` uses what numba does not know.

    narrow: compute in 32 bits, as torch does, where the bounds of the graph are proven; otherwise in 64, so that an
    input of any size saturates as it should. settling: once nothing comes in and no state changed in a step, none ever
    will, and the rest is not computed; to look costs a little, so only where input ends early.

    The function: (drive, at, hold, out, to, o0, size, fresh, states, channels, scalars) -> None, where

        drive: whole numbers (frames, rows, >= size), of which row `at` is the input of neurons o0 .. o0 + size - 1.
        hold: what happens where there are more steps than frames, 1: the last frame repeats itself, 0: nothing comes.
        out: (T, rows, n), row `to` takes their spikes.
        fresh: start from the initial state; otherwise go on from `states`.
        states: tuple of int32 (n,), one for each field of State, changed in place. channels: tuple of int32 (n,), one
        for each channel field; scalars: tuple of ints (see `arguments`).
    """
    try:
        function = _built(neuron, narrow, settling)[0]
        _try(neuron, function)
    except (NumbaError, KeyError, OSError, TypeError) as error:  # or its source is not to be had
        log.info("%s runs uncompiled: %s", neuron.type, " ".join(str(error).split())[:200])
        return None
    return function


@cache
def leaves_range(neuron: Neuron) -> Any:
    """(drive (1, 1, n), fresh, states, channels, scalars) -> whether a potential of this step would leave 24 bits."""
    return _built(neuron, False, False)[1]


@cache
def _built(neuron: Neuron, narrow: bool, settling: bool) -> tuple[Any, Any]:
    """SOURCE filled in for this neuron, as jitted functions."""
    module = sys.modules[neuron.step.__module__]
    for helper in _functions(module):
        register_jitable(helper)
    state, channel, scalar = neuron.State._fields, neuron.channel_fields, neuron.scalar_fields
    arrays = [f"s_{n}" for n in state] + [f"p_{n}" for n in channel]
    parts = (neuron.step, neuron.initial_state, neuron.integrate)
    sources = dict.fromkeys([module, *(sys.modules[part.__module__] for part in parts), fixedpoint])
    digest = fingerprint(*sources, told=(neuron.type, *(part.__name__ for part in parts)))
    # a type may be no identifier, and two types may differ in no other character
    name = f"step_{re.sub(r'[^0-9a-zA-Z]', '_', neuron.type)}_{32 if narrow else 64}_{int(settling)}_{digest}"
    source = SOURCE.format(
        name=name,
        states=", ".join(f"s_{n}" for n in state),
        channels=", ".join(f"p_{n}" for n in channel),
        scalars=", ".join(f"p_{n}" for n in scalar) or "_",
        slices="\n".join(f"    {n} = {n}[o0:o0 + size]" for n in arrays),
        params=", ".join(f"{n}=p_{n}[i]" if n in channel else f"{n}=p_{n}" for n in channel + scalar),
        state=", ".join(f"s_{n}[i]" for n in state),
        changed=" | ".join(f"(s_{n}[i] != state.{n})" for n in state),
        store="\n".join(f"            s_{n}[i] = state.{n}" for n in state),
    )
    scope = {
        "initial_state": njit(neuron.initial_state),
        "integrate": njit(neuron.integrate),
        "step": njit(_narrowed(module)[neuron.step.__name__] if narrow else neuron.step),
        "Params": neuron.Params,
        "State": neuron.State,
        "settling": settling,
        "zero": np.int32(0),
        "int32": np.int32,
        "lowest": fixedpoint.STATE_MIN,
        "highest": fixedpoint.STATE_MAX,
        "__name__": __name__,  # where numba looks for what it kept
    }
    exec(compile(source, __file__, "exec"), scope)
    return jit(scope[name]), jit(scope[f"{name}_leaves"])


def _functions(module: Any) -> list[Any]:
    return [f for f in vars(module).values() if inspect.isfunction(f) and f.__module__ == module.__name__]


class _Narrow(ast.NodeTransformer):
    """a + b -> int32(a + b): numba widens every sum to 64 bits, which halves the neurons a vector register takes."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        return ast.Call(ast.Name("int32", ast.Load()), [node], [])

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns, node.decorator_list = None, []
        for argument in node.args.args:
            argument.annotation = None
        return self.generic_visit(node)


def _narrowed(module: Any) -> dict[str, Any]:
    """The functions of a neuron's module, compiled from the same source with every result kept in 32 bits."""
    scope = {**vars(module), "int32": np.int32}
    for function in _functions(module):
        tree = _Narrow().visit(ast.parse(textwrap.dedent(inspect.getsource(function))))
        exec(compile(ast.fix_missing_locations(tree), __file__, "exec"), scope)
        register_jitable(scope[function.__name__])
    return scope


advance: Any = None  # a name that `bound` fills in


def _scan(drive: Any, hold: int, out: Any, states: Any, channels: Any, scalars: Any) -> None:
    for image in range(len(out)):
        d, o = drive[image], out[image]
        for row in range(out.shape[2]):
            advance(d, row, hold, o, row, 0, out.shape[3], True, states, channels, scalars)


@cache
def scan(neuron: Neuron) -> Any:
    """A layer of them: (drive (n, frames, rows, C), hold, out (n, T, rows, C), states, channels, scalars) -> None."""
    one = compiled(neuron, narrow=True, settling=True)
    return jit(bound(_scan, f"scan_{one.__name__}", advance=one))


def arguments(neuron: Neuron, params: Any, size: int) -> tuple[Any, Any, Any]:
    """states, channels, scalars for `size` neurons; per-channel values repeat along the last axis of the layer."""
    states = tuple(np.zeros(size, np.int32) for _ in neuron.State._fields)
    channels = []
    for name in neuron.channel_fields:
        value = np.asarray(getattr(params, name)).ravel()
        channels.append(np.resize(value, size).astype(np.int32))
    return states, tuple(channels), tuple(int(getattr(params, name)) for name in neuron.scalar_fields) or (0,)


@jit
def tally(spikes: Any, counts: Any) -> None:
    """Net counts (n, m) of spikes (n, T, m), in a type that holds them."""
    images, steps, neurons = spikes.shape
    for image in range(images):
        total = counts[image]
        for i in range(neurons):
            total[i] = 0
        for t in range(steps):
            s = spikes[image, t]
            for i in range(neurons):
                total[i] += s[i]


def _try(neuron: Neuron, function: Any) -> None:
    params = neuron.Params(*[1] * len(neuron.Params._fields))
    drive, out = np.zeros((1, 1, 1), np.int32), np.zeros((1, 1, 1), np.int8 if neuron.spiking else np.int32)
    function(drive, 0, 1, out, 0, 0, 1, True, *arguments(neuron, params, 1))


def fingerprint(*modules: Any, told: tuple[str, ...] = ()) -> str:
    """numba keeps what it compiled until the file of the loop changes; the name changes with its other sources."""
    text = "".join([*(inspect.getsource(module) for module in modules), *told])
    return hashlib.sha256(text.encode()).hexdigest()[:8]
