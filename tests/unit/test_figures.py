"""Figures: what they show is what was given, and they stand alone."""

import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.figure import Figure
from nets import images
from plain import write_random_net

import lava_conv as lc
from lava_conv import figures
from lava_conv.analysis.activity import Meter
from lava_conv.errors import DataError
from lava_conv.record import Record


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A random network with skips, its record with spikes, and the reference."""
    path = write_random_net(tmp_path_factory.mktemp("figures") / "a.net", np.random.default_rng(5), skips=True)
    graph = lc.load(path)
    x = images(graph.input_shape, 12)
    return graph, x, lc.run(graph, x, 6, record_spikes=True), graph.reference(x)


CURVES = [
    figures.Tradeoff("few", [0.3, 0.7, 0.8, 0.8], [1e6, 2e6, 3e6, 3e6]),
    figures.Tradeoff("many", [0.2, 0.6, 0.9], [1.5e6, 2.5e6, 5e6]),
]


def texts(figure):
    """Everything that is written in a figure."""
    svg = ET.fromstring(figures.as_svg(figure, "f", "what it shows").replace("xlink:href", "href"))
    return ["".join(element.itertext()) for element in svg.iter("text")]


def every_figure(graph, x, record, reference, names=()):
    labels = np.arange(len(x)) % graph.classes
    meter = Meter(graph, record.steps)
    meter.add(record)
    other = (record.predictions[0] + 1) % graph.classes
    changes = figures.find_changes({"<i>a": record.predictions[0], "b$": other})
    return {
        "accuracy": figures.accuracy_by_step(record, labels, reference),
        "raster": figures.raster(graph, record, 3),
        "activity": figures.activity_by_step(graph, meter.result()),
        "agreement": figures.agreement_by_layer(reference.counts, record.counts),
        "confusion": figures.confusion(record.predictions[-1], labels, graph.classes, names),
        "changed": figures.changed(x, labels, changes, graph.classes, names),
        "network": figures.network(graph),
        "tradeoff": figures.accuracy_by_operations(CURVES, [figures.Published("<paper>", 0.93, 290e6)], least=0.5),
    }


def test_every_figure_is_one_without_pyplot_and_saves(ran, tmp_path):
    import sys

    before = "matplotlib.pyplot" in sys.modules
    for name, figure in every_figure(*ran).items():
        assert isinstance(figure, Figure)
        figures.save_png(figure, tmp_path / f"{name}.png")
        figures.save_png(figure, tmp_path / f"{name}.png")
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".png"] * 8, "nothing half written is left"
    assert before or "matplotlib.pyplot" not in sys.modules


def test_svg_refers_to_nothing_outside_and_follows_the_page(ran):
    again = every_figure(*ran)
    for name, figure in every_figure(*ran).items():
        svg = figures.as_svg(figure, name, 'a "description" <b>')
        same = svg == figures.as_svg(again[name], name, 'a "description" <b>')
        assert same, "the same results give the same bytes"
        tree = ET.fromstring(svg.replace("xlink:href", "href"))
        assert tree.get("role") == "img" and tree.get("aria-label") == 'a "description" <b>'
        assert "http" not in svg and "<script" not in svg and "<style" not in svg
        ids = [element.get("id") for element in tree.iter() if element.get("id")]
        assert len(set(ids)) == len(ids) and all(id.startswith(f"{name}-") for id in ids)
        links = re.findall(r'(?:href="|url\()#([^")]+)', svg)
        assert set(links) <= set(ids), "every reference has its aim"
        assert "var(--ink)" in svg and not any(colour in svg for colour in ("#1b2430", "#fefefe"))


def test_names_are_text_whatever_they_hold(ran):
    graph, x, record, reference = ran
    names = ["<b>", "$\\frac", "&amp;", *map(str, range(3, graph.classes))]
    for name in ("confusion", "changed"):
        written = " ".join(texts(every_figure(graph, x, record, reference, names)[name]))
        assert "<b>" in written and "$\\frac" in written and "&amp;" in written


def test_agreement_names_the_worst_layer():
    ann = {1: np.full((2, 3), 2), 4: np.array([[4, 0, 0]])}
    snn = {1: np.full((2, 3), 2), 4: np.array([[2, 1, 0]])}
    worst, other = figures.agreement(ann, snn)
    assert worst == (4, 2, 3, 5 / 16) and other == (1, 0, 6, 0.0)
    written = texts(figures.agreement_by_layer(ann, snn))
    assert "worst: layer 4, error 31 %" in written and "1: equal" in written and "4: 67 % differ" in written
    assert "every count is equal" in texts(figures.agreement_by_layer(ann, ann))
    with pytest.raises(DataError, match="layer 1: the activations have shape"):
        figures.agreement(ann, {1: np.zeros((2, 4))})
    with pytest.raises(DataError, match="no layer"):
        figures.agreement_by_layer(ann, {9: np.zeros(3)})


def record_of(predictions):
    """A record that predicts these classes, (steps, N)."""
    return Record(np.eye(4, dtype=np.int64)[np.array(predictions)], {})


def test_after_the_settle_point_no_prediction_changes():
    labels = np.array([1, 2])
    settled = record_of([[0, 0], [1, 0], [1, 2], [1, 2]])
    written = texts(figures.accuracy_by_step(settled, labels, record_of([[1, 2]])))
    assert "settled after T = 3: no prediction changes later" in written and "accuracy, 100.00 %" in written
    moving = record_of([[0, 0], [1, 0], [1, 0], [1, 2]])
    assert "predictions still change at T = 4" in texts(figures.accuracy_by_step(moving, labels))


def test_only_points_that_no_other_one_beats_are_best():
    assert figures.best_of(CURVES) == [(1e6, 0.3), (2e6, 0.7), (3e6, 0.8), (5e6, 0.9)]
    assert figures.best_of([]) == [] and figures.best_of([CURVES[1]])[0] == (1.5e6, 0.2)


def test_a_tradeoff_shows_steps_and_published_accuracy():
    shown = texts(figures.accuracy_by_operations(CURVES, [figures.Published("<paper>", 0.93, 290e6)], least=0.65))
    assert {"few", "many", "<paper>", "2", "3"} <= set(shown)
    assert shown.count("2") == 1 and shown.count("3") == 2, "step 2 of the second one lies below"
    assert "4" not in shown, "it costs what step 3 does"


def test_confusion_counts_every_pair():
    figure = figures.confusion(np.array([0, 1, 1, 2, 2, 2]), np.array([0, 0, 1, 2, 2, 2]), 3, ["ant", "bee", "cow"])
    cells = {(t.get_position(), t.get_text()) for t in figure.axes[0].texts}
    assert cells == {((0, 0), "1"), ((1, 0), "1"), ((1, 1), "1"), ((2, 2), "3")}
    assert "bee" in texts(figure)


def test_changes_between_neighbours_the_last_pair_first():
    changes = figures.find_changes({"a": np.array([1, 1, 3]), "b": np.array([1, 2, 3]), "c": np.array([0, 2])})
    assert changes == [(0, "b", "c", 1, 0), (1, "a", "b", 1, 2)]
    x = np.zeros((3, 3, 4, 4), np.uint8)
    written = texts(figures.changed(x, np.array([1, 2, 3]), [*changes, changes[0]], 4))
    assert [w for w in written if w.startswith("label")] == ["label 1", "label 2"], "each image once"
    assert written.index("label 1") < written.index("label 2")
    with pytest.raises(DataError, match="nothing to show"):
        figures.changed(x, np.zeros(3, int), [], 4)


def test_raster_shows_every_spike_where_there_is_room(ran):
    graph, _, record, _ = ran
    labels = " ".join(texts(figures.raster(graph, record, 2)))
    positive = sum(int((s[:, 2] > 0).sum()) for s in record.spikes.values())
    negative = sum(int((s[:, 2] < 0).sum()) for s in record.spikes.values())
    wide = max(int(np.prod(s.shape[2:])) for s in record.spikes.values()) > 320 // len(record.spikes)
    shown = [int(n) for n in re.findall(r"\((\d+) shown\)", labels)]
    assert shown == [positive, negative] if not wide else shown[0] <= positive and shown[1] <= negative
    assert sum(shown) > 0
    with pytest.raises(DataError, match="a sample 12"):
        figures.raster(graph, record, 12)
    with pytest.raises(DataError, match="record with spikes"):
        figures.raster(graph, Record(record.logits, record.counts))


def test_activity_adds_up_over_the_steps(ran):
    graph, _, record, _ = ran
    meter = Meter(graph, record.steps)
    meter.add(record)
    meter.add(record)
    for layer in meter.result().layers[:-1]:
        spikes = record.spikes[layer.index].reshape(record.steps, -1)
        assert np.allclose(layer.positive_by_step, (spikes > 0).sum(1) / 12)
        assert np.allclose(layer.negative_by_step, (spikes < 0).sum(1) / 12)
        assert np.isclose(sum(layer.positive_by_step), layer.positive)


def test_the_network_names_every_layer_and_draws_every_skip(ran):
    graph, *_ = ran
    figure = figures.network(graph)
    written = texts(figure)
    for index, layer in enumerate(graph.layers):
        assert str(index) in written and "×".join(map(str, layer.shape)) in written
        if layer.synapse is not None:
            assert f"{layer.synapse.weight.size:,} weights" in written
    skips = sum(len(layer.skips) for layer in graph.layers)
    assert skips and len(figure.axes[0].lines) == skips


@pytest.mark.parametrize("channels", [1, 3])
def test_thumbnails_are_the_images(channels):
    from PIL import Image

    x = np.random.default_rng(0).integers(0, 256, (1, channels, 4, 4), dtype=np.uint8)
    figure = figures.changed(x, np.array([0]), [figures.find_changes({"a": np.array([0]), "b": np.array([1])})[0]], 2)
    shown = np.asarray(figure.axes[0].images[0].get_array())
    assert np.array_equal(shown.reshape(4, 4, channels), x[0].transpose(1, 2, 0))
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert Image.open(file).size[0] > 100
