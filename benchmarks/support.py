#!/usr/bin/env python
"""What is supported, found by trying: each kind of layer through each front end, and what comes out on each backend.

python benchmarks/support.py              the front ends (seconds), as the README's table
python benchmarks/support.py --backends   and the backends (minutes, needs Lava)

A front end supports a layer if it makes a Graph of a small network with that layer, after the checks that `convert`
makes against the float model. A backend does if it settles on the integer reference in every count and logit.
"""

import argparse
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import lava_conv as lc
from lava_conv import qat
from lava_conv.frontends import torch_ao

SHAPE, SEQUENCE = (2, 8, 8), (2, 16)
STEPS = 24  # enough for every count below to settle
LEVELS = 6


class Residual(nn.Module):
    """relu(conv(x) + x)"""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv(x) + x)


class Joined(nn.Module):
    """[relu(conv(x)), x] along the channels"""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.relu(self.conv(x)), x], 1)


def _images(*layers: nn.Module) -> nn.Sequential:
    """Layers between an encoder and a readout, for images."""
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), *layers, nn.Flatten(), nn.LazyLinear(4))


def _conv(**options: Any) -> nn.Sequential:
    return _images(nn.Conv2d(4, 4, 3, **options), nn.ReLU())


def _sequence() -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Conv1d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))


ROWS: dict[str, Callable[[], nn.Module]] = {
    "Conv2d (stride, padding, dilation)": lambda: _conv(stride=2, padding=2, dilation=2),
    "Conv2d, grouped and depthwise": lambda: _conv(padding=1, groups=4),
    "Conv1d": _sequence,
    "Linear": lambda: _images(nn.Flatten(), nn.Linear(256, 12), nn.ReLU()),
    "BatchNorm": lambda: _images(nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
    "ReLU6, Hardtanh(0, b)": lambda: _images(nn.Conv2d(4, 4, 3), nn.ReLU6()),
    "average pooling": lambda: _images(nn.AvgPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU()),
    "adaptive average pooling": lambda: _images(nn.AdaptiveAvgPool2d(1)),
    "residual addition": lambda: _images(Residual()),
    "concatenation": lambda: _images(Joined(), nn.Conv2d(8, 4, 3), nn.ReLU()),
    "Dropout, Identity": lambda: _images(nn.Dropout(0.5), nn.Identity()),
    "max pooling": lambda: _images(nn.MaxPool2d(2)),
    "GELU, SiLU, LeakyReLU": lambda: _images(nn.Conv2d(4, 4, 3), nn.GELU()),
}


class FrontEnd(NamedTuple):
    """name: a column. make: a Graph from a plain float network and images, or ConversionError."""

    name: str
    make: Callable[[nn.Module, Any], lc.Graph]


def _prepared(method: str) -> Callable[[nn.Module, Any], lc.Graph]:
    def make(plain: nn.Module, images: Any) -> lc.Graph:
        limit = {"levels" if method == "ca_lif" else "n_max": LEVELS}
        model = qat.prepare(plain, method, power_of_two=True, step_max=64, **limit)
        with torch.no_grad():
            model.train()(torch.from_numpy(images).float())
        return lc.convert(model.eval(), images, STEPS)

    return make


def _torch_ao(plain: nn.Module, images: Any) -> lc.Graph:
    model = torch_ao.prepare(plain, torch.from_numpy(images).float(), levels=LEVELS)
    with torch.no_grad():
        model.train()(torch.from_numpy(images).float())
    return lc.convert(model.eval(), images, STEPS)


def _brevitas(plain: nn.Module, images: Any) -> lc.Graph:
    import brevitas.nn as qnn
    from brevitas.quant import Uint8ActPerTensorFloat

    def average(pool: nn.Module) -> nn.Module:
        return nn.Sequential(pool, qnn.QuantIdentity(bit_width=5, act_quant=Uint8ActPerTensorFloat))

    made = {
        nn.AvgPool2d: average,
        nn.AdaptiveAvgPool2d: average,
        nn.Conv1d: lambda m: qnn.QuantConv1d(m.in_channels, m.out_channels, m.kernel_size),
        nn.Conv2d: lambda m: qnn.QuantConv2d(
            m.in_channels, m.out_channels, m.kernel_size, stride=m.stride, padding=m.padding, dilation=m.dilation,
            groups=m.groups, bias=m.bias is not None,
        ),
        nn.Linear: lambda m: qnn.QuantLinear(m.in_features, m.out_features, bias=True),
        nn.ReLU: lambda m: qnn.QuantReLU(bit_width=3),
        nn.ReLU6: lambda m: qnn.QuantReLU(bit_width=3, max_val=6.0),
    }  # fmt: skip
    for name, module in list(plain.named_modules()):
        holder, _, last = name.rpartition(".")
        if type(module) in made:
            new = made[type(module)](module)
            if isinstance(plain.get_submodule(holder), Residual) and last == "conv":
                new = nn.Sequential(new, qnn.QuantIdentity(bit_width=5))  # what is added needs a step of its own
            setattr(plain.get_submodule(holder), last, new)
    with torch.no_grad():
        plain.train()(torch.from_numpy(images).float())
    return lc.convert(plain.eval(), images, STEPS, round_thresholds=True)


def _calibrated(plain: nn.Module, images: Any) -> lc.Graph:
    return lc.calibrate(plain.eval(), images, steps=STEPS, max_pool=None)


FRONT_ENDS = (
    FrontEnd("`prepare`, dynamic_threshold", _prepared("dynamic_threshold")),
    FrontEnd("`prepare`, ca_lif", _prepared("ca_lif")),
    FrontEnd("torch.ao", _torch_ao),
    FrontEnd("Brevitas", _brevitas),
    FrontEnd("`calibrate`", _calibrated),
)
BACKENDS = ("torch", "lava", "sdnn")


def pixels(row: str, count: int = 16) -> Any:
    shape = SEQUENCE if ROWS[row] is _sequence else SHAPE
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def plain(row: str) -> nn.Module:
    """The small float network of a row, the same every time."""
    torch.manual_seed(0)
    model = ROWS[row]()
    with torch.no_grad():  # the lazy layer gets its shape, normalisation its statistics
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        model.train()(torch.from_numpy(pixels(row)).float())
    return model


def converts(row: str, front_end: FrontEnd) -> lc.Graph | None:
    """The graph, or None where the front end refuses the layer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the toolkits'
        try:
            return front_end.make(plain(row), pixels(row))
        except lc.ConversionError:
            return None


def settles(graph: lc.Graph, images: Any, backend: str) -> bool:
    """Whether a backend settles on the reference; what is refused by name does not."""
    images = images.reshape(len(images), *graph.input_shape)
    wanted = graph.reference(images)
    try:
        found = lc.run(graph, images, STEPS, backend)
    except lc.ConversionError:
        return False
    same = all(np.array_equal(found.counts[i], c) for i, c in wanted.counts.items())
    return same and np.array_equal(found.logits[-1], wanted.logits[-1])


def table(backends: bool = False) -> list[str]:
    """Lines of a Markdown table."""
    columns = [f.name for f in FRONT_ENDS] + ([f"on `{name}`" for name in BACKENDS] if backends else [])
    lines = ["| layer | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in ROWS:
        graphs = [converts(row, front_end) for front_end in FRONT_ENDS]
        cells = ["refused" if graph is None else "yes" for graph in graphs]
        if backends:
            made = next((graph for graph in graphs[1:] if graph is not None), None)
            cells += [
                "" if made is None else "exact" if settles(made, pixels(row, 4), name) else "refused"
                for name in BACKENDS
            ]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", action="store_true")
    print("\n".join(table(parser.parse_args().backends)))


if __name__ == "__main__":
    main()
