"""The gate of every front end: what was read of a model computes what the model computes, or is refused by name.

The user's model runs as it is, in evaluation mode, hooks and all, while `Witness` notes what each of its modules gives.
Then every operation of the `Candidate`, a Program or a traced model, is run on what the model gave before it, and its
result is compared with the model's, worst element first: so the first operation that differs is found, and float32
rounding does not add up. Of quantised activations the counts are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from lava_conv.arguments import copied
from lava_conv.conversion.verify import Activations
from lava_conv.errors import ConversionError, LavaConvError, one_line
from lava_conv.frontends.calls import Call, quantised, run_node
from lava_conv.frontends.effective import evaluating
from lava_conv.frontends.nodes import place
from lava_conv.frontends.operations.activation import Quantise
from lava_conv.frontends.program import Program, Step
from lava_conv.torch_tools.convolution import SafeConvolutions

TOLERANCES = {torch.float64: 1e-6}  # of the largest value that an operation gives; computed weights are float32
TOLERANCE = 1e-4  # the same where the model runs in float32
ROUNDING = 2.0**-20  # relative; float32 moves what a quantiser takes by less, in the few operations inside it
VALUES = 1 << 12  # image values that the comparison looks at, at least one image and at most IMAGES
IMAGES = 16


class Flips(NamedTuple):
    """Counts that differ by one because the model's float sum lies within its own rounding of a threshold."""

    differ: int
    total: int


class Witness:
    """What the modules of a user's model give on `inputs`.

    Args:
        model: not changed; a copy runs in evaluation mode.
        inputs: (N, ...), what the model takes.
        paths: the modules that are looked at, by path.
        exact: run in float64 if the model can.

    Raises:
        ConversionError: the model does not run on the inputs, or gives NaN or infinity.
    """

    def __init__(self, model: nn.Module, inputs: Tensor, paths: set[str], exact: bool = True) -> None:
        self.given: dict[tuple[str, int], Tensor] = {}  # by path, and for which time it was called
        self.named: dict[str, Tensor] = {}  # by the name of a node of the float program, where there is one
        self.result: Tensor | None = None
        self.inputs = inputs.double()
        error: Exception | None = None
        for dtype in (torch.float64, torch.float32) if exact else (torch.float32,):
            twin = copied(model).cpu()
            twin = twin.double() if dtype is torch.float64 else twin
            try:
                self._run(twin, inputs.to(dtype), paths)
            except Exception as raised:  # a toolkit's kernel, or a cast inside, that knows float32 alone
                error = error or raised
                continue
            self.tolerance = TOLERANCES.get(dtype, TOLERANCE)
            break
        else:
            raise ConversionError(
                f"the model does not run on images of shape {tuple(inputs.shape)} ({one_line(error)}); "
                f"pass images of a shape that it takes"
            ) from error
        self._refuse_not_finite()

    @property
    def is_exact(self) -> bool:
        """Whether the model ran in float64."""
        return self.tolerance < TOLERANCE

    def _run(self, model: nn.Module, inputs: Tensor, paths: set[str]) -> None:
        self.given.clear()
        times: dict[str, int] = {}

        def note(path: str) -> Any:
            def hook(module: nn.Module, args: Any, given: Any) -> None:
                number = times.get(path, 0)
                times[path] = number + 1
                if (value := tensor_of(given)) is not None:
                    self.given[path, number] = value.detach().double().clone()

            return hook

        for path, module in model.named_modules(remove_duplicate=False):
            if path in paths:
                module.register_forward_hook(note(path))
        with evaluating(model), torch.no_grad(), SafeConvolutions():
            result = tensor_of(model(inputs.clone()))
        self.result = None if result is None else result.double()

    def _refuse_not_finite(self) -> None:
        for (path, _), value in self.given.items():
            if not torch.isfinite(value).all():
                raise ConversionError(
                    f"{path} gives NaN or infinity on the example images; mend the model, or pass images as it was "
                    f"trained on"
                )

    def of(self, operation: Compared) -> Tensor | None:
        """What the model gave where the candidate has an operation, None if that is not known."""
        if operation.stands_for in self.named:
            return self.named[operation.stands_for]
        return self.given.get(operation.origin) if operation.origin else None


@dataclass(frozen=True)
class Compared:
    """An operation of a candidate.

    Fields:
        name: of the tensor that it gives.
        place: in the user's model, for messages.
        inputs: names of the tensors that it takes; none for the image.
        run: what it gives, for tensors by name.
        origin: the user's module that gives the same, by path, and for which time it is called.
        stands_for: the node of the float program that gives the same.
        exchanged: it does by request something else than the model: only the shape is compared.
        quantise: the quantiser that it is.
    """

    name: str
    place: str
    inputs: tuple[str, ...]
    run: Callable[[Mapping[str, Any]], Any]
    origin: tuple[str, int] | None = None
    stands_for: str = ""
    exchanged: bool = False
    quantise: Quantise | None = None


@dataclass(frozen=True)
class Candidate:
    """What is compared with a model: operations in the order in which they run.

    Fields:
        operations: the first one is the image.
        output: name of the tensor that it gives, None: not one tensor.
    """

    operations: tuple[Compared, ...]
    output: str | None

    @classmethod
    def of_program(cls, program: Program) -> Candidate:
        """A Program that a front end has read."""

        def compared(step: Step) -> Compared:
            operation, inputs = step.operation, step.inputs
            return Compared(
                step.name, step.place, inputs, lambda known: operation.evaluate(*[known[name] for name in inputs]),
                step.origin, step.name, quantise=operation if isinstance(operation, Quantise) else None,
            )  # fmt: skip

        output = program.outputs[0] if len(program.outputs) == 1 else None
        return cls(tuple(map(compared, program.steps)), output)

    @classmethod
    def of_graph(cls, traced: fx.GraphModule, call: Call = quantised) -> Candidate:
        """A traced model, which is put into evaluation mode; `call` says how its modules are run."""

        def compared(node: fx.Node) -> Compared:
            origin, stands_for = node.meta.get("call"), node.meta.get("stands_for", node.name)
            names = tuple(n.name for n in node.all_input_nodes)

            def run(known: Mapping[str, Any]) -> Any:
                if node.op == "placeholder":
                    return None  # a second input, not given
                return run_node(traced, node, {n: known[n.name] for n in node.all_input_nodes}, call)

            return Compared(node.name, place(node), names, run, origin, stands_for, node.meta.get("exchanged", False))

        traced.eval()
        nodes: Any = list(traced.graph.nodes)
        last = nodes[-1].args[0]
        return cls(tuple(map(compared, nodes[:-1])), last.name if isinstance(last, fx.Node) else None)

    @property
    def origins(self) -> set[str]:
        """Paths of the user's modules that it has."""
        return {operation.origin[0] for operation in self.operations if operation.origin}

    def known_output(self, witness: Witness) -> bool:
        """Whether its output is what a module gives that the model has, too, so that it is compared there. A toolkit's
        model may quantise it once more."""
        return any(o.name == self.output and witness.of(o) is not None for o in self.operations)


def activations_of(program: Program, images: Tensor) -> Activations:
    """What the quantisers of a program take and give on `images`."""
    return {
        step.name: (taken[0], given)
        for step, taken, given in program.run(images)
        if isinstance(step.operation, Quantise)
    }


def tensor_of(value: Any) -> Tensor | None:
    """A tensor, or the one that a toolkit's quantised tensor holds."""
    if isinstance(value, Tensor):
        return value
    inner = getattr(value, "value", None)
    return inner if isinstance(inner, Tensor) else None


def some(images: Tensor) -> Tensor:
    """The first images, as many as the comparison looks at."""
    return images[: min(IMAGES, max(1, VALUES // max(1, images[0].numel())))]


def check(
    witness: Witness,
    candidate: Candidate,
    what: str,
    inputs: Tensor | None = None,
    result: bool = True,
    forced: bool = True,
    values: dict[str, Tensor] | None = None,
    activations: Activations | None = None,
) -> Flips:
    """Compare what was read of a model with the model.

    Args:
        witness: what the model gave.
        candidate: what was read, in float64.
        what: the front end, for messages.
        inputs: what the candidate takes, default: what the model took. Where there are more, the first are compared.
        result: whether the candidate's output must be the model's.
        forced: False runs the candidate on its own values, not on the model's.
        values: filled with what every operation gives, by name.
        activations: filled with what the quantisers take and give, by name.

    Raises:
        ConversionError: names the first operation that differs.
    """
    known: dict[str, Any] = {}  # the model's own values where they are known
    exact: dict[str, Any] = {}  # the candidate's, from the model's last quantised values on
    counting = not witness.is_exact and any(o.quantise for o in candidate.operations)
    last_use = {name: number for number, o in enumerate(candidate.operations) for name in o.inputs}
    flips, last = Flips(0, 0), ""
    with torch.no_grad(), SafeConvolutions():
        for number, operation in enumerate(candidate.operations):
            name = operation.name
            if not number:
                known[name] = exact[name] = witness.inputs if inputs is None else inputs.double()
                continue
            theirs = witness.of(operation)
            try:
                ours = known[name] = operation.run(known)
                exact[name] = operation.run(exact) if counting else None
            except LavaConvError:
                raise
            except Exception as error:
                raise ConversionError(
                    f"{what}: {operation.place} does not run as it was read ({one_line(error)}); write it with plain "
                    f"layers"
                ) from error
            if values is not None and isinstance(ours, Tensor):
                values[name] = ours
            if activations is not None and operation.quantise:
                activations[name] = (known[operation.inputs[0]], ours)
            if theirs is not None and isinstance(ours, Tensor):
                ours = ours[: len(witness.inputs)]
                if operation.quantise:
                    taken = known[operation.inputs[0]][: len(ours)]
                    _same_counts(what, operation.place, operation.quantise, taken, theirs)
                    if counting:
                        differ = int(((exact[name] - theirs).abs() > operation.quantise.unit / 2).sum())
                        flips = Flips(flips.differ + differ, flips.total + theirs.numel())
                        exact[name] = theirs
                else:
                    _same(witness, what, operation.place, ours, theirs, last, operation.exchanged)
                last = operation.place
                if forced:
                    known[name] = theirs
            for before in operation.inputs:
                if last_use[before] == number and before != candidate.output:
                    known[before] = exact[before] = None
        if result and candidate.output is not None and witness.result is not None:
            _same(witness, what, "the output", known[candidate.output][: len(witness.inputs)], witness.result, last)
    return flips


def same_result(witness: Witness, program: nn.Module, what: str) -> None:
    """Refuse a program whose output is not the model's, where nothing is known of what lies between.

    Args:
        witness: what the model gave.
        program: float32; takes what the model takes.
        what: the front end, for messages.

    Raises:
        ConversionError: they differ.
    """
    with evaluating(program), torch.no_grad(), SafeConvolutions():
        ours = tensor_of(program(witness.inputs.float()))
    if ours is not None and witness.result is not None:
        _same(witness, what, "the output", ours.double(), witness.result, "")


def _same(
    witness: Witness, what: str, where: str, ours: Tensor, theirs: Tensor, last: str, shape_only: bool = False
) -> None:
    between = f" (or an operation between {last} and it)" if last else ""
    if ours.shape != theirs.shape:
        raise ConversionError(
            f"{what}: {where}{between} gives shape {tuple(ours.shape)} where the model gives {tuple(theirs.shape)}; it "
            f"cannot be converted as it is written"
        )
    if shape_only or not theirs.numel():
        return
    error, size = float((ours - theirs).abs().max()), float(theirs.abs().max())
    if not error <= witness.tolerance * max(size, 1e-30) + 1e-30:
        raise ConversionError(
            f"{what}: {where}{between} differs from the model by up to {error:.3g} of {size:.3g} on the examples; "
            f"look there for a hook, a replaced forward or an option that is not supported, and write it with plain "
            f"layers"
        )


def _same_counts(what: str, where: str, quantise: Quantise, taken: Tensor, theirs: Tensor) -> None:
    """The model's counts are those of what its quantiser took, or of that moved by the rounding inside it."""
    expected = torch.round(theirs / quantise.unit)
    found = [torch.round(quantise.evaluate(taken * f) / quantise.unit) for f in (1.0, 1 - ROUNDING, 1 + ROUNDING)]
    wrong = (expected != found[0]) & (expected != found[1]) & (expected != found[2])
    if bool(wrong.any()):
        at = int(wrong.flatten().int().argmax())
        raise ConversionError(
            f"{what}: {where} counts {int(expected.flatten()[at])} in the model and {int(found[0].flatten()[at])} here "
            f"for an input of {float(taken.flatten()[at]):.6g}; {int(wrong.sum())} of {wrong.numel()} counts differ on "
            f"the example images, so its rounding or its limits are not what is supported"
        )
