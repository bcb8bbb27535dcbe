"""What flows between the layers of a quantised model while it is converted, and how layers change it.

Spikes are counts N of graph layers, worth unit * (N - zero) each. Sums are affine in integers, per output channel:
y = sum over terms of gain * z + offset, z = synapse applied to the counts of one layer. Neither holds data: these are
the coefficients of the network. A neuron layer needs one integer sum; `on_one_grid` brings the terms of a Sum to a
common unit.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lava_conv.conversion.thresholds import staircase
from lava_conv.errors import ConversionError
from lava_conv.network.fixedpoint import WEIGHT_MAX
from lava_conv.network.synapses import Conv, Dense, Identity, Shape, Synapse, Weighted

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LARGEST_MULTIPLE = WEIGHT_MAX  # whole multiples of the common unit that are looked for
LARGEST_ENUMERATION = 1 << 20  # combinations of counts that an approximate grid may be checked on
RELATIVE = 1e-9  # gains so close to a whole multiple are one: they differ by rounding of float64 alone


@dataclass(frozen=True)
class Part:
    """Spikes of one graph layer: `channels` of them, one count worth `unit`, `zero` counts standing for 0."""

    layer: int
    unit: float
    channels: int
    zero: int = 0


@dataclass(frozen=True)
class Spikes:
    """Parts joined along the channels (mostly one)."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Term:
    """gain * (synapse applied to the counts of graph layer `layer`), gain per output channel."""

    layer: int
    synapse: Synapse
    gain: Floats


@dataclass(frozen=True)
class Sum:
    """Terms and an offset per output channel."""

    terms: tuple[Term, ...]
    offset: Floats

    @property
    def channels(self) -> int:
        """Output channels, as many as `offset` has values."""
        return len(self.offset)


Sums = tuple[Sum, ...]  # joined along the channels (mostly one)


@dataclass(frozen=True)
class Pool:
    """An average over windows of spikes, not yet part of a sum."""

    spikes: Spikes
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    divisor: int
    shape: Shape  # C,H,W before it
    flat: bool = False


Value = Spikes | Pool | Sums


# -- layers ----------------------------------------------------------------------------------------------------------


def convolve(spikes: Spikes, conv: Conv, scale: Floats, bias: Floats) -> Sums:
    """A convolution of spikes: y = scale * (weight * values) + bias."""
    rows, width = len(conv.weight) // conv.groups, conv.weight.shape[1]
    terms, sums, start = [], [], 0
    for part in spikes.parts:
        stop = start + part.channels
        if conv.groups == 1:
            terms.append(_term(part, replace(conv, weight=conv.weight[:, start:stop]), scale))
        elif start % width or stop % width:
            raise ConversionError(
                "groups of the convolution reach over the joints of a concatenation; use groups=1 behind it"
            )
        else:
            groups = slice(start // width * rows, stop // width * rows)
            own = replace(conv, weight=conv.weight[groups], groups=part.channels // width)
            term, offset = _term(part, own, scale[groups])
            sums.append(Sum((term,), offset + bias[groups]))
        start = stop
    if start != width * conv.groups:
        raise ConversionError(f"the weight takes {width * conv.groups} channels, but {start} arrive")
    if conv.groups == 1:
        offset = np.sum([offset for _, offset in terms], axis=0)
        sums.append(Sum(tuple(term for term, _ in terms), bias + offset))
    return tuple(sums)


def connect(spikes: Spikes, weight: NDArray[np.int8], scale: Floats, bias: Floats) -> Sums:
    """A dense layer on flat spikes."""
    sizes = [part.channels for part in spikes.parts]
    if sum(sizes) != weight.shape[1]:
        raise ConversionError(f"the weight takes {weight.shape[1]} inputs, but {sum(sizes)} arrive")
    columns = np.split(weight, np.cumsum(sizes)[:-1], axis=1)
    terms = [_term(part, Dense(w), scale) for part, w in zip(spikes.parts, columns, strict=True)]
    return (Sum(tuple(term for term, _ in terms), bias + np.sum([offset for _, offset in terms], axis=0)),)


def _term(part: Part, synapse: Conv | Dense, scale: Floats) -> tuple[Term, Floats]:
    """The term, and what the part's zero point brings into the offset."""
    gain = scale * part.unit
    if not part.zero:
        return Term(part.layer, synapse, gain), np.zeros_like(gain)
    if synapse.pads:
        raise ConversionError(
            f"its input has the zero point {part.zero} and is padded; train with unsigned activations (ReLU before it)"
        )
    total = synapse.weight.astype(np.int64).reshape(len(synapse.weight), -1).sum(1)
    return Term(part.layer, synapse, gain), -gain * part.zero * total


def average(pool: Pool) -> Sums:
    """The average as sums: a depthwise convolution of ones."""
    if pool.flat:
        raise ConversionError("only a dense layer can take a flattened average")
    sums = []
    for part in pool.spikes.parts:
        ones = np.ones((part.channels, 1, *pool.kernel), np.int8)
        synapse = Conv(ones, pool.stride, pool.padding, groups=part.channels)
        term, offset = _term(part, synapse, np.full(part.channels, 1 / pool.divisor))
        sums.append(Sum((term,), offset))
    return tuple(sums)


def spread(weight: NDArray[np.int8], pool: Pool) -> NDArray[np.int8]:
    """Weights of a dense layer behind a flattened average, as weights on what is averaged."""
    channels, height, width = pool.shape
    (kh, kw), (sh, sw), (ph, pw) = pool.kernel, pool.stride, pool.padding
    rows, columns = (height + 2 * ph - kh) // sh + 1, (width + 2 * pw - kw) // sw + 1
    if weight.shape[1] != channels * rows * columns:
        raise ConversionError(
            f"the weight takes {weight.shape[1]} inputs, but {channels * rows * columns} averages arrive"
        )
    source = weight.astype(np.int64).reshape(-1, channels, rows, columns)
    out = np.zeros((len(weight), channels, height + 2 * ph, width + 2 * pw), np.int64)
    for i, j in product(range(kh), range(kw)):
        out[:, :, i : i + sh * rows : sh, j : j + sw * columns : sw] += source
    out = out[:, :, ph : ph + height, pw : pw + width]
    if np.abs(out).max() > WEIGHT_MAX:
        raise ConversionError("overlapping averages in front of a dense layer exceed int8; use a stride of the kernel")
    return out.reshape(len(weight), -1).astype(np.int8)


def as_sums(value: Spikes | Pool | Sums) -> Sums:
    """Any value as sums; spikes are a shortcut, element by element."""
    if isinstance(value, Pool):
        return average(value)
    if isinstance(value, Spikes):
        sums = []
        for part in value.parts:
            gain: Floats = np.full(part.channels, part.unit, np.float64)
            sums.append(Sum((Term(part.layer, Identity(), gain),), gain * -float(part.zero)))
        return tuple(sums)
    return value


def normalise(sums: Sums, factor: Floats, shift: Floats) -> Sums:
    """factor * y + shift, per channel."""
    if sum(s.channels for s in sums) != len(factor):
        raise ConversionError(f"it has {len(factor)} channels, but {sum(s.channels for s in sums)} arrive")
    out, start = [], 0
    for s in sums:
        here = slice(start, start + s.channels)
        terms = tuple(replace(t, gain=t.gain * factor[here]) for t in s.terms)
        out.append(Sum(terms, s.offset * factor[here] + shift[here]))
        start += s.channels
    return tuple(out)


def add(a: Sums, b: Sums) -> Sums:
    """Sums added channel by channel."""
    if [s.channels for s in a] != [s.channels for s in b]:
        raise ConversionError(
            "the summands are concatenations with different joints; put a 1x1 convolution behind the concatenation"
        )
    return tuple(Sum(s.terms + t.terms, s.offset + t.offset) for s, t in zip(a, b, strict=True))


# -- one integer sum for a neuron ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Staircase:
    """A quantiser in counts: N = clip(round(y / step) + zero, 0, n_max); a half goes up, or to the even neighbour."""

    step: float
    n_max: int
    zero: int
    half: float  # 1/2, or a little more where a half must go up even if float64 misses it by its last bits
    half_even: bool

    def counts(self, y: Floats, most: int) -> Ints:
        """The counts of pre-activations y, at most `most`."""
        return staircase(y / self.step + self.zero + self.half, 0.0, 1.0, most, self.half_even, self.zero)


def on_one_grid(
    total: Sum, rounding: Staircase, counts: list[Ints], flat: bool
) -> tuple[list[tuple[int, Synapse]], Floats]:
    """Integer synapses (source layer, synapse) whose sum z gives y = unit * z + offset, and the unit per channel.

    Args:
        total: its terms; a term whose gain is 0 in a channel vanishes there.
        rounding: what becomes of y.
        counts: by layer, the largest count of each channel.
        flat: whether the neurons are a flat layer.

    Raises:
        ConversionError: the gains have no common unit.
    """
    gains = np.stack([term.gain for term in total.terms])
    multiples, unit = _whole_multiples(gains)
    if unit is None:
        multiples, unit = _approximate(total, gains, rounding, counts)
    return [_scaled(t, m, flat) for t, m in zip(total.terms, multiples, strict=True)], unit


def _whole_multiples(gains: Floats) -> tuple[Ints, Floats | None]:
    """Per channel the largest unit of which every gain is a whole multiple; gains (terms, channels)."""
    size = np.abs(gains)
    smallest = np.where(size > 0, size, np.inf).min(0)
    smallest = np.where(np.isfinite(smallest), smallest, 1.0)
    unit = np.zeros(gains.shape[1])
    for parts in range(1, LARGEST_MULTIPLE + 1):
        ratio = size * parts / smallest
        fits = (np.abs(ratio - np.rint(ratio)) <= RELATIVE * np.maximum(ratio, 1)).all(0) & (unit == 0)
        unit = np.where(fits, smallest / parts, unit)
        if (unit > 0).all():
            return np.rint(gains / unit).astype(np.int64), unit
    return np.zeros_like(gains, np.int64), None


def _approximate(total: Sum, gains: Floats, rounding: Staircase, counts: list[Ints]) -> tuple[Ints, Floats]:
    """Shortcuts alone, with any two units: integers so fine that every combination of counts rounds as it should."""
    refusal = ConversionError(
        "the layers that are added have no common unit; lava_conv.qat.prepare trains them onto one, and with a toolkit "
        "the summands need quantisers of their own"
    )
    if not all(term.synapse.kernel is None for term in total.terms) or np.ptp(gains, axis=1).any():
        raise refusal
    if np.ptp(total.offset):
        raise refusal
    most = [int(counts[term.layer].max()) for term in total.terms]
    if np.prod([m + 1.0 for m in most]) > LARGEST_ENUMERATION:
        raise ConversionError(f"the summands count up to {most}, too many combinations to check; use fewer levels")
    grids = np.meshgrid(*[np.arange(m + 1) for m in most], indexing="ij")
    gain, offset = gains[:, 0], float(total.offset[0])
    y = offset + sum(g * n for g, n in zip(gain, grids, strict=True))
    true = rounding.counts(np.asarray(y), rounding.n_max)
    for fineness in (2**n for n in range(4, 20)):
        unit = float(np.abs(gain).max()) / fineness
        whole = np.rint(gain / unit).astype(np.int64)
        z = sum(m * n for m, n in zip(whole, grids, strict=True))
        if np.array_equal(rounding.counts(np.asarray(unit * z + offset), rounding.n_max), true):
            return np.repeat(whole[:, None], gains.shape[1], axis=1), np.full(gains.shape[1], unit)
    raise refusal


def _scaled(term: Term, multiple: Ints, flat: bool) -> tuple[int, Synapse]:
    return term.layer, term.synapse.scaled(multiple, flat)


def without(synapse: Synapse, channels: NDArray[np.bool_], flat: bool) -> Synapse:
    """The synapse with the weights of some output channels set to 0; flat: the neurons are a flat layer."""
    return synapse.scaled(np.where(channels, 0, 1), flat) if channels.any() else synapse


def main_and_skips(
    feeds: list[tuple[int, Synapse]], last: int, shape: Shape
) -> tuple[tuple[int, Weighted], list[tuple[int, Synapse]]]:
    """The feeds in the order of the file: a layer's own synapse is a convolution or dense, best of layer `last`.

    Args:
        feeds: (source layer, synapse) of everything that is added up.
        last: the layer that stands right before; a weighted synapse from there comes first.
        shape: of the neurons; a shortcut that must come first becomes a layer of its own weights.

    Returns:
        The same sum: the layer's own synapse, and the others.
    """
    order = sorted(feeds, key=lambda feed: (feed[1].kernel is None, feed[0] != last))
    source, first = order[0]
    main, rest = first.own(shape)
    return (source, main), [*([(source, rest)] if rest else []), *order[1:]]
