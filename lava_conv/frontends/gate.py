"""The gate of every front end: a traced program computes what the user's model computes, or is refused by name.

The user's model runs as it is, in evaluation mode, hooks and all, while `Witness` notes what each of its modules gives.
Then every operation of the program is run on what the model gave before it, and its result is compared with the
model's, worst element first: so the first operation that differs is found, and float32 rounding does not add up. Of
quantised activations the counts are compared.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from lava_conv.arguments import copied
from lava_conv.errors import ConversionError, LavaConvError, one_line
from lava_conv.frontends.calls import Call, quantised, run_node
from lava_conv.frontends.effective import evaluating
from lava_conv.frontends.tracing import place
from lava_conv.qat.layers import Quantiser
from lava_conv.torch_tools.convolution import SafeConvolutions

TOLERANCES = {torch.float64: 1e-6}  # of the largest value that an operation gives; computed weights are float32
TOLERANCE = 1e-4  # the same where the model runs in float32
ROUNDING = 2.0**-20  # relative; float32 moves what a quantiser takes by less, in the few operations inside it
VALUES = 1 << 12  # image values that the comparison looks at, at least one image and at most IMAGES
IMAGES = 16


Activations = dict[str, tuple[Tensor, Tensor]]  # node -> what its quantiser takes and gives


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

    def of(self, node: fx.Node) -> Tensor | None:
        """What the model gave where the program has `node`, None if that is not known."""
        if (name := node.meta.get("stands_for", node.name)) in self.named:
            return self.named[name]
        return self.given.get(node.meta["call"]) if "call" in node.meta else None


def activations_of(traced: fx.GraphModule, images: Tensor) -> Activations:
    """What the quantisers of a program take and give on `images`."""
    known: dict[fx.Node, Any] = {}
    found: Activations = {}
    nodes: Any = list(traced.graph.nodes)
    with evaluating(traced), torch.inference_mode():
        for node in nodes[:-1]:
            known[node] = images.double() if node.op == "placeholder" else run_node(traced, node, known)
            if node.op == "call_module" and isinstance(traced.get_submodule(str(node.target)), Quantiser):
                found[node.name] = (known[node.args[0]], known[node])
            _drop_used(node, known)
    return found


def _drop_used(node: fx.Node, *values: dict[fx.Node, Any]) -> None:
    """Forget what no later node takes."""
    for before in node.all_input_nodes:
        if all(user in values[0] for user in before.users):
            for known in values:
                known[before] = None


def called(traced: fx.GraphModule) -> set[str]:
    """The modules of the user's model that a traced program has, by path."""
    nodes: Any = traced.graph.nodes
    return {node.meta["call"][0] for node in nodes if "call" in node.meta}


def known_result(witness: Witness, traced: fx.GraphModule) -> bool:
    """Whether the program's output is what a module gives that the model has, too, so that it is compared there. A
    toolkit's model may quantise it once more."""
    nodes: Any = traced.graph.nodes
    last = next(n for n in nodes if n.op == "output").args[0]
    return isinstance(last, fx.Node) and witness.of(last) is not None


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
    traced: fx.GraphModule,
    what: str,
    call: Call = quantised,
    inputs: Tensor | None = None,
    result: bool = True,
    forced: bool = True,
    values: dict[str, Tensor] | None = None,
    activations: Activations | None = None,
) -> Flips:
    """Compare a program with the model it was made of.

    Of a node with `meta["exchanged"]`, which does by request something else than the model, the shape is compared.

    Args:
        witness: what the model gave.
        traced: the program, float64.
        what: the front end, for messages.
        call: how the program's modules are run.
        inputs: what the program takes, default: what the model took. Where there are more, the first are compared.
        result: whether the program's output must be the model's.
        forced: False runs the program on its own values, not on the model's.
        values: filled with what every node of the program gives, by name.
        activations: filled with what the program's quantisers take and give, by name of the node.

    Raises:
        ConversionError: names the first operation that differs.
    """
    known: dict[fx.Node, Any] = {}  # the model's own values where they are known
    exact: dict[fx.Node, Any] = {}  # the program's, from the model's last quantised values on
    counts = any(isinstance(module, Quantiser) for module in traced.modules())
    counting = counts and call is quantised and not witness.is_exact
    flips, last = Flips(0, 0), ""
    nodes: Any = list(traced.graph.nodes)
    with evaluating(traced), torch.no_grad(), SafeConvolutions():
        for node in nodes:
            if node.op == "placeholder":
                known[node] = (witness.inputs if inputs is None else inputs.double()) if not known else None
                exact[node] = known[node]
                continue
            if node.op == "output":
                if result and isinstance(node.args[0], fx.Node) and witness.result is not None:
                    ours = known[node.args[0]][: len(witness.inputs)]
                    _same(witness, what, "the output", ours, witness.result, last)
                continue
            theirs = witness.of(node)
            try:
                ours = known[node] = run_node(traced, node, known, call)
                exact[node] = run_node(traced, node, exact, call) if counting else None
            except LavaConvError:
                raise
            except Exception as error:
                raise ConversionError(
                    f"{what}: {place(node)} does not run as it was read ({one_line(error)}); write it with plain layers"
                ) from error
            if values is not None and isinstance(ours, Tensor):
                values[node.name] = ours
            module = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
            if activations is not None and isinstance(module, Quantiser):
                activations[node.name] = (known[node.args[0]], ours)
            if theirs is not None and isinstance(ours, Tensor):
                ours = ours[: len(witness.inputs)]
                if isinstance(module, Quantiser) and call is quantised:
                    _same_counts(what, place(node), module, known[node.args[0]][: len(ours)], theirs)
                    if counting:
                        half = torch.as_tensor(module.unit()).double() / 2
                        differ = int(((exact[node] - theirs).abs() > half).sum())
                        flips = Flips(flips.differ + differ, flips.total + theirs.numel())
                        exact[node] = theirs
                else:
                    _same(witness, what, place(node), ours, theirs, last, node.meta.get("exchanged", False))
                last = place(node)
                if forced:
                    known[node] = theirs
            _drop_used(node, known, exact)
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


def _same_counts(what: str, where: str, module: Quantiser, taken: Tensor, theirs: Tensor) -> None:
    """The model's counts are those of what its quantiser took, or of that moved by the rounding inside it."""
    unit = torch.as_tensor(module.unit()).double()
    expected = torch.round(theirs / unit)
    found = [torch.round(module(taken * f) / unit) for f in (1.0, 1 - ROUNDING, 1 + ROUNDING)]
    wrong = (expected != found[0]) & (expected != found[1]) & (expected != found[2])
    if bool(wrong.any()):
        at = int(wrong.flatten().int().argmax())
        raise ConversionError(
            f"{what}: {where} counts {int(expected.flatten()[at])} in the model and {int(found[0].flatten()[at])} here "
            f"for an input of {float(taken.flatten()[at]):.6g}; {int(wrong.sum())} of {wrong.numel()} counts differ on "
            f"the example images, so its rounding or its limits are not what is supported"
        )
