"""Options that several commands take, and the images they name."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from lava_conv.options import Allowed, Declared, Flag, Number, OneOf, Option, Options, Paths, PowerOfTwo, Text, Whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lava_conv.network.graph import Graph

Command = Callable[..., Any]
FEW_SAMPLES = 100  # where Lava runs, and nothing else was asked for


def numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """0.49,0.48,0.45 -> numbers."""
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.UsageError(f"{option} is {text!r}; write a number for each channel, with commas") from None


class _Choice(click.Choice[str]):
    """One of a few words; aliases are taken, and not shown."""

    def __init__(self, declared: Option, choices: OneOf) -> None:
        super().__init__([value for value in choices.values if value is not None])
        self.declared = declared

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word that is meant."""
        return super().convert(self.declared.plain(value), param, ctx)


def options_of(
    kind: type[Options], leave_out: tuple[str, ...] = (), defaults: Mapping[str, str] | None = None
) -> Callable[[Command], Command]:
    """The options that a dataclass declares, with its help texts, limits and defaults, passed by their flat names.

    Args:
        kind: the dataclass.
        leave_out: options that are not asked for.
        defaults: options that are None unless given -> what the help says of their default.
    """
    made = [_option(one, defaults or {}) for one in kind.declared() if one.name not in leave_out]

    def add(command: Command) -> Command:
        for option in reversed(made):
            command = option(command)
        return command

    return add


def _option(one: Declared, defaults: Mapping[str, str]) -> Callable[[Command], Command]:
    declared, words = one.option, one.name.replace("_", "-")
    flag, text = declared.flag or f"--{words}", declared.describe()
    if isinstance(declared.allowed, Flag):
        flag = f"--{words}/--no-{words}" if one.default else flag
    more: dict[str, Any] = {"type": _type(declared, declared.allowed), "default": one.default}
    more["show_default"] = not isinstance(one.default, bool) and one.default not in (None, "", ())
    if one.name in defaults:
        more |= {"default": None, "show_default": defaults[one.name]}
    if isinstance(declared.allowed, Paths):
        more["multiple"] = True
    if isinstance(declared.allowed, Flag):
        more["is_flag"] = True
    return click.option(flag, one.name, help=text[0].upper() + text[1:] if not declared.methods else text, **more)


def _type(declared: Option, allowed: Allowed) -> click.ParamType | None:
    """What click makes of a word."""
    if isinstance(allowed, OneOf):
        return _Choice(declared, allowed)
    if isinstance(allowed, Whole):
        return click.IntRange(allowed.least, allowed.most)
    if isinstance(allowed, Number):
        return click.FloatRange(allowed.least, allowed.most, min_open=allowed.least_open, max_open=allowed.most_open)
    if isinstance(allowed, PowerOfTwo):
        return click.INT
    return click.STRING if isinstance(allowed, Text | Paths) else None


def _data_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For the shell: the data sets, or a file."""
    from lava_conv.training.data import NAMES

    found = [CompletionItem(name) for name in NAMES if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


def _data_options(default: str | None) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in (
            click.option("--samples", type=click.IntRange(1), help="Use only the first so many images."),
            click.option(
                "--folder", type=click.Path(), help="Of the data sets.  [default: $LAVA_CONV_DATA, then ./data]"
            ),
            click.option(
                "--data", "data_name", default=default, show_default=bool(default),
                shell_complete=_data_names,
                help="digits, mnist, fashion-mnist, cifar10, cifar100, or a Keras-style .npz file.",
            ),
        ):  # fmt: skip
            command = option(command)
        return command

    return add


data_options = _data_options("digits")


def images(
    graph: "Graph", data_name: str, folder: str | None, split: str, samples: int | None, crop: bool, seed: int = 0
) -> "tuple[NDArray[np.uint8], NDArray[np.int64]]":
    """Images and labels; with `crop` the middle of images that are larger than the network's input.

    Raises:
        DataError: they are larger, without `crop`.
    """
    from lava_conv.errors import DataError
    from lava_conv.training.data import centred, load_dataset

    data = load_dataset(data_name, folder, seed)
    x, y = (data.x_test, data.y_test) if split == "test" else (data.x_train, data.y_train)
    x, y = x[:samples], y[:samples]
    cut = centred(x, graph.input_shape)
    if cut.shape != x.shape and not crop:
        sizes = ["x".join(map(str, shape[-2:])) for shape in (x.shape, cut.shape)]
        raise DataError(f"images of {data_name} have {sizes[0]} pixels, the network takes {sizes[1]}; --crop cuts them")
    return cut, y


def first_few(
    x: "NDArray[np.uint8]", y: "NDArray[np.int64]", samples: int | None, what: str, shown: bool, few: int = FEW_SAMPLES
) -> "tuple[NDArray[np.uint8], NDArray[np.int64]]":
    """The first `few` images and labels where --samples does not say how many; a sentence on stderr says so."""
    from lava_conv.cli.screen import note

    if samples is not None or len(x) <= few:
        return x, y
    if shown:
        note(f"{what} takes the first {few:,} of {len(x):,} images; --samples {len(x)} takes all")
    return x[:few], y[:few]


def net_options(command: Command) -> Command:
    """A .net file, the images to run it on, and for how long."""
    steps = click.option("--steps", type=click.IntRange(1), help="Time steps a sample takes.  [default: the file's]")
    for option in (steps, crop_option, split_option, data_options, click.argument("net", type=click.Path())):
        command = option(command)
    return command


crop_option = click.option("--crop", is_flag=True, help="Of images larger than the network's input take the middle.")
split_option = click.option(
    "--split",
    type=click.Choice(["test", "train"]),
    default="test",
    show_default=True,
    help="Which images of the data set.",
)
seed_option = click.option("--seed", default=0, show_default=True, help="Of the digits split, and of training.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")


def optional_image_options(command: Command) -> Command:
    """Images to measure on, if any are named."""
    for option in (seed_option, crop_option, split_option, _data_options(None)):
        command = option(command)
    return command
