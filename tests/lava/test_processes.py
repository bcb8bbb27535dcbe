"""The contract of every neuron process: Lava = numpy, spike for spike and state for state, with stock neighbours."""

import numpy as np
import pytest
from nets import multi_level_graph

pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")

from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from multi_level.process import MultiLevel

import lava_conv as lc
from lava_conv.lava import watched
from lava_conv.network.fixedpoint import STATE_MAX
from lava_conv.network.neurons import NEURONS, map_channels
from processes import PROCESSES, Accumulator, CaLIF, Delay, DynamicThreshold, SampleInput, SpikeProbe

KINDS = [*PROCESSES, "LEVELS"]
CFG = Loihi2SimCfg(select_tag="fixed_pt")
NEURON_COUNT, STEPS = 500, 40
compared = 0


@pytest.fixture(autouse=True)
def another_neuron(monkeypatch):
    monkeypatch.setitem(NEURONS, "LEVELS", MultiLevel.neuron)
    monkeypatch.setitem(PROCESSES, "LEVELS", MultiLevel)


def play_numpy(kind, params, inputs, interval=0, offset=0):
    """Spikes (neurons, steps) and the last state, with the reset schedule written out."""
    neuron = NEURONS[kind]
    whole = map_channels(neuron, params, lambda x: np.broadcast_to(np.asarray(x), inputs.shape[:1]).astype(np.int64))
    state, out = neuron.initial_state(whole, np.zeros(len(inputs), np.int64)), []
    for t in range(inputs.shape[1]):
        if interval and t >= offset and (t - offset) % interval == 0:
            state = neuron.initial_state(whole, np.zeros(len(inputs), np.int64))
        spikes, state = neuron.step(state, inputs[:, t], whole)
        out.append(spikes)
    return np.array(out).T, state


def play_lava(kind, params, inputs, pieces=(STEPS,), **options):
    neuron = PROCESSES[kind](shape=inputs.shape[:1], **params._asdict(), **options)
    source, sink = Source(data=inputs), Sink(shape=inputs.shape[:1], buffer=inputs.shape[1])
    source.s_out.connect(neuron.a_in)
    neuron.s_out.connect(sink.a_in)
    with watched(neuron, CFG, timeout=30) as runtime:
        for piece in pieces:
            runtime.run(piece)
        return sink.data.get().astype(np.int64), [getattr(neuron, f).get() for f in NEURONS[kind].State._fields]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [12, 300, 1 << 23])
def test_lava_equals_numpy_spike_for_spike_and_state_for_state(kind, size, rng):
    """Small drive, large drive, and one that saturates the 24-bit state; runs in one piece and in three."""
    for trial in range(4):
        params = NEURONS[kind].random_params(rng, NEURON_COUNT)
        inputs = rng.integers(-size, size, (NEURON_COUNT, STEPS))
        kept = inputs.copy()
        interval, offset = (0, 0) if trial % 2 else (7, 3)
        expected, state = play_numpy(kind, params, inputs, interval, offset)
        pieces = (STEPS,) if trial < 2 else (1, 13, STEPS - 14)
        spikes, seen = play_lava(kind, params, inputs, pieces, reset_interval=interval, reset_offset=offset)
        assert np.array_equal(spikes, expected) and np.array_equal(inputs, kept)
        for a, b in zip(seen, state, strict=True):
            assert np.array_equal(a, np.broadcast_to(b, a.shape))
        global compared
        compared += inputs.size
    print(f"{compared:,} neuron-steps compared so far")


def test_extreme_parameters(rng):
    inputs = rng.integers(-3, 4, (4, STEPS))
    for params in (
        NEURONS["DTB"].Params(np.array([STATE_MAX, -STATE_MAX - 1, 0, 5]), np.array([STATE_MAX, 1, STATE_MAX, 1]), 23),
        NEURONS["CALIF"].Params(np.array([STATE_MAX, 1, 2, 3]), STATE_MAX, -STATE_MAX, STATE_MAX, 0, 23, 0, 4095),
    ):
        kind = "DTB" if hasattr(params, "delta") else "CALIF"
        expected, state = play_numpy(kind, params, inputs)
        spikes, seen = play_lava(kind, params, inputs)
        assert np.array_equal(spikes, expected) and np.array_equal(seen[0], state[0])


@pytest.mark.parametrize("kind", ["DTB", "CALIF"])
def test_with_stock_conv_dense_and_monitor(kind, rng):
    """Stock Conv -> neuron -> stock Dense -> neuron, watched by a stock Monitor."""
    from lava.proc.conv.process import Conv
    from lava.proc.dense.process import Dense
    from lava.proc.monitor.process import Monitor

    values = {"DTB": {"theta": 1, "delta": 2}, "CALIF": {"theta": 2, "v_init": 1}}[kind]
    image = rng.integers(0, 3, (4, 4, 1, 6))
    source = Source(data=image)
    conv = Conv(weight=rng.integers(-2, 3, (2, 3, 3, 1)), input_shape=(4, 4, 1), padding=1, num_message_bits=9)
    first = PROCESSES[kind](shape=(4, 4, 2), **values)
    dense = Dense(weights=2 * rng.integers(-2, 3, (3, 32)), weight_exp=-1, num_message_bits=2)
    second, monitor = PROCESSES[kind](shape=(3,), **values), Monitor()
    source.s_out.connect(conv.s_in)
    conv.a_out.connect(first.a_in)
    first.s_out.reshape((32,)).connect(dense.s_in)
    dense.a_out.connect(second.a_in)
    monitor.probe(second.v, 6)
    with watched(second, CFG, timeout=30) as runtime:
        runtime.run(6)
        seen, last = monitor.get_data()[second.name]["v"], second.v.get()
    assert seen.shape == (6, 3) and np.array_equal(seen[-1], last) and seen.any()


def test_through_stock_netx_blocks(rng):
    from lava.lib.dl.netx.blocks.process import Dense as DenseBlock

    weight = 2 * rng.integers(-9, 10, (5, 8))
    inputs = rng.integers(-1, 2, (8, 12))
    block = DenseBlock(
        shape=(5,),
        neuron_params={"neuron_proc": CaLIF, "theta": 4, "v_init": 2, "num_message_bits": 2},
        weight=weight,
        weight_exponent=0,
        input_message_bits=2,
    )
    source, sink = Source(data=inputs), Sink(shape=(5,), buffer=12)
    source.s_out.connect(block.inp)
    block.out.connect(sink.a_in)
    with watched(block, Loihi2SimCfg(select_tag="fixed_pt"), timeout=30) as runtime:
        runtime.run(12)
        seen = sink.data.get()
    drive = np.concatenate([np.zeros((5, 1), np.int64), (weight @ inputs)[:, :-1]], axis=1)  # Dense adds one step
    expected, _ = play_numpy("CALIF", NEURONS["CALIF"].Params(np.full(5, 4), 0, 0, 2), drive)
    assert np.array_equal(seen, expected) and expected.any()


def test_wrong_parameters_are_told_at_once():
    with pytest.raises(lc.RangeError, match="CaLIF: theta is 0, allowed is 1"):
        CaLIF(shape=(3,), theta=0)
    with pytest.raises(lc.RangeError, match="v_neg is -2"):
        CaLIF(shape=(3,), theta=5, v_neg=-2)
    with pytest.raises(lc.RangeError, match="mine: delta is 0"):
        DynamicThreshold(shape=(3,), theta=0, delta=0, name="mine")


def test_fractions_are_for_floating_pt_and_never_cut_off(rng):
    with pytest.raises(lc.RangeError, match=r"delta is 0.5, allowed is 1\.\."):
        DynamicThreshold(shape=(1,), theta=2, delta=0.5)
    for tag in ("fixed_pt", "floating_pt"):
        source, neuron = Source(data=np.array([[9.0, 0, 0]])), DynamicThreshold(shape=(1,), theta=2.5, delta=5)
        source.s_out.connect(neuron.a_in)
        if tag == "fixed_pt":
            with (
                pytest.raises(lc.RangeError, match=r"DynamicThreshold: theta is 2\.5, the fixed_pt model takes whole"),
                watched(neuron, Loihi2SimCfg(select_tag=tag)) as runtime,
            ):
                runtime.run(1)
        else:
            with watched(neuron, Loihi2SimCfg(select_tag=tag)) as runtime:
                runtime.run(3)
                assert neuron.theta.get()[0] == 2.5 and neuron.n.get()[0] == 1


class Values:
    """A data set for StateDataloader: arrays in turn, given by hand."""

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return self.values[index], index


def writes(kind, rng, count, shift_too):
    """{Var: (interval, offset, arrays)}: to every parameter and state of a neuron, theta and -v_neg alike at once."""
    high = {
        "theta": 9,
        "delta": 5,
        "max_count": 5,
        "leak_steps": 6,
        "unipolar": 2,
        "dv": 900,
        "shift": 3,
        "k": 9,
    }
    theta = [rng.integers(1, 9, count) for _ in range(3)]
    found = {}
    neuron = NEURONS[kind]
    for number, name in enumerate((*neuron.channel_fields, *neuron.scalar_fields, *neuron.State._fields)):
        if name in ("dv", "shift") and not shift_too:
            continue
        shape = 1 if name in neuron.scalar_fields else count
        low = 1 if name in ("theta", "delta") else 0 if name in (*high, "n", "ca") else -9
        arrays = [rng.integers(low, high.get(name, 9), shape) for _ in range(3)]
        found[name] = (5 + number, number % 5, arrays)
    if "third" in found:  # they rise, and are written to in the same step
        rising = [np.sort(rng.integers(-9, 30, (3, count)), axis=0) for _ in range(3)]
        found |= {name: (6, 1, [rows[i] for rows in rising]) for i, name in enumerate(("first", "second", "third"))}
    if "v_neg" in found:
        found["theta"], found["v_neg"] = (6, 1, theta), (6, 1, [-one for one in theta])
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
def test_what_ref_ports_write_to_any_var_arrives(kind, tag, rng):
    """Every Var of a neuron is written to, some in the same step: sent and held is what plain numpy computes."""
    from lava.proc.io.dataloader import StateDataloader

    count, neuron = 7, NEURONS[kind]
    plan = writes(kind, rng, count, tag == "fixed_pt")
    process = PROCESSES[kind](shape=(count,), **dict.fromkeys(NEURONS[kind].required, 3))
    inputs = rng.integers(-5, 9, (count, STEPS))
    source, sink = Source(data=inputs), Sink(shape=(count,), buffer=STEPS)
    source.s_out.connect(process.a_in)
    process.s_out.connect(sink.a_in)
    for name, (interval, offset, arrays) in plan.items():
        loader = StateDataloader(dataset=Values(arrays), interval=interval, offset=offset)
        loader.connect_var(getattr(process, name))
    fields = (*neuron.channel_fields, *neuron.scalar_fields)
    held = {name: np.array(getattr(process, name).init).astype(np.int64) for name in (*fields, *neuron.State._fields)}
    held |= {name: held[name].reshape(1) for name in neuron.scalar_fields}
    sent, used = [], dict.fromkeys(plan, 0)
    for t in range(STEPS):
        params = neuron.Params(
            **{name: int(held[name][0]) if name in neuron.scalar_fields else held[name] for name in fields}
        )
        spikes, state = neuron.step(neuron.State(*(held[n] for n in neuron.State._fields)), inputs[:, t], params)
        sent.append(spikes)
        held |= state._asdict()
        for name, (interval, offset, arrays) in plan.items():
            if t % interval == offset:
                held[name] = arrays[used[name] % 3]
                used[name] += 1
    with watched(process, Loihi2SimCfg(select_tag=tag), timeout=30) as runtime:
        runtime.run(STEPS)
        assert np.array_equal(sink.data.get(), np.array(sent).T) and np.any(sent)
        for name, value in held.items():
            assert np.array_equal(getattr(process, name).get(), value), name


@pytest.mark.parametrize(
    ("value", "told"),
    [(1 << 40, "theta was written to in step 3, but .* is outside"), (0, "step 4: theta is 0, allowed is 1")],
)
def test_a_ref_port_that_writes_what_does_not_fit_ends_the_run(value, told):
    from lava.proc.io.reset import Reset

    process, reset = CaLIF(shape=(2,), theta=3, name="n"), Reset(interval=9, offset=2, reset_value=value)
    reset.connect_var(process.theta)
    Source(data=np.ones((2, 1), int)).s_out.connect(process.a_in)
    with pytest.raises(lc.RangeError, match=f"n.*{told}"), watched(process, CFG, timeout=30) as runtime:
        runtime.run(STEPS)


@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
def test_delays_and_images_keep_what_they_are_given(tag):
    """Fractions arrive in floating_pt; in fixed_pt they are refused, and never cut."""
    from lava.proc.io.reset import Reset

    frames = np.array([[0.75, -2.5], [3, 1 << 33]]) if tag == "floating_pt" else np.array([[7, -2], [3, 1 << 30]])
    scale = 1.5 if tag == "floating_pt" else -1
    images, delay = SampleInput(images=frames, interval=2), Delay(shape=2, steps=3, scale=scale)
    direct, late, reset = Sink(shape=(2,), buffer=8), Sink(shape=(2,), buffer=8), Reset(interval=8, offset=3)
    images.s_out.connect(direct.a_in)
    images.s_out.connect(delay.s_in)
    delay.s_out.connect(late.a_in)
    reset.connect_var(delay.line)
    with watched(images, Loihi2SimCfg(select_tag=tag), timeout=30) as runtime:
        runtime.run(3)
        first = late.data.get()
        runtime.run(5)
        seen, after, line = direct.data.get(), late.data.get(), delay.line.get()
    assert np.array_equal(seen[:, :4], np.array([frames[0], [0, 0], frames[1], [0, 0]]).T) and not first.any()
    assert np.array_equal(after[:, 3], scale * frames[0]) and not after[:, 4:].any() and not line.any()
    for odd in (0.5, 1 << 31):
        if tag == "fixed_pt":
            for process in (
                SampleInput(images=np.array([[odd]]), interval=1, name="n"),
                Delay(shape=1, steps=1, scale=0.5, name="n"),
            ):
                with pytest.raises(lc.RangeError, match=r"n: .* choose floating_pt"), watched(process, CFG):
                    pass


def test_fractions_that_arrive_are_refused_by_fixed_pt():
    from lava.proc.io.source import PySendModelFloat

    for value, told in ((2.5, "2.5 at .* is no whole number"), (np.nan, "is not finite"), (1e12, "is outside")):
        for process in (CaLIF(shape=(2,), theta=3, name="n"), Delay(shape=2, steps=1, name="n")):
            source = Source(data=np.array([[1.0, 2.0], [1.0, value]]))
            source.s_out.connect(process.a_in if hasattr(process, "a_in") else process.s_in)
            cfg = Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map={Source: PySendModelFloat})
            words = f"n: what arrives at ._in in step 2 .*{told}"
            with pytest.raises(lc.RangeError, match=words), watched(process, cfg, timeout=30) as runtime:
                runtime.run(4)


@pytest.mark.parametrize(
    ("kind", "value", "interval", "told"),
    [
        (np.int8, 127, 1, None),
        (np.int8, 128, 1, "step 1: .* 128 .*is outside -128..127, the range of int8"),
        (np.int8, 50, 3, "step 3: .* 150 .*is outside -128..127"),
        (np.int16, 50, 3, None),
        (np.uint8, -1, 1, "-1 .*is outside 0..255"),
        (np.int8, 0.5, 1, "0.5 .*is no whole number"),
        (np.float32, 0.5, 1, None),
        (np.float32, (1 << 24) + 1, 1, "cannot be written exactly in float32"),
        (np.float32, 1e300, 1, "is outside"),
        (bool, 2, 1, "is outside 0..1"),
    ],
)
def test_a_probe_records_what_its_file_holds_or_says_so(kind, value, interval, told, tmp_path):
    path = str(tmp_path / "p.npy")
    rows = SpikeProbe.allocate(path, 6 // interval, (2,), kind)
    source, probe = (
        Source(data=np.array([[0], [value]])),
        SpikeProbe(shape=(2,), path=path, interval=interval, name="n"),
    )
    source.s_out.connect(probe.s_in)
    cfg = Loihi2SimCfg(select_tag="floating_pt" if isinstance(value, float) else "fixed_pt")
    if told:
        with pytest.raises(lc.RangeError, match=f"n, .*{told}"), watched(source, cfg, timeout=30) as runtime:
            runtime.run(6)
    else:
        with watched(source, cfg, timeout=30) as runtime:
            runtime.run(6)
        assert np.array_equal(rows, np.tile([0, value * interval], (6 // interval, 1)).astype(kind))


def test_two_sources_of_one_probe_are_added_up(tmp_path):
    path = str(tmp_path / "p.npy")
    rows = SpikeProbe.allocate(path, 4, (1,), np.int16)
    probe = SpikeProbe(shape=(1,), path=path)
    neurons = [DynamicThreshold(shape=(1,), theta=0, delta=1), Delay(shape=1, steps=1)]
    sources = [Source(data=np.array([[5]])), Source(data=np.array([[100]]))]
    for source, neuron in zip(sources, neurons, strict=True):
        source.s_out.connect(neuron.a_in if hasattr(neuron, "a_in") else neuron.s_in)
        neuron.s_out.connect(probe.s_in)
    with watched(probe, CFG, timeout=30) as runtime:
        runtime.run(4)
    assert rows.ravel().tolist() == [1, 101, 101, 101]


def refusals(tmp_path):
    """Wrong arguments: (what to construct, kind of error, words of it)."""
    path = str(tmp_path / "p.npy")
    SpikeProbe.allocate(path, 3, (2,))
    (tmp_path / "text.npy").write_text("nothing")
    lif = {"shape": (3,), "theta": 4}
    yield from (
        (CaLIF, lif | {"theta": np.nan}, lc.RangeError, "CaLIF: theta is nan, allowed are finite"),
        (CaLIF, lif | {"theta": [1, np.inf, 2]}, lc.RangeError, "theta is inf"),
        (CaLIF, lif | {"theta": "4"}, lc.DataError, "theta is '4', it takes numbers"),
        (CaLIF, lif | {"theta": None}, lc.DataError, "theta is None"),
        (CaLIF, lif | {"theta": [1, 2]}, lc.DataError, r"theta has the shape \(2,\).* does not broadcast to \(3,\)"),
        (CaLIF, {"shape": (3, 2, 2), "theta": [1, 2, 3]}, lc.DataError, "channels come last"),
        (CaLIF, {"shape": (3,)}, TypeError, "CaLIF: theta must be given"),
        (CaLIF, lif | {"vth": 4}, TypeError, "CaLIF: there is no parameter vth; there are theta, bias"),
        (CaLIF, lif | {"shift": 1.5}, lc.RangeError, "shift is 1.5, allowed is one integer"),
        (CaLIF, lif | {"dv": [1, 2]}, lc.RangeError, "dv is .*, allowed is one integer"),
        (CaLIF, lif | {"shape": (3.7,)}, lc.RangeError, "shape is"),
        (CaLIF, lif | {"shape": (0,)}, lc.RangeError, "shape is"),
        (CaLIF, lif | {"reset_interval": -3}, lc.RangeError, "reset_interval is -3, allowed is an integer of 0"),
        (CaLIF, lif | {"reset_interval": 2.5}, lc.RangeError, "reset_interval is 2.5"),
        (CaLIF, lif | {"reset_offset": -1}, lc.RangeError, "reset_offset is -1"),
        (DynamicThreshold, {"shape": 2, "theta": 0, "delta": np.nan}, lc.RangeError, "delta is nan"),
        (Accumulator, {"shape": 2, "bias": 1 << 23}, lc.RangeError, "bias is 8388608"),
        (Delay, {"shape": 2, "steps": 0}, lc.RangeError, "steps is 0, allowed is an integer of 1"),
        (Delay, {"shape": 2, "steps": 2.5}, lc.RangeError, "steps is 2.5"),
        (Delay, {"shape": 2, "steps": 1, "scale": np.nan}, lc.RangeError, "scale is nan"),
        (Delay, {"shape": 2, "steps": 1, "scale": 1 << 24}, lc.RangeError, "scale is 16777216"),
        (SampleInput, {"images": [[1, 2]], "interval": 0}, lc.RangeError, "interval is 0, allowed is an integer of 1"),
        (SampleInput, {"images": [1, 2], "interval": 1}, lc.DataError, "it takes .N, ..."),
        (SampleInput, {"images": [["a"]], "interval": 1}, lc.DataError, "it takes numbers"),
        (SampleInput, {"images": [[np.nan]], "interval": 1}, lc.RangeError, "images is nan"),
        (SpikeProbe, {"shape": 2, "path": path + "x"}, lc.DataError, "there is no file .*SpikeProbe.allocate"),
        (SpikeProbe, {"shape": 3, "path": path}, lc.DataError, r"rows of .* are \(2,\) of int8, .* shape \(3,\)"),
        (SpikeProbe, {"shape": 2, "path": str(tmp_path / "text.npy")}, lc.DataError, "cannot be read"),
        (SpikeProbe, {"shape": 2, "path": path, "start": -1}, lc.RangeError, "start is -1"),
        (SpikeProbe, {"shape": 2, "path": path, "interval": 0}, lc.RangeError, "interval is 0"),
    )


def test_wrong_arguments_of_every_process(tmp_path):
    checked = 0
    for process, values, kind, words in refusals(tmp_path):
        with pytest.raises(kind, match=words):
            process(**values)
        checked += 1
    assert checked == 30
    assert SampleInput(images=[[1, 2]], interval=2).s_out.shape == (2,)


def test_a_network_of_another_neuron_on_lava(rng):
    graph, images = multi_level_graph(rng), rng.integers(0, 256, (4, 1, 6, 6), dtype=np.uint8)
    comparison = lc.compare(graph, images)
    assert comparison.equal and comparison.records[1].spikes[1].any()
    with pytest.raises(lc.RangeError, match=r"MultiLevel: second is 8388608, allowed is -8388608\.\.8388607"):
        MultiLevel(shape=3, first=0, second=STATE_MAX + 1, third=9)
    with pytest.raises(lc.RangeError, match="MultiLevel: first, second and third must rise"):
        MultiLevel(shape=3, first=0, second=8, third=7)
    assert "Vars: all parameters, and the state u, n" in str(MultiLevel.__doc__)
