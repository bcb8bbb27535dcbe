"""Random networks as source text: a plain network of the usual pieces, one or two of them unusual."""

import functools
import linecache
import operator
import random
import re
import string
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import silent_parts as parts
import torch
import torch.utils.checkpoint
from torch import nn
from torch.nn import functional as F

from lava_conv import qat

PROBE = 2  # images that a piece is tried on while the network is put together


def _piece(group: str, rng: random.Random) -> tuple[str, str]:
    """(name, text) of a piece of a group, from spikes to spikes."""
    if group == "plain":
        return rng.choice(list(parts.PLAIN.items()))
    if group == "in place, read again":
        return parts.alias(rng)
    name, text = rng.choice(list(TABLES[group].items()))
    norm = rng.choice(("", parts.NORM))
    relu = "\n" + rng.choice((parts.RELU, parts.RELU, "x = F.relu(x)\n"))
    before = behind = ""
    if group == "activation":
        before = parts.CONV + norm
    elif group == "convolution":
        behind = relu
    elif group == "normalisation":
        before, behind = parts.CONV, relu
    elif group == "addition":
        before, behind = rng.choice(parts.BRANCHES) + "\n", relu
    elif group == "concatenation":
        before = "y = F.relu(«nn.Conv2d($C, 3, 3, padding=1)»(x))\n"
        behind = rng.choice(("", "\nx = «nn.LazyConv2d(4, 1)»(x)" + relu))
    elif group in ("scaling", "no operation"):
        at_sum = rng.random() < 0.5
        name = f"{name} ({'sum' if at_sum else 'spikes'})"
        before, behind = (parts.CONV + norm, relu) if at_sum else ("", "\n" + parts.CONV + relu)
    return name, before + text + behind


TABLES: dict[str, dict[str, str]] = {
    "activation": parts.RELUS,
    "convolution": parts.CONVS,
    "normalisation": parts.NORMS,
    "pooling": parts.POOLS,
    "addition": parts.ADDITIONS,
    "concatenation": parts.JOINS,
    "scaling": parts.SCALINGS,
    "no operation": parts.IDENTITIES,
    "entrance": parts.ENTRANCES,
    "head": parts.HEADS,
    "logits": parts.TAILS,
}
HEADS = (
    "x = «nn.Linear($N, $K)»(«nn.Flatten()»(x))",
    "x = «nn.Linear($C, $K)»(«nn.Flatten()»(«nn.AdaptiveAvgPool2d(1)»(x)))",
    "x = «nn.Linear($N, 12)»(x.flatten(1))\nx = F.relu(x)\nx = «nn.Linear(12, $K)»(x)",
)
GROUPS = ("in place, read again", *TABLES)


@dataclass
class Network:
    """Source of a class `Network`, the shape of its images, and which unusual pieces are in it."""

    source: str
    shape: tuple[int, ...]
    classes: int
    unusual: list[tuple[str, str]] = field(default_factory=list)

    def make(self, seed: int, scale: float = 1 / 255, edit: Callable[[str], str] = str) -> nn.Module:
        """The network with lively parameters and statistics, in evaluation mode; the same for the same seed.

        scale: pixels are multiplied by it. edit: a change of the source.
        """
        torch.manual_seed(seed)
        model = _define(edit(self.source))["Network"]()
        images = torch.randint(0, 256, (16, *self.shape)).float() * scale
        for module in model.modules():
            if isinstance(module, nn.modules.lazy.LazyModuleMixin):
                with torch.no_grad():
                    model.eval()(images)  # gives lazy layers their shapes
                break
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.momentum = None
            if norm.weight is not None:
                nn.init.normal_(norm.weight, 1.0, 0.4)
                nn.init.normal_(norm.bias, 0.2, 0.4)
        model.train()
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                    module.weight.mul_(1.5)  # torch's own let activations fade
            model(images)
            model(images.flip(0))
        return model.eval()


def _define(source: str) -> dict[str, Any]:
    name = f"<network {abs(hash(source))}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)  # for what reads sources, as TorchScript
    space: dict[str, Any] = {
        "torch": torch, "nn": nn, "F": F, "functools": functools, "operator": operator, "__name__": "silent_networks"
    }  # fmt: skip
    space |= {"qat": qat, "qnn": sys.modules.get("brevitas.nn")}
    space |= {n: v for n, v in vars(parts).items() if isinstance(v, type)}
    exec(compile(source, name, "exec"), space)
    return space


class _Writer:
    """Puts pieces behind each other; each is tried on zeros, so that its shape is known."""

    def __init__(self, flat: bool, rank: int, translate: Callable[[str], str]) -> None:
        self.flat, self.rank, self.translate = flat, rank, translate
        self.blocks: list[str] = []
        self.init: list[str] = []
        self.lines: list[str] = []
        self.number = 0

    def add(self, text: str, shape: tuple[int, ...], classes: int) -> tuple[int, ...]:
        """The shape behind the piece; raises whatever the piece raises on zeros."""
        text = self.translate(text)
        text = text if self.rank == 2 else text.replace("2d", "1d")
        n = 1
        for size in shape:
            n *= size
        names = {"C": shape[0], "H": shape[-2] if len(shape) > 2 else 1, "W": shape[-1], "N": n, "K": classes}
        init, lines = self._parse(string.Template(text).substitute(names))
        block = _class("Block", init, lines)
        with torch.no_grad():
            given = _define(block)["Block"]().eval()(torch.randint(256, (PROBE, *shape)).float())
        self.number += 1
        if self.flat:
            self.init += init
            self.lines += lines
        else:
            self.blocks.append(block.replace("class Block(", f"class Block{self.number}(", 1))
            self.init.append(f"self.block{self.number} = Block{self.number}()")
            self.lines.append(f"x = self.block{self.number}(x)")
        return tuple(given.shape[1:]) if isinstance(given, torch.Tensor) else ()

    def _parse(self, text: str) -> tuple[list[str], list[str]]:
        init: list[str] = []
        suffix = f"_{self.number}" if self.flat else ""

        def submodule(match: re.Match[str]) -> str:
            name, expression = re.fullmatch(r"(?:(\w+)=)?(.*)", match[1]).groups()  # type: ignore[union-attr]
            name = name or f"m{len(init)}"
            init.append(f"self.{name} = {expression}")
            return f"self.{name}"

        lines = []
        for line in text.splitlines():
            text = line
            while (new := re.sub("«([^«»]*)»", submodule, text)) != text:
                text = new
            if text.startswith("@"):
                init.append(text[1:])
            elif text and not re.fullmatch(r"self\.\w+", text):
                lines.append(text)

        def rename(line: str) -> str:
            line = re.sub(r"self\.(?!training|register_buffer)(\w+)", rf"self.\1{suffix}", line)
            return re.sub(r"register_buffer\('(\w+)'", rf"register_buffer('\1{suffix}'", line)

        return [rename(x) for x in init], [rename(x) for x in lines]

    def source(self) -> str:
        return "\n\n".join([*self.blocks, _class("Network", self.init, self.lines)])


def _class(name: str, init: list[str], lines: list[str]) -> str:
    head = f"class {name}(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    body = "".join(f"        {line}\n" for line in init) + "\n    def forward(self, x):\n"
    return head + body + "".join(f"        {line}\n" for line in lines) + "        return x\n"


def network(rng: random.Random, wanted: list[str], translate: Callable[[str], str] = str, first: str = "") -> Network:
    """A network with a piece of each group in `wanted`; tries again where pieces do not fit.

    translate: what makes the layers of another library of the text of a piece. first: a piece before all others.
    """
    for attempt in range(50):
        try:
            return _network(rng, wanted, 2 if rng.random() < 0.85 else 1, translate, first)
        except Exception:  # whatever a piece says of a shape it was not made for
            if attempt == 49:
                raise
    raise AssertionError


def _network(rng: random.Random, wanted: list[str], rank: int, translate: Callable[[str], str], first: str) -> Network:
    writer = _Writer(rng.random() < 0.5, rank, translate)
    size = rng.choice((8, 8, 9, 10, 12))
    shape: tuple[int, ...] = (rng.choice((1, 2, 3)), *([size, rng.choice((size, 8))] if rank == 2 else [2 * size]))
    given, classes, unusual = shape, rng.choice((2, 3, 5, 10)), []

    def add(group: str) -> None:
        nonlocal shape
        name, text = _piece(group, rng)
        shape = writer.add(text, shape, classes)
        if group != "plain":
            unusual.append((group, name))

    if first:
        shape = writer.add(first, shape, classes)
    if "entrance" in wanted:
        add("entrance")
    stem = rng.choice((parts.RELU, parts.NORM + parts.RELU))
    if len(shape) == len(given):
        conv = f"x = «nn.Conv2d($C, 4, 3, padding={rng.choice((0, 1))})»(x)\n"
        shape = writer.add(conv + stem.replace("$C", "4"), shape, classes)
    middle = [g for g in wanted if g not in ("entrance", "head", "logits")]
    middle += ["plain"] * rng.choice((0, 1, 1, 2))
    rng.shuffle(middle)
    for group in middle:
        add(group)
    if "head" in wanted:
        add("head")
    else:
        text = rng.choice(HEADS)
        shape = writer.add(text, shape, classes)
    if "logits" in wanted:
        add("logits")
    return Network(writer.source(), given, classes, unusual)
