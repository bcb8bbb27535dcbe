"""The report: one HTML file that holds everything it shows, and says what the numbers are."""

import base64
import io
import json
import os
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from browser import VARIABLE, browser
from command import call
from PIL import Image

import lava_conv as lc
from lava_conv.analysis.activations import in_counts
from lava_conv.errors import DataError
from lava_conv.qat import evaluate
from lava_conv.report.findings import Source, collect
from lava_conv.report.page import render, write_page, write_pictures
from lava_conv.report.sections import SECTIONS, Picture, Table, sections
from lava_conv.training.loop import Recipe, train

SLUGS = ["ledger", "accuracy", "confusion", "activity", "raster", "agreement", "changed", "chips", "cost", "network"]
EVIL = ("<b>nought", "one & only", '"two"', "'three'", "$\\frac$", "{{ 5 }}", "six", "seven", "eight", "<script>")
VOID = {"meta", "link"}


class Reader(HTMLParser):
    """Elements with their attributes, the text of the page, and whether every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.found, self.text, self.open = [], "", []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def found(trained_digits):
    data, trained = trained_digits
    graph = lc.convert(trained.model, data.x_train[:8], labels=EVIL)
    source = Source(
        "quantised model",
        lambda x, advance: evaluate(trained.model, x, progress=advance).argmax(1),
        lambda x, counts: in_counts(trained.model, graph, x, counts),
    )
    return collect("<i>.net", "digits", graph, data.x_test, data.y_test, 3, 5, source)


@pytest.fixture(scope="module")
def page(found):
    return render(found, sections(found))


def test_the_findings_are_those_of_one_run_in_any_chunks(found, monkeypatch):
    graph, x, y = found.graph, found.images, found.labels
    record, reference = lc.run(graph, x, 3, record_spikes=True), graph.reference(x)
    assert np.array_equal(found.record.logits, record.logits)
    assert np.array_equal(found.reference.logits, reference.logits)
    unlike = sum(int((record.counts[i] != c).sum()) for i, c in reference.counts.items())
    assert unlike > 0 and f"{unlike:,} of {sum(c.size for c in reference.counts.values()):,}" in found.ledger.checks[0]
    assert np.array_equal(found.shown.spikes[1][:, 0], record.spikes[1][:, 5])
    monkeypatch.setattr("lava_conv.report.findings.PART", 100)
    assert collect("a", "digits", graph, x, y, 3).ledger.checks == found.ledger.checks
    assert [s.name for s in found.ledger.stages][:2] == ["quantised model", "integer reference"]


def test_activations_of_the_model_are_the_reference_counts(found):
    for index, counts in found.first_reference.counts.items():
        assert np.array_equal(np.rint(found.activations[index]), counts)
        assert np.abs(found.activations[index] - counts).max() < 1e-9


def test_activations_of_a_float_model_are_scaled_to_counts():
    from lava_conv.training.data import load_dataset

    data = load_dataset("digits")
    model = train(data, Recipe.flat(method="float", epochs=2)).model
    graph = lc.calibrate(model, data.x_train[:64], steps=32, method="mmse")
    record = lc.run(graph, data.x_test[:40], record_spikes=True)
    found = in_counts(model, graph, data.x_test[:40], record.counts)
    for index, counts in record.counts.items():
        error = ((found[index] - counts) ** 2).sum() / (found[index] ** 2).sum()
        assert error < 0.05, f"layer {index}"


def test_a_model_of_another_network_is_refused(found, trained_digits):
    data, _ = trained_digits
    other = train(data, Recipe.flat(model="lenet", method="float", epochs=1)).model
    with pytest.raises(DataError, match="give the checkpoint that the network was made of"):
        in_counts(other, found.graph, found.images[:2], found.first.counts)


def test_every_section_is_there_with_described_pictures(found, page):
    read = Reader(page)
    assert [s["id"] for s in read.all("section")] == SLUGS and len(SECTIONS) == len(SLUGS)
    assert [a["href"] for a in read.all("a")] == [f"#{slug}" for slug in SLUGS]
    figures, drawn = read.all("figure"), [s for s in read.all("svg") if s.get("role") == "img"]
    assert len(figures) == len(drawn) == len(read.all("figcaption")) == 8
    assert all(len(svg["aria-label"]) > 20 for svg in drawn)
    ids = [a["id"] for _, a in read.found if "id" in a]
    assert len(ids) == len(set(ids)), "every id once in the whole page"
    for stage in found.ledger.stages:
        assert stage.name in read.text and f"{100 * stage.accuracy:.2f} %" in read.text
    assert "exactly the reference's" in read.text


def test_the_page_needs_nothing_else(page):
    read = Reader(page)
    assert "http:" not in page and "https:" not in page and "//" not in page.replace("://", "").split("<body>")[0]
    assert not read.all("script") and "@import" not in page
    assert [link["href"] for link in read.all("link")] == ["data:,"]
    for tag, attributes in read.found:
        for name in ("src", "href", "xlink:href"):
            value = (attributes.get(name) or "#").strip()
            assert value.startswith(("#", "data:")), f"<{tag} {name}={value[:60]}>"
        assert not any(name.startswith("on") for name in attributes)
    assert all(aim.startswith("#") for aim in re.findall(r"url\(([^)]+)\)", page))


def test_every_embedded_image_decodes(page):
    embedded = re.findall(r'"data:image/png;base64,([^"]+)"', page)
    assert len(embedded) >= 10
    for text in embedded:
        image = Image.open(io.BytesIO(base64.b64decode(text)))
        image.load()
        assert min(image.size) > 0
    assert page.count("data:image") == len(embedded)


def test_names_are_text_and_never_markup(page):
    read = Reader(page)
    assert "<b>nought" in read.text and "<script>" in read.text and "{{ 5 }}" in read.text and "$\\frac$" in read.text
    assert read.text.startswith("\n<i>.net") or "<i>.net" in read.text
    assert not {"b", "i"} & {tag for tag, _ in read.found}


def test_the_same_findings_give_the_same_bytes(found, page):
    same = (
        render(found, sections(found)) == page
    )  # no assertion on the texts: pytest would take minutes to compare them
    assert same


def test_files_are_written_whole_or_not_at_all(found, tmp_path):
    made = sections(found)
    write_page(found, made, tmp_path / "new" / "r.html")
    assert (tmp_path / "new" / "r.html").read_text("utf-8").endswith("</html>\n")
    paths = write_pictures(made, tmp_path / "png")
    assert [p.stem for p in paths] == [part.slug for s in made for part in s.parts if isinstance(part, Picture)]
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG" and min(image.size) > 300
    (tmp_path / "file").write_text("stays")
    with pytest.raises(DataError, match="the report cannot be written"):
        write_page(found, made, tmp_path / "file" / "r.html")
    with pytest.raises(DataError, match="the pictures cannot be written"):
        write_pictures(made, tmp_path / "file")
    assert sorted(p.name for p in tmp_path.rglob("*") if p.suffix == ".part") == []


def test_changes_in_the_table_add_up(found):
    section = next(s for s in sections(found) if s.slug == "changed")
    table = next(part for part in section.parts if isinstance(part, Table))
    said = [*found.record.predictions, found.reference.predictions[0], found.model]
    assert [int(row[1]) for row in table.rows] == [int((a != b).sum()) for a, b in pairwise(said)]


def test_wrong_samples_and_labels_are_refused(found):
    with pytest.raises(DataError, match=r"sample is 360, allowed is 0\.\.359"):
        collect("a", "b", found.graph, found.images, found.labels, sample=360)
    with pytest.raises(DataError, match="labels go from 2 to 11"):
        collect("a", "b", found.graph, found.images, found.labels + 2)


def test_the_command_writes_pictures_and_prints_the_ledger(tmp_path, trained_digits):
    data, trained = trained_digits
    lc.save(lc.convert(trained.model, data.x_train[:4], steps=3), tmp_path / "d.net")
    done = call("report", tmp_path / "d.net", "--samples", 20, "--out", "png", "--json", cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr, done.stderr
    told = json.loads(done.stdout)
    assert told["html"] == "d.html" and (tmp_path / "d.html").is_file() and len(list((tmp_path / "png").iterdir())) == 8
    assert [s["name"] for s in told["stages"]] == ["integer reference", *[f"simulator, T = {t}" for t in (1, 2, 3)]]
    done = call("report", tmp_path / "d.net", "--samples", 5, "--checkpoint", "none.pt", cwd=tmp_path)
    assert done.returncode == 2 and "no such checkpoint" in done.stderr
    done = call("report", tmp_path / "d.net", "--samples", 5, "--sample", 5, cwd=tmp_path)
    assert done.returncode == 2 and "sample is 5, allowed is 0..4" in done.stderr


SIZES = "[...document.querySelectorAll('figure > svg')].map(s => [s.getBoundingClientRect().width, s.getBBox().width])"
LETTERS = "[...document.querySelectorAll('figure text')].map(t => t.getBoundingClientRect().height)"
CONTRAST = "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"


@pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no browser")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 768, 1400])
def test_a_browser_shows_it(found, tmp_path, width, dark):
    write_page(found, sections(found), tmp_path / "r.html")
    with browser(tmp_path / "profile") as shown:
        shown.open(tmp_path / "r.html", width, dark=dark)
        assert shown.problems == [] and all(r.startswith(("file:", "data:")) for r in shown.requests)
        assert shown.evaluate("document.documentElement.scrollWidth") <= width, "the page itself never scrolls sideways"
        sizes = shown.evaluate(SIZES)
        assert len(sizes) == 8 and all(a > 250 and b > 50 for a, b in sizes)
        assert min(shown.evaluate(LETTERS)) >= 9, "letters in figures are at least so many pixels high"
        ink, ground = (sum(map(int, re.findall(r"\d+", c)[:3])) for c in shown.evaluate(CONTRAST))
        assert (ink > ground) == dark and abs(ink - ground) > 400
        shown.screenshot(tmp_path / "page.png")
        colours = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).reshape(-1, 3)
        assert len(np.unique(colours[::37], axis=0)) > 100, "something is drawn"
