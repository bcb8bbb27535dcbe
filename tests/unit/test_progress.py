"""One form of progress callback for everything that takes one."""

import ast
import pathlib

import numpy as np
import pytest

import lava_conv as lc
from lava_conv.analysis.activity import measure
from lava_conv.analysis.comparison import compare_parts
from lava_conv.backends import run_parts
from lava_conv.loihi.cost import cost
from lava_conv.progress import within

PACKAGE = pathlib.Path(lc.__file__).parent


def test_within_counts_from_where_the_part_begins():
    seen = []
    part = within(lambda *x: seen.append(x), 10, 50)
    assert part is not None
    part(1, 20), part(20, 20)
    assert seen == [(11, 50), (30, 50)]
    assert within(None, 10, 50) is None


def test_every_progress_argument_is_a_progress():
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                    if argument.arg == "progress":
                        found.append((f"{path.relative_to(PACKAGE)}: {node.name}", ast.unparse(argument.annotation)))
    assert len(found) > 20
    assert [place for place, kind in found if kind not in ("Progress | None", "Progress")] == []


WORK = {
    "run": lambda graph, images, progress: lc.run(graph, images, progress=progress),
    "run_parts": lambda graph, images, progress: list(run_parts(graph, images, size=3, progress=progress)),
    "reference": lambda graph, images, progress: graph.reference(images, progress),
    "measure": lambda graph, images, progress: measure(graph, images, progress=progress),
    "cost": lambda graph, images, progress: cost(graph, images, progress=progress),
    "lower": lambda graph, images, progress: lc.lower(graph, images, progress=progress),
    "differences": lambda graph, images, progress: lc.lower(graph, images).differences(images, progress),
    "compare": lambda graph, images, progress: lc.compare(
        graph, images, second="reference", progress=progress, steps=1
    ),
    "compare_parts": lambda graph, images, progress: list(
        compare_parts(graph, images, second="torch", progress=progress, size=3)
    ),
}


@pytest.mark.parametrize("name", WORK)
def test_it_rises_to_the_total(rng, name):
    graph = lc.load(PACKAGE.parent / "netx_models/stock/mnist-lenet-sdnn.graph.net")
    images = rng.integers(0, 256, (7, *graph.input_shape), dtype=np.uint8)
    seen = []
    WORK[name](graph, images, lambda *x: seen.append(x))
    total = 14 if name.startswith("compare") else 7
    assert seen and seen == sorted(set(seen)) and seen[-1] == (total, total) and {of for _, of in seen} == {total}
