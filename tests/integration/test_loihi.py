"""Fit and cost on Loihi-class chips, against loops over neurons and synapses and against sums done by hand."""

import importlib.util
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from command import call
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import write_random_net
from torch import nn

import lava_conv as lc
from lava_conv.analysis.activity import measure
from lava_conv.figures.cores import core_share, occupancy
from lava_conv.loihi import load_chip, replay
from lava_conv.loihi.chip import COST, FOLDER, KEYS, REQUIRED, STATUSES, Chip, Entry, shipped
from lava_conv.loihi.cost import barrier_ns, cost, message_energy, network_work, sample_times
from lava_conv.loihi.fitting import fit
from lava_conv.loihi.load import Feed, Load, connections, make_feed, network_loads, signed_bits
from lava_conv.loihi.partition import LIMITS, Core, Plan, Usage, partition
from lava_conv.loihi.rules import CHIP_RULES, RULES, check, finding, unchecked
from lava_conv.network.graph import Graph, Layer, Skip
from lava_conv.network.neurons import NEURONS
from lava_conv.network.synapses import Conv, Dense, Identity

ZOO = Path(__file__).parents[2] / "netx_models"


def chip(**values) -> Chip:
    """A chip with the given numbers; the others are out of the way."""
    plain = {
        "cores": 10**6, "neurons_per_core": 10**6, "synapse_bytes_per_core": 10**9, "weight_bits": (1, 2, 3, 4, 8),
        "index_bits": (8, 16), "list_header_bits": 10, "list_block": 64, "memory_word_bits": 64, "kernels": "none",
        "state_bits": 24, "spike_bits": 9, "programmable_neurons": True,
    }  # fmt: skip
    return Chip("test", {key: Entry(value, "a test", "assumed") for key, value in (plain | values).items()}, {})


def acc(classes):
    return {"neuron": "ACC", "params": NEURONS["ACC"].Params(np.zeros(classes, np.int64))}


def dtb(**values):
    return {"neuron": "DTB", "params": NEURONS["DTB"].Params(**({"theta": 0, "delta": 4} | values))}


def small_graph():
    """1x1x3 image -> dense 2 (weights 1, -1, 2 and 0, 3, 1) -> dense 1 (weights 1, -2)."""
    return Graph(
        (
            Layer("input", (1, 1, 3)),
            Layer("flatten", (3,)),
            Layer("dense", (2,), Dense(np.array([[1, -1, 2], [0, 3, 1]])), **dtb()),
            Layer("dense", (1,), Dense(np.array([[1, -2]])), **acc(1)),
        ),
        steps=3,
    )


# -- chip files --------------------------------------------------------------------------------------------------------


def test_every_number_of_the_chips_has_a_source_and_a_status():
    assert shipped() == ("loihi1", "loihi2")
    for name in shipped():
        one = load_chip(name)
        assert set(REQUIRED) <= set(one.entries) <= set(KEYS)
        assert all(entry.source and entry.status in STATUSES for entry in one.entries.values())


def test_the_figures_of_davies_2018_and_no_energy_of_loihi_2():
    one, two = load_chip("loihi1"), load_chip("loihi2")
    assert one["cost_label"] == "Loihi 1, published, pre-silicon"
    energies = {key: one[key] for key in COST if key.startswith("energy")}
    assert energies == {
        "energy_synaptic_op": 23.6, "energy_update_active": 81, "energy_update_inactive": 52, "energy_spike": 1.7,
        "energy_hop": (3, 4),
    }  # fmt: skip
    assert [one["time_synaptic_op"], one["time_update_active"], one["time_update_inactive"]] == [3.5, 8.4, 5.3]
    assert (one["cores"], one["neurons_per_core"], one["input_axons"], one["output_axons"]) == (128, 1024, 4096, 4096)
    assert not two.has_cost and not set(COST) & set(two.entries) and {"energy", "time"} <= set(two.unpublished)


GOOD = (FOLDER / "loihi1.toml").read_text()
BAD = [
    (GOOD.replace('name = "Loihi 1"', "name = 3"), "name is 3, allowed is a text"),
    (GOOD.replace("[cores]", "[coers]"), "unknown key 'coers', allowed are name, unpublished, cores"),
    (GOOD.replace("[state_bits]", "[neurons]"), "lacks state_bits, which must be an integer of 1 or more"),
    (GOOD.replace("value = 128\n", "value = 0\n"), "cores is 0, allowed is an integer of 1 or more"),
    (GOOD.replace("value = 128\n", "value = true\n"), "cores is True, allowed is an integer"),
    (GOOD.replace("value = 128\n", "values = 128\n"), "cores lacks its value, allowed are value, source, status"),
    (GOOD.replace('status = "quoted"', 'status = "certain"', 1), "status of cores is 'certain', allowed is published"),
    (GOOD.replace('source = "Davies 2018"', 'source = ""', 1), "source of cores is '', allowed is a text"),
    (GOOD.replace('"patterns"', '"all"'), "kernels is 'all', allowed is 'none' or 'patterns' or 'kernel'"),
    (GOOD.replace("[1, 2, 3, 4, 5, 6, 8]", "[1, 0]"), "weight_bits is \\[1, 0\\], allowed is a list of bit widths"),
    (GOOD.replace("[3.0, 4.0]", "[3.0]"), "energy_hop is \\[3.0\\], allowed is a list of two numbers"),
    (GOOD.replace("value = 23.6", "value = nan"), "energy_synaptic_op is nan, allowed is a number of 0 or more"),
    (GOOD[: GOOD.index("[time_barrier]")], "has cost_label but lacks time_barrier"),
    (GOOD.replace("[unpublished]", "cores = 3\n[unpublished]").replace("[cores]", "[neurons]"), "cores is 3, allowed"),
    (GOOD.replace('neurons = "no limit', 'neurons = 3\nlimit = "'), "unpublished is {.*}, allowed is a table of texts"),
    (GOOD.replace("[cores]", "[cores"), "not a readable TOML file"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_chip_files_end_in_one_sentence(tmp_path, text, message):
    (tmp_path / "chip.toml").write_text(text)
    with pytest.raises(lc.FitError, match=message) as caught:
        load_chip(str(tmp_path / "chip.toml"))
    assert str(tmp_path / "chip.toml") in str(caught.value) and "\n" not in str(caught.value)


def test_a_chip_file_of_ones_own(tmp_path):
    (tmp_path / "mine.toml").write_text(GOOD.replace("value = 128\n", "value = 7\n"))
    assert fit(small_graph(), str(tmp_path / "mine.toml")).chip["cores"] == 7
    with pytest.raises(lc.FitError, match="chip is 'loihi3', allowed are loihi1, loihi2 or the path"):
        fit(small_graph(), "loihi3")


# -- loads, by loops ---------------------------------------------------------------------------------------------------


def random_conv(rng):
    """A convolution with everything random, and the C,H,W that it reads."""
    groups = int(rng.choice([1, 1, 2, 3]))
    weight = rng.integers(-3, 4, (groups * int(rng.integers(1, 4)), int(rng.integers(1, 3)), *rng.integers(1, 4, 2)))
    synapse = Conv(
        weight, tuple(rng.integers(1, 3, 2)), tuple(rng.integers(0, 3, 2)), tuple(rng.integers(1, 3, 2)), groups
    )
    return synapse, (weight.shape[1] * groups, int(rng.integers(5, 8)), int(rng.integers(5, 8)))


def synapse_list(feed: Feed, shape):
    """Every synapse of a feed as (source c, h, w, target c, h, w), by a loop over targets and taps."""
    per_out, per_in = shape[0] // feed.groups, feed.box[0] // feed.groups
    for o, i, j in np.ndindex(*shape):
        for c, a, b in np.ndindex(per_in, *feed.kernel):
            h = i * feed.stride[0] - feed.padding[0] + a * feed.dilation[0]
            w = j * feed.stride[1] - feed.padding[1] + b * feed.dilation[1]
            if 0 <= h < feed.box[1] and 0 <= w < feed.box[2]:
                yield (o // per_out * per_in + c, h, w), (o, i, j)


def test_connections_are_those_of_a_loop(rng):
    for _ in range(30):
        synapse, box = random_conv(rng)
        shape = synapse.output_shape(box)
        feed = make_feed(1, synapse, box, 2, 0)
        assert connections(feed, shape) == len(list(synapse_list(feed, shape))) == synapse.fan_out(box).sum()
        assert feed.fan_in == synapse.fan_in and feed.nonzero == (synapse.weight != 0).sum()
    dense = make_feed(1, Dense(rng.integers(1, 3, (5, 24))), (2, 3, 4), 2, 0)
    assert connections(dense, (5, 1, 1)) == 5 * 24 == len(list(synapse_list(dense, (5, 1, 1))))
    same = make_feed(1, Identity(3), (2, 3, 4), 2, 0)
    assert connections(same, (2, 3, 4)) == 24 and same.fan_in == 1


@pytest.mark.parametrize(
    ("low", "high", "bits"),
    [(-1, 1, 2), (-128, 127, 8), (-127, 127, 8), (-128, 128, 9), (0, 1, 1), (0, 255, 8), (-1, 0, 1), (-128, -1, 8),
     (0, 0, 1), (-2, 1, 2), (-1, 2, 3), (-(1 << 23), (1 << 23) - 1, 24)],
)  # fmt: skip
def test_signed_bits(low, high, bits):
    assert signed_bits(low, high) == bits


def test_loads_of_a_network_with_skips(tmp_path, rng):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng, skips=True))
    loads = {load.layer: load for load in network_loads(graph)}
    assert list(loads) == [1, 2, 3, 5, 6]
    for index, b in graph.bounds().items():
        low, high = int(b.v_min.min()), int(b.v_max.max())
        half = 1 << (loads[index].state_bits - 1)
        assert -half <= low and high < half and -half <= -b.step_max
        assert max(-low, high, b.step_max) >= half // 2 - 1, "one bit less would do"
    assert [feed.source for feed in loads[2].feeds] == [1, 0] and [feed.delay for feed in loads[2].feeds] == [0, 1]
    assert [feed.source for feed in loads[3].feeds] == [2, 2] and loads[3].feeds[1].kind == "identity"
    assert [feed.payload_bits for feed in loads[2].feeds] == [1, 9], "a unipolar encoder, and the image"
    assert loads[3].feeds[0].payload_bits == 2 and loads[5].feeds[0].source == 3
    assert loads[5].feeds[0].box == graph.layers[3].shape and loads[5].fan_in == math.prod(graph.layers[3].shape)
    assert loads[6].shape == (5, 1, 1) and not loads[6].programmable and loads[5].programmable
    assert [load.state_variables for load in loads.values()] == [2, 2, 2, 2, 1]
    assert network_loads(graph, 12)[-1].state_bits >= loads[6].state_bits


# -- partitioner -------------------------------------------------------------------------------------------------------


def chain(rng, layers=2, skip=False):
    """Loads of a few random convolutions and a dense layer, all weights other than 0; skip: two synapses each."""
    synapse, box = random_conv(rng)
    loads, source = [], 0
    for index in range(1, layers + 1):
        synapse = Conv(np.where(synapse.weight == 0, 1, synapse.weight), *list(vars(synapse).values())[1:])
        shape = synapse.output_shape(box)
        feeds = [make_feed(source, synapse, box, 9 if source == 0 else 2, 0)]
        if source and skip:  # a second synapse between the same layers
            feeds.append(make_feed(source, synapse, box, 2, 0)._replace(weight_min=-100, weight_max=90))
        loads.append(Load(index, "conv", "DTB", shape, index, tuple(feeds), 20, 2, True))
        source, box = index, shape
        kernel = tuple(int(rng.integers(1, min(3, n) + 1)) for n in box[1:])
        synapse = Conv(rng.integers(1, 4, (int(rng.integers(1, 6)), box[0], *kernel)), padding=(1, 0))
    dense = make_feed(source, Dense(rng.integers(1, 3, (4, math.prod(box)))), box, 2, 0)
    return (*loads, Load(layers + 1, "dense", "ACC", (4, 1, 1), layers + 1, (dense,), 20, 1, False))


def neurons_of(core: Core):
    return itertools.product(*(range(*r) for r in (core.channels, core.rows, core.columns)))


def usage_by_loops(loads, plans, one: Chip, layer: int, core: Core, state_bytes: int) -> Usage:
    """What a core holds, by loops over synapses; memory in the cheapest of all formats that the chip has."""
    here = set(neurons_of(core))
    ports = 2 if one["spike_bits"] == 1 else 1
    inputs = bits = 0
    for feed in next(load for load in loads if load.layer == layer).feeds:
        shape = next(load.shape for load in loads if load.layer == layer)
        lists: dict = {}
        for source, target in synapse_list(feed, shape):
            if target in here:
                lists.setdefault(source, []).append(target)
        copies = ports if feed.payload_bits == 2 else 1
        inputs += copies * len(lists)
        weight = next(w for w in one["weight_bits"] if w >= signed_bits(
            min(feed.weight_min, -feed.weight_max if copies == 2 else 0),
            max(feed.weight_max, -feed.weight_min if copies == 2 else 0)))  # fmt: skip
        index = next(w for w in one["index_bits"] if 2**w >= len(here))

        def memory(length, each):
            blocks = [min(64, length - start) for start in range(0, length, 64)]
            return sum(64 * math.ceil((block * each + 10) / 64) for block in blocks)

        sizes = [len(lists) * memory(len(here), weight), sum(memory(len(t), weight + index) for t in lists.values())]
        if one["kernels"] == "patterns" and feed.kind == "conv":
            # equal lists: the same source channel, and the same targets seen from the first of them, with equal taps
            kinds = {}
            for (c, h, w), targets in lists.items():
                taps = frozenset(
                    (o, h + feed.padding[0] - i * feed.stride[0], w + feed.padding[1] - j * feed.stride[1])
                    for o, i, j in targets
                )
                kinds[c, taps] = len(targets)
            sizes.append(sum(memory(n, weight + index) for n in kinds.values()))
        bits += copies * min(sizes)
    outputs = 0
    for load, plan in zip(loads, plans, strict=True):
        for feed in load.feeds:
            if feed.source == layer:
                owner = {neuron: number for number, other in enumerate(plan.cores) for neuron in neurons_of(other)}
                outputs += ports * len({(s, owner[t]) for s, t in synapse_list(feed, load.shape) if s in here})
    stored = math.ceil(bits / 8)
    return Usage(len(here), stored, stored + len(here) * state_bytes if state_bytes else 0, inputs, outputs)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_a_partition_holds_every_neuron_once_within_limits(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    loads = chain(rng, data.draw(st.integers(1, 3)), data.draw(st.booleans()))
    one = chip(
        neurons_per_core=data.draw(st.integers(1, 80)),
        synapse_bytes_per_core=data.draw(st.sampled_from([200, 800, 4000])),
        input_axons=data.draw(st.sampled_from([20, 60, 300])),
        output_axons=data.draw(st.sampled_from([10, 100, 1000])),
        kernels=data.draw(st.sampled_from(["none", "patterns"])),
        spike_bits=data.draw(st.sampled_from([1, 9])),
        core_bytes=3000,
        state_variable_bytes=4,
    )
    plans = partition(loads, one)
    for load, plan in zip(loads, plans, strict=True):
        assert plan.layer == load.layer
        held = [neuron for core in plan.cores for neuron in neurons_of(core)]
        assert len(held) == len(set(held)) == load.neurons
        assert set(held) == set(np.ndindex(*load.shape))
        assert plan.fullest.neurons == math.prod(plan.tile)
        for core in plan.cores:
            assert core.usage == usage_by_loops(loads, plans, one, load.layer, core, 4 * load.state_variables)
            for field, key in LIMITS.items():
                assert field in plan.relaxed or getattr(core.usage, field) <= one[key]
        if plan.relaxed:  # then even the fullest single neuron broke the limit
            assert any(getattr(plan.fullest, field) > one[LIMITS[field]] for field in plan.relaxed)


def test_two_synapses_from_one_layer_and_a_wide_identity():
    box = (2, 2, 2)
    one = chip(weight_bits=(4, 8), index_bits=(8,), spike_bits=8)
    feeds = (make_feed(1, Conv(np.ones((2, 2, 1, 1))), box, 2, 0), make_feed(1, Identity(300), box, 2, 1))
    load = Load(2, "conv", "DTB", box, 2, feeds, 10, 2, True)
    (plan,) = partition((load,), one)
    # 8 sources each; conv: lists of 2 synapses of 4 + 8 bits; identity: 300 = three synapses of at most 127, 8 + 8 bits
    # dense instead would take 8 neurons x 4 bits and 24 x 8 bits, sparse rounds to one word of 64 bits a list
    assert plan.fullest == Usage(8, (8 * 64 + 8 * 64) // 8, 0, 16, 0)
    assert plan.formats == ("dense", "sparse") and load.synapses == 16 + 8 and load.fan_in == 3


def test_the_grid_with_the_fewest_cores():
    feed = make_feed(0, Conv(np.ones((7, 1, 1, 1))), (1, 5, 5), 9, 0)
    load = Load(1, "conv", "DTB", (7, 5, 5), 1, (feed,), 10, 2, True)
    (plan,) = partition((load,), chip(neurons_per_core=25))
    assert len(plan.cores) == 7 and plan.tile == (1, 5, 5)
    (plan,) = partition((load,), chip(neurons_per_core=175))
    assert len(plan.cores) == 1 and plan.bytes_by_format.keys() == {"dense", "sparse"}
    (plan,) = partition((load,), chip(input_axons=5))  # 5 pixels a core, all channels: five cores
    assert len(plan.cores) == 5 and plan.tile[0] == 7 and plan.tile[1] * plan.tile[2] == 5
    (plan,) = partition((load,), chip(synapse_bytes_per_core=8))  # one list of 7 synapses fits one word
    assert plan.fullest.synapse_bytes == 8 and len(plan.cores) == 25


def test_zeros_take_no_memory_where_synapses_are_sparse():
    weight = np.zeros((64, 1, 1, 1))
    weight[:16] = 1
    feed = make_feed(0, Conv(weight), (1, 1, 1), 9, 0)
    load = Load(1, "conv", "DTB", (64, 1, 1), 1, (feed,), 10, 2, True)
    (plan,) = partition((load,), chip(weight_bits=(8,), index_bits=(8,)))
    # dense: 64 x 8 + 10 bits = 9 words; sparse: a quarter of 64, 16 x (8 + 8) + 10 = 5 words
    assert plan.bytes_by_format == {"dense": 72, "sparse": 40} and plan.formats == ("sparse",)


def test_kernels_are_stored_once_where_the_chip_has_it():
    feed = make_feed(0, Conv(np.ones((4, 3, 3, 3)), padding=(1, 1)), (3, 9, 9), 9, 0)
    load = Load(1, "conv", "DTB", (4, 9, 9), 1, (feed,), 10, 2, True)
    sizes = {}
    for kernels in ("none", "patterns", "kernel"):
        (plan,) = partition((load,), chip(kernels=kernels, index_bits=(9,), weight_bits=(1,)))
        sizes[kernels] = plan.bytes_by_format.get("shared")

    def words(taps):
        return math.ceil((4 * taps * 10 + 10) / 64)  # four channels, 1 + 9 bits each, one header

    # taps along an axis: 2 at either edge, 3 within; 3 kinds of lists an axis
    patterns = sum(words(a * b) for a in (2, 3, 2) for b in (2, 3, 2))
    assert sizes == {"none": None, "patterns": 3 * 8 * patterns, "kernel": 3 * 8 * words(9)}


def test_a_layer_that_no_core_can_hold_is_reported():
    graph = small_graph()
    one = chip(input_axons=2)
    laid = lc.fit(graph, one)
    assert laid.plans[0].relaxed == ("input_axons",) and laid.plans[1].relaxed == ()
    (broken,) = laid.broken
    assert (broken.rule, broken.layer, broken.used, broken.allowed) == ("input axons", 2, 3, 2)
    assert "layer 2 breaks the limit of input axons: 3 axons a core, allowed are 2; fewer inputs" in str(broken)


# -- rules -------------------------------------------------------------------------------------------------------------


def hand_made():
    """A layer and a plan whose numbers are all known."""
    feed = Feed(1, "conv", (4, 5, 5), (3, 3), (1, 1), (0, 0), (1, 1), 1, 72, 60, -3, 3, 9, 5)
    load = Load(2, "conv", "DTB", (2, 3, 3), 2, (feed,), 17, 2, True)
    usage = (Usage(10, 100, 180, 40, 20), Usage(8, 90, 154, 36, 30))
    plan = Plan(2, (1, 3, 3), tuple(Core((0, 1), (0, 3), (0, 3), u) for u in usage), ("sparse",), {"sparse": 190}, ())
    return load, plan


# rule -> what the layer above uses; by hand: the larger of both cores, -3..3 takes 3 bits
USED = {
    "neurons a core": 10, "synaptic memory": 100, "core memory": 180, "input axons": 40, "output axons": 30,
    "weight bits": 3, "state bits": 17, "spike payload": 9, "delay": 5, "neuron model": 1,
}  # fmt: skip
USED_IN_ALL = {"cores": 2, "neurons": 18}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_once_kept_and_once_broken(rule):
    load, plan = hand_made()
    used = USED[rule.name]
    for allowed, ok in ((used, True), (used - 1, False)):
        value = (1, allowed) if rule.key == "weight_bits" else bool(allowed) if used == 1 else allowed
        one = chip(**{rule.key: value})
        found = next(f for f in check((load,), (plan,), one) if f.rule == rule.name)
        assert (found.layer, found.used, found.allowed, found.ok) == (2, used, allowed, ok)
        assert found.source == "a test" and found.status == "assumed"
        assert (rule.remedy in str(found)) is not ok and f"{used:,} {rule.unit}, allowed are {allowed:,}" in str(found)


@pytest.mark.parametrize("rule", CHIP_RULES, ids=lambda rule: rule.name)
def test_every_rule_of_the_whole_once_kept_and_once_broken(rule):
    load, plan = hand_made()
    used = USED_IN_ALL[rule.name]
    for allowed, ok in ((used, True), (used - 1, False)):
        one = chip(**{rule.key: allowed})
        found = next(f for f in check((load,), (plan,), one) if f.rule == rule.name)
        assert (found.layer, found.used, found.allowed, found.ok) == (None, used, allowed, ok)


def test_rules_without_a_number_are_said_to_be_unchecked():
    assert unchecked(chip()) == ("core memory", "input axons", "output axons", "delay", "neurons")
    assert unchecked(load_chip("loihi2")) == ("input axons", "output axons")
    assert set(USED) | set(USED_IN_ALL) == {rule.name for rule in (*RULES, *CHIP_RULES)}
    assert finding(CHIP_RULES[0], None, 3, chip(cores=4)).ok


def test_signed_spikes_without_payload_take_two_axons():
    feed = make_feed(1, Dense(np.array([[-128, 0, 5]])), (3, 1, 1), 2, 0)
    load = Load(2, "dense", "ACC", (1, 1, 1), 2, (feed,), 20, 1, False)
    rules = {}
    for bits in (1, 2):
        one = chip(spike_bits=bits, input_axons=6)
        rules[bits] = {f.rule: f for f in check((load,), partition((load,), one), one)}
    assert rules[1]["input axons"].used == 6 and rules[2]["input axons"].used == 3
    assert rules[1]["weight bits"].used == 9 and not rules[1]["weight bits"].ok, "+128 takes a ninth bit"
    assert rules[2]["weight bits"].used == 8 and rules[1]["spike payload"].ok and rules[2]["spike payload"].used == 2


# -- fit ---------------------------------------------------------------------------------------------------------------


def vgg11_graph():
    """The structure of lava_conv.training.models.vgg11 with random ternary weights."""
    from lava_conv.training.models import vgg11

    rng, layers, shape = np.random.default_rng(0), [Layer("input", (3, 24, 24))], (3, 24, 24)
    modules = [m for m in vgg11() if isinstance(m, nn.Conv2d | nn.Linear | nn.Flatten)]
    for number, module in enumerate(modules, 1):
        if isinstance(module, nn.Flatten):
            shape = (math.prod(shape),)
            layers.append(Layer("flatten", shape))
            continue
        weight = rng.integers(-1, 2, tuple(module.weight.shape)).astype(np.int8)
        if isinstance(module, nn.Conv2d):
            synapse = Conv(weight, module.stride, module.padding, module.dilation, module.groups)
        else:
            synapse = Dense(weight)
        shape, last = synapse.output_shape(shape), number == len(modules)
        kind = "conv" if isinstance(synapse, Conv) else "dense"
        layers.append(Layer(kind, shape, synapse, **(acc(10) if last else dtb(delta=100, max_count=4))))
    return Graph(tuple(layers), steps=8)


def test_vgg11():
    graph = vgg11_graph()
    for name in shipped():
        laid = lc.fit(graph, name)
        assert [load.layer for load in laid.loads] == [index for index, _, _ in graph.neuron_layers()]
        for load, plan in zip(laid.loads, laid.plans, strict=True):
            assert sum(core.usage.neurons for core in plan.cores) == load.neurons
        assert sum(load.neurons for load in laid.loads) == sum(math.prod(x.shape) for _, x, _ in graph.neuron_layers())
    assert {f.rule for f in laid.broken} <= {"cores"}, "Loihi 2 breaks at most the number of cores"
    wide = Chip("Loihi 2 of 128 cores", {**laid.chip.entries, "cores": Entry(128, "quoted elsewhere", "quoted")}, {})
    assert lc.fit(graph, wide).cores == laid.cores


def test_fit_of_a_shipped_network():
    graph = lc.load(ZOO / "mnist-lenet-dtb-k0.net")
    laid = lc.fit(graph)
    assert laid.ok and laid.chip.name == "Loihi 2" and laid.steps == 4
    assert laid.loads[4].synapses == 3_136_000 and laid.loads[4].feeds[0].weight_bits == 2
    old = lc.fit(graph, "loihi1")
    axons = next(f for f in old.broken if f.rule == "input axons")
    assert (axons.layer, axons.used) == (6, 2 * 3136), "signed spikes take two axons"
    assert {f.rule for f in old.broken} == {"spike payload", "neuron model", "input axons", "cores"}
    assert json.loads(json.dumps(laid.as_json()))["fits"] is True


def test_the_picture_has_a_square_for_every_core():
    from matplotlib.patches import Rectangle

    laid = lc.fit(lc.load(ZOO / "mnist-lenet-dtb-k0.net"), "loihi1")
    figure = occupancy(laid)
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == ["chip 1", "chip 2", "chip 3"]
    squares = [sum(isinstance(patch, Rectangle) for patch in axis.patches) for axis in panels]
    broken = sum(core_share(core.usage, laid) > 1 for plan in laid.plans for core in plan.cores)
    assert broken and sum(squares) == 3 * 128 + 2 * laid.cores + broken, "an empty one each, shade, filling, red edge"
    assert "284 cores used of 128" in figure.get_suptitle()
    assert core_share(laid.plans[4].cores[0].usage, laid) == 6272 / 4096
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[4] == "layer 6 dense: 17 cores" and labels[5] == "layer 7 dense: 1 core"


# -- cost --------------------------------------------------------------------------------------------------------------


def at(values, neuron):
    """(steps, N) of one neuron, as a view."""
    return values[(slice(None), slice(None), *neuron)]


def loihi1_with(**values) -> Chip:
    one = load_chip("loihi1")
    return one._replace(entries={**one.entries, **{k: Entry(v, "a test", "assumed") for k, v in values.items()}})


@pytest.mark.parametrize("code", ["flash", "constant"])
def test_work_is_that_of_a_loop_over_spikes_and_synapses(tmp_path, rng, code):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng, (2, 5, 5), steps=3, code=code, skips=True))
    x = rng.integers(0, 256, (2, *graph.input_shape), dtype=np.uint8) * rng.integers(0, 2, (2, 2, 5, 5), dtype=np.uint8)
    laid = fit(graph, loihi1_with(neurons_per_core=40))
    assert all(len(plan.cores) > 1 for plan in laid.plans[:3])
    record = lc.run(graph, x, record_spikes=True)
    works = network_work(laid, record, x, graph.input_code)
    sent = {0: np.stack([(x > 0) * (t == 0 or code == "constant") for t in range(3)])}
    sent |= {i: np.abs(s).reshape(3, 2, *laid.loads[n].shape) for n, (i, s) in enumerate(sorted(record.spikes.items()))}
    home = {p.layer: {n: k for k, core in enumerate(p.cores) for n in neurons_of(core)} for p in laid.plans}
    touched = {load.layer: sent.get(load.layer, np.zeros((3, 2, *load.shape))) > 0 for load in laid.loads}
    operations = {plan.layer: np.zeros((3, 2, len(plan.cores))) for plan in laid.plans}
    reached: dict = {plan.layer: set() for plan in laid.plans}
    for load, plan in zip(laid.loads, laid.plans, strict=True):
        for number, (feed, form) in enumerate(zip(load.feeds, plan.formats, strict=True)):
            share = 1 if form == "dense" else feed.nonzero / feed.weights
            for source, target in synapse_list(feed, load.shape):
                spikes = at(sent[feed.source], source)
                operations[load.layer][:, :, home[load.layer][target]] += share * spikes
                at(touched[load.layer], target)[...] |= spikes > 0
                if feed.source:
                    reached[feed.source].add((source, load.layer, number, home[load.layer][target]))
    for plan in laid.plans:
        active, messages = np.zeros((2, 3, 2, len(plan.cores)))
        for neuron, core in home[plan.layer].items():
            active[:, :, core] += at(touched[plan.layer], neuron)
        for source, *_ in reached[plan.layer]:
            messages[:, :, home[plan.layer][source]] += at(sent[plan.layer], source)
        work = works[plan.layer]
        assert np.allclose(work.operations, operations[plan.layer], rtol=1e-12)
        assert np.array_equal(work.active, active) and np.array_equal(work.messages, messages)
    assert sum(w.messages.sum() for w in works.values()) > 0


def test_cost_by_hand():
    """Two pixels other than 0; layer 2 settles on counts that three steps play out."""
    graph, one = small_graph(), load_chip("loihi1")
    x = np.array([[[[8, 0, 2]]]], np.uint8)
    # layer 2 sums 8 + 4 = 12 and 2; theta 0, delta 4: counts 3 and 0, so neuron 0 sends one spike in each step.
    record = lc.run(graph, x, record_spikes=True)
    assert np.array_equal(record.spikes[2][:, 0], [[1, 0], [1, 0], [1, 0]])
    laid = fit(graph, one)
    assert [len(plan.cores) for plan in laid.plans] == [1, 1] and [plan.formats for plan in laid.plans] == [
        ("dense",), ("dense",)
    ]  # fmt: skip
    spent = cost(graph, x, laid)
    two, three = spent.layers
    # image: 2 pixels x 2 synapses, once; active: both in step 1, then neuron 0, which sends
    assert (two.spikes, two.operations, two.updates, two.active, two.messages, two.macs) == (3, 4, 6, 4, 3, 6)
    assert (three.spikes, three.operations, three.updates, three.active, three.messages, three.macs) == (
        0,
        3,
        3,
        3,
        0,
        2,
    )
    assert message_energy(laid, 2) == 1.7, "both cores lie on one tile"
    assert two.energy_pj == pytest.approx(4 * 23.6 + 4 * 81 + 2 * 52 + 3 * 1.7)
    assert three.energy_pj == pytest.approx(3 * 23.6 + 3 * 81)
    assert sum(spent.energy_pj.values()) == pytest.approx(two.energy_pj + three.energy_pj)
    # steps 1..3 of layer 2 and, one later, 1..3 of layer 3; a tile, so the barrier takes 113 ns
    first = [4 * 3.5 + 2 * 8.4 + 2.1, 8.4 + 5.3 + 2.1, 8.4 + 5.3 + 2.1, 2 * 5.3]
    second = [5.3, 3.5 + 8.4, 3.5 + 8.4, 3.5 + 8.4]
    by_hand = sum(map(max, first, second)) + 4 * 113
    assert barrier_ns(laid) == 113 and spent.latency_ns == pytest.approx(by_hand)
    assert sample_times(laid, network_work(laid, record, x, "flash")) == pytest.approx([by_hand])
    assert (spent.label, spent.macs, spent.operations) == ("Loihi 1, published, pre-silicon", 8, 7)


def test_hops_and_barrier_by_hand():
    """Two layers of five and one cores, four to a tile: the last two cores lie on the second tile."""
    graph = Graph(
        (
            Layer("input", (1, 1, 2)),
            Layer("flatten", (2,)),
            Layer("dense", (5,), Dense(np.ones((5, 2))), **dtb()),
            Layer("dense", (1,), Dense(np.ones((1, 5))), **acc(1)),
        ),
        steps=2,
    )
    laid = fit(graph, loihi1_with(neurons_per_core=1))
    assert [len(plan.cores) for plan in laid.plans] == [5, 1]
    assert message_energy(laid, 2) == pytest.approx(1.7 + 3.0 * 4 / 5), "four of five go one tile east"
    assert barrier_ns(laid) == pytest.approx(113 + (465 - 113) / 31)


def test_counts_agree_with_the_activity_meter_in_any_chunks(tmp_path, rng, monkeypatch):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng))
    x = rng.integers(0, 256, (6, *graph.input_shape), dtype=np.uint8)
    laid = fit(graph, loihi1_with(index_bits=(1,)))  # no index is wide enough: all dense, weights of 0 visited
    assert all(plan.formats == ("dense",) for plan in laid.plans)
    spent, seen = cost(graph, x, laid), measure(graph, x)
    for one, other in zip(spent.layers, seen.layers, strict=True):
        assert one.spikes == other.positive + other.negative and one.macs == other.macs
        assert other.graded or one.operations == pytest.approx(other.synops)
    monkeypatch.setattr("lava_conv.loihi.cost.CHUNK_VALUES", 1)
    again = cost(graph, x, laid)
    assert again.latency_ns == pytest.approx(spent.latency_ns) and again.operations == pytest.approx(spent.operations)


def test_there_is_never_an_energy_or_a_latency_of_loihi_2():
    spent = cost(small_graph(), np.ones((2, 1, 1, 3), np.uint8), "loihi2")
    assert spent.energy_pj is None and spent.latency_ns is None and spent.label == ""
    assert all(layer.energy_pj is None for layer in spent.layers) and spent.operations > 0


def test_cost_refuses_what_it_cannot_count():
    graph = small_graph()
    with pytest.raises(lc.DataError, match="images have shape"):
        cost(graph, np.ones((2, 1, 2, 3), np.uint8))
    x = np.ones((2, 1, 1, 3), np.uint8)
    with pytest.raises(lc.DataError, match="needed is a record with spikes of 3 steps"):
        network_work(fit(graph), lc.run(graph, x), x, "flash")


# -- SANA-FE -----------------------------------------------------------------------------------------------------------

needs_sanafe = pytest.mark.skipif(
    importlib.util.find_spec("sanafe") is None, reason="not installed: pip install lava-conv[sanafe]"
)  # fmt: skip


@needs_sanafe
def test_the_replay_passes_what_cost_counts(tmp_path, rng):
    graph = lc.load(write_random_net(tmp_path / "a.net", rng, (2, 5, 5), steps=3))
    x = rng.integers(0, 256, (2, *graph.input_shape), dtype=np.uint8)
    laid = fit(graph, loihi1_with(neurons_per_core=40))
    played = replay.replay(graph, x, laid)
    spent = cost(graph, x, laid)
    assert played.label == "Loihi 1, calibrated" and played.samples == 2
    assert played.messages == sum(layer.messages for layer in spent.layers)
    assert played.spikes == sum(layer.spikes for layer in spent.layers)
    assert played.parts_pj["added updates"] == pytest.approx(
        21.6 * sum(layer.active - layer.spikes for layer in spent.layers)
    )
    # SANA-FE's Loihi: 51.2 pJ an access, 21.6 an update, 69.3 a spike; an access for every neuron in every step
    idle = len(replay.network_arrays(laid, lc.run(graph, x, record_spikes=True).spikes)["core"])
    steps = graph.steps + max(load.depth for load in laid.loads) - 1
    assert played.parts_pj["soma"] == pytest.approx(51.2 * idle * steps + (21.6 + 69.3) * played.spikes)
    assert played.energy_pj == pytest.approx(sum(played.parts_pj.values())) and played.latency_ns > 0


@needs_sanafe
def test_one_connection_costs_what_its_many_synapses_do(tmp_path, rng):
    """The same network, once as the replay has it and once with a connection for each synapse."""
    graph = Graph(
        (
            Layer("input", (1, 6, 6)),
            Layer("conv", (3, 6, 6), Conv(rng.integers(1, 4, (3, 1, 3, 3)), padding=(1, 1)), **dtb(delta=900)),
            Layer("conv", (4, 4, 4), Conv(rng.integers(1, 4, (4, 3, 3, 3))), **dtb(delta=20)),
            Layer("flatten", (64,)),
            Layer("dense", (5,), Dense(rng.integers(1, 4, (5, 64))), **acc(5)),
        ),
        steps=4,
    )
    x = rng.integers(0, 256, (2, 1, 6, 6), dtype=np.uint8)
    laid = fit(graph, loihi1_with(neurons_per_core=24, index_bits=(1,)))
    spikes = lc.run(graph, x, record_spikes=True).spikes
    merged = replay.network_arrays(laid, spikes)
    assert all(form == "dense" for form in merged["unit_format"])
    numbers, start = {}, 0
    for load in laid.loads:
        numbers[load.layer] = np.arange(start, start + load.neurons).reshape(load.shape)
        start += load.neurons
    pairs = [
        (numbers[feed.source][source], numbers[load.layer][target])
        for load in laid.loads
        for feed in load.feeds
        if feed.source
        for source, target in synapse_list(feed, load.shape)
    ]
    single = dict(merged, pairs=np.array(pairs), unit=np.zeros(len(merged["core"]), int), unit_count=np.array([1.0]))
    single["unit_format"] = np.array(["dense"])
    one, other = replay.call_script(merged), replay.call_script(single)
    assert len(pairs) > 3 * len(merged["pairs"])
    for part, value in one["parts_j"].items():
        assert other["parts_j"][part] == pytest.approx(value), part
    assert other["time_s"] == pytest.approx(one["time_s"]) and other["messages"] == one["messages"] > 0


def test_without_sanafe_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(lc.BackendError, match=r"SANA-FE is not installed; pip install lava-conv\[sanafe\]"):
        replay.replay(small_graph(), np.ones((1, 1, 1, 3), np.uint8))


def test_a_replay_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(replay, "MAX_PAIRS", 1)
    graph = small_graph()
    spikes = lc.run(graph, np.ones((1, 1, 1, 3), np.uint8), record_spikes=True).spikes
    with pytest.raises(lc.FitError, match="layer 3: the replay has more than 1 pairs of a neuron and a core"):
        replay.network_arrays(fit(graph, "loihi1"), spikes)


# -- command line ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def net(trained_digits, tmp_path_factory):
    data, trained = trained_digits
    path = tmp_path_factory.mktemp("fit") / "d.net"
    lc.save(lc.convert(trained.model, data.x_train[:4]), path)
    return path


def test_cli_fits_and_draws(net, tmp_path):
    done = call("fit", net, "--out", tmp_path / "new" / "chip.png")
    assert done.returncode == 0, done.stderr
    assert "fits Loihi 2" in done.stdout and "not checked, for want of a number: input axons" in done.stdout
    assert (tmp_path / "new" / "chip.png").read_bytes().startswith(b"\x89PNG")


def test_cli_json_of_what_does_not_fit_and_its_cost(net):
    done = call("fit", net, "--chip", "loihi1", "--data", "digits", "--samples", 5, "--steps", 4, "--json")
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    laid = lc.fit(lc.load(net), "loihi1", 4)
    assert said["cores"] == laid.cores and said["fits"] is False and len(said["breaks"]) == len(laid.broken)
    assert said["cost"]["label"] == "Loihi 1, published, pre-silicon" and said["cost"]["samples"] == 5
    assert said["cost"]["steps"] == said["steps"] == 4 and said["cost"]["latency_ns"] > 0
    assert said["layers"][0]["findings"][0]["rule"] == "neurons a core"


def test_cli_prints_cost_without_an_energy_of_loihi_2(net):
    done = call("fit", net, "--data", "digits", "--samples", 5)
    assert done.returncode == 0, done.stderr
    assert "the same network as an ANN" in done.stdout and "no energy and no latency" in done.stdout
    assert "uJ" not in done.stdout and "nJ" not in done.stdout
    done = call("fit", net, "--chip", "loihi1", "--data", "digits", "--samples", 5)
    assert done.returncode == 1 and "uJ a sample" in done.stdout and "breaks: " in done.stdout
    assert done.stdout.count("Loihi 1, published, pre-silicon") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--chip", "loihi3"], "chip is 'loihi3'"), (["--sanafe"], "say of which images with --data"),
     (["--out", "x.xyz"], "cannot write the picture"), (["--data", "nothing"], "data set is 'nothing'")],
)  # fmt: skip
def test_cli_errors_are_a_sentence_and_exit_code_2(net, words, message):
    done = call("fit", net, *words)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


@needs_sanafe
def test_cli_replays(net):
    done = call("fit", net, "--chip", "loihi1", "--data", "digits", "--samples", 2, "--sanafe")
    assert done.returncode == 1, done.stderr
    assert "Loihi 1, calibrated" in done.stdout


def test_skips_are_delays(rng):
    """A skip past two layers waits two steps, which a chip with one step of delay does not have."""
    same = Conv(np.ones((1, 1, 1, 1)))
    graph = Graph(
        (
            Layer("input", (1, 2, 2)),
            Layer("conv", (1, 2, 2), same, **dtb()),
            Layer("conv", (1, 2, 2), same, **dtb()),
            Layer("conv", (1, 2, 2), same, **dtb()),
            Layer("conv", (1, 2, 2), same, skips=(Skip(1, Identity(2)),), **dtb()),
            Layer("flatten", (4,)),
            Layer("dense", (2,), Dense(np.ones((2, 4))), **acc(2)),
        ),
        steps=3,
    )
    assert lc.fit(graph, chip(delay_steps=2)).ok
    (broken,) = lc.fit(graph, chip(delay_steps=1)).broken
    assert (broken.rule, broken.layer, broken.used) == ("delay", 4, 2)
