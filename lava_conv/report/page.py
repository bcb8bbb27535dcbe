"""The report as one HTML file that needs nothing else, and its pictures as PNG files."""

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from lava_conv.errors import DataError
from lava_conv.figures import as_svg, save_png
from lava_conv.files import replacing
from lava_conv.network.graph import Graph
from lava_conv.report.findings import Findings
from lava_conv.report.sections import Picture, Section, Table

TEMPLATE = "page.html"


def facts(found: Findings) -> list[tuple[str, str]]:
    """What the page's head says about network and run."""
    graph: Graph = found.graph
    feeds = [feed.synapse for index, _, _ in graph.neuron_layers() for feed in graph.inputs(index)]
    weights = sum(synapse.weights for synapse in feeds)
    neurons = sum(layer.neurons for layer in found.activity.layers)
    return [
        ("written by", graph.generator),
        ("layers", f"{len(graph.layers)}"),
        ("neurons", f"{neurons:,}"),
        ("weights", f"{weights:,}"),
        ("input", f"{'×'.join(map(str, graph.input_shape))}, {graph.input_code}"),
        ("time steps", f"{found.record.steps}"),
        ("data", f"{len(found.images):,} images of {found.data}"),
        ("run on", found.record.backend),
    ]


def render(found: Findings, made: Sequence[Section]) -> str:
    """The page as text."""
    from jinja2 import Environment
    from markupsafe import Markup

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.tests["picture"] = lambda part: isinstance(part, Picture)
    environment.tests["table"] = lambda part: isinstance(part, Table)
    environment.filters["svg"] = lambda picture: Markup(as_svg(picture.figure, picture.slug, picture.alt))
    template = environment.from_string(resources.files("lava_conv.report").joinpath(TEMPLATE).read_text("utf-8"))
    return template.render(title=Path(found.name).name, facts=facts(found), sections=made)


def write_page(found: Findings, made: Sequence[Section], path: str | os.PathLike[str]) -> None:
    """Write the page, complete or not at all.

    Raises:
        DataError: it cannot be written; what was at `path` stays.
    """
    text = render(found, made)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            Path(partial).write_text(text, "utf-8")
    except OSError as error:
        raise DataError(f"{path}: the report cannot be written ({error.strerror})") from None


def write_pictures(made: Sequence[Section], folder: str | os.PathLike[str]) -> list[Path]:
    """Write every picture as `folder`/<its name>.png; the paths.

    Raises:
        DataError: one cannot be written.
    """
    written = []
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for picture in (part for section in made for part in section.parts if isinstance(part, Picture)):
            written.append(Path(folder) / f"{picture.slug}.png")
            save_png(picture.figure, written[-1])
    except OSError as error:
        raise DataError(f"{folder}: the pictures cannot be written ({error.strerror})") from None
    return written
