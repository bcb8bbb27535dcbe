"""Layer after layer: what the neurons answer to the spikes that really arrive is brought to the float activation."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from lava_conv.calibration.layout import from_rows, to_rows
from lava_conv.calibration.reconstruct import reconstruct
from lava_conv.calibration.response import ONE, Layer, in_parts
from lava_conv.calibration.segments import Segments
from lava_conv.calibration.spike_trains import Trains
from lava_conv.calibration.widths import Widths
from lava_conv.frontends.calls import Call
from lava_conv.network.fixedpoint import MAX_STEPS
from lava_conv.qat.layers import LearnedStep, Pixels

CHUNK_ELEMENTS = 1 << 24  # floats of one segment's widest tensor, all time steps of some images (64 MiB)
KEPT_BYTES = 1 << 28  # of a layer's input that is kept from pass to pass; what is larger is computed again
SCALES = np.exp2(np.arange(-8, 5) / 8)  # thresholds tried on the spiking layer, times the one found for the quantiser
BIAS_PASSES = 2  # the correction changes who is clipped, so that once is not quite enough

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LayerError:
    """How far the spikes of one layer are from the activation of the model as it came, as mean squares over that of the
    activation; with method "distilled" from that of the quantised network.

    quantisation: of whole counts; clipping: of the largest count; inherited: of what arrives, were it settled;
    deviation: of counts that the sample's end or inconstant input left apart from the settled ones.
    before, after: the whole error, before and after calibrating this layer.
    """

    layer: str
    quantisation: float
    clipping: float
    inherited: float
    deviation: float
    before: float
    after: float


class Tuning:
    """Walks through the segments with the float activations and the spike trains of all calibration images.

    Args:
        segments: of the model that is calibrated; its modules change.
        teacher: of the same model as it was.
        images: uint8 (N, C, ...), pixels.
        layer: the neurons.
        stages: out of "scale", "weights", "initial", "bias", in the order they are done.
        iterations: of the weights' reconstruction.
        seed: of its order of images.
        call: how a module of the teacher is run: `plain` in float, `quantised` with its rounding.
        widths: keeps the integers within 24 bits.

    `logits` (N, classes) are, when all is done, those after the last step.
    """

    def __init__(
        self, segments: Segments, teacher: Segments, images: Tensor, layer: Layer, stages: tuple[str, ...],
        iterations: int, seed: int, call: Call, widths: Widths,
    ) -> None:  # fmt: skip
        self.call, self.widths = call, widths
        self.logits: Tensor | None = None
        self.fixed: set[int] = set()  # steps of layers that are done; others may share them
        self.segments, self.teacher, self.layer, self.stages = segments, teacher, layer, stages
        self.iterations, self.seed = iterations, seed
        pixels = segments.called(segments.image, Pixels)(images.float())
        self.floats: dict[fx.Node, Tensor] = {teacher.image: pixels}  # by node of the teacher
        self.image = pixels
        most = layer.steps if layer.spread else max(layer.steps, MAX_STEPS)
        self.network = Trains(segments.traced, images, layer.steps, layer.spread, most)
        self.trains: dict[fx.Node, NDArray[np.int8]] = {}  # (N, T, P, C), by node of the model
        self.shapes = {segments.image.name: tuple(pixels.shape[1:])}  # C, H, W or (n,); names are those of the teacher
        self.samples = len(images)
        self._kept: tuple[fx.Node, float, list[tuple[slice, NDArray[np.int32]]]] | None = None

    def advance(self, number: int, tune: bool = True) -> LayerError | None:
        """Do segment `number`; all before it are done. None for the logits.

        tune: False only runs it, as a resumed calibration does with the layers that are done.
        """
        end, twin = self.segments.ends[number], self.teacher.ends[number]
        with torch.no_grad():
            target = self._float(twin)
        if end is self.segments.logits:
            if tune:
                self._readout(end, target)
                self.widths.fit(end)
            with torch.no_grad():
                self.logits = self.segments.run(end, {node: self._mean(node) for node in self.segments.needs[end]})
            return None
        self.shapes[end.name] = tuple(target.shape[1:])
        quantiser = self.segments.called(end, LearnedStep)
        rows = to_rows(target)
        before = self._tune(end, quantiser, target, rows) if tune else 0.0
        self.fixed.add(id(quantiser.step))
        self.widths.fit(end)
        self.floats[twin] = target
        chunk = self._parts(end, self.segments, self.layer.steps)[0].stop
        with torch.no_grad():
            self.trains[end] = self.network.make(end, chunk)
        error = None
        if tune:
            quantisation, clipping, inherited, deviation, after = self._errors(end, quantiser, rows, self.trains[end])
            error = LayerError(str(end.target), quantisation, clipping, inherited, deviation, before, after)
        self._kept = None
        for node in [n for n in self.floats if self.teacher.last_use(n) <= number]:
            del self.floats[node]
        for node in [n for n in self.trains if self.segments.last_use(n) <= number]:
            del self.trains[node]
            self.network.forget(node)
        return error

    # -- one layer -------------------------------------------------------------------------------------------------

    def _tune(self, end: fx.Node, quantiser: LearnedStep, target: Tensor, rows: NDArray[np.float32]) -> float:
        """Do the stages; the error before them."""
        *_, before = self._errors(end, quantiser, rows)
        for stage in self.stages:
            if stage == "scale":
                if id(quantiser.step) not in self.fixed:
                    self._scale(end, quantiser, rows)
            elif stage == "weights":
                means = {node: self._mean(node) for node in self.segments.needs[end]}
                reconstruct(self.segments, end, means, target, self.iterations, self.seed)
                self._kept = None
            else:
                self._shift(end, quantiser, rows, "offset" if stage == "bias" else stage)
        return before

    def _scale(self, end: fx.Node, quantiser: LearnedStep, target: NDArray[np.float32]) -> None:
        """The threshold with the least error of the spiking layer itself."""
        step, errors = float(quantiser.unit()), np.zeros(len(SCALES))
        bias, initial = self._extras(end, quantiser)
        for part, drive in self._drives(end, step):
            for i, scale in enumerate(SCALES):
                spikes = self.layer.respond(drive, bias / step, initial / step, scale)
                values = (_counts(spikes) - quantiser.zero) * np.float32(step * scale)
                errors[i] += np.square(values - target[part]).sum(dtype=np.float64)
        with torch.no_grad():
            quantiser.step.fill_(step * SCALES[errors.argmin()])

    def _shift(self, end: fx.Node, quantiser: LearnedStep, target: NDArray[np.float32], name: str) -> None:
        """Add to each channel what its spikes lack on average, if that makes the error smaller."""
        least, lack = self._squares(end, quantiser, target)
        for _ in range(BIAS_PASSES):
            old: Tensor | None = getattr(quantiser, name)
            setattr(quantiser, name, torch.from_numpy(lack).float() + (0 if old is None else old))
            error, lack = self._squares(end, quantiser, target)
            if error >= least:
                setattr(quantiser, name, old)
                return
            least = error

    def _squares(self, end: fx.Node, quantiser: LearnedStep, target: NDArray[np.float32]) -> tuple[float, Floats]:
        """The summed squared error, and what each channel lacks on average."""
        step, total = np.float32(quantiser.unit().item()), 0.0
        lack = np.zeros(target.shape[-1])
        for part, _, spikes in self._passes(end, quantiser):
            missing = target[part] - (_counts(spikes) - quantiser.zero) * step
            total += float(np.square(missing).sum(dtype=np.float64))
            lack += missing.sum((0, 1), dtype=np.float64)
        return total, lack / (target.shape[0] * target.shape[1])

    def _errors(
        self, end: fx.Node, quantiser: LearnedStep, target: NDArray[np.float32], exact: NDArray[np.int8] | None = None
    ) -> list[float]:
        """quantisation, clipping, inherited, deviation, all: see LayerError; of the exact spikes if they are known."""
        step, levels = float(quantiser.unit()), self.layer.levels
        bias, initial = self._extras(end, quantiser)
        sums = np.zeros(5)
        chunks = self._passes(end, quantiser)
        if exact is not None:
            chunks = ((part, drive, exact[part]) for part, drive in self._drives(end, step))
        for part, drive, spikes in chunks:
            x = target[part] / step + quantiser.zero
            rounded = np.floor(x + 0.5)
            clipped = np.clip(rounded, 0, levels)
            frames = self.layer.steps if self.layer.spread and drive.shape[1] == 1 else 1
            total = drive.sum(1, dtype=np.int64) * frames / ONE + (bias + initial) / step
            settled = np.clip(np.floor(total + 0.5), 0, levels)
            found = _counts(spikes)
            pairs = ((rounded, x), (clipped, rounded), (settled, clipped), (found, settled), (found, x))
            sums += [np.square(a - b).sum(dtype=np.float64) for a, b in pairs]
        power = max(float(np.square(target / step).sum(dtype=np.float64)), 1e-30)
        return (sums / power).tolist()

    def _readout(self, end: fx.Node, target: Tensor) -> None:
        """The last layer's bias takes what the classes lack on average; its weights are reconstructed like others."""
        if not self.stages:
            return
        means = {node: self._mean(node) for node in self.segments.needs[end]}
        if "weights" in self.stages:
            reconstruct(self.segments, end, means, target, self.iterations, self.seed)
        readout = self.segments.layers(end)[-1]
        with torch.no_grad():
            lack = (target - self.segments.run(end, means)).mean(0)
        bias = lack if readout.bias is None else readout.bias.detach() + lack
        readout.bias = nn.Parameter(bias.clone())

    # -- passes over the images ------------------------------------------------------------------------------------

    def _float(self, twin: fx.Node) -> Tensor:
        """The float activation (N, ...) of a segment."""
        quantiser = None if twin is self.teacher.logits else self.teacher.called(twin, LearnedStep)
        found = []
        for part in self._parts(twin, self.teacher, 1):
            value = self.teacher.run(twin, {n: self.floats[n][part] for n in self.teacher.needs[twin]}, self.call)
            found.append(value if quantiser is None else self.call(quantiser, [value]))
        return torch.cat(found)

    def _passes(
        self, end: fx.Node, quantiser: LearnedStep
    ) -> Iterator[tuple[slice, NDArray[np.int32], NDArray[np.int8]]]:
        """(images, input in parts of a level, spikes), chunk by chunk."""
        step = float(quantiser.unit())
        bias, initial = self._extras(end, quantiser)
        for part, drive in self._drives(end, step):
            yield part, drive, self.layer.respond(drive, bias / step, initial / step)

    def _extras(self, end: fx.Node, quantiser: LearnedStep) -> tuple[Floats, Floats]:
        """Bias (what comes without any input, and the calibrated part) and initial potential, per channel."""
        base = self._base(end)
        offset = base.reshape(1, base.shape[1], -1)[0, :, 0].double().numpy()
        extra = [0.0 if v is None else v.double().numpy() for v in (quantiser.offset, quantiser.initial)]
        zero = quantiser.zero * float(quantiser.unit())
        return offset + zero + extra[0], np.zeros_like(offset) + extra[1]

    def _drives(self, end: fx.Node, step: float) -> Iterator[tuple[slice, NDArray[np.int32]]]:
        """(images, input of each step in parts of a level), chunk by chunk."""
        if self._kept is not None and self._kept[:2] == (end, step):
            yield from self._kept[2]
            return
        self._kept, kept, room = None, [], KEPT_BYTES
        for part, drive in self._computed(end, step):
            yield part, drive
            room -= drive.nbytes
            if room >= 0:
                kept.append((part, drive))
            else:  # not even a part of what is too large
                kept.clear()
        if room >= 0:
            self._kept = (end, step, kept)

    def _computed(self, end: fx.Node, step: float) -> Iterator[tuple[slice, NDArray[np.int32]]]:
        sources = self.segments.needs[end]
        still = all(node is self.segments.image for node in sources)
        frames = 1 if still else self.layer.steps
        base = self._base(end)
        for part in self._parts(end, self.segments, frames):
            with torch.no_grad():
                values = {node: self._frames(node, part, frames) for node in sources}
                drive = in_parts(self.segments.run(end, values) - base, step)
            yield part, drive.reshape(part.stop - part.start, frames, *drive.shape[1:])

    def _base(self, end: fx.Node) -> Tensor:
        """What the segment's end takes without any input, (1, ...): the offset of every channel."""
        nothing = {}
        for node in self.segments.needs[end]:
            nothing[node] = torch.full((1, *self.shapes[node.name]), -self._zero(node))
        with torch.no_grad():
            return self.segments.run(end, nothing)

    def _frames(self, node: fx.Node, part: slice, frames: int) -> Tensor:
        """(n * frames, ...) what `node` gives in each step."""
        if node is self.segments.image:
            image = self.image[part]
            share = image / self.layer.steps if self.layer.spread else image
            if frames == 1:
                return share
            out = torch.zeros(len(image), frames, *image.shape[1:])
            out[:, : frames if self.layer.spread else 1] = share[:, None]
            return out.flatten(0, 1)
        trains, shape = self.trains[node][part], self.shapes[node.name]
        values = torch.from_numpy(trains.reshape(-1, *trains.shape[2:])).float()
        return from_rows(values, shape) * self._unit(node) - self._zero(node)

    def _mean(self, node: fx.Node) -> Tensor:
        """What the counts of `node` stand for at the end of the sample, (N, ...)."""
        if node is self.segments.image:
            return self.image
        counts = torch.from_numpy(_counts(self.trains[node]).astype(np.float32))
        return from_rows(counts, self.shapes[node.name]) * self._unit(node) - self._zero(node)

    def _unit(self, node: fx.Node) -> float:
        return float(self.segments.called(node, LearnedStep).unit())

    def _zero(self, node: fx.Node) -> float:
        """What no spikes stand for, below 0."""
        return 0.0 if node is self.segments.image else self.segments.called(node, LearnedStep).zero * self._unit(node)

    def _parts(self, end: fx.Node, segments: Segments, frames: int) -> list[slice]:
        widest = max(int(np.prod(self.shapes.get(node.name, (1,)))) for node in (*segments.needs[end], end))
        size = max(1, CHUNK_ELEMENTS // (widest * frames))
        return [slice(start, min(start + size, self.samples)) for start in range(0, self.samples, size)]


def _counts(spikes: NDArray[np.int8]) -> NDArray[np.float32]:
    """(n, T, P, C) -> (n, P, C)."""
    return spikes.sum(1, dtype=np.int16).astype(np.float32)
