"""How every figure looks: sizes, colours that hold on light and dark paper, and the ways out (PNG, inline SVG)."""

import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, Literal

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from lava_conv.classes import class_names
from lava_conv.errors import DataError
from lava_conv.files import file_name, replacing

WIDTH = 3.9  # inches; narrow, so that letters are still readable when a phone shows it 330 pixels wide
TEXT, SMALL = 9.5, 8.8  # points
DPI = 200
# As exact hexadecimals, because `as_svg` finds them again and lets the page decide.
INK, MUTED, GRID, PAPER = "#1b2430", "#657084", "#d6dbe2", "#fefefe"
THEMED = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"}
BLUE, ORANGE, GREEN, PURPLE, GREY = "#3b82c4", "#dd7a2a", "#3a9a6b", "#9068c8", "#8b93a1"
POSITIVE, NEGATIVE = BLUE, ORANGE  # of spikes
WRONG = ORANGE
_TAG = re.compile(
    r"<(\?xml|!DOCTYPE)[^>]*>|<metadata>.*?</metadata>|<style.*?</style>| xmlns(:\w+)?=\"[^\"]*\"", re.DOTALL
)
_turn = Lock()
_ID = re.compile(r'(\bid="|url\(#|href="#)')


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure of so many inches."""
    return Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER, layout="constrained")


def dress(ax: Axes, title: str = "", x: str = "", y: str = "", grid: Literal["x", "y", "both"] | None = None) -> Axes:
    """Labels, quiet axes, and a grid along these."""
    ax.set_facecolor("none")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(MUTED)
    ax.tick_params(colors=MUTED, labelcolor=INK, labelsize=SMALL, length=3)
    ax.set_title(title, color=INK, fontsize=TEXT, loc="left", parse_math=False)
    ax.set_xlabel(x, color=INK, fontsize=TEXT)
    ax.set_ylabel(y, color=INK, fontsize=TEXT)
    if grid:
        ax.grid(axis=grid, color=GRID, linewidth=0.7)
        ax.set_axisbelow(True)
    return ax


def bare(ax: Axes) -> Axes:
    """Axes without frame and ticks."""
    ax.set_facecolor("none")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def legend(ax: Axes, **options: Any) -> None:
    """A legend without a frame, in the colour of the text."""
    ax.legend(frameon=False, fontsize=SMALL, labelcolor=INK, handlelength=1.6, **options)


def step_ticks(ax: Axes, steps: int) -> None:
    """Whole numbers on the axis of time, at most about ten of them, the first and the last included."""
    stride = -(-steps // 10)
    ticks = sorted({1, *range(stride, steps + 1, stride), steps})
    if len(ticks) > 2 and ticks[-1] - ticks[-2] < stride:
        ticks.pop(-2)
    ax.set_xticks(ticks)


def fading(colour: str) -> LinearSegmentedColormap:
    """A colour map from transparent to `colour`: on any paper, nothing looks like nothing."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return LinearSegmentedColormap.from_list("fading", [(red, green, blue, 0.0), (red, green, blue, 1.0)])


def names_of(classes: int, labels: Sequence[str] = ()) -> list[str]:
    """A name for each class, numbers where there are none.

    Raises:
        DataError: there are names, but not one for each class.
    """
    if labels and len(labels) != classes:
        raise DataError(f"there are {len(labels)} names for {classes} classes; give one for each, or none")
    return class_names(classes, labels)


def save_png(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG on light paper, complete or not at all.

    Raises:
        DataError: it is no figure, or cannot be written; what was at `path` stays.
    """
    if not isinstance(figure, Figure):
        raise DataError(f"figure is of type {type(figure).__name__}; pass what a function of lava_conv.figures gives")
    try:
        with replacing(path) as partial, open(partial, "wb") as file:
            figure.savefig(file, format="png", dpi=DPI, facecolor=PAPER)
    except OSError as error:
        raise DataError(f"{file_name(path)}: the picture cannot be written ({error.strerror or error})") from None


@contextmanager
def _settings(wanted: dict[str, object]) -> Iterator[None]:
    """Within it these settings of matplotlib hold. They are of the whole process, and savefig knows no other way; so
    one thread at a time has them, and they alone are put back."""
    with _turn:
        before = {name: rcParams[name] for name in wanted}
        rcParams.update(wanted)
        try:
            yield
        finally:
            rcParams.update(before)


def as_svg(figure: Figure, name: str, description: str) -> str:
    """A figure as an `<svg>` element to stand inside an HTML page.

    Its neutral colours are the variables --ink, --muted, --grid and --paper of the page, its text is text, and its ids
    begin with `name`, so that several stand in one page. It refers to nothing outside.
    """
    from markupsafe import escape

    file = io.StringIO()
    # the salt makes the ids, and with them the bytes, the same every time
    with _settings({"svg.fonttype": "none", "svg.hashsalt": name, "svg.image_inline": True}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = _TAG.sub("", file.getvalue()).strip()
    head, _, body = text.partition(">")
    head = re.sub(r' (width|height|version)="[^"]*"', "", head)
    body = _ID.sub(lambda match: f"{match[1]}{name}-", body)
    for colour, variable in THEMED.items():
        body = body.replace(colour, variable)
    return f'{head} role="img" aria-label="{escape(description)}">{body}'
