"""The rules: each compares one number of a layer, or of the whole network, with one of the chip's.

A rule whose number the chip description lacks is not checked. To add one: a line in a table.
"""

from collections.abc import Callable
from typing import NamedTuple

from lava_conv.loihi.chip import Chip
from lava_conv.loihi.load import Load
from lava_conv.loihi.partition import Plan, memory_of, ports, stored_bits


class Finding(NamedTuple):
    """What a rule found; as text it is one sentence.

    Fields:
        rule: its name.
        layer: index of the layer, None: the whole network.
        used: what is taken of the limit, in `unit`.
        allowed: the limit.
        ok: whether it is kept.
        unit: of both numbers, in words.
        remedy: what would help.
        source: where the limit was read.
        status: "published", "quoted" or "assumed".
    """

    rule: str
    layer: int | None
    used: int
    allowed: int
    ok: bool
    unit: str
    remedy: str
    source: str
    status: str

    def __str__(self) -> str:
        place = "the network" if self.layer is None else f"layer {self.layer}"
        verb = "keeps" if self.ok else "breaks"
        text = f"{place} {verb} the limit of {self.rule}: {self.used:,} {self.unit}, allowed are {self.allowed:,}"
        return text if self.ok else f"{text}; {self.remedy}"


class Rule(NamedTuple):
    """key: the chip's limit. used: what a layer takes of it. remedy: what would help."""

    name: str
    key: str
    unit: str
    used: Callable[[Load, Plan, Chip], int]
    remedy: str


class ChipRule(NamedTuple):
    """As Rule, for all layers together."""

    name: str
    key: str
    unit: str
    used: Callable[[tuple[Load, ...], tuple[Plan, ...]], int]
    remedy: str


def _weight_bits(load: Load, plan: Plan, chip: Chip) -> int:
    memory = memory_of(chip)
    found = []
    for feed in load.feeds:
        if feed.kind == "identity":  # its scale is split over synapses side by side
            found.append(stored_bits(feed, memory))
        elif ports(feed.payload_bits, memory.spike_bits) == 2:  # -w is stored too
            low, high = min(feed.weight_min, -feed.weight_max), max(feed.weight_max, -feed.weight_min)
            found.append(feed._replace(weight_min=low, weight_max=high).weight_bits)
        else:
            found.append(feed.weight_bits)
    return max(found)


def _payload_bits(load: Load, plan: Plan, chip: Chip) -> int:
    """A signed spike that takes two axons needs one bit on each."""
    bits = chip["spike_bits"]
    return max(1 if ports(feed.payload_bits, bits) == 2 else feed.payload_bits for feed in load.feeds)


RULES = (
    Rule(
        "neurons a core", "neurons_per_core", "neurons", lambda load, plan, chip: plan.fullest.neurons,
        "cut the layer into smaller tiles",
    ),
    Rule(
        "synaptic memory", "synapse_bytes_per_core", "bytes a core",
        lambda load, plan, chip: plan.fullest.synapse_bytes,
        "fewer inputs a neuron, fewer bits a weight, or more zeros",
    ),
    Rule(
        "core memory", "core_bytes", "bytes a core", lambda load, plan, chip: plan.fullest.core_bytes,
        "fewer inputs a neuron, fewer bits a weight, or a neuron with fewer state variables",
    ),
    Rule(
        "input axons", "input_axons", "axons a core", lambda load, plan, chip: plan.fullest.input_axons,
        "fewer inputs a neuron: pool or stride before this layer, or use groups; spikes of one sign "
        "(unipolar neurons) take half where spikes have no payload",
    ),
    Rule(
        "output axons", "output_axons", "axons a core", lambda load, plan, chip: plan.fullest.output_axons,
        "fewer cores for the layers that read this one: fewer channels or smaller kernels there",
    ),
    Rule(
        "weight bits", "weight_bits", "bits", _weight_bits,
        "train with fewer bits a weight (method dynamic_threshold gives ternary ones)",
    ),
    Rule(
        "state bits", "state_bits", "bits", lambda load, plan, chip: load.state_bits,
        "fewer steps, smaller weights, fewer inputs or a smaller shift",
    ),
    Rule(
        "spike payload", "spike_bits", "bits", _payload_bits,
        "a chip with graded spikes, or compute what needs them (for an image: the first layer) outside the chip",
    ),
    Rule(
        "delay", "delay_steps", "steps", lambda load, plan, chip: max(feed.delay for feed in load.feeds),
        "shorter skips, or relay neurons along them",
    ),
    Rule(
        "neuron model", "programmable_neurons", "programmable neuron models",
        lambda load, plan, chip: int(load.programmable),
        "a chip with programmable neurons; the other rules say what the network would take if this one had them",
    ),
)  # fmt: skip
CHIP_RULES = (
    ChipRule(
        "cores", "cores", "cores", lambda loads, plans: sum(len(plan.cores) for plan in plans),
        "several chips, fewer channels, fewer bits a weight, or a smaller input",
    ),
    ChipRule(
        "neurons", "neurons", "neurons", lambda loads, plans: sum(load.neurons for load in loads),
        "several chips, fewer channels or a smaller input",
    ),
)  # fmt: skip


def check(loads: tuple[Load, ...], plans: tuple[Plan, ...], chip: Chip) -> tuple[Finding, ...]:
    """Every rule that the chip has a number for, on every layer and on the whole."""
    found = [
        finding(rule, load.layer, rule.used(load, plan, chip), chip)
        for load, plan in zip(loads, plans, strict=True)
        for rule in RULES
        if chip.get(rule.key) is not None
    ]
    found += [
        finding(rule, None, rule.used(loads, plans), chip) for rule in CHIP_RULES if chip.get(rule.key) is not None
    ]
    return tuple(found)


def finding(rule: Rule | ChipRule, layer: int | None, used: int, chip: Chip) -> Finding:
    """`used` against the chip's number for a rule; of a list of widths the largest is the limit."""
    value, source, status = chip.entries[rule.key]
    allowed = max(value) if isinstance(value, tuple) else int(value)
    return Finding(rule.name, layer, used, allowed, used <= allowed, rule.unit, rule.remedy, source, status)


def unchecked(chip: Chip) -> tuple[str, ...]:
    """Names of the rules for which the chip description has no number."""
    return tuple(rule.name for rule in (*RULES, *CHIP_RULES) if chip.get(rule.key) is None)
