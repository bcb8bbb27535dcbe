"""A picture of a chip's cores: a square each, coloured by layer, filled as far as its scarcest resource is used."""

from typing import TypeAlias

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from lava_conv.figures.style import DPI, GRID, INK, MUTED, PAPER
from lava_conv.loihi.fitting import Fit
from lava_conv.loihi.partition import LIMITS, Usage

Colour: TypeAlias = tuple[float, float, float, float]
MAX_CHIPS = 6  # panels; what lies beyond is said in the title
COLUMNS = 16  # cores side by side
NARROW = 5.0  # inches a panel; below, words are broken into more lines
BROKEN = "#c62828"


def core_share(usage: Usage, laid: Fit) -> float:
    """The largest share of a core's limits that is used, above 1 where one is broken."""
    limits = {field: laid.chip.get(key) for field, key in LIMITS.items()}
    return max(getattr(usage, field) / limit for field, limit in limits.items() if limit)


def occupancy(laid: Fit, width: float = 6.4, most: int = MAX_CHIPS) -> Figure:
    """The chips that a network takes.

    Args:
        laid: of `lava_conv.fit`.
        width: of a chip, in inches.
        most: chips to show.
    """
    capacity = laid.chip["cores"]
    chips = -(-laid.cores // capacity)
    shown = min(chips, most)
    wide = min(shown, 3)
    high = -(-shown // wide)
    rows = -(-capacity // COLUMNS)
    narrow = width < NARROW
    columns = wide * (2 if narrow else 3)
    legend_rows = -(-len(laid.plans) // columns)
    tall = high * (0.06 * width * rows + 0.3) + 0.24 * legend_rows + (1.3 if narrow else 1.05)
    # "none" keeps off what a user's rcParams may ask for; the stubs do not know it
    figure = Figure(figsize=(width * wide, tall), dpi=DPI, facecolor=PAPER, layout="none")  # type: ignore[arg-type]
    top = 1 - (0.75 if chips > 1 or narrow else 0.55) / tall
    bottom = (0.24 * legend_rows + (0.65 if narrow else 0.5)) / tall
    axes = figure.subplots(high, wide, squeeze=False).ravel()
    figure.subplots_adjust(left=0.02, right=0.98, top=top, bottom=bottom, wspace=0.06, hspace=0.2)
    colours = _colours(len(laid.plans))
    cores = [(number, core.usage) for number, plan in enumerate(laid.plans) for core in plan.cores]
    for chip, axis in enumerate(axes):
        axis.set_axis_off()
        if chip >= shown:
            continue
        _draw_chip(axis, cores[chip * capacity : (chip + 1) * capacity], capacity, colours, laid)
        if chips > 1:
            axis.set_title(f"chip {chip + 1}", fontsize=10, color=INK, pad=3)
    verdict = "fits" if laid.ok else f"does not fit: {', '.join(dict.fromkeys(f.rule for f in laid.broken))}"
    more = f", {shown} of {chips} chips shown" if chips > shown else ""
    title = f"{laid.chip.name}: {laid.cores:,} cores used of {capacity}{more};{chr(10) if narrow else ' '}{verdict}"
    figure.suptitle(title, fontsize=10 if narrow else 12, color=INK, y=1 - 0.18 / tall, va="top")
    _draw_legend(figure, laid, colours, columns, narrow)
    return figure


def _draw_chip(axis: Axes, cores: list[tuple[int, Usage]], capacity: int, colours: list[Colour], laid: Fit) -> None:
    size = 0.86
    for place in range(capacity):
        x, y = place % COLUMNS, -(place // COLUMNS)
        axis.add_patch(Rectangle((x, y), size, size, facecolor=GRID, alpha=0.45, linewidth=0))
        if place >= len(cores):
            continue
        number, usage = cores[place]
        share = core_share(usage, laid)
        height = size * min(share, 1)
        axis.add_patch(Rectangle((x, y), size, size, facecolor=colours[number], alpha=0.22, linewidth=0))
        axis.add_patch(Rectangle((x, y), size, height, facecolor=colours[number], linewidth=0))
        if share > 1:
            axis.add_patch(Rectangle((x, y), size, size, facecolor="none", edgecolor=BROKEN, linewidth=1.8))
    axis.set_xlim(-0.2, COLUMNS)
    rows = -(-capacity // COLUMNS)
    axis.set_ylim(0.8 - rows, 1.05)
    axis.set_aspect("equal")


def _draw_legend(figure: Figure, laid: Fit, colours: list[Colour], columns: int, narrow: bool) -> None:
    entries = [
        Patch(facecolor=colour, label=f"layer {load.layer} {load.kind}: {_cores(len(plan.cores))}")
        for colour, load, plan in zip(colours, laid.loads, laid.plans, strict=True)
    ]
    height = figure.get_figheight()
    figure.legend(
        handles=entries, loc="lower center", bbox_to_anchor=(0.5, (0.43 if narrow else 0.28) / height),
        ncols=min(columns, len(entries)), frameon=False, fontsize=9, labelcolor=INK, handlelength=1.2,
        handleheight=1.2, columnspacing=1.4,
    )  # fmt: skip
    parts = ("filled as far as the core's scarcest resource is used;", "red edge: a limit is broken")
    note = ("\n" if narrow else " ").join(parts)
    figure.text(0.5, 0.1 / height, note, fontsize=8.8, color=MUTED, ha="center", va="bottom")


def _cores(count: int) -> str:
    return f"{count:,} core" + ("" if count == 1 else "s")


def _colours(count: int) -> list[Colour]:
    if count <= 10:
        return [colormaps["tab10"](number) for number in range(count)]
    return [colormaps["turbo"](0.05 + 0.9 * number / (count - 1)) for number in range(count)]
