"""`fit`: does a network fit a chip, what does each layer take of it, what breaks, and what would help."""

from typing import NamedTuple

from lava_conv.arguments import graph_of, whole
from lava_conv.loihi.chip import Chip, load_chip
from lava_conv.loihi.load import Load, lowered_loads, network_loads
from lava_conv.loihi.partition import Plan, partition
from lava_conv.loihi.rules import Finding, check, unchecked
from lava_conv.lowering import Lowered
from lava_conv.network.graph import Graph


class Group(NamedTuple):
    """A rule that breaks, in one layer or in several."""

    rule: str
    findings: tuple[Finding, ...]

    @property
    def worst(self) -> Finding:
        """The finding that uses most."""
        return max(self.findings, key=lambda finding: finding.used)

    @property
    def places(self) -> str:
        """The layers in words, or "network"."""
        if self.worst.layer is None:
            return "network"
        return f"layer{'s' * (len(self.findings) > 1)} {', '.join(str(f.layer) for f in self.findings)}"

    def __str__(self) -> str:
        if len(self.findings) == 1:
            return str(self.worst)
        worst = self.worst
        return (
            f"{self.places} break the limit of {self.rule}: up to {worst.used:,} {worst.unit}, allowed are "
            f"{worst.allowed:,}; {worst.remedy}"
        )


class Fit(NamedTuple):
    """A network laid out on a chip: what `fit` returns.

    Fields:
        chip: its description.
        steps: time steps a sample, for which the state bits are proven.
        loads: what each layer of neurons asks, in order.
        plans: how each is cut into cores, in the same order.
        findings: of every rule, layer by layer, then of the whole network.
    """

    chip: Chip
    steps: int
    loads: tuple[Load, ...]
    plans: tuple[Plan, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether the network fits: no rule that the chip has a number for breaks."""
        return not self.broken

    @property
    def broken(self) -> tuple[Finding, ...]:
        """The findings that break a limit."""
        return tuple(finding for finding in self.findings if not finding.ok)

    def groups(self) -> tuple["Group", ...]:
        """What breaks, rule by rule."""
        rules = dict.fromkeys(finding.rule for finding in self.broken)
        return tuple(Group(rule, tuple(f for f in self.broken if f.rule == rule)) for rule in rules)

    @property
    def cores(self) -> int:
        """Cores of all layers; more than the chip has where it does not fit."""
        return sum(len(plan.cores) for plan in self.plans)

    def shares(self) -> dict[str, float]:
        """Rule -> the largest share of the limit that any layer uses, above 1 where it breaks; not of limits of 0."""
        shares: dict[str, float] = {}
        for finding in self.findings:
            if finding.allowed:
                shares[finding.rule] = max(finding.used / finding.allowed, shares.get(finding.rule, 0.0))
        return shares

    def as_json(self) -> dict[str, object]:
        """All of it in types that json writes."""
        layers = []
        for load, plan in zip(self.loads, self.plans, strict=True):
            layers.append(
                {
                    "layer": load.layer, "kind": load.kind, "shape": list(load.shape), "neurons": load.neurons,
                    "synapses": load.synapses, "weights": load.weights, "fan_in": load.fan_in,
                    "cores": len(plan.cores), "tile": list(plan.tile), "formats": list(plan.formats),
                    "bytes_by_format": plan.bytes_by_format, "fullest_core": plan.fullest._asdict(),
                    "findings": [f._asdict() for f in self.findings if f.layer == load.layer],
                }
            )  # fmt: skip
        return {
            "chip": self.chip.name, "fits": self.ok, "steps": self.steps, "cores": self.cores,
            "neurons": sum(load.neurons for load in self.loads), "layers": layers,
            "findings": [f._asdict() for f in self.findings if f.layer is None],
            "breaks": [str(f) for f in self.broken], "unchecked": list(unchecked(self.chip)),
            "unpublished": dict(self.chip.unpublished),
        }  # fmt: skip

    def card(self) -> dict[str, object]:
        """The summary that the card of a shipped network holds."""
        return {
            "fits": self.ok,
            "cores": self.cores,
            "largest share of the limit": {rule: round(share, 4) for rule, share in self.shares().items()},
            "not checked": list(unchecked(self.chip)),
            "breaks": [f"{g.rule}: {g.places}, {g.worst.used:,} of {g.worst.allowed:,}" for g in self.groups()],
        }


def fit(graph: Graph | Lowered, chip: str | Chip = "loihi2", steps: int | None = None) -> Fit:
    """Lay a network out on a chip and check every rule.

    Args:
        graph: the network, or what `lava_conv.lower` made of it.
        chip: "loihi1", "loihi2", the path of a TOML file with the same keys, or a loaded Chip.
        steps: time steps a sample; default: the graph's. A lowered network's samples are one wave.

    Returns:
        Fit; it does not raise where the network does not fit.

    Raises:
        FitError: the chip is unknown or its description is wrong.
    """
    chip = chip if isinstance(chip, Chip) else load_chip(chip)
    if isinstance(graph, Lowered):
        steps, loads = 1, lowered_loads(graph)
    else:
        graph_of(graph)
        steps = graph.steps if steps is None else whole(steps, "steps")
        loads = network_loads(graph, steps)
    plans = partition(loads, chip)
    return Fit(chip, steps, loads, plans, check(loads, plans, chip))
