"""From logits to classes: one output predicts by its sign, everywhere; labels that are no class numbers are refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from command import call
from plain import write_random_net
from torch import nn

import lava_conv as lc
from lava_conv import classes, figures
from lava_conv.analysis.early_exit import leave
from lava_conv.analysis.ledger import build_ledger
from lava_conv.calibration.procedure import float_predictions
from lava_conv.network.synapses import Dense
from lava_conv.qat import evaluate
from lava_conv.report.findings import collect
from lava_conv.report.sections import sections
from lava_conv.training.data import Dataset, load_dataset
from lava_conv.training.distillation import fitted_scale
from lava_conv.training.loop import Recipe, load_trained, train

SHAPE = (2, 9, 7)


def with_one_output(graph):
    last = graph.layers[-1]
    synapse, params = Dense(last.synapse.weight[:1]), last.params._replace(bias=last.params.bias[:1])
    return lc.Graph((*graph.layers[:-1], replace(last, shape=(1,), synapse=synapse, params=params)), graph.steps)


@pytest.fixture
def graph(tmp_path, rng):
    return with_one_output(lc.load(write_random_net(tmp_path / "a.net", rng)))


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (40, *SHAPE), dtype=np.uint8)


@pytest.fixture(scope="module")
def halves():
    """Digits below 5 against those above."""
    data = load_dataset("digits")
    return Dataset("halves", data.x_train, data.y_train // 5, data.x_test, data.y_test // 5)


@pytest.fixture(scope="module")
def trained(halves, tmp_path_factory):
    path = tmp_path_factory.mktemp("one") / "one.pt"
    return path, train(halves, Recipe.flat(epochs=4, smoothing=0.05, one_output=True), path)


def test_one_output_predicts_by_its_sign(graph, images):
    record = lc.run(graph, images)
    signs = (record.logits[:, :, 0] > 0).astype(int)
    assert 0 < signs[-1].mean() < 1, "both classes occur"
    assert np.array_equal(record.predictions, signs)
    assert np.array_equal(graph.reference(images).predictions, graph.reference(images).logits[:, :, 0] > 0)
    labels = signs[-1]
    ones = labels == 1
    for same in (
        labels, labels[:, None], ones, ones[:, None], labels.astype(float), list(labels), labels.astype(np.uint8),
        torch.tensor(labels), torch.tensor(ones), torch.tensor(labels, dtype=torch.float32)[:, None],
    ):  # fmt: skip
        assert np.array_equal(record.accuracy(same), (signs == labels).mean(1))


def test_zero_is_class_0_and_ties_go_to_the_lower_class():
    assert classes.predictions(np.array([[0], [1], [-1]])).tolist() == [0, 1, 0]
    assert classes.predictions(np.array([[3, 3], [1, 2]])).tolist() == [0, 1]
    assert classes.predictions(torch.tensor([[0.0], [1e-9]], requires_grad=True)).tolist() == [0, 1]


REFUSED = {
    "several classes per image": (lambda n, c: np.eye(c, dtype=int)[np.arange(n) % c] | np.eye(c, dtype=int)[0],
                                  r"several classes per image.*record.logits\[-1\] > 0"),
    "one-hot": (lambda n, c: np.eye(c)[np.arange(n) % c], r"one-hot.*labels.argmax\(1\)"),
    "boxes": (lambda n, c: np.full((n, 4), 0.3), "compare logits with other targets yourself"),
    "values": (lambda n, c: np.linspace(0, 1, n), "hold 0.0.*as in regression.*compare the logits"),
    "NaN": (lambda n, c: np.full(n, np.nan), "hold nan, which is no class"),
    "infinite": (lambda n, c: np.full(n, np.inf), "hold inf, which is no class"),
    "whole floats": (lambda n, c: np.arange(n) % 3 * 1.0, r"dtype float64.*labels.astype\(int\)"),
    "too high": (lambda n, c: np.full(n, 5), "labels go from 5 to 5.*use its own data set"),
    "negative": (lambda n, c: np.arange(n) % 2 * 2 - 1, "labels go from -1 to 1"),
    "too few": (lambda n, c: np.zeros(n - 1, int), "needed are 40 integers"),
    "text": (lambda n, c: np.full(n, "cat"), "dtype <U3"),
    "ragged": (lambda n, c: [[0], [0, 1]] * (n // 2), "of different lengths"),
}  # fmt: skip


@pytest.mark.parametrize("outputs", [1, 5])
@pytest.mark.parametrize("kind", REFUSED)
def test_labels_that_are_no_class_numbers_are_refused(kind, outputs):
    make, message = REFUSED[kind]
    record = lc.Record(np.arange(2 * 40 * outputs).reshape(2, 40, outputs), {})
    with pytest.raises(lc.DataError, match=message) as caught:
        record.accuracy(make(40, classes.class_count(outputs)))
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


def test_labels_of_five_classes_are_no_booleans():
    with pytest.raises(lc.DataError, match="labels are booleans, the network has 5 classes"):
        lc.Record(np.zeros((1, 4, 5), int), {}).accuracy(np.zeros(4, bool))
    assert lc.Record(np.array([[[1, 0], [0, 1]]]), {}).accuracy([False, True]) == 1


@pytest.mark.parametrize("logits", [np.zeros(4), np.zeros((4, 0)), np.full((2, 3), "a"), np.array([[0.0, np.nan]])])
def test_what_names_no_class_is_refused(logits):
    with pytest.raises(lc.DataError, match="logit"):
        classes.predictions(logits)


def test_early_exit_knows_when_the_sign_is_certain(tmp_path, rng):
    steps = []
    for number in range(8):
        graph = with_one_output(lc.load(write_random_net(tmp_path / f"{number}.net", rng)))
        x = rng.integers(0, 256, (30, *SHAPE), dtype=np.uint8)
        record = lc.run(graph, x, steps=6, record_spikes=True)
        exit = leave(graph, record)
        assert np.array_equal(exit.predictions, record.predictions[-1])
        assert exit.accuracy(record.predictions[-1]) == 1
        steps.append(exit.steps)
        sure = leave(graph, record, "confidence", 1e9)
        assert (sure.steps == 6).all()
    assert np.concatenate(steps).min() < 6, "some leave early"
    with pytest.raises(lc.DataError, match="labels go from 2"):
        exit.accuracy(np.full(30, 2))


def test_a_binary_model_of_your_own(trained_digits):
    """BCEWithLogitsLoss, converted: the record's accuracy is the model's, and both are that of the sign."""
    data, _ = trained_digits
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(72, 1)
    model = lc.qat.prepare(nn.Sequential(*layers), method="ca_lif", levels=6)
    x, y = torch.tensor(data.x_train).float(), torch.tensor(data.y_train > 4).float()
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(20):
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(x)[:, 0], y).backward()
        optimiser.step()
    graph = lc.convert(model, data.x_train[:16], steps=16, labels=("low", "high"))
    right = data.y_test > 4
    logits = evaluate(model, data.x_test)
    assert np.array_equal(classes.predictions(logits), logits[:, 0] > 0)
    record = lc.run(graph, data.x_test)
    assert np.array_equal(record.predictions[-1], classes.predictions(logits))
    assert record.accuracy(right)[-1] == ((logits[:, 0] > 0) == right).mean() > 0.7


def test_float_predictions_of_one_output():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    model[1].weight.data -= model[1].weight.data.mean()
    x = np.random.default_rng(0).integers(0, 256, (50, 1, 4, 4), dtype=np.uint8)
    with torch.no_grad():
        wanted = (model(torch.tensor(x).float())[:, 0] > 0).numpy()
    assert 0 < wanted.mean() < 1 and np.array_equal(float_predictions(model, x), wanted)


# -- training ---------------------------------------------------------------------------------------------------------


def test_training_with_one_output(trained, halves):
    path, found = trained
    assert (found.outputs, found.classes) == (1, 2) and found.losses[-1] < found.losses[0]
    logits = evaluate(found.model, halves.x_test)
    assert logits.shape == (len(halves.x_test), 1)
    assert classes.accuracy(classes.predictions(logits), halves.y_test, 1) > 0.8
    again = load_trained(path)
    assert again.outputs == 1 and np.array_equal(evaluate(again.model, halves.x_test), logits)
    learned = train(halves, Recipe.flat(epochs=1, one_output=True, teachers=(str(path),)))
    assert learned.outputs == 1 and learned.losses[0] < 1


def test_the_loss_of_one_output_is_binary_cross_entropy(rng):
    from lava_conv.training.distillation import class_scores

    z, y = torch.tensor(rng.normal(size=(9, 1))), torch.tensor(rng.integers(0, 2, 9))
    found = nn.functional.cross_entropy(class_scores(z), y)
    assert torch.allclose(found, nn.functional.binary_cross_entropy_with_logits(z[:, 0], y.double()))
    assert fitted_scale(z, y) > 0


def test_one_output_needs_two_classes(halves):
    digits = load_dataset("digits")
    with pytest.raises(lc.DataError, match="one_output tells 2 classes apart, digits has 10; leave it out"):
        train(digits, Recipe.flat(epochs=1, one_output=True))
    none = replace(halves, y_train=halves.y_train * 0, y_test=halves.y_test * 0)
    with pytest.raises(lc.DataError, match="every label of halves is 0"):
        train(none, Recipe(epochs=1))


def test_commands_with_one_output(trained, halves, tmp_path):
    path, found = trained
    np.savez(tmp_path / "h.npz", **{name: getattr(halves, name) for name in ("y_train", "y_test")},
             x_train=halves.x_train[:, 0], x_test=halves.x_test[:, 0])  # fmt: skip
    assert call("convert", path, tmp_path / "h.net", "-q").returncode == 0
    done = call("run", tmp_path / "h.net", "--data", tmp_path / "h.npz", "--steps", 12, "--json")
    wanted = classes.accuracy(classes.predictions(evaluate(found.model, halves.x_test)), halves.y_test, 1)
    assert json.loads(done.stdout)["reference_accuracy"] == wanted
    done = call("run", tmp_path / "h.net")  # digits has ten classes
    assert done.returncode == 2 and "labels go from 0 to 9, the network has one output" in done.stderr
    done = call("train", "--one-output", "--out", tmp_path / "x.pt")
    assert done.returncode == 2 and "one_output tells 2 classes apart" in done.stderr


def test_a_report_on_one_output(trained, halves):
    _, found = trained
    graph = lc.convert(found.model, halves.x_train[:8], steps=4, labels=("odd",))
    findings = collect("n", "halves", graph, halves.x_test[:60], halves.y_test[:60])
    wanted = (findings.reference.logits[0, :, 0] > 0) == halves.y_test[:60]
    assert findings.ledger.stages[0].accuracy == wanted.mean()
    assert any("not odd" in str(part) for section in sections(findings) for part in section.parts)
    with pytest.raises(lc.DataError, match="labels go from"):
        build_ledger(halves.y_test[:60] + 9, findings.reference, findings.record)
    with pytest.raises(lc.DataError, match="labels go from"):
        figures.confusion(findings.record.predictions[-1], halves.y_test[:60] + 9, 2)
    with pytest.raises(lc.DataError, match="there are 3 names for 2 classes"):
        figures.confusion(findings.record.predictions[-1], halves.y_test[:60], 2, "abc")
