"""Training, with quantisation or plain: cosine schedule, augmentation, checkpoints that resume to the same result."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, TypeGuard, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional

from lava_conv.classes import class_count
from lava_conv.errors import DataError
from lava_conv.netx import load
from lava_conv.progress import Progress
from lava_conv.torch_tools.checkpoint import load_weights, read_state, reason, write_state
from lava_conv.torch_tools.convolution import SafeConvolutions
from lava_conv.torch_tools.device import find_device
from lava_conv.torch_tools.randomness import OwnRandom, dropped
from lava_conv.training.augmentation import augmented
from lava_conv.training.data import MAX_CLASSES, Dataset, centred
from lava_conv.training.distillation import NetworkTeacher, class_scores, divergence, soft_labels
from lava_conv.training.distributed import Team, joint_statistics
from lava_conv.training.models import build, build_float
from lava_conv.training.penalty import SpikePenalty
from lava_conv.training.recipe import FLOAT, Optimiser, Recipe
from lava_conv.training.restore import restore
from lava_conv.training.selection import Selection
from lava_conv.training.unroll import Unrolled

CHECKPOINT_VERSION = 1
MOMENTUM = 0.9
NETWORK = ".net"  # the ending of a network of integers
MEASURED = 1000  # images on which to measure what a network of integers does not say
FLOAT_PART = "1."  # see `lava_conv.training.models.build_float`
STEPS = ("step", "step_ready")  # what quantisers learn
CHECKPOINT_KEYS = (
    "version", "recipe", "shape", "classes", "data", "losses", "model", "optimiser", "generator", "rng",
)  # fmt: skip


class Checkpoint(TypedDict):
    """The contents of a checkpoint; the recipe in its flat form. Some hold `scores`, of skip_easy, and `soft`, of the
    teachers, too."""

    version: int
    recipe: dict[str, Any]
    shape: list[int]
    classes: int
    data: str
    losses: list[float]
    model: dict[str, Tensor]
    optimiser: dict[str, Any]
    generator: Tensor
    rng: Tensor


@dataclass(frozen=True)
class Trained:
    """A trained model and what made it.

    Fields:
        model: in evaluation mode, on the CPU.
        recipe: how it was trained.
        shape: C, H, W of the images that it takes.
        classes: how many.
        data: name of the data set.
        losses: mean of each epoch.
    """

    model: nn.Module
    recipe: Recipe
    shape: tuple[int, ...]
    classes: int
    data: str
    losses: tuple[float, ...]

    @property
    def outputs(self) -> int:
        """How many logits the model gives."""
        return 1 if self.recipe.model.one_output else self.classes


def train(
    data: Dataset,
    recipe: Recipe,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    device: str | torch.device = "cpu",
    members: Team = Team(),  # noqa: B008  # a NamedTuple, never changed
    after_epoch: Callable[[int, float], object] | None = None,
) -> Trained:
    """Train the recipe's model on a data set.

    Args:
        data: images and labels; only the part for training is used.
        recipe: what to train and how.
        checkpoint: file to keep the state in, rewritten after every epoch; complete or not at all.
        resume: go on from that file if it exists (the result is the same as without the interruption).
        progress: called after every batch with the number done and the number in all, of all epochs.
        device: where to train, "cpu" or a CUDA device; the trained model is on the CPU.
        members: the processes that train together, each on its part of every batch (`lava_conv.training.distributed`
            says what is guaranteed). The first one reads and writes checkpoints and reports progress.
        after_epoch: called after every epoch with its number and its mean loss.

    Raises:
        DataError: images and model do not go together, or the checkpoint is of another recipe or other data.
        BackendError: no such device.
    """
    device = find_device(device)
    shape = _check(recipe, data)
    drawn = torch.Generator().manual_seed(recipe.seed)  # first weights, then dropout
    model = _begun(recipe, shape, data, members, drawn).to(device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on CPU and GPU
    network = Unrolled(model, recipe.unroll) if recipe.unroll else model
    penalty = _penalty(model, recipe)
    optimiser = _optimiser(model, recipe.optimiser)
    generator = torch.Generator().manual_seed(recipe.seed)
    losses: list[float] = []
    path = None if checkpoint is None else Path(checkpoint)
    state = members.from_first(
        lambda: read_checkpoint(path) if path is not None and resume and path.is_file() else None
    )
    images, labels = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    selection = Selection(len(images), recipe.skip_easy)
    if path is not None and state is not None:
        losses = _go_on(path, state, recipe, data, model, optimiser, generator, drawn, selection)
    soft = members.from_first(lambda: _soft_labels(recipe, data, device, state, drawn))
    usual = max(1, len(images) // recipe.batch)
    parameters = list(model.parameters())
    for epoch in range(len(losses), recipe.epochs):
        network.train()
        total = counted = 0.0
        batches = selection.batches(epoch, recipe.epochs, recipe.batch, generator)
        for number, (chosen, weights) in enumerate(batches):
            for group in optimiser.param_groups:
                group["lr"] = recipe.optimiser.lr * _schedule(epoch + number / len(batches), recipe)
            # every process draws the whole batch, so that all have the same random numbers as one alone
            x = augmented(images[chosen].to(torch.get_default_dtype()), recipe.augmentation, generator)
            x, y = x.to(device, memory_format=torch.channels_last), labels[chosen].to(device)
            part = members.share(len(x))
            with joint_statistics(model, members):
                with (
                    penalty.watching() if penalty else nullcontext(),
                    _dropping(model, recipe.dropout, drawn),
                    SafeConvolutions(),
                ):
                    each = _losses(network, x[part], y[part], recipe, None if soft is None else soft[chosen[part]])
                loss = (each * weights[part].to(device)).mean() + (penalty.cost() if penalty else 0)
                loss = loss * (len(x[part]) / len(x))
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
            total += members.add_up(parameters, loss) * len(x)
            counted += float(weights.sum())
            optimiser.step()
            if recipe.skip_easy:
                selection.note(chosen, members.join(each))
            if progress and members.first:
                progress(int((epoch + (number + 1) / len(batches)) * usual), recipe.epochs * usual)
        if not math.isfinite(total):
            lr = recipe.optimiser.lr
            raise DataError(f"the training diverged in epoch {epoch + 1}; use a smaller learning rate than {lr}")
        losses.append(total / counted)
        if path is not None and members.first:
            write_state(path, _state(model, optimiser, generator, drawn, recipe, data, losses, selection, soft))
        if after_epoch and members.first:
            after_epoch(epoch + 1, losses[-1])
    model = model.cpu().to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    return Trained(model, recipe, shape, data.classes, data.name, tuple(losses))


def _check_kinds(data: object, recipe: object) -> None:
    """Raise DataError where one of them is something else."""
    if not isinstance(data, Dataset):
        raise DataError(
            f"data is of type {type(data).__name__}, needed is a Dataset; make one of arrays with "
            f"lava_conv.training.Dataset(name, x_train, y_train, x_test, y_test)"
        )
    if not isinstance(recipe, Recipe):
        raise DataError(
            f"recipe is of type {type(recipe).__name__}, needed is a Recipe; make one: Recipe.flat(**options)"
        )


def _losses(network: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, soft: Tensor | None) -> Tensor:
    """The loss of each image, (N,). soft: what the teachers say, (N, classes)."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.bf16):
        logits = network(x)
    if recipe.bf16:
        logits = logits.float()
    last = logits[-2:] if recipe.unroll else logits[None]
    logits = class_scores(last.flatten(0, 1))
    each = functional.cross_entropy(logits, y.repeat(len(last)), label_smoothing=recipe.smoothing, reduction="none")
    if soft is not None:
        learned = divergence(logits, soft.to(logits).repeat(len(last), 1), recipe.distillation.temperature)
        share = recipe.distillation.share
        each = (1 - share) * each + share * learned
    return each.reshape(len(last), -1).mean(0)


def _check(recipe: Recipe, data: Dataset) -> tuple[int, ...]:
    """Raise DataError for a recipe that cannot be followed; C, H, W of what the network sees."""
    _check_kinds(data, recipe)
    recipe.check("train")
    shape = seen_shape(recipe, data)
    if (kind := torch.get_default_dtype()) not in (torch.float32, torch.float64):
        raise DataError(f"the default dtype is {kind}; train in torch.float32 (torch.set_default_dtype), or with bf16")
    for name, most in (("shift", min(shape[1:]) - 1), ("cutout", shape[-1])):
        value = getattr(recipe.augmentation, name)
        if value > most:
            raise DataError(f"{name} is {value}, allowed is 0 to {most} for images of {shape}")
    if data.classes < 2:
        raise DataError(f"every label of {data.name} is 0, so there is nothing to learn; number the classes from 0 up")
    if recipe.model.one_output and data.classes != 2:
        raise DataError(f"one_output tells 2 classes apart, {data.name} has {data.classes}; leave it out")
    return shape


def _penalty(model: nn.Module, recipe: Recipe) -> SpikePenalty | None:
    if not (recipe.spike_penalty or recipe.late_penalty):
        return None
    return SpikePenalty(model, recipe.spike_penalty, recipe.late_penalty)


@contextmanager
def _dropping(model: nn.Module, share: float, drawn: torch.Generator) -> Iterator[None]:
    """Within it linear layers of `model` lose this share of their inputs, drawn from the generator."""

    def drop(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        return dropped(inputs[0], share, drawn)

    linear = [module for module in model.modules() if isinstance(module, nn.Linear)] if share else []
    hooks = [module.register_forward_pre_hook(drop) for module in linear]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _soft_labels(
    recipe: Recipe, data: Dataset, device: torch.device, state: Checkpoint | None, drawn: torch.Generator
) -> Tensor | None:
    """What the teachers say, (N, classes): out of the checkpoint's state, or asked now."""
    if not recipe.distillation.teachers:
        return None
    kept = state.get("soft") if state else None
    if isinstance(kept, Tensor) and kept.shape == (len(data.x_train), data.classes):
        return kept
    with OwnRandom(drawn):
        teachers = [_teacher(path, data) for path in recipe.distillation.teachers]
    seen = [torch.from_numpy(images) for _, images in teachers]
    with SafeConvolutions():
        return soft_labels([teacher for teacher, _ in teachers], seen, recipe.augmentation.flip, device, recipe.bf16)


def _teacher(path: str, data: Dataset) -> tuple[nn.Module, NDArray[np.uint8]]:
    """A teacher and what it sees of the images. A `.net` does not know of which data it is."""
    if path.endswith(NETWORK):
        graph = load(path)
        images = _seen_by(path, graph.input_shape, class_count(graph.classes), data.name, data)
        return NetworkTeacher(graph, images[:MEASURED], data.y_train[:MEASURED]), images
    trained = _loaded(path)
    return trained.model, _seen_by(path, trained.shape, trained.classes, trained.data, data)


def _seen_by(path: str, shape: tuple[int, ...], classes: int, name: str, data: Dataset) -> NDArray[np.uint8]:
    """What a teacher sees of the images; DataError unless it is of these data."""
    if (classes, name) != (data.classes, data.name):
        raise DataError(
            f"{path}: the teacher knows {classes} classes of {name}, here are {data.classes} of {data.name}; take a "
            f"teacher trained on the same data"
        )
    images = centred(data.x_train, shape)
    if images.shape[1:] != shape:
        raise DataError(
            f"{path}: the teacher sees images of {shape}, those of {data.name} are {data.shape}; take a teacher "
            f"trained on the same data"
        )
    return images


def seen_shape(recipe: Recipe, data: Dataset) -> tuple[int, ...]:
    """C, H, W of what the network sees of the data set's images."""
    channels, height, width = data.shape
    crop, most = recipe.augmentation.crop, min(height, width)
    if crop > most:
        raise DataError(f"crop is {crop}, allowed is 0 (none) to {most} for images of {data.name}")
    if crop:
        height = width = crop
    if height != width or height % 4:
        raise DataError(
            f"images of {data.name} are seen as {height}x{width}; the built-in models need squares of a multiple of 4"
        )
    return channels, height, width


def _model(recipe: Recipe, shape: tuple[int, ...], classes: int) -> nn.Module:
    name, classes, width = recipe.model.name, 1 if recipe.model.one_output else classes, recipe.model.width or None
    if recipe.quantisation is None:
        return build_float(name, shape[0], shape[1], classes, width)
    return build(name, shape[0], shape[1], classes, width, recipe.quantisation)


def _begun(recipe: Recipe, shape: tuple[int, ...], data: Dataset, members: Team, drawn: torch.Generator) -> nn.Module:
    """The model with its weights to begin with: fresh, or those of a checkpoint, be it of the float network or of
    another method; steps that it has not are measured on the first batch as ever. Or those of a network of integers."""
    with OwnRandom(drawn):
        model = _model(recipe, shape, data.classes)
    start = recipe.model.start
    if not start:
        return model
    if start.endswith(NETWORK):
        if not isinstance(model, fx.GraphModule):
            raise DataError(f"{start}: is a network of integers; method {recipe.method} cannot go on with it")
        graph = members.from_first(lambda: load(start))
        try:
            restore(model, graph, centred(data.x_train[:MEASURED], shape), data.y_train[:MEASURED])
        except DataError as error:
            raise DataError(f"{start}: {error}") from None
        return model
    state = members.from_first(lambda: read_checkpoint(start))
    weights, there = dict(state["model"]), state["recipe"]["method"]
    if there == FLOAT != recipe.method:  # the plain network stands behind the scaling of its images
        weights = {name.removeprefix(FLOAT_PART): value for name, value in weights.items()}
    own = model.state_dict()
    odd = {name for name in own.keys() ^ weights.keys() if name.rpartition(".")[2] not in STEPS}
    odd |= {name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape}
    if odd:
        raise DataError(
            f"{start}: its weights are of another network ({len(odd)} differ, {min(odd)} for one); "
            f"its model is {state['recipe']['model']}, here it is {recipe.model.name}"
        )
    model.load_state_dict({name: value for name, value in weights.items() if name in own}, strict=False)
    return model


def _optimiser(model: nn.Module, options: Optimiser) -> torch.optim.Optimizer:
    if options.name == "adam":
        return torch.optim.Adam(model.parameters(), lr=options.lr, weight_decay=options.decay)
    return torch.optim.SGD(
        model.parameters(), lr=options.lr, momentum=MOMENTUM, nesterov=True, weight_decay=options.decay
    )


def _schedule(epoch: float, recipe: Recipe) -> float:
    """The share of the learning rate: a straight rise during the warm-up, then half a cosine."""
    warmup = recipe.optimiser.warmup
    if epoch < warmup:
        return (epoch + 1e-2) / warmup
    return 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / max(1, recipe.epochs - warmup)))


def _same_run(path: Path, state: Checkpoint, recipe: Recipe, data: Dataset) -> None:
    """Raise DataError unless the checkpoint is of this recipe and of these data."""
    shape, classes, name = tuple(state["shape"]), state["classes"], state["data"]
    then = {**state["recipe"], "images of": shape, "classes": classes, "data": name}
    now = {**recipe.as_flat(), "images of": seen_shape(recipe, data), "classes": data.classes, "data": data.name}
    if differ := [f"{key} {then[key]}, now {now[key]}" for key in now if then[key] != now[key]]:
        raise DataError(
            f"{path}: was written by another recipe or for other data ({'; '.join(differ)}); choose another file or "
            f"delete it"
        )


def _go_on(
    path: Path,
    state: Checkpoint,
    recipe: Recipe,
    data: Dataset,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    drawn: torch.Generator,
    selection: Selection,
) -> list[float]:
    """Put a checkpoint's state into everything that has one; the losses so far."""
    try:
        _same_run(path, state, recipe, data)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"])
        drawn.set_state(state["rng"])
        if recipe.skip_easy:
            selection.scores.copy_(cast(Tensor, state.get("scores")))
        return list(state["losses"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: the checkpoint does not fit its own recipe ({reason(error)})") from None


def _state(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    drawn: torch.Generator,
    recipe: Recipe,
    data: Dataset,
    losses: list[float],
    selection: Selection,
    soft: Tensor | None,
) -> dict[str, object]:
    extra: dict[str, object] = {"scores": selection.scores} if recipe.skip_easy else {}
    extra |= {} if soft is None else {"soft": soft}
    return extra | {
        "version": CHECKPOINT_VERSION,
        "recipe": recipe.as_flat(),
        "shape": list(seen_shape(recipe, data)),
        "classes": data.classes,
        "data": data.name,
        "losses": losses,
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "generator": generator.get_state(),
        "rng": drawn.get_state(),
    }


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The contents of a checkpoint; tensors and plain values only, nothing in it is executed.

    Options that were added since the checkpoint was written have their defaults, methods their names of today.
    Version 0.1 took options that the method does not use; they have their defaults, too.
    """
    state = read_state(path)
    if not isinstance(state, dict) or not {"version", "recipe", "losses"} & state.keys():
        raise DataError(
            f"{path}: holds weights of another program; `lava-conv calibrate --model PACKAGE.MODULE:FUNCTION` takes "
            f"those of a float network, lava_conv.convert a network trained with quantisation"
        )
    if state.get("version", CHECKPOINT_VERSION) != CHECKPOINT_VERSION:
        raise DataError(f"{path}: is no checkpoint of this release; write it with `lava-conv train`")
    if missing := [key for key in CHECKPOINT_KEYS if key not in state]:
        raise DataError(f"{path}: the checkpoint lacks {', '.join(missing)}; write it with `lava-conv train`")
    if odd := [key for key, right in CONTENTS.items() if not right(state[key])]:
        raise DataError(f"{path}: the checkpoint is damaged at {', '.join(odd)}; write it with `lava-conv train`")
    try:
        recipe = Recipe.from_flat(state["recipe"], "it", drop_unused=True)
    except DataError as error:
        raise DataError(f"{path}: the checkpoint's recipe is not of this release ({error})") from None
    recipe.check(f"{path}: the checkpoint's recipe")
    state["recipe"] = recipe.as_flat()
    return cast(Checkpoint, state)


def _numbers(values: object, kind: type | tuple[type, ...]) -> TypeGuard[list[float]]:
    return isinstance(values, list | tuple) and all(isinstance(value, kind) for value in values)


CONTENTS: dict[str, Callable[[object], bool]] = {  # of a checkpoint: what each value must be
    "recipe": lambda value: isinstance(value, dict) and all(isinstance(key, str) for key in value),
    "shape": lambda value: _numbers(value, int) and len(value) == 3 and min(value) > 0,
    "classes": lambda value: isinstance(value, int) and 1 < value <= MAX_CLASSES,
    "data": lambda value: isinstance(value, str),
    "losses": lambda value: _numbers(value, (int, float)),
    "model": lambda value: isinstance(value, dict) and all(isinstance(weight, Tensor) for weight in value.values()),
}


def load_trained(path: str | os.PathLike[str]) -> Trained:
    """The model of a checkpoint, ready to convert."""
    with OwnRandom():  # fills layers whose weights are then loaded
        return _loaded(path)


def _loaded(path: str | os.PathLike[str]) -> Trained:
    state = read_checkpoint(path)
    try:
        recipe = Recipe.flat(**state["recipe"])
        shape = tuple(state["shape"])
        model = _model(recipe, shape, state["classes"])
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise DataError(f"{path}: the checkpoint does not fit its own recipe ({reason(error)})") from None
    load_weights(model, state["model"], f"{path}: the checkpoint does not fit its own recipe")
    return Trained(model.eval(), recipe, shape, state["classes"], state["data"], tuple(state["losses"]))
