"""A quantised network between front ends and conversion: operations on named tensors, executable in float64.

Every front end makes a Program of what users bring, and conversion knows Programs only. What an operation means, how it
is built into the integer network and why it may be refused stands in one place, `lava_conv.frontends.operations`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lava_conv.errors import ConversionError, Problem, grouped
from lava_conv.torch_tools.convolution import SafeConvolutions

if TYPE_CHECKING:
    from lava_conv.conversion.algebra import Value
    from lava_conv.conversion.builder import Builder

Shape = tuple[int, ...]  # of one sample: (C, H, W), (C, L) or (n,)


class Operation(ABC):
    """One operation: plain data, and these functions of it."""

    @abstractmethod
    def evaluate(self, *values: Tensor) -> Tensor:
        """Its result in float64, for its inputs (N, ...) in float64."""

    @abstractmethod
    def output_shape(self, *shapes: Shape) -> Shape:
        """The shape of a sample of its result, for those of its inputs."""

    @abstractmethod
    def build(self, builder: Builder, *values: Value) -> Value:
        """Add what it needs to the integer network, and give what flows out of it.

        Raises:
            ConversionError, RangeError: it cannot stand at this place of the network; without the place, which the
                builder knows.
        """

    def refusal(self) -> Problem | None:
        """Why no network of integers can do this, wherever it stands (the place is left empty); None if one can."""
        return None


class SameShape(Operation):
    """An operation whose result has the shape of its only input."""

    def output_shape(self, *shapes: Shape) -> Shape:
        """The shape of its input."""
        return shapes[0]


@dataclass(frozen=True)
class Step:
    """One operation of a Program.

    Fields:
        name: of the tensor that it gives, unique.
        operation: what it does.
        inputs: names of the tensors that it takes.
        place: where it stands in the user's model, for messages.
        origin: the module of the user's model that gives the same tensor: (path, for which time it is called).
    """

    name: str
    operation: Operation
    inputs: tuple[str, ...]
    place: str
    origin: tuple[str, int] | None = None


@dataclass(frozen=True)
class Program:
    """Operations in the order in which they run; the first one takes the images.

    Fields:
        steps: every tensor is made before it is taken.
        shapes: by name of the tensor, the shape of one sample; empty where something is refused.
        outputs: names of the tensors that the model gives.
    """

    steps: tuple[Step, ...]
    shapes: dict[str, Shape]
    outputs: tuple[str, ...]

    def run(self, images: Tensor) -> Iterator[tuple[Step, tuple[Tensor, ...], Tensor]]:
        """Run it in float64 and give each step with what it takes and what it gives; what no later step takes is
        forgotten.

        Args:
            images: (N, ...), as the first step takes them.
        """
        known: dict[str, Tensor] = {}
        last = {name: number for number, step in enumerate(self.steps) for name in step.inputs}
        with torch.no_grad(), SafeConvolutions():
            for number, step in enumerate(self.steps):
                taken = tuple(known[name] for name in step.inputs) or (images.double(),)
                known[step.name] = step.operation.evaluate(*taken)
                yield step, taken, known[step.name]
                for name in {*step.inputs, step.name}:
                    if last.get(name, -1) <= number:
                        known.pop(name, None)

    def refuse_unsupported(self) -> None:
        """Name everything that has no integer form at once: nobody should find the problems one by one.

        Raises:
            ConversionError: lists the places by remedy.
        """
        problems = [p._replace(place=step.place) for step in self.steps if (p := step.operation.refusal())]
        if problems:
            raise ConversionError(f"cannot convert: {grouped(problems)}")
