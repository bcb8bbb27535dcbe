"""Access to Vars: what does not fit is refused before anything is sent, and no answer is waited for without end."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")

from lava.magma.core.run_conditions import RunContinuous
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF
from lava.proc.sparse.process import Sparse
from scipy.sparse import csr_matrix

import lava_conv as lc
from lava_conv.lava import watched
from lava_conv.lava.fit import misfit
from lava_conv.network.fixedpoint import STATE_MAX
from processes import CaLIF, Delay, DynamicThreshold

FIXED, FLOATING = Loihi2SimCfg(select_tag="fixed_pt"), Loihi2SimCfg(select_tag="floating_pt")


def driven(neuron, data=None):
    """`neuron` behind a source of threes."""
    source = Source(data=np.full((*neuron.a_in.shape, 1), 3) if data is None else data)
    source.s_out.connect(neuron.a_in)
    return neuron


def test_every_value_is_checked_before_it_is_sent():
    neuron = driven(CaLIF(shape=(2, 3), theta=[4, 5, 6], name="n"))
    refused = [
        (neuron.theta, "9", lc.DataError, "'9'; it takes numbers of shape"),
        (neuron.theta, None, lc.DataError, "None; it takes numbers"),
        (neuron.theta, [[1, 2], [3]], (lc.DataError, ValueError), ""),
        (neuron.theta, 1j, lc.DataError, "it takes numbers"),
        (neuron.theta, np.zeros(6, int), lc.DataError, r"theta of n has the shape \(2, 3\), the value has \(6,\)"),
        (neuron.theta, np.ones((3, 2)), lc.DataError, r"the value has \(3, 2\)"),
        (neuron.theta, [4, 5, 6], lc.DataError, r"the value has \(3,\)"),
        (neuron.theta, [], lc.DataError, r"the value has \(0,\)"),
        (neuron.theta, 2.5, lc.RangeError, "2.5 at .* is no whole number"),
        (neuron.theta, np.nan, lc.RangeError, "nan at .* is not finite"),
        (neuron.theta, np.inf, lc.RangeError, "inf at .* is not finite"),
        (neuron.theta, 1 << 40, lc.RangeError, "is outside -2147483648..2147483647"),
        (neuron.theta, 0, lc.RangeError, "theta is 0, allowed is 1"),
        (neuron.theta, STATE_MAX + 1, lc.RangeError, "theta is 8388608"),
        (neuron.v_neg, 4, lc.RangeError, "v_neg is 4"),
        (neuron.shift, 24, lc.RangeError, "shift is 24"),
        (neuron.shift, [1, 1], lc.DataError, r"the value has \(2,\)"),
        (neuron.v, STATE_MAX + 1, lc.RangeError, "v is 8388608"),
        (neuron.ca, -1, lc.RangeError, "ca is -1"),
        (neuron.unipolar, 2, lc.RangeError, "unipolar is 2"),
    ]
    with watched(neuron, FIXED, timeout=20) as runtime:
        runtime.run(3)
        before = {var.name: var.get() for var in neuron.vars}
        for var, value, kind, words in refused:
            with pytest.raises(kind, match=words):
                var.set(value)
            assert np.array_equal(var.get(), before[var.name]), "nothing was sent"
        with pytest.raises(lc.DataError, match="cannot be set in part"):
            neuron.theta.set(np.full((2, 3), 9), np.array([0]))
        assert all(np.array_equal(var.get(), before[var.name]) for var in neuron.vars)
        neuron.theta.set(7)
        assert np.array_equal(neuron.theta.get(), np.full((2, 3), 7))
        values = np.asfortranarray(np.arange(6).reshape(2, 3))
        neuron.v.set(values)
        assert np.array_equal(neuron.v.get(), values) and np.array_equal(neuron.v.get(np.s_[1]), values[1])
        neuron.theta.set([[9, 8, 7], [6, 5, 4]])
        neuron.v_neg.set([[-9, -8, -7], [-6, -5, -4]])
        runtime.run(1)
        neuron.theta.set(3)  # one after the other, so each alone is allowed; together they are not
        with pytest.raises(lc.RangeError, match="n, step 5: v_neg is -9, allowed is 0 or -theta"):
            runtime.run(1)
    with pytest.raises(lc.BackendError, match=r"v of n cannot be read: this Lava network has ended .n, step 5: v_neg"):
        neuron.v.get()


def test_before_the_first_run_between_runs_during_one_and_after():
    neuron = driven(DynamicThreshold(shape=(2,), theta=0, delta=3, name="n"))
    assert np.array_equal(neuron.delta.get(), [3, 3])
    with pytest.raises(ValueError, match="No Runtime"):
        neuron.delta.set(4)
    with watched(neuron, FIXED, timeout=20) as runtime:
        assert np.array_equal(neuron.v.get(), [0, 0]) and np.array_equal(neuron.delta.get(), [3, 3])
        neuron.delta.set(6)
        neuron.v.set([0, 30])
        runtime.run(2)
        assert np.array_equal(neuron.v.get(), [6, 36]) and np.array_equal(neuron.n.get(), [1, 2])
        runtime.start(RunContinuous())
        for use in (neuron.v.get, lambda: neuron.v.set(0)):
            with pytest.raises(lc.BackendError, match=r"v of n cannot be .* during a run"):
                use()
        runtime.pause()
        assert neuron.v.get()[0] >= 6
        neuron.v.set(5)
        assert np.array_equal(neuron.v.get(), [5, 5])
    for use in (neuron.v.get, lambda: neuron.v.set(0)):
        with pytest.raises(lc.BackendError, match=r"v of n cannot be .*: this Lava network was stopped"):
            use()


@pytest.mark.parametrize("use", ["get", "set"])
@pytest.mark.parametrize(
    ("number", "told"),
    [(signal.SIGKILL, r"process n died \(signal 9\) while (reading|setting) v of n"), (signal.SIGSTOP, "did not move")],
)
def test_a_child_that_died_or_stands_still_between_runs(use, number, told):
    neuron = driven(CaLIF(shape=(70,), theta=4, name="n"))
    start = time.monotonic()
    with pytest.raises(lc.BackendError, match=told), watched(neuron, FIXED, timeout=3) as runtime:
        runtime.run(2)
        os.kill(runtime._messaging_infrastructure.actors[runtime._children.names.index("n")].pid, number)
        start = time.monotonic()
        neuron.v.get() if use == "get" else neuron.v.set(np.zeros(70))
    assert time.monotonic() - start < 10
    assert multiprocessing.active_children() == []


def test_vars_that_are_no_arrays():
    """Stock Lava never answers for a float, and makes a float of an int that is set."""
    for cfg, sort in ((FIXED, int), (FLOATING, float)):
        lif = driven(LIF(shape=(2,), du=sort(1), dv=sort(0), vth=1 << 20, name="lif"))
        with watched(lif, cfg, timeout=20) as runtime:
            runtime.run(1)
            assert lif.du.get() == 1
            lif.du.set(0.25 if sort is float else 4095)
            lif.v.set([7, -7])
            assert lif.du.get() == (0.25 if sort is float else 4095)
            runtime.run(2)
            if sort is int:
                assert np.array_equal(lif.v.get(), [7 + 2 * 192, -7 + 2 * 192])  # u is 3 << 6 in each step
                with pytest.raises(lc.RangeError, match=r"du of lif cannot be set: -1 .*is outside 0\.\.65535"):
                    lif.du.set(-1)
            else:
                current = (3 * 0.75 + 3) + ((3 * 0.75 + 3) * 0.75 + 3)
                assert np.array_equal(lif.v.get(), [7 + current, -7 + current])


def test_sparse_weights():
    weights = csr_matrix(np.array([[2.0, 0, 4], [0, 6, 0]]))
    sparse, source, sink = (
        Sparse(weights=weights, num_message_bits=4),
        Source(data=np.ones((3, 1))),
        Sink(shape=(2,), buffer=4),
    )
    source.s_out.connect(sparse.s_in)
    sparse.a_out.connect(sink.a_in)
    with watched(sparse, FLOATING, timeout=20) as runtime:
        runtime.run(1)
        assert (sparse.weights.get() != weights).nnz == 0
        sparse.weights.set(weights * 3)
        with pytest.raises(lc.DataError, match="in the same places"):
            sparse.weights.set(csr_matrix(np.ones((2, 3))))
        with pytest.raises(lc.DataError, match="holds 3 values that are not 0"):
            sparse.weights.set([1.0, 2.0])
        runtime.run(2)
        assert np.array_equal(sink.data.get()[:, :3], [[0, 6, 18], [0, 6, 18]])


def test_delay_line_and_steps_of_a_run():
    delay, source = Delay(shape=(2,), steps=3, name="d"), Source(data=np.array([[1, 2, 3], [4, 5, 6]]))
    source.s_out.connect(delay.s_in)
    with watched(delay, FIXED, timeout=20) as runtime:
        runtime.run(3)
        assert np.array_equal(delay.line.get(), [[1, 4], [2, 5], [3, 6]])
        with pytest.raises(lc.RangeError, match=r"scale of d cannot be set: 0.5 .* is no whole number"):
            delay.scale.set(0.5)
        for steps in (0, -1, -3, 2.0, "2", None):
            with pytest.raises(lc.RangeError, match="the number of time steps is"):
                runtime.run(steps)
        runtime.run(np.int64(1))
        assert np.array_equal(delay.line.get()[0], [1, 4])
    for timeout in (0, -1, np.nan, np.inf):
        with pytest.raises(lc.RangeError, match="timeout is"), watched(delay, FIXED, timeout=timeout):
            pass


def test_what_a_type_holds():
    values = np.array([0, 1, -1, 127, 128, -129, 255, 256, 1 << 24, (1 << 24) + 1, 1 << 40])
    for kind in (bool, np.int8, np.uint8, np.int16, np.int32, np.int64, np.float32):
        for value in values:
            exact = int(np.array(value).astype(kind)) == value
            assert (misfit(value, kind) is None) == exact, (value, kind)
    for value in (0.5, np.nan, np.inf, 1e300):
        assert misfit(np.array([1.0, value]), np.int64)
    assert misfit(0.1, np.float32) is None and misfit(1e300, np.float32) and misfit(np.array("9"), np.int8)


def test_a_worker_of_a_pool_is_told_why():
    with multiprocessing.get_context("fork").Pool(1) as pool:
        text = pool.apply(_in_pool)
    assert "it is a daemon, as the workers of multiprocessing.Pool are" in text


def _in_pool():
    try:
        with watched(driven(CaLIF(shape=(1,), theta=1)), FIXED):
            return "it ran"
    except lc.BackendError as error:
        return str(error)


@pytest.mark.parametrize("name", ["processes/__init__.py", "processes.py", "lava/__init__.py", "lava.py"])
def test_a_name_that_hides_ours_is_named(name, tmp_path):
    import subprocess
    import sys

    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    code = (
        "import lava_conv as lc\ntry:\n    import lava_conv.backends.lava\nexcept lc.BackendError as e:\n    print(e)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert f"{tmp_path / name} hides it; rename that file or folder" in done.stdout, done.stderr
