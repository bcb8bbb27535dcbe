"""Lowered networks: the same integers through stock neurons, or a sentence that says which condition fails."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from command import call
from nets import images, lively

import lava_conv as lc
from lava_conv import qat
from lava_conv.analysis.comparison import compare_records
from lava_conv.lowering import assembly, write_script, write_stock
from lava_conv.network.graph import Graph, Layer, Skip
from lava_conv.network.neurons import NEURONS
from lava_conv.network.synapses import Conv, Dense, Identity
from lava_conv.record import Record
from lava_conv.training.models import MODELS

CALIF, DTB, ACC = (NEURONS[name].Params for name in ("CALIF", "DTB", "ACC"))


def with_lava():
    pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")


def assert_exact(graph, x, lowered=None, varied=True):
    """Every count and logit of the lowered network is the reference's, and the network does something."""
    lowered = lowered or lc.lower(graph)
    found, wanted = lowered.run(x), graph.reference(x)
    assert lowered.exact and sorted(found.counts) == sorted(wanted.counts)
    for index, counts in wanted.counts.items():
        assert np.array_equal(found.counts[index], counts), f"layer {index}"
    assert np.array_equal(found.logits, wanted.logits)
    assert max(int(c.max()) for c in wanted.counts.values()) >= 2 and (np.ptp(wanted.logits) > 0 or not varied)
    return lowered


def neuron(rng, kind, channels, steps, limit, shift=0):
    """A neuron whose steps are the given ones times 2^shift; thresholds anywhere."""
    delta = rng.choice(steps, channels).astype(np.int64) << shift
    theta = rng.integers(-2 * delta.max(), 3 * delta.max(), channels)
    if kind == "DTB":
        return DTB(theta, delta, shift, limit)
    v_init = rng.integers(0, delta.max(), channels)
    leak = rng.integers(-3, 4, channels)
    return CALIF(delta, -theta - v_init - 5 * leak, leak, v_init, 0 * delta, shift, limit, 0, 5)


def chain(rng, kind, limit, code="flash", shift=0):
    """Convolutions of all sorts, a flatten layer, two dense ones."""

    def weight(*shape, most=20):
        return rng.integers(-most, most + 1, shape)

    steps = 4
    first = steps << 9 if code == "constant" else 1 << 10
    layers = [
        Layer("input", (2, 9, 8)),
        Layer("conv", (5, 9, 8), Conv(weight(5, 2, 3, 3), padding=(1, 1)), kind, neuron(rng, kind, 5, [first], limit)),
        Layer(
            "conv", (5, 5, 4), Conv(weight(5, 1, 3, 2), (2, 2), (1, 0), groups=5), kind,
            neuron(rng, kind, 5, [16, 32, 64], limit, shift),
        ),
        Layer(
            "conv", (4, 3, 2), Conv(weight(4, 5, 2, 2, most=60), dilation=(2, 2)), kind,
            neuron(rng, kind, 4, [64, 128, 256], limit),
        ),
        Layer("flatten", (24,)),
        Layer("dense", (7,), Dense(weight(7, 24)), kind, neuron(rng, kind, 7, [32, 64, 4096], limit)),
        Layer("dense", (3,), Dense(weight(3, 7, most=127)), "ACC", ACC(rng.integers(-9000, 9000, 3) * 4, 2)),
    ]  # fmt: skip
    return Graph(tuple(layers), steps, code)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("kind", "limit", "code"), [("DTB", 0, "flash"), ("CALIF", 3, "flash"), ("DTB", 5, "constant")]
)
def test_chains_are_exact(kind, limit, code, seed):
    rng = np.random.default_rng(seed)
    graph = chain(rng, kind, limit, code, shift=seed % 3)
    lowered = assert_exact(graph, images((2, 9, 8), 30, seed))
    assert any(stage.divides for stage in lowered.stages) and all(c.status == "met" for c in lowered.conditions)
    over = [key for stage in lowered.stages for key in stage.wires if key[0] == assembly.OVER]
    assert bool(over) == bool(limit)


def residual(rng, identity, limit=6):
    """A block with a shortcut past two convolutions, of which the first may halve the picture."""

    def params(channels):
        return neuron(rng, "CALIF", channels, [64, 128], limit)

    stride = (1, 1) if identity else (2, 2)
    size = 8 if identity else 4
    skip = Identity(24) if identity else Conv(rng.integers(-40, 41, (6, 6, 1, 1)), stride)

    def conv(channels, stride=(1, 1)):
        return Conv(rng.integers(-12, 13, (6, channels, 3, 3)), stride, (1, 1))

    layers = [
        Layer("input", (3, 8, 8)),
        Layer("conv", (6, 8, 8), conv(3), "CALIF", neuron(rng, "CALIF", 6, [1024], limit)),
        Layer("conv", (6, size, size), conv(6, stride), "CALIF", params(6)),
        Layer("conv", (6, size, size), conv(6), "CALIF", params(6), (Skip(1, skip),)),
        Layer("conv", (6, size, size), conv(6), "CALIF", params(6)),
        Layer("conv", (6, size, size), conv(6), "CALIF", params(6), (Skip(3, Identity(32)),)),
        Layer("flatten", (6 * size * size,)),
        Layer("dense", (4,), Dense(rng.integers(-30, 31, (4, 6 * size * size))), "ACC", ACC(np.arange(4))),
    ]
    return Graph(tuple(layers), 8)


@pytest.mark.parametrize("identity", [True, False])
def test_residual_blocks_carry_their_shortcuts_along(rng, identity):
    lowered = assert_exact(residual(rng, identity), images((3, 8, 8), 20))
    assert any((assembly.COUNT, 1) in stage.wires and stage.layer == 2 for stage in lowered.stages)


def trained(model, shape, method="gao", step=None, **options):
    """A network with lively statistics, as if trained for lowering, and its graph; all steps are `step` if given."""
    prepared = lively(qat.prepare(model, method, power_of_two=True, **options), shape)
    for quantiser in prepared.modules():
        if isinstance(quantiser, qat.LearnedStep) and step:
            quantiser.step.data.fill_(step)
    return lc.convert(prepared, images(shape, 2), 8)


@pytest.mark.parametrize("method", ["gao", "zou"])
@pytest.mark.parametrize("step_max", [None, 64])
def test_what_is_trained_with_powers_of_two_lowers(method, step_max):
    torch.manual_seed(0)
    graph = trained(MODELS["digits"](), (1, 8, 8), method, n_max=6, levels=6, step_max=step_max)
    lowered = assert_exact(graph, images((1, 8, 8), 40))
    divided = [stage.layer for stage in lowered.stages if stage.divides]
    assert divided if step_max is None else not divided


def test_a_whole_residual_network_lowers():
    torch.manual_seed(0)
    graph = trained(MODELS["resnet20"](1, 8, 10, width=4), (1, 8, 8), levels=6, step=0.5, step_max=64)
    assert any(layer.skips for layer in graph.layers)
    assert_exact(graph, images((1, 8, 8), 12))


def test_digits_of_a_bias():
    bias = np.arange(-40_000, 40_000, 7)
    found = assembly.digits(np.concatenate([bias, [2_064_384, -2_064_384, 127 * 128 + 63, 0]]))
    total = sum(constant * weight for constant, weight in found.items())
    assert np.array_equal(total[: len(bias)], bias) and total[-4:].tolist() == [2_064_384, -2_064_384, 16_319, 0]
    assert max(int(np.abs(weight).max()) for weight in found.values()) <= 127
    assert not found[128 * 128][: len(bias)][np.abs(bias) < 16_000].any()


def small(params=None, kind="CALIF", weight=5, readout=None, first=None):
    one = np.ones(2, np.int64)
    params = params or CALIF(64 * one, 0 * one, 0 * one, 32 * one, 0 * one, ca_max=4)
    first = first or Conv(np.full((2, 1, 2, 2), weight))
    size = first.output_shape((1, 4, 4))
    flat = int(np.prod(size))
    layers = (
        Layer("input", (1, 4, 4)),
        Layer("conv", size, first, kind, params),
        Layer("flatten", (flat,)),
        Layer("dense", (2,), Dense(np.ones((2, flat))), "ACC", readout or ACC(0 * one)),
    )
    return Graph(layers, 4)


ONE = np.ones(2, np.int64)
FAILING = {
    "step": (
        small(CALIF(np.array([64, 96]))),
        r"layer 1: step: 1 of 2 channels have none, as channel 1 with 96.*power",
    ),
    "neuron": (small(CALIF(64 * ONE, v_neg=-64 * ONE)), r"layer 1: neuron: fires negative spikes at -theta only"),
    "decay": (small(CALIF(64 * ONE, dv=100)), r"layer 1: neuron: its potential decays by 100/4096 a step"),
    "leak": (small(CALIF(64 * ONE, leak=ONE)), r"layer 1: neuron: has a leak without an end"),
    "weights": (small(DTB(0 * ONE, 2 * ONE, 0, 4), "DTB", 5), r"layer 1: weights: the largest is 160 64ths.*127"),
    "bias": (small(DTB(-2_080_000 * ONE, 64 * ONE, 0, 4), "DTB"), r"layer 1: bias: the largest is 2080000.*2064384"),
    "readout": (small(readout=ACC(ONE, 1)), r"layer 3: readout: its bias is no multiple"),
    "path": (small(first=Conv(np.ones((2, 1, 1, 1)), (2, 2), (1, 1))), r"layer 1: path: every tap.*reads padding"),
}


@pytest.mark.parametrize("name", list(FAILING))
def test_each_condition_that_fails_is_named(name):
    graph, sentence = FAILING[name]
    with pytest.raises(lc.ConversionError, match=sentence) as caught:
        lc.lower(graph)
    assert len(str(caught.value).splitlines()) == 1


def test_all_failing_conditions_are_named_at_once():
    params = CALIF(np.array([96, 64]), dv=1)
    with pytest.raises(lc.ConversionError) as caught:
        lc.lower(small(params, readout=ACC(ONE, 1)))
    assert [line.split(":")[1].strip() for line in str(caught.value).splitlines()] == ["neuron", "step", "readout"]


@pytest.mark.parametrize("name", ["step", "neuron", "weights", "readout"])
def test_approximate_lowering_is_near_and_says_how_near(name):
    graph, _ = FAILING[name]
    lowered = lc.lower(graph, approximate=True)
    assert not lowered.exact and any(c.status == "approximated" and c.name == name for c in lowered.conditions)
    layers, _ = lowered.differences(images((1, 4, 4), 50))
    assert [d.layer for d in layers] == [1] and layers[0].mean < 0.3 * 4


def wide(limit):
    """Ranges that cannot be proven: sums grow from layer to layer if every image is thought possible."""
    one = np.ones(40, np.int64)
    layers = [Layer("input", (1, 4, 4)), Layer("flatten", (16,))]
    for number in range(4):
        shape = (40, 16 if number == 0 else 40)
        weight = np.random.default_rng(number).integers(-30, 61, shape)
        layers.append(Layer("dense", (40,), Dense(weight), "CALIF", CALIF(64 * one, v_init=32 * one, ca_max=limit)))
    layers.append(Layer("dense", (2,), Dense(np.ones((2, 40))), "ACC", ACC(np.zeros(2, np.int64))))
    return Graph(tuple(layers), 4)


def test_ranges_are_proven_or_measured_or_refused():
    with pytest.raises(lc.ConversionError, match=r"layer \d: (state|payload): up to \d+, allowed is .*give images"):
        lc.lower(wide(0))
    with pytest.raises(lc.ConversionError, match=r"on the images given \(\d+ is not excluded\)"):
        lc.lower(wide(0), np.full((1, 1, 4, 4), 255, np.uint8))
    dark = images((1, 4, 4), 20) // 200
    lowered = lc.lower(wide(0), dark)
    assert {c.status for c in lowered.conditions} == {"met", "measured"} and lowered.exact
    assert_exact(wide(0), dark, lowered, varied=False)
    # with an upper clip the same network is proven for every image
    assert {c.status for c in lc.lower(wide(4)).conditions} == {"met"}
    assert_exact(wide(4), images((1, 4, 4), 20), varied=False)


def test_bounds_hold_for_the_worst_images(rng):
    """Of every first-layer neuron the images that drive it furthest: within what was proven."""
    graph = small(weight=1, params=CALIF(64 * ONE, ca_max=4), first=Conv(rng.integers(-9, 10, (2, 1, 4, 4))))
    proven = {c.layer: int(c.found.split()[0]) for c in lc.lower(graph).conditions if c.name == "state"}
    weight = graph.layers[1].synapse.weight
    worst = np.concatenate([(weight > 0) * 255, (weight < 0) * 255]).astype(np.uint8)
    reach = lc.lower(graph).reach(worst)
    over = 64 * 4  # the second neuron, which counts what is beyond the limit
    assert reach[1][0] <= proven[1] and proven[1] - reach[1][0] <= over


def test_a_lowered_network_is_laid_out_on_a_chip(rng):
    lowered = lc.lower(chain(rng, "DTB", 4))
    laid = lc.fit(lowered, "loihi2")
    assert laid.ok and [load.neurons for load in laid.loads] == [int(np.prod(s.shape)) for s in lowered.stages]
    assert {feed.payload_bits for load in laid.loads for feed in load.feeds} == {16}
    reach = lowered.reach(images((2, 9, 8), 50))
    for load, stage in zip(laid.loads, lowered.stages, strict=True):
        assert reach[stage.layer][0] < 2 ** (load.state_bits - 1)
    broken = lc.fit(lc.lower(wide(0), images((1, 4, 4), 20) // 200), "loihi2").broken
    assert {finding.rule for finding in broken} == {"state bits"}  # measured on images, and not proven for any


# -- through stock netx ------------------------------------------------------------------------------------------------


def test_stock_netx_reads_what_was_meant(tmp_path, rng):
    with_lava()
    from lava_conv.backends.sdnn import check_file

    for number, graph in enumerate((chain(rng, "DTB", 4), residual(rng, True), wide(4))):
        lowered = lc.lower(graph)
        write_stock(lowered, tmp_path / f"{number}.net")
        values = sum(stage.synapse.weight.size for stage in lowered.stages)
        assert check_file(lowered, tmp_path / f"{number}.net") == values


@pytest.mark.parametrize("weight", [0, -1, -128 + 1, [[0, -128 + 1]], [[-1, -3]], [[127, -127]], [[1, 0]]])
def test_odd_matrices_come_through(tmp_path, weight):
    """Readouts of zeros, of nothing positive, of odd numbers: stock netx alters or refuses some of them."""
    with_lava()
    from lava_conv.backends.sdnn import check_file

    matrix = np.broadcast_to(weight, (2, 2))
    layers = (
        Layer("input", (2, 1, 1)),
        Layer("conv", (2, 1, 1), Conv(np.eye(2)[:, :, None, None] * 64), "CALIF", CALIF(64 * ONE)),
        Layer("flatten", (2,)),
        Layer("dense", (2,), Dense(matrix), "ACC", ACC(0 * ONE)),
    )
    graph = Graph(layers, 4)
    lowered = lc.lower(graph)
    write_stock(lowered, tmp_path / "m.net")
    check_file(lowered, tmp_path / "m.net")
    x = images((2, 1, 1), 20)
    assert np.array_equal(lowered.run(x).logits, graph.reference(x).logits)
    assert ((assembly.CONSTANT, 0) in lowered.stages[0].wires) == (matrix.max() <= 0)


def test_a_file_that_says_something_else_is_noticed(tmp_path, rng):
    with_lava()
    from lava_conv.backends.sdnn import check_file

    lowered = lc.lower(chain(rng, "DTB", 4))
    for key, value, sentence in (
        ("layer/1/weight", 5, r"layer 0 \(of 1 in the network\): stock netx reads \d+ of \d+ weights otherwise"),
        ("layer/1/neuron/vThMant", 7, r"the neuron's .*'vth': \[448\]"),
    ):
        write_stock(lowered, tmp_path / "m.net")
        with h5py.File(tmp_path / "m.net", "r+") as file:
            file[key][...] = value
        with pytest.raises(lc.BackendError, match=sentence):
            check_file(lowered, tmp_path / "m.net")
    with h5py.File(tmp_path / "m.net", "r+") as file:
        file["layer/1/weight"][...] = 0
        file["layer/1/type"][...] = b"pool"
    with pytest.raises(lc.BackendError, match="stock netx cannot load it"):
        check_file(lowered, tmp_path / "m.net")
    write_stock(lowered, tmp_path / "n.net")
    with h5py.File(tmp_path / "n.net", "r+") as file:
        del file["layer/1/weight"]
        file["layer/1/weight"] = h5py.ExternalLink("elsewhere.net", "/weight")
    with pytest.raises(lc.BackendError, match="/layer/1/weight is a link, allowed are only objects stored in place"):
        check_file(lowered, tmp_path / "n.net")


@pytest.mark.parametrize(("identity", "interval", "fast"), [(True, 1, True), (False, 3, True), (False, 1, False)])
def test_stock_netx_settles_on_the_same_integers(rng, identity, interval, fast):
    with_lava()
    graph, x = residual(rng, identity), images((3, 8, 8), 6)
    record, wanted = lc.run(graph, x, backend="sdnn", record=(), interval=interval, fast=fast), graph.reference(x)
    assert np.array_equal(record.logits, wanted.logits) and np.ptp(record.logits) > 0
    for index, counts in wanted.counts.items():
        assert np.array_equal(record.counts[index], counts), f"layer {index}"


def test_a_perceptron_through_stock_netx():
    with_lava()
    graph, x = wide(4), images((1, 4, 4), 5)
    result = lc.compare(graph, x, first="reference", second="sdnn")
    assert result.equal and result.values == 5 * (4 * 40 + 2) and result.records[0].counts[3].max() == 4
    with pytest.raises(lc.DataError, match="torch has 4 steps and sdnn 1"):
        compare_records(lc.run(graph, x), result.records[1], "torch", "sdnn")
    other = Record(result.records[1].logits, {**result.records[1].counts, 3: result.records[1].counts[3] + 1})
    assert "layer 3, sample 0, step 0, neuron (0,) counts" in compare_records(result.records[0], other).difference


def test_with_the_extension_the_network_goes_to_the_board(rng, monkeypatch):
    """A stand-in for the extension: what is run is the lowered network, with the run configuration of the board."""
    with_lava()
    from lava.utils import loihi

    from lava_conv.backends import loihi2
    from processes.conv import fast_sim_cfg

    graph, x = wide(4), images((1, 4, 4), 3)
    with pytest.raises(lc.BackendError, match="hardware=True needs Intel's extension of Lava for Loihi 2"):
        lc.run(graph, x, backend="lava", record=(), hardware=True)
    assert "CPU simulation" in lc.run(graph, x, backend="lava", record=()).backend
    asked = []
    monkeypatch.setattr(loihi, "is_installed", lambda: True)
    monkeypatch.setattr(loihi2, "Loihi2HwCfg", lambda: asked.append(1) or fast_sim_cfg())
    record = lc.run(graph, x, backend="lava", record=())
    assert asked == [1] and record.backend.startswith("Loihi 2 through Lava (Loihi2HwCfg)")
    assert np.array_equal(record.logits, graph.reference(x).logits)
    assert "CPU simulation" in lc.run(graph, x, backend="lava", record=(), hardware=False).backend


@pytest.mark.slow  # tutorial 06 runs one, too
def test_the_written_program_runs_alone(tmp_path, rng):
    with_lava()
    graph, x = residual(rng, False), images((3, 8, 8), 5)
    lowered = lc.lower(graph)
    write_stock(lowered, tmp_path / "m.net")
    write_script(lowered, tmp_path / "m.net", tmp_path / "run.py", interval=2)
    np.save(tmp_path / "x.npy", x)
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "x.npy"), str(tmp_path / "said.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "said.npy"), graph.reference(x).predictions[0])
    assert "lava_conv" not in (tmp_path / "run.py").read_text()


def test_command(tmp_path, trained_digits):
    with_lava()
    data, trained = trained_digits
    model = qat.prepare(MODELS["digits"](), "zou", n_max=4, power_of_two=True)
    lc.save(lc.convert(lively(model, (1, 8, 8)), data.x_train[:4]), tmp_path / "d.net")
    out, script = tmp_path / "s.net", tmp_path / "s.py"
    options = ["--data", "digits", "--samples", "30", "--json", "--script", str(script)]
    done = call("lower", str(tmp_path / "d.net"), str(out), *options)
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["exact"] and found["predictions_that_differ"] == 0 and script.is_file()
    assert found["values_checked_through_netx"] > 1000 and found["images"] == 30
    assert all(d["share"] == 0 for d in found["differences"])
    lc.save(lc.convert(trained.model, data.x_train[:4]), tmp_path / "odd.net")
    done = call("lower", str(tmp_path / "odd.net"), str(tmp_path / "no.net"))
    assert done.returncode == 2 and "layer 1: step" in done.stderr and not (tmp_path / "no.net").exists()
    with pytest.raises(lc.NetFormatError, match="unmodified lava-dl runs it"):
        lc.load(out)


def test_a_neuron_without_a_lowered_form_is_named(monkeypatch):
    from lava_conv.network import neurons

    monkeypatch.setitem(neurons.NEURONS, "OTHER", neurons.NEURONS["DTB"])
    graph = small(DTB(0 * ONE, 64 * ONE, 0, 4), "OTHER")
    with pytest.raises(lc.ConversionError, match="layer 1: neuron OTHER has no lowered form, allowed are DTB, CALIF"):
        lc.lower(graph)
    with_lava()
    with pytest.raises(lc.BackendError, match="layer 1: neuron OTHER has no Lava process"):
        lc.run(graph, images((1, 4, 4), 2), backend="lava")
