"""The fast models of stock Conv and Dense: bit-exact with Lava's own in a thousand geometries, and in the runtime."""

import numpy as np
import pytest

pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")

from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv import utils
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.utils.weightutils import SignMode

from lava_conv import kernels
from lava_conv.lava import watched
from processes.conv import fast_sim_cfg
from processes.conv.events import Events
from processes.conv.im2col import Frames, Rows


def geometry(rng):
    groups = int(rng.choice([1, 1, 2, 3]))
    deep, out = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
    kernel, dilation = rng.integers(1, 5, 2), rng.integers(1, 3, 2)
    stride, padding = rng.integers(1, 4, 2), rng.integers(0, 4, 2)
    least = np.maximum(dilation * (kernel - 1) + 1 - 2 * padding, 1)
    shape = (*(least + rng.integers(0, 6, 2)), deep)
    return tuple(map(int, shape)), (out, *map(int, kernel), deep // groups), *(
        tuple(map(int, v)) for v in (stride, padding, dilation)
    ), groups  # fmt: skip


def test_a_thousand_random_geometries(rng):
    float64 = sparse = wrapped = gathered = 0
    for number in range(1000):
        shape, kernel, stride, padding, dilation, groups = geometry(rng)
        weight = rng.integers(-128, 128, kernel).astype(np.int32)
        plan = Frames(weight, shape, stride, padding, dilation, groups)
        flipped = weight[:, ::-1, ::-1].transpose(0, 3, 1, 2)
        events = Events.of(flipped, shape, stride, padding, dilation, groups)
        for density, reach in ((0.05, 1), (0.6, 255), (1.0, 1 << (number % 18))):
            frame = rng.integers(-reach, reach + 1, shape) * (rng.random(shape) < density)
            stock = utils.conv(frame.astype(np.int32), weight, kernel[1:3], stride, padding, dilation, groups)
            meant = utils.signed_clamp(stock, bits=24)
            found = plan(frame.astype(np.int32))
            assert found.dtype == np.int32 and np.array_equal(found, meant)
            if events and (gathered_now := events(frame)) is not None:
                gathered += bool(frame.any())
                assert gathered_now.dtype == np.int32 and np.array_equal(gathered_now, meant)
            float64 += int(np.abs(frame).max(initial=0)) * plan.norm >= 1 << 24
            sparse += not frame.any()
            wrapped += not np.array_equal(stock, meant)
    assert min(float64, sparse, wrapped, gathered if kernels.AVAILABLE else 11) > 10, "every path was taken"


def test_dense_products(rng):
    for _ in range(300):
        weights = rng.integers(-255, 256, rng.integers(1, 60, 2))
        rows = Rows(weights)
        for density, reach in ((0.05, 1), (1.0, 1), (0.7, 1 << 16), (0.7, 1 << 22)):
            s = rng.integers(-reach, reach + 1, weights.shape[1]) * (rng.random(weights.shape[1]) < density)
            fits = int(np.abs(s).max()) * int(np.abs(weights).sum(1).max()) < 1 << 31
            assert np.array_equal(rows(s), weights @ s) if fits else rows(s) is None


def outputs(make, data, run_cfg):
    """What a stock process sends in each step, for frames (..., T)."""
    source, block = Source(data=data), make()
    sink = Sink(shape=block.a_out.shape, buffer=data.shape[-1])
    source.s_out.connect(block.s_in)
    block.a_out.connect(sink.a_in)
    with watched(block, run_cfg) as runtime:
        runtime.run(data.shape[-1])
        return sink.data.get()


@pytest.mark.parametrize("bits", [0, 2, 9])
def test_through_the_runtime_as_the_stock_models(bits, rng):
    weight, flat = rng.integers(-128, 128, (4, 3, 2, 3)), rng.integers(-120, 120, (5, 12))
    frames = rng.integers(-1, 2, (6, 5, 6, 4)) if bits == 2 else rng.integers(0, 256, (6, 5, 6, 4))

    def conv():
        return Conv(
            weight=weight, input_shape=(6, 5, 6), padding=(1, 0), stride=(2, 1), groups=2, num_message_bits=bits
        )

    def dense():
        return Dense(weights=2 * flat, weight_exp=-1, sign_mode=SignMode.MIXED, num_message_bits=bits)

    for make, data in ((conv, frames), (dense, frames[:2, :1].reshape(12, 4))):
        stock = outputs(make, data, Loihi2SimCfg(select_tag="fixed_pt"))
        fast = outputs(make, data, fast_sim_cfg())
        assert np.array_equal(stock, fast) and stock.any()


def test_a_weight_set_between_runs_counts():
    source = Source(data=np.ones((3, 8), int))
    block = Dense(weights=2 * np.eye(3, dtype=int), weight_exp=-1, sign_mode=SignMode.MIXED, num_message_bits=2)
    sink = Sink(shape=(3,), buffer=8)
    source.s_out.connect(block.s_in)
    block.a_out.connect(sink.a_in)
    with watched(block, fast_sim_cfg()) as runtime:
        runtime.run(3)
        block.weights.set(6 * np.eye(3, dtype=int))
        runtime.run(3)
        seen = sink.data.get()
    assert seen[:, :6].tolist() == [[0, 1, 1, 1, 3, 3]] * 3


def side_by_side(make, data, act, steps=4):
    """What stock and fast models send in twice as many steps, with `act` on the block between the two runs."""
    found = []
    for cfg in (Loihi2SimCfg(select_tag="fixed_pt"), fast_sim_cfg()):
        source, block = Source(data=data), make()
        sink = Sink(shape=block.a_out.shape, buffer=2 * steps)
        source.s_out.connect(block.s_in)
        block.a_out.connect(sink.a_in)
        with watched(block, cfg, timeout=30) as runtime:
            runtime.run(steps)
            act(block)
            runtime.run(steps)
            found.append([sink.data.get(), *(var.get() for var in block.vars if var.name in ("weight", "weights"))])
    for stock, fast in zip(*found, strict=True):
        assert np.array_equal(stock, fast) and stock.any()
    return found[0][0]


def dense_of(weights, bits=9, exp=0, **options):
    return lambda: Dense(weights=weights, weight_exp=exp, sign_mode=SignMode.MIXED, num_message_bits=bits, **options)


@pytest.mark.filterwarnings("ignore:invalid value")  # stock Conv, where a sum leaves 32 bits
@pytest.mark.parametrize(("size", "bits"), [(100, 0), (100, 9), (1 << 12, 2), (1 << 27, 9)])
def test_weights_set_between_runs_are_taken_as_stock_takes_them(size, bits, rng):
    """Odd and large ones too: stock Dense truncates those it begins with, and no others. Sums may leave 32 bits."""
    data = rng.integers(-1, 2, (12, 8)) * (1 if bits < 9 else min(size, 255))
    for exp in (-1, 3):
        weights = rng.integers(-size, size + 1, (5, 12))
        side_by_side(
            dense_of(rng.integers(-99, 99, (5, 12)), bits, exp), data, lambda block, w=weights: block.weights.set(w)
        )
    frames = data[:, None, None, :].reshape(2, 3, 2, 8)
    weight, first = rng.integers(-size, size + 1, (3, 2, 2, 2)), rng.integers(-99, 99, (3, 2, 2, 2))
    conv = lambda: Conv(weight=first, input_shape=(2, 3, 2), padding=1, num_message_bits=bits)  # noqa: E731
    side_by_side(conv, frames, lambda block: block.weight.set(weight))


@pytest.mark.filterwarnings("ignore:invalid value")  # stock Conv, where a sum leaves 32 bits
def test_sums_beyond_24_and_32_bits(rng):
    """Inputs of 18 bits, whose sums leave 24, and of 32."""
    for high in (1 << 17, (1 << 31) - 1):
        data = rng.integers(-high, high, (12, 8))
        data[0, 0] = -(1 << 31) if high >> 30 else -high
        for exp in (-2, 5):
            side_by_side(dense_of(4 * rng.integers(-31, 32, (5, 12)), 24, exp), data, lambda block: None)
        weight = rng.integers(-128, 128, (3, 2, 2, 2))
        conv = lambda w=weight: Conv(weight=w, input_shape=(2, 3, 2), num_message_bits=24)  # noqa: E731
        side_by_side(conv, data.reshape(2, 3, 2, 8), lambda block: None)


def test_other_vars_set_between_runs(rng):
    """Geometry, message bits and what waits to be sent."""
    data = rng.integers(0, 3, (4, 4, 2, 8))
    weight = rng.integers(-9, 9, (2, 3, 3, 2))
    conv = lambda: Conv(weight=weight, input_shape=(4, 4, 2), padding=1, num_message_bits=4)  # noqa: E731
    for act in (
        lambda block: block.num_message_bits.set(0),
        lambda block: block.a_buf.set(5),
        lambda block: (block.padding.set(2), block.dilation.set(2)),
    ):
        side_by_side(conv, data, act)
    dense = dense_of(2 * rng.integers(-9, 9, (3, 32)), 4)
    for act in (lambda block: block.num_message_bits.set(0), lambda block: block.a_buff.set([7, -7, 0])):
        side_by_side(dense, data.reshape(32, 8), act)


@pytest.mark.parametrize("kind", ["conv", "dense"])
def test_weights_that_a_ref_port_writes(kind, rng):
    from lava.proc.io.reset import Reset

    weight = rng.integers(-20, 20, (3, 2, 2, 1)) if kind == "conv" else 2 * rng.integers(-20, 20, (3, 9))

    def make():
        if kind == "conv":
            block = Conv(weight=weight, input_shape=(3, 3, 1), num_message_bits=4)
        else:
            block = Dense(weights=weight, num_message_bits=4)
        reset = Reset(interval=3, offset=1, reset_value=7)
        reset.connect_var(block.weight if kind == "conv" else block.weights)
        return block

    data = rng.integers(0, 4, (3, 3, 1, 8) if kind == "conv" else (9, 8))
    sent = side_by_side(make, data, lambda block: None)
    assert (sent[..., 5] == sent[..., 5].flat[0]).all() or kind == "conv", "all weights are 7 by then"


def test_fractions_are_computed_as_stock_does(rng):
    """Floats that arrive: stock Conv rounds the sums towards zero, stock Dense fails."""
    from lava.proc.io.source import PySendModelFloat

    data = rng.normal(size=(3, 3, 1, 4)) * 9
    found = []
    for options in ({}, {"fast": True}):
        source = Source(data=data)
        block, sink = (
            Conv(weight=np.full((2, 2, 2, 1), 3), input_shape=(3, 3, 1), num_message_bits=4),
            Sink(shape=(2, 2, 2), buffer=4),
        )
        source.s_out.connect(block.s_in)
        block.a_out.connect(sink.a_in)
        models = {Source: PySendModelFloat}
        cfg = Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=models)
        cfg = fast_sim_cfg(exception_proc_model_map=models) if options else cfg
        with watched(block, cfg, timeout=30) as runtime:
            runtime.run(4)
            found.append(sink.data.get())
    assert np.array_equal(*found) and found[0].any()
