"""Random convolution geometries, each computed in every way that the product has, in child processes that may die."""

import faulthandler
import multiprocessing
import multiprocessing.connection
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

import lava_conv as lc
from lava_conv.network.graph import Graph, Layer, Skip
from lava_conv.network.neurons import NEURONS
from lava_conv.network.synapses import Conv, Dense
from lava_conv.torch_tools.convolution import CONVOLUTIONS, conv

STEPS = 16
METHODS = ("auto", "events", "dense", "tensors")
Look = Callable[[int], tuple[str, bool]]
BATCHES = (1, 2, 3, 16, 40)
KNOWN = (  # geometries that ended the process or came out wrong at some time: frame, channels in and out, options
    ((64, 1), 4, 8, (3, 1), (2, 2), (1, 1), (1, 1), 1),
    ((4, 1), 10, 6, (3, 2), (1, 3), (2, 2), (1, 1), 1),
    ((9, 2), 12, 36, (4, 1), (2, 3), (2, 1), (1, 1), 4),
    ((13, 1), 14, 8, (3, 2), (3, 2), (1, 3), (1, 2), 2),
    ((1, 1), 3, 3, (1, 1), (1, 3), (0, 4), (1, 3), 1),
    ((11, 1), 24, 48, (2, 1), (1, 2), (3, 1), (3, 1), 24),
    ((12, 1), 2, 1, (5, 1), (3, 2), (3, 1), (2, 3), 1),
    ((26, 20), 3, 11, (1, 1), (2, 2), (0, 0), (1, 1), 1),
    ((18, 32), 4, 36, (1, 1), (3, 1), (0, 0), (1, 1), 1),
    ((9, 9), 16, 32, (2, 1), (1, 1), (2, 2), (1, 1), 16),
)


class Geometry(NamedTuple):
    """A convolution: frame (H, W), channels, and the options of torch by axis."""

    frame: tuple[int, int]
    inputs: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


class Outcome(NamedTuple):
    """Geometries first .. stop - 1 of one child: what differed, by number; the signal or exit code if it died."""

    first: int
    stop: int
    differences: tuple[tuple[int, str], ...] = ()
    died: int = 0
    lively: int = 0  # networks in which a spike of the swept layer was counted


def geometry(number: int) -> Geometry:
    """The geometry of that number: the known ones first, then random ones."""
    if number < len(KNOWN):
        return Geometry(*KNOWN[number])
    rng = np.random.default_rng([1, number])
    while True:
        frame = np.where(rng.random(2) < 0.35, 1, rng.integers(1, 16, 2))
        kernel, stride = rng.integers(1, 6, 2), rng.integers(1, 5, 2)
        padding, dilation = rng.integers(0, 6, 2), rng.integers(1, 4, 2)
        if rng.random() < 0.5:
            dilation[:] = 1
        if (frame + 2 * padding > dilation * (kernel - 1)).all():
            break
    groups = int(rng.choice([1, 1, 1, 2, 3, 4]))
    inputs, outputs = (groups * int(rng.integers(1, 40 // groups + 1)) for _ in range(2))
    if rng.random() < 0.15:  # depthwise
        groups = inputs
        outputs = inputs * int(rng.integers(1, 3))
    pairs = (tuple(map(int, pair)) for pair in (kernel, stride, padding, dilation))
    return Geometry(tuple(map(int, frame)), inputs, outputs, *pairs, groups)  # type: ignore[arg-type]


def network(geo: Geometry, rng: np.random.Generator) -> Graph:
    """Image -> 1x1 convolution -> the geometry on its spikes (in half of the networks on the image too) -> readout."""
    dtb, limit = NEURONS["DTB"].Params, 1 << 21
    options = geo[4:]

    def swept(largest: int) -> Conv:
        shape = (geo.outputs, geo.inputs // geo.groups, *geo.kernel)
        return Conv(rng.integers(-largest, largest + 1, shape), *options)

    first = Conv(rng.integers(-3, 30, (geo.inputs, geo.inputs, 1, 1)))
    second = swept(int(rng.choice([1, 5, 127])))
    window = int(np.prod(second.weight.shape[1:]))
    skips = (Skip(0, swept(max(1, min(9, limit // (255 * window))))),) if rng.random() < 0.5 else ()
    shape = second.output_shape((geo.inputs, *geo.frame))
    size = int(np.prod(shape))
    reach = np.abs(second.weight.astype(np.int64)).sum() / geo.outputs
    reach += sum(100 * np.abs(skip.synapse.weight.astype(np.int64)).sum() / geo.outputs for skip in skips)
    layers = (
        Layer("input", (geo.inputs, *geo.frame)),
        Layer("conv", (geo.inputs, *geo.frame), first, "DTB", dtb(-500, max(1, 900 * geo.inputs), 0, 3)),
        Layer("conv", shape, second, "DTB", dtb(0, max(1, int(reach / 12)), 0, 3), skips),
        Layer("flatten", (size,)),
        Layer("dense", (3,), Dense(rng.integers(-9, 10, (3, size))), "ACC", NEURONS["ACC"].Params(0)),
    )
    return Graph(layers, STEPS)


def differences(number: int, training: bool = True) -> tuple[str, bool]:
    """What of this geometry differs from the oracle ("": nothing), and whether its layer counted any spike.

    training: whether forward and backward pass are looked at too.
    """
    geo, rng = geometry(number), np.random.default_rng([2, number])
    graph, count = network(geo, rng), int(rng.choice(BATCHES))
    images = rng.integers(0, 256, (count, geo.inputs, *geo.frame), dtype=np.uint8)
    want, found, plain = graph.reference(images), [], None
    for method in METHODS:
        record = lc.run(graph, images, method=method, threads=int(rng.integers(1, 3)), record_spikes=True)
        plain = plain or record
        same = np.array_equal(record.logits[-1], want.logits[0]) and np.array_equal(record.logits, plain.logits)
        same &= all(np.array_equal(record.counts[i], counts) for i, counts in want.counts.items())
        if not same or not all(np.array_equal(record.spikes[i], spikes) for i, spikes in plain.spikes.items()):
            found.append(method)
    if training:
        found += _trained(geo, rng, count)
    return ", ".join(found), bool(want.counts[2].any())


def _trained(geo: Geometry, rng: np.random.Generator, count: int) -> Iterator[str]:
    """Forward and backward pass as training runs them, whole numbers in float32, against torch's plain float64."""
    x = torch.from_numpy(rng.integers(-1, 2, (count, *geo.frame, geo.inputs)).astype(np.float32)).permute(0, 3, 1, 2)
    w = torch.from_numpy(rng.integers(-9, 10, (geo.outputs, geo.inputs // geo.groups, *geo.kernel)).astype(np.float32))
    options = geo[4:]
    yield from _compared("channels last", x, w, options)
    yield from _compared("contiguous", x.contiguous(), w, options)
    if geo.frame[1] == 1 and geo.kernel[1] == 1 and not geo.padding[1]:  # a signal, along the rows
        one_dimensional = (*(pair[:1] for pair in options[:3]), geo.groups)
        yield from _compared("1-D", x[..., 0], w[..., 0], one_dimensional)


def _compared(name: str, x: torch.Tensor, w: torch.Tensor, options: Any) -> Iterator[str]:
    wide = [x.double().contiguous().requires_grad_(), w.double().requires_grad_()]
    plain = CONVOLUTIONS[w.ndim](*wide, None, *options)
    given = torch.sign(plain.detach())
    plain.backward(given)
    ours = [x.clone(memory_format=torch.preserve_format).requires_grad_(), w.clone().requires_grad_()]
    out = conv(*ours, None, *options)
    out.backward(given.float())
    if not torch.equal(out.double(), plain):
        yield f"{name} forward"
    for what, a, b in zip(("input", "weight"), ours, wide, strict=True):
        if not torch.equal(a.grad.double(), b.grad):
            yield f"{name} gradient of the {what}"


THREADS = 2  # of torch in each child


# -- child processes -------------------------------------------------------------------------------------------------


class _Task:
    """A range of geometries, one child's work; `parent` is the range that died and of which it is a half."""

    def __init__(self, first: int, stop: int, parent: "_Task | None" = None) -> None:
        self.first, self.stop, self.parent = first, stop, parent
        self.died, self.halves, self.blamed = 0, 2, False


def sweep(first: int, stop: int, together: int = 50, processes: int = 2, look: Look | None = None) -> Iterator[Outcome]:
    """Geometries first .. stop - 1 in child processes that may die; what each range came to, as it ends.

    The range of a child that died is run again in halves, down to the geometry, or to the geometries that only
    together end it.

    Args:
        first: number of the first geometry.
        stop: number behind the last one.
        together: geometries of one child.
        processes: children at a time.
        look: what is done with each, default `differences`.
    """
    context = multiprocessing.get_context("fork")
    waiting = [_Task(start, min(start + together, stop)) for start in reversed(range(first, stop, together))]
    running: dict[Any, tuple[Any, _Task]] = {}
    while waiting or running:
        while waiting and len(running) < processes:
            task = waiting.pop()
            receive, send = context.Pipe(duplex=False)
            child = context.Process(target=_child, args=(send, task.first, task.stop, look or differences))
            child.start()
            send.close()
            running[receive] = child, task
        for receive in multiprocessing.connection.wait(list(running)):
            child, task = running.pop(receive)
            try:
                found, lively = receive.recv()
            except EOFError:
                found, lively = (), 0
            receive.close()
            child.join()
            task.died = child.exitcode or 0
            if task.died and task.stop - task.first > 1:
                middle = (task.first + task.stop) // 2
                waiting += [_Task(middle, task.stop, task), _Task(task.first, middle, task)]
                continue
            yield Outcome(task.first, task.stop, found, task.died, lively)
            yield from _done(task, bool(task.died))


def _done(task: _Task, blamed: bool) -> Iterator[Outcome]:
    """Tell the range whose half this was; if neither of its halves died, it is to blame itself."""
    parent = task.parent
    if parent is None:
        return
    parent.halves -= 1
    parent.blamed |= blamed
    if parent.halves == 0:
        if not parent.blamed:
            yield Outcome(parent.first, parent.stop, died=parent.died)
        yield from _done(parent, True)


def _child(send: Any, first: int, stop: int, look: Look) -> None:
    faulthandler.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what a dying C library says
    torch.set_num_threads(THREADS)
    found, lively = [], 0
    for number in range(first, stop):
        try:
            text, alive = look(number)
        except Exception as error:
            text, alive = f"{type(error).__name__}: {error}", False
        lively += alive
        if text:
            found.append((number, text))
    send.send((tuple(found), lively))
    send.close()
