"""What `prepare` knows of the tensors of a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import fx, nn

from lava_conv.qat.layers import QuantisedWeight


@dataclass(frozen=True)
class Lazy:
    """A `grid.Summand` whose source may still be exchanged for a shared quantiser.

    Fields:
        layer: the weight layer, None: a shortcut.
        norms: the normalisations between it and the neuron.
        source: the quantiser (or input) node whose counts it takes.
    """

    layer: QuantisedWeight | None
    norms: tuple[nn.Module, ...]
    source: fx.Node


@dataclass
class Flow:
    """What is known of a tensor.

    Fields:
        kind: "pixels", "spikes", "sum" (of summands), "pool" (an average of spikes) or "logits".
        channels: 0 where they are not known.
        sources: the quantiser (or input) nodes whose counts these are.
        summands: of a sum.
        flat: whether a sample has one axis.
        pool: the node that averages.
        signed: counts that stand for values of both signs.
    """

    kind: str
    channels: int = 0
    sources: tuple[fx.Node, ...] = ()
    summands: Sequence[Lazy] = field(default_factory=list)
    flat: bool = False
    pool: fx.Node | None = None
    signed: bool = False

    def addends(self) -> Sequence[Lazy]:
        """What it brings into an addition: its summands, or itself as a shortcut."""
        return self.summands if self.kind == "sum" else [Lazy(None, (), source) for source in self.sources]
