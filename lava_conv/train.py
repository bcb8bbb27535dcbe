"""Training with quantisation: Adam, cosine schedule, small shifts, checkpoints that resume to the same result."""

import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from lava_conv.data import Dataset
from lava_conv.device import find_device
from lava_conv.errors import DataError
from lava_conv.files import replacing
from lava_conv.qat.models import build
from lava_conv.qat.prepare import ENCODER_LEVELS
from lava_conv.qat.unroll import Unrolled

CHECKPOINT_VERSION = 1
CHECKPOINT_KEYS = (
    "version", "recipe", "shape", "classes", "data", "losses", "model", "optimiser", "generator", "rng",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How to train; stored in the checkpoint.

    method, k, levels, encoder_levels, n_max: see `lava_conv.qat.prepare`. start: a checkpoint whose weights to begin
    with. unroll: train on what the spiking network says after this step and the one before, instead of when it settles.
    As augmentation images move by up to `shift` pixels, turn by up to `rotate` degrees, grow or shrink by up to the
    share `scale`, and are mirrored half of the time if `flip`. With `crop` the network sees squares of so many pixels,
    cut at random places in training and from the middle afterwards. bf16: convolutions and products in bfloat16, half
    the time where the CPU or GPU has it; weights, normalisation statistics and the trained model stay float32.
    """

    model: str = "digits"
    k: int = 0
    epochs: int = 40
    batch: int = 64
    lr: float = 2e-3
    shift: int = 1
    smoothing: float = 0.0
    seed: int = 0
    method: str = "zou"
    levels: int = 16
    rotate: float = 0.0
    scale: float = 0.0
    encoder_levels: int = ENCODER_LEVELS
    start: str = ""
    unroll: int = 0
    n_max: int = 0
    crop: int = 0
    flip: bool = False
    bf16: bool = False


@dataclass(frozen=True)
class Trained:
    """A trained model, what made it, and the shape of its images."""

    model: nn.Module
    recipe: Recipe
    shape: tuple[int, ...]
    classes: int
    data: str
    losses: tuple[float, ...]


def train(
    data: Dataset,
    recipe: Recipe,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Callable[[int, float], Any] | None = None,
    device: str | torch.device = "cpu",
) -> Trained:
    """Train the recipe's model on a data set.

    Args:
        checkpoint: file to keep the state in, rewritten after every epoch; complete or not at all.
        resume: go on from that file if it exists (the result is the same as without the interruption).
        progress: called after every epoch with its number and its mean loss.
        device: where to train, "cpu" or a CUDA device; the trained model is on the CPU.

    Raises:
        DataError: images and model do not go together, or the checkpoint is of another recipe or other data.
        BackendError: no such device.
    """
    device = find_device(device)
    shape = seen_shape(recipe, data)
    torch.manual_seed(recipe.seed)
    model = _model(recipe, shape, data.classes).to(device)
    if recipe.start:
        _begin_with(model, recipe.start)
    network = Unrolled(model, recipe.unroll) if recipe.unroll else model
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    generator = torch.Generator().manual_seed(recipe.seed)
    losses: list[float] = []
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and resume and path.is_file():
        state = read_checkpoint(path)
        try:
            _same_run(path, state, recipe, data)
            model.load_state_dict(state["model"])
            optimiser.load_state_dict(state["optimiser"])
            generator.set_state(state["generator"])
            torch.set_rng_state(state["rng"])
            losses = list(state["losses"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"{path}: the checkpoint does not fit its own recipe ({_reason(error)})") from None
    images = torch.from_numpy(data.x_train)
    labels = torch.from_numpy(data.y_train)
    batches = max(1, len(images) // recipe.batch)
    for epoch in range(len(losses), recipe.epochs):
        network.train()
        order = torch.randperm(len(images), generator=generator)
        total = 0.0
        for number in range(batches):
            for group in optimiser.param_groups:
                group["lr"] = recipe.lr * _cosine((epoch + number / batches) / recipe.epochs)
            chosen = order[number * recipe.batch : (number + 1) * recipe.batch]
            x = augmented(images[chosen].to(torch.float32), recipe, generator).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bf16):
                logits = network(x).float()
            y = labels[chosen].to(device)
            if recipe.unroll:
                last = logits[-2:]
                logits, y = last.flatten(0, 1), y.repeat(len(last))
            loss = functional.cross_entropy(logits, y, label_smoothing=recipe.smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            total += loss.item()
        if not math.isfinite(total):
            raise DataError(f"the training diverged in epoch {epoch + 1}; use a smaller learning rate than {recipe.lr}")
        losses.append(total / batches)
        if path is not None:
            write_checkpoint(path, _state(model, optimiser, generator, recipe, data, losses))
        if progress:
            progress(epoch + 1, losses[-1])
    return Trained(model.cpu().eval(), recipe, shape, data.classes, data.name, tuple(losses))


def seen_shape(recipe: Recipe, data: Dataset) -> tuple[int, ...]:
    """C, H, W of what the network sees of the data set's images."""
    channels, height, width = data.shape
    if not 0 <= recipe.crop <= min(height, width):
        raise DataError(f"crop is {recipe.crop}, allowed is 0 (none) to {min(height, width)} for images of {data.name}")
    if recipe.crop:
        height = width = recipe.crop
    if height != width or height % 4:
        raise DataError(
            f"images of {data.name} are seen as {height}x{width}; the built-in models need squares of a multiple of 4"
        )
    return channels, height, width


def _model(recipe: Recipe, shape: tuple[int, ...], classes: int) -> fx.GraphModule:
    options = {name: getattr(recipe, name) for name in ("method", "k", "levels", "encoder_levels", "n_max")}
    return build(recipe.model, shape[0], shape[1], classes, **options)


def _begin_with(model: nn.Module, path: str) -> None:
    try:
        model.load_state_dict(read_checkpoint(path)["model"])
    except RuntimeError as error:
        raise DataError(f"{path}: its weights are of another network ({_reason(error)})") from None


def _cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))


def shifted(x: Tensor, reach: int, generator: torch.Generator, crop: int = 0) -> Tensor:
    """Each image of (N, C, H, W) moved by up to `reach` pixels in both directions, zeros coming in; then, with `crop`,
    a square of so many pixels out of it, anywhere.
    """
    if reach == 0 and not crop:
        return x
    n, _, *full = x.shape
    height, width = (crop or size for size in full)
    padded = functional.pad(x, (reach, reach, reach, reach))
    room = 2 * reach + full[0] - height  # images are square
    move = torch.randint(0, room + 1, (2, n, 1), generator=generator)
    rows = (move[0] + torch.arange(height))[:, None, :, None]
    columns = (move[1] + torch.arange(width))[:, None, None, :]
    return padded[torch.arange(n)[:, None, None, None], torch.arange(x.shape[1])[None, :, None, None], rows, columns]


def augmented(x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Shifted, and if the recipe says so mirrored, rotated and scaled; what was between pixels is interpolated."""
    x = shifted(x, recipe.shift, generator, recipe.crop)
    if recipe.flip:
        mirrored = torch.rand(len(x), generator=generator) < 0.5
        x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    if not (recipe.rotate or recipe.scale):
        return x
    turn, size = 2 * torch.rand(2, len(x), generator=generator) - 1
    angle, zoom = turn * math.radians(recipe.rotate), 1 + size * recipe.scale
    sine, cosine, zero = zoom * torch.sin(angle), zoom * torch.cos(angle), torch.zeros_like(angle)
    maps = torch.stack([torch.stack([cosine, -sine, zero], 1), torch.stack([sine, cosine, zero], 1)], 1)
    grid = functional.affine_grid(maps, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def _same_run(path: Path, state: dict[str, Any], recipe: Recipe, data: Dataset) -> None:
    """Raise DataError unless the checkpoint is of this recipe and of these data."""
    shape, classes, name = tuple(state["shape"]), state["classes"], state["data"]
    then = {**state["recipe"], "images of": shape, "classes": classes, "data": name}
    now = {**asdict(recipe), "images of": seen_shape(recipe, data), "classes": data.classes, "data": data.name}
    if differ := [f"{key} {then[key]}, now {now[key]}" for key in now if then[key] != now[key]]:
        raise DataError(
            f"{path}: was written by another recipe or for other data ({'; '.join(differ)}); choose another file or "
            f"delete it"
        )


def _state(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    recipe: Recipe,
    data: Dataset,
    losses: list[float],
) -> dict[str, Any]:
    return {
        "version": CHECKPOINT_VERSION,
        "recipe": asdict(recipe),
        "shape": list(seen_shape(recipe, data)),
        "classes": data.classes,
        "data": data.name,
        "losses": losses,
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "generator": generator.get_state(),
        "rng": torch.get_rng_state(),
    }


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Complete or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, open(partial, "wb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: the checkpoint cannot be written ({' '.join(str(error).split())})") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The contents of a checkpoint, CHECKPOINT_KEYS; tensors and plain values only, nothing in it is executed.

    Fields that Recipe has got since the checkpoint was written have their defaults.
    """
    if not os.path.isfile(path):
        raise DataError(f"{path}: there is no such checkpoint")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(f"{path}: not a readable checkpoint ({_reason(error)}); train again") from None
    if not isinstance(state, dict) or state.get("version", CHECKPOINT_VERSION) != CHECKPOINT_VERSION:
        raise DataError(f"{path}: is no checkpoint of this release; write it with `lava-conv train`")
    if missing := [key for key in CHECKPOINT_KEYS if key not in state]:
        raise DataError(f"{path}: the checkpoint lacks {', '.join(missing)}; write it with `lava-conv train`")
    try:
        state["recipe"] = asdict(replace(Recipe(), **state["recipe"]))
    except TypeError as error:
        raise DataError(f"{path}: the checkpoint's recipe is not of this release ({_reason(error)})") from None
    return state


def load_trained(path: str | os.PathLike[str]) -> Trained:
    """The model of a checkpoint, ready to convert."""
    state = read_checkpoint(path)
    try:
        recipe = Recipe(**state["recipe"])
        shape = tuple(state["shape"])
        model = _model(recipe, shape, state["classes"])
        model.load_state_dict(state["model"])
    except (KeyError, TypeError, RuntimeError, IndexError) as error:
        raise DataError(f"{path}: the checkpoint does not fit its own recipe ({_reason(error)})") from None
    return Trained(model.eval(), recipe, shape, state["classes"], state["data"], tuple(state["losses"]))
