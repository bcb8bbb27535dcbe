"""Program -> Graph: the steps become layers, bounds are proven, and the result is checked on example images."""

import logging
from dataclasses import dataclass

import torch

from lava_conv import __version__
from lava_conv.conversion.builder import Builder
from lava_conv.conversion.verify import Activations, verify
from lava_conv.errors import ConversionError, RangeError
from lava_conv.frontends.program import Program
from lava_conv.network.fixedpoint import MAX_STEPS
from lava_conv.network.graph import Graph
from lava_conv.progress import Progress

log = logging.getLogger(__name__)

ATTEMPTS = (MAX_STEPS, 48, 32, 24, 16, 12, 8, 4)  # steps for which a proof is tried, the most first


@dataclass(frozen=True)
class Assembly:
    """How a Program becomes a Graph; the fields are the options of `lava_conv.convert`."""

    steps: int
    max_steps: int | None = None
    labels: tuple[str, ...] = ()
    round_thresholds: bool = False
    input_code: str = "flash"

    @property
    def repeats(self) -> int:
        """How often the image comes."""
        return self.steps if self.input_code == "constant" else 1

    def attempts(self) -> list[int]:
        """The steps for which bounds and thresholds are to be proven, one after the other until it succeeds."""
        most = self.steps if self.repeats > 1 and self.max_steps is None else self.max_steps
        if most is None:
            return sorted({n for n in (*ATTEMPTS, self.steps) if n >= self.steps}, reverse=True)
        if most < self.steps:
            raise ConversionError(f"max_steps is {most}, allowed is at least steps = {self.steps}")
        return [most]

    def layers(self, program: Program, max_steps: int, progress: Progress | None = None) -> Builder:
        """The layers for counts up to `max_steps`.

        Raises:
            ConversionError: a step cannot stand where it stands.
            RangeError: no integer thresholds within 24 bits do what the program does.
        """
        shape = program.shapes[program.steps[0].name]
        frame = shape if len(shape) == 3 else (shape[0], 1, *shape[1:])
        builder = Builder(frame, max_steps, self.round_thresholds, self.repeats)
        for number, step in enumerate(program.steps, 1):
            builder.add(step)
            if progress:
                progress(number, len(program.steps))
        builder.readout(program.outputs)
        return builder

    def graph(
        self,
        program: Program,
        images: torch.Tensor,
        activations: Activations,
        progress: Progress | None = None,
    ) -> Graph:
        """The network, checked on example images.

        Args:
            program: of supported operations.
            images: uint8 (N, ...), as the program takes them.
            activations: what the program's quantisers take and give on them.
            progress: called after every step of the program with the number done and the number in all.

        Raises:
            ConversionError: a step cannot stand where it stands.
            RangeError: no integer thresholds within 24 bits do what the program does.
        """
        tries = self.attempts()
        for attempt in tries:
            try:
                builder = self.layers(program, attempt, progress)
                made_by = f"lava-conv {__version__}"
                graph = Graph(tuple(builder.layers), self.steps, self.input_code, labels=self.labels, generator=made_by)
                graph.check(attempt)
            except RangeError as error:
                if attempt == tries[-1]:
                    raise
                log.info("thresholds for up to %d steps do not exist (%s); trying fewer", attempt, error)
                continue
            log.info("bounds and thresholds are proven for up to %d steps", attempt)
            verify(activations, graph, images, builder.activations, attempt)
            return graph
        raise AssertionError("unreachable: the last attempt returns or raises")
