"""Sets of any size: what a command keeps does not grow with the images, and what would not fit is refused."""

import json
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from command import call
from plain import write_random_net

import lava_conv as lc
from lava_conv import memory
from lava_conv.analysis.activity import MAC, measure
from lava_conv.analysis.comparison import compare_parts
from lava_conv.analysis.settling import inexact, run_on
from lava_conv.cli import screen
from lava_conv.loihi.cost import cost, network_work
from lava_conv.network.graph import Graph, Layer
from lava_conv.network.neurons import accumulator, dynamic_threshold
from lava_conv.network.reference import chunk_size
from lava_conv.network.synapses import Conv, Dense
from lava_conv.record import Counts
from lava_conv.simulation import compiled

LATE = 6  # steps that `late` needs


@pytest.fixture
def graph(tmp_path, rng):
    return lc.load(write_random_net(tmp_path / "a.net", rng, skips=True))


@pytest.fixture
def x(graph, rng):
    return rng.integers(0, 256, (11, *graph.input_shape), dtype=np.uint8)


def late(unipolar=0, code="flash"):
    """One pixel; the first neuron counts up to pixel // 40, which takes as many steps."""
    layers = (
        Layer("input", (1, 1, 1)),
        Layer("conv", (1, 1, 1), Conv(np.ones((1, 1, 1, 1))), "DTB", dynamic_threshold.Params(0, 40)),
        Layer("conv", (1, 1, 1), Conv(np.ones((1, 1, 1, 1))), "DTB", dynamic_threshold.Params(0, 1, unipolar=unipolar)),
        Layer("flatten", (1,)),
        Layer("dense", (2,), Dense(np.array([[1], [-1]])), "ACC", accumulator.Params()),
    )
    return Graph(layers, 3, code)


def pixels(*values):
    return np.array(values, np.uint8).reshape(-1, 1, 1, 1)


def test_sums_are_exact_beyond_what_float32_holds(rng):
    for groups, inside, outside, kernel, stride, dilation in (
        (1, 6, 8, 3, 1, 1),
        (2, 3, 4, 2, 2, 1),
        (6, 1, 2, 2, 1, 2),
    ):
        conv = Conv(
            rng.integers(-128, 128, (groups * outside, inside, kernel, kernel)), (stride,) * 2, (1, 1), (dilation,) * 2,
            groups,
        )  # fmt: skip
        for most in (9, 1 << 22):  # float32, float64
            x = rng.integers(-most, most + 1, (3, groups * inside, 7, 6))
            padded, out = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), conv.apply(x)
            expected = np.zeros_like(out)
            for o in range(len(conv.weight)):
                first = o // outside * inside
                for i, j in np.ndindex(kernel, kernel):
                    at = padded[:, first : first + inside, i * dilation :, j * dilation :]
                    at = at[:, :, ::stride, ::stride][:, :, : out.shape[2], : out.shape[3]]
                    expected[:, o] += (at * conv.weight[o, :, i, j].astype(np.int64)[:, None, None]).sum(1)
            assert np.array_equal(out, expected) and out.dtype == np.int64
    odd = np.full((1, 3), (1 << 24) + 1)
    assert Dense(np.ones((1, 3))).apply(odd)[0, 0] == 3 * ((1 << 24) + 1)


def test_the_reference_is_the_same_in_chunks(graph, x, monkeypatch):
    whole = graph.reference(x)
    monkeypatch.setattr("lava_conv.network.reference.REFERENCE_VALUES", 1)
    done = []
    parts = graph.reference(x, lambda *so_far: done.append(so_far))
    assert chunk_size(graph) == 1 and done == [(i, len(x)) for i in range(1, len(x) + 1)]
    assert np.array_equal(parts.logits, whole.logits)
    for index, counts in whole.counts.items():
        assert np.array_equal(parts.counts[index], counts) and counts.dtype == np.int64 and counts.any()
        assert isinstance(parts.counts, Counts)
        assert parts.counts.narrow(index).dtype == np.min_scalar_type(int(counts.max()))


def test_later_counts_may_be_larger_than_those_before(monkeypatch):
    monkeypatch.setattr("lava_conv.network.reference.REFERENCE_CHUNK", 1)
    graph = late()
    big = replace(graph, layers=(graph.layers[0], replace(graph.layers[1], synapse=Conv(np.full((1, 1, 1, 1), 127))),
                                 *graph.layers[2:]))  # fmt: skip
    assert big.reference(pixels(0, 255, 1)).counts[1].ravel().tolist() == [0, 255 * 127 // 40, 127 // 40]


def test_what_would_not_fit_is_refused_and_parts_run(graph, x, monkeypatch):
    whole = lc.run(graph, x, record_spikes=True)
    kept = sum(s.nbytes for s in whole.spikes.values())
    counted = kept + sum(c.size for c in whole.counts.values()) + whole.logits.nbytes
    assert memory.record_bytes(graph, len(x), graph.steps, True) == counted
    monkeypatch.setattr(memory, "free_bytes", lambda: memory.WORKING + counted - 1)
    with pytest.raises(
        lc.DataError, match=r"takes .* GiB, free are .* GiB; use fewer samples or leave record_spikes out"
    ):
        lc.run(graph, x, record_spikes=True)
    lc.run(graph, x)
    monkeypatch.setattr(memory, "free_bytes", lambda: memory.WORKING + counted)
    lc.run(graph, x, record_spikes=True)
    with pytest.raises(lc.DataError, match="both records of 11 images"):
        lc.compare(graph, x, second="torch")
    assert [c.equal for c in compare_parts(graph, x, second="torch", size=4)] == [True] * 3
    monkeypatch.setattr(memory, "free_bytes", lambda: memory.WORKING + 10)
    with pytest.raises(lc.DataError, match="the reference's record of 11 images"):
        graph.reference(x)


@pytest.mark.parametrize(
    ("line", "folder", "names"),
    [
        ("0::/a/b", "a", ("memory.max", "memory.current", "inactive_file")),
        ("4:cpu,memory:/a/b", "memory/a", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ],
)
def test_the_limit_of_a_container_counts(tmp_path, monkeypatch, line, folder, names):
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "SELF", tmp_path / "cgroup")
    assert memory._group() is None
    (tmp_path / "cgroup").write_text(f"{line}\n")
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / names[0]).write_text("1000\n")
    (tmp_path / folder / names[1]).write_text("700\n")
    (tmp_path / folder / "memory.stat").write_text(f"other 5\n{names[2]} 200\n")
    assert memory._group() == 500 == memory.free_bytes()
    (tmp_path / folder / names[0]).write_text("max\n")
    assert memory._group() is None and memory.free_bytes() > 1 << 20


def test_parts_are_the_whole(graph, x):
    whole = lc.run(graph, x, record_spikes=True)
    parts = list(lc.run_parts(graph, x, record_spikes=True, size=4))
    assert [(part.start, part.stop) for part, _ in parts] == [(0, 4), (4, 8), (8, 11)]
    assert np.array_equal(np.concatenate([r.logits for _, r in parts], 1), whole.logits)
    for index, spikes in whole.spikes.items():
        assert np.array_equal(np.concatenate([r.spikes[index] for _, r in parts], 1), spikes)
        assert np.array_equal(np.concatenate([r.counts[index] for _, r in parts]), whole.counts[index])
    with pytest.raises(lc.DataError, match="empty"):
        list(lc.run_parts(graph, x[:0]))


def test_compare_in_parts_names_the_sample_of_the_set(graph, x, monkeypatch):
    whole = lc.compare(graph, x, second="torch")
    *_, last = compare_parts(graph, x, second="torch", size=3)
    assert last.equal and last.values == whole.values
    calls = []

    def odd(graph, images, steps=None, backend="torch", **options):
        record = lc.run(graph, images, steps, backend, **options)
        calls.append(len(images))
        if len(calls) == 4:  # the second backend's second part
            record.spikes[1][2, 1].flat[0] += 1
        return record

    monkeypatch.setattr(sys.modules["lava_conv.analysis.comparison"], "run", odd)
    *_, last = compare_parts(graph, x, second="torch", size=3)
    assert calls == [3] * 4 and "layer 1, sample 4, step 2, neuron (0, 0, 0)" in str(last.difference)


def test_few_forms_of_the_weights_are_kept(graph, rng):
    for size in range(1, 12):
        lc.run(graph, rng.integers(0, 256, (size, *graph.input_shape), dtype=np.uint8), method="dense", threads=1)
    kept = [len(one.packed) for one in compiled.prepared(graph).int8.values()]
    assert all(count <= 3 for count in kept)


def test_not_settled_is_told_apart_from_a_fault(monkeypatch):
    graph, images = late(), pixels(170, 255)
    found = run_on(graph, images, 3)
    assert found.settled == LATE and not found.fault and f"(--steps {LATE})" in str(found)
    for steps, equal in ((LATE - 1, False), (LATE, True)):
        record, reference = lc.run(graph, images, steps), graph.reference(images)
        assert all(np.array_equal(record.counts[i], c) for i, c in reference.counts.items()) == equal
    monkeypatch.setattr("lava_conv.analysis.settling.FACTOR", 1)
    monkeypatch.setattr("lava_conv.analysis.settling.MAX_STEPS", 5)
    assert "of the 2 images that ran on 1 still differ from the reference after 5 steps" in str(
        run_on(graph, images, 3)
    )
    monkeypatch.undo()
    assert "gave other counts" in run_on(graph, pixels(40), 3).fault  # settled, so that no run may differ

    reference = Graph.reference

    def wrong(self, images, progress=None):
        record = reference(self, images, progress)
        record.counts._kept[2][-1] += 1
        return record

    monkeypatch.setattr(Graph, "reference", wrong)
    found = run_on(graph, images, 3, numbers=[5, 8])
    assert found.fault.startswith("layer 2, image 8, neuron (0, 0, 0) counts 6 where the reference has 7")
    assert "please report" in str(found)


def test_networks_that_need_not_settle_say_why():
    assert inexact(late()) == ""
    assert "comes at every step" in inexact(late(code="constant"))
    assert "layer 2: DTB is unipolar" in inexact(late(unipolar=1))
    assert "differences are expected: layer 2" in str(run_on(late(unipolar=1), pixels(9), 3))


def test_run_says_how_many_steps_it_takes(trained_digits, tmp_path, monkeypatch):
    data, trained = trained_digits
    net = tmp_path / "d.net"
    lc.save(lc.convert(trained.model, data.x_train[:4]), net)
    monkeypatch.setattr("lava_conv.backends.PART", 7)
    monkeypatch.setattr(screen, "LINES", 0.0)
    done = call("run", net, "--samples", 16, "--steps", 2)
    assert done.returncode == 0 and "not settled after 2 steps: the 16 images that ran on settled" in done.stdout
    assert "running on torch and reference: 7 of 16" in done.stderr and "left, " in done.stderr
    told = json.loads(call("run", net, "--samples", 16, "--steps", 2, "--json").stdout)
    assert told["images_unlike_reference"] == 16 and not told["settling"]["fault"]
    settled = told["settling"]["settled"]
    told = json.loads(call("run", net, "--samples", 16, "--steps", settled, "--json").stdout)
    assert told["counts_unlike_reference"] == 0 and told["settling"] is None
    graph, x = lc.load(net), data.x_test[:16]
    whole = lc.run(graph, x, settled)
    assert told["accuracy"] == whole.accuracy(data.y_test[:16]).tolist()
    assert told["counts"] == sum(c.size for c in whole.counts.values())
    done = call("report", net, "--samples", 16, "--steps", 2, "--html", tmp_path / "r.html")
    assert "not settled after 2 steps" in done.stdout
    monkeypatch.setattr("lava_conv.analysis.settling.run_on", lambda *_: run_on(graph, x[:1], settled))
    done = call("run", net, "--samples", 16, "--steps", 2)
    assert done.returncode == 1 and "fault: image 0" in done.stdout


def test_a_command_says_that_it_takes_few_images(trained_digits, tmp_path):
    data, trained = trained_digits
    lc.save(lc.convert(trained.model, data.x_train[:4]), tmp_path / "d.net")
    done = call("compare", tmp_path / "d.net", "--second", "torch", "--steps", 1)
    assert f"compare takes the first 100 of {len(data.x_test)} images" in done.stderr
    assert json.loads(call("compare", tmp_path / "d.net", "--second", "torch", "--json").stdout)["equal"]


def test_one_ratio_against_the_ann(graph, x):
    activity = measure(graph, x)
    macs = sum(feed.synapse.fan_in * int(np.prod(layer.shape))
               for index, layer, _ in graph.neuron_layers() for feed in graph.inputs(index))  # fmt: skip
    assert activity.ann == MAC * macs and activity.ratio == activity.ann / activity.synops
    spent = cost(graph, x, "loihi2")
    assert str(spent.activity) == str(activity) and f"{activity.ratio:.2f} times as many" in str(activity)
    assert spent.as_json()["activity"] == activity.as_json() and json.dumps(spent.as_json())


@pytest.mark.parametrize("code", ["flash", "constant"])
def test_totals_are_those_of_all_cores_and_steps(tmp_path, rng, code):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng, code=code, skips=True))
    x = rng.integers(0, 2, (5, *graph.input_shape), dtype=np.uint8) * 200
    laid = lc.fit(graph, "loihi2")
    works = network_work(laid, lc.run(graph, x, record_spikes=True), x, code)
    for layer in cost(graph, x, laid).layers:
        whole = [float(part.sum()) / len(x) for part in works[layer.layer]]
        assert [layer.operations, layer.active, layer.messages] == pytest.approx(whole, rel=1e-12)


def test_a_line_comes_even_if_nothing_moves(monkeypatch, capsys):
    """A layer of calibration may take minutes; a pipe must not be silent for so long."""
    monkeypatch.setattr(screen, "LINES", 0.1)
    with screen.progress("waiting", 3):
        time.sleep(0.5)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= sum(line.startswith("waiting: 0 of 3, 0:00") for line in lines) <= 6
