"""Weights as coarse as 24 bits ask: the sums, biases and potentials of every layer, bounded before images are seen.

A fine weight scale makes all integers of a channel large, its bias with them. Where they would leave 24 bits the
channel gets a coarser scale (`QuantisedWeight.floor`), which rounds its weights more. A channel whose weights say next
to nothing beside its bias then has weights of 0 and is a constant.
"""

import logging
import math

import torch
from torch import Tensor, fx

from lava_conv.calibration.segments import Segments
from lava_conv.errors import RangeError
from lava_conv.network.fixedpoint import INPUT_MAX, STATE_BITS, STATE_MAX, WEIGHT_MAX
from lava_conv.qat.grid import Grid
from lava_conv.qat.layers import Average, LearnedStep, QuantisedWeight, Readout
from lava_conv.qat.pooling import POOLS

log = logging.getLogger(__name__)

ROOM = 0.95  # of 24 bits: what a coarser scale leaves for the bias correction that comes later
ATTEMPTS = 8  # a scale is raised so often; each time by what is missing
WEAK = 1 / 16  # a channel that the image moves by less than this share of its bias is weak


class Widths:
    """Bounds of the integers in front of each activation, and coarser weights where they leave 24 bits.

    Args:
        segments: of the model; `floor` and `most` of its weight layers change.
        shapes: by the name of a node, the shape (C, ...) of what it gives for one image.
        levels: largest count of a neuron.
        repeats: how often the image comes.
    """

    def __init__(self, segments: Segments, shapes: dict[str, tuple[int, ...]], levels: int, repeats: int) -> None:
        self.segments, self.shapes, self.levels, self.repeats = segments, shapes, levels, repeats
        self.coarser: list[fx.Node] = []  # the layers that got a coarser scale

    def fit_image(self) -> None:
        """Fewer weight levels where the image, coming so often, could drive a potential out of 24 bits."""
        for end in self.segments.quantisers:
            if self.segments.image not in self.segments.needs[end]:
                continue
            offset = self._offset(end).abs()
            for layer in self.segments.layers(end):
                summand = next(s for s in _grid(layer).summands if s.layer is layer)
                gain = abs(torch.as_tensor(summand.factor())) * summand.unit()
                weight = layer.weight.abs().flatten(1)
                image = weight.sum(1) * gain * INPUT_MAX
                strong = image > WEAK * offset
                reach = ((image + offset) / (weight.amax(1) * gain))[strong]
                if reach.numel():
                    most = int(STATE_MAX * ROOM / (self.repeats * float(reach.max())))
                    if most < 1:
                        raise RangeError(
                            f"{end.target}: the image, coming {self.repeats} times, drives the sums out of "
                            f"{STATE_BITS} bits even with weights of -1, 0 and 1; use fewer steps or input_code='flash'"
                        )
                    layer.most = min(WEIGHT_MAX, most)

    def fit(self, end: fx.Node) -> None:
        """Raise the scale of the layers in front of `end` until their integers fit 24 bits.

        Raises:
            RangeError: no scale makes them fit.
        """
        layers = self._layers(end)
        if not layers:
            return
        reach = torch.zeros(1)
        for _ in range(ATTEMPTS):
            reach, unit = self._readout(end) if end is self.segments.logits else self._sums(end)
            excess = torch.where(reach > STATE_MAX, reach / (STATE_MAX * ROOM), 1.0)
            if float(excess.max()) <= 1:
                return
            for node in layers:
                self._coarser(node, excess, unit)
        raise RangeError(
            f"{end.target}: its sums reach {float(reach.max()):.4g} with the coarsest weights, the limit is "
            f"{STATE_BITS} bits ({STATE_MAX}); use fewer steps or levels, or fewer inputs"
        )

    def _coarser(self, node: fx.Node, excess: Tensor, unit: Tensor) -> None:
        """A scale for the weight layer `node` that makes 1 worth `excess` times as much."""
        layer = self.segments.called(node, QuantisedWeight)
        if isinstance(layer, Readout):
            layer.floor = layer.quantise()[1].detach() * WEIGHT_MAX * excess.max()
        else:
            summand = next(s for s in _grid(layer).summands if s.layer is layer)
            gain = abs(torch.as_tensor(summand.factor())) * summand.unit() + 0 * unit
            wanted = torch.where(gain > 0, unit * excess * layer.most / gain.clamp_min(1e-30), 0.0)
            old = torch.zeros_like(wanted) if layer.floor is None else layer.floor.double()
            layer.floor = torch.where(excess > 1, torch.maximum(wanted, old), old)
        if node not in self.coarser:
            self.coarser.append(node)
            log.info(
                "%s: %d of %d channels get weights up to %.3g times as coarse, so that all sums fit %d bits",
                node.target, int((excess > 1).sum()), excess.numel(), float(excess.max()), STATE_BITS,
            )  # fmt: skip

    # -- bounds --------------------------------------------------------------------------------------------------------

    def _sums(self, end: fx.Node) -> tuple[Tensor, Tensor]:
        """Per channel of an activation, the largest integer among its sums, bias and potential, 0 for a constant; and
        what 1 is worth."""
        quantiser = self.segments.called(end, LearnedStep)
        nodes = {id(self.segments.module(n)): n for n in self._layers(end)}
        grid = _grid(self.segments.called(self._layers(end)[0], QuantisedWeight))
        with torch.no_grad():
            unit = grid.unit().double()
            low = high = torch.zeros_like(unit)
            repeats = 1
            for summand in grid.summands:
                factor = torch.as_tensor(summand.factor()) + 0 * unit
                if summand.layer is None:
                    below, above = 0 * unit, abs(factor) * summand.unit() / unit * self.levels
                else:
                    root, largest = self._largest(nodes[id(summand.layer)])
                    repeats = self.repeats if root is self.segments.image else repeats
                    integer = summand.layer.quantise()[0].double().flatten(1) * largest
                    below, above = integer.clamp(max=0).sum(1), integer.clamp(min=0).sum(1)
                low, high = low + torch.where(factor < 0, -above, below), high + torch.where(factor < 0, -below, above)
            step, offset = quantiser.unit().double(), self._offset(end).double()
            for extra in (quantiser.offset, quantiser.initial):
                offset = offset if extra is None else offset + extra.double()
            level = offset / step + quantiser.zero
            least, most = ((z * (unit / repeats) / step + level + 0.5).floor() for z in (low, high))
            constant = least.clamp(0, self.levels) == most.clamp(0, self.levels)
            delta = step / (unit / repeats)
            reach = _largest_integer(low, high, level * delta, self.levels * delta)
        return torch.where(constant, 0.0, reach), unit

    def _readout(self, end: fx.Node) -> tuple[Tensor, Tensor]:
        """Per class, the largest integer among its sums, bias and logit; and what 1 is worth."""
        node = self._layers(end)[-1]
        readout = self.segments.called(node, Readout)
        root, largest = self._largest(node)
        with torch.no_grad():
            integer, scale = readout.quantise()
            grain = readout.grain(scale).double() / (self.repeats if root is self.segments.image else 1)
            integer = integer.double() * largest
            low, high = integer.clamp(max=0).sum(1), integer.clamp(min=0).sum(1)
            return _largest_integer(low, high, self._offset(end).double() / grain, 0.0), grain

    def _layers(self, end: fx.Node) -> list[fx.Node]:
        """The nodes of the weight layers whose sum `end` takes (for the logits: that give them)."""
        nodes = (*self.segments.inside(end), end)
        return [n for n in nodes if isinstance(self.segments.module(n), QuantisedWeight)]

    def _largest(self, node: fx.Node) -> tuple[fx.Node, int]:
        """What a weight layer reads in the end, and the largest count of one input; behind an average, of all the
        counts that it adds."""
        window, node = 1, node.all_input_nodes[0]
        while node is not self.segments.image and node not in self.segments.quantisers:
            before = node.all_input_nodes[0]
            if isinstance(self.segments.module(node), (*POOLS, Average)):
                inputs, outputs = (math.prod(self.shapes[n.name]) for n in (before, node))
                window *= -(-inputs // outputs)
            node = before
        return node, window * (INPUT_MAX * self.repeats if node is self.segments.image else self.levels)

    def _offset(self, end: fx.Node) -> Tensor:
        """What `end` takes (for the logits: gives) without any input, (channels,)."""
        nothing = {}
        for node in self.segments.needs[end]:
            value = 0.0
            if node is not self.segments.image:
                quantiser = self.segments.called(node, LearnedStep)
                value = -quantiser.zero * float(quantiser.unit())
            nothing[node] = torch.full((1, *self.shapes[node.name]), value)
        with torch.no_grad():
            base = self.segments.run(end, nothing)
        return base.reshape(base.shape[1], -1)[:, 0]


def _grid(layer: QuantisedWeight) -> Grid:
    assert layer.grid is not None, "calibration prepares with learned steps, whose layers stand on a grid"
    return layer.grid


def _largest_integer(low: Tensor, high: Tensor, start: Tensor, counted: Tensor | float) -> Tensor:
    """The largest size of sums low..high, of the bias, and of the potential, from which as much as `counted` has been
    taken by then."""
    top = high + start
    bottom = low + start - top.clamp(min=0).clamp(max=counted)
    return torch.stack([low.abs(), high.abs(), start.abs(), top.abs(), bottom.abs()]).amax(0)
