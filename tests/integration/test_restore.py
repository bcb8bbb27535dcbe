"""A `.net` back to the model that it came from: the same integers, training that goes on, and what is refused."""

import numpy as np
import pytest
import torch
from nets import images, lively

import lava_conv as lc
from lava_conv.qat import evaluate
from lava_conv.training.data import Dataset, load_dataset
from lava_conv.training.distillation import NetworkTeacher, fitted_scale
from lava_conv.training.loop import Recipe, train
from lava_conv.training.models import build
from lava_conv.training.restore import restore

SHAPE = (3, 8, 8)
FIRST = Recipe(epochs=8, batch=128)
LABELS = np.arange(64) % 10


def network(model, **options):
    """A network whose normalisation has negative, zero and odd factors, and a fresh model of the same kind."""
    torch.manual_seed(1)
    trained = lively(build(model, *SHAPE[:2], 10, **options), SHAPE)
    torch.manual_seed(2)
    return lc.convert(trained, images(SHAPE, 4)), build(model, *SHAPE[:2], 10, **options)


@pytest.mark.parametrize("model", ["digits", "lenet", "mobilenet-v1"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 1, "n_max": 5, "encoder_levels": 2},
        {"k": 2, "n_max": 12},
    ],
    ids=["k0", "k1", "k2"],
)
def test_the_restored_model_computes_the_same_integers(model, options):
    graph, fresh = network(model, **options | ({"width": 8} if model == "mobilenet-v1" else {}))
    restore(fresh, graph, images(SHAPE, 64, seed=1), LABELS)
    seen = images(SHAPE, 40, seed=2)
    again, first = lc.convert(fresh, seen[:4]).reference(seen), graph.reference(seen)
    assert max(int(count.max()) for count in first.counts.values()) >= 2
    for index, counts in first.counts.items():
        assert np.array_equal(again.counts[index], counts), f"layer {index}"
    assert np.array_equal(again.logits, first.logits)
    assert np.array_equal(evaluate(fresh, seen).argmax(1), first.predictions[-1])
    # and in training its batches are normalised much as the network was
    fresh.train()
    with torch.no_grad():
        logits = fresh(torch.from_numpy(images(SHAPE, 64, seed=1)).float())
    assert (logits.argmax(1).numpy() == graph.reference(images(SHAPE, 64, seed=1)).predictions[-1]).mean() > 0.8


def test_training_goes_on_from_a_network(tmp_path, kept):
    path, (data, first) = str(tmp_path / "a.net"), kept(FIRST)
    lc.save(lc.convert(first.model, data.x_train[:8]), path)
    expected = evaluate(first.model, data.x_test).argmax(1)
    still = train(data, Recipe.flat(epochs=1, batch=128, lr=1e-12, start=path))
    assert (evaluate(still.model, data.x_test).argmax(1) == expected).mean() > 0.9
    tuned = train(data, Recipe.flat(epochs=1, batch=128, lr=1e-3, start=path))
    assert tuned.losses[0] < first.losses[2]


def test_a_network_teaches_as_its_model_does(tmp_path, kept):
    data, trained = kept(FIRST)
    teacher, path = trained.model, str(tmp_path / "t.net")
    lc.save(lc.convert(teacher, data.x_train[:8], steps=32), path)
    logits = evaluate(teacher, data.x_test)
    said = NetworkTeacher(lc.load(path), data.x_train[:500], data.y_train[:500])(torch.from_numpy(data.x_test))
    other = np.abs(logits) > 1e-6
    ratio = said.double().numpy()[other] / logits[other]
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-3)
    assert 0.3 < np.median(ratio) < 3
    learned = train(data, Recipe.flat(epochs=8, batch=128, teachers=(path,), distill=1.0)).model  # labels weigh nothing
    assert (evaluate(learned, data.x_test).argmax(1) == data.y_test).mean() > 0.8
    few, rest = data.y_train < 9, data.y_test < 9
    nine = Dataset("digits", data.x_train[few], data.y_train[few], data.x_test[rest], data.y_test[rest])
    with pytest.raises(lc.DataError, match=r"t.net: the teacher knows 10 classes of digits, here are 9 of digits;"):
        train(nine, Recipe.flat(epochs=1, teachers=(path,)))


def test_a_teacher_for_other_images_is_refused(tmp_path):
    torch.manual_seed(0)
    path = str(tmp_path / "t.net")
    lc.save(lc.convert(lively(build("lenet", 3, 8, 10), SHAPE), images(SHAPE, 4)), path)
    sentence = r"t.net: the teacher sees images of \(3, 8, 8\), those of digits are \(1, 8, 8\); take a teacher trained"
    with pytest.raises(lc.DataError, match=sentence):
        train(load_dataset("digits"), Recipe.flat(epochs=1, teachers=(path,)))


def test_the_fitted_scale_is_that_of_the_labels():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(20_000, 5, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    for size in (1, 1000, 0.01):
        assert fitted_scale((size * logits).float(), labels) * size == pytest.approx(1, abs=0.05)
    assert fitted_scale((1000 * logits).long(), labels) * 1000 == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        (
            Recipe.flat(n_max=4),
            r"a.net: 3: its neurons count up to 0, those of the model up to 4 \(0: no limit\);",
        ),
        (Recipe.flat(encoder_levels=2), r"a.net: 0: its neurons count up to 4, those of the model up to 2"),
        (
            Recipe.flat(method="ca_lif"),
            r"a.net: 0: only a checkpoint holds what the model's weights and steps share; start from one",
        ),
        (
            Recipe.flat(crop=4),
            r"a.net: 10: its weights have shape \(128, 512\), those of the model \(128, 128\);",
        ),
        (Recipe.flat(model="vgg11", width=12), r"a.net: it has 5 layers with weights, the model has 11;"),
        (Recipe.flat(model="resnet20"), r"a.net: the model has shortcuts; start from a checkpoint instead"),
        (Recipe.flat(method="float"), r"a.net: is a network of integers; method float cannot go on with it"),
        (Recipe(dropout=1), r"dropout is 1, allowed is a number, 0 to 0.9"),
        (Recipe(dropout=0.2, unroll=4), r"dropout does not go together with unroll"),
    ],
)
def test_what_does_not_go_together_is_refused(digits_network, recipe, sentence):
    with pytest.raises(lc.DataError, match=sentence):
        train(load_dataset("digits"), recipe.changed(epochs=1, start=digits_network))


@pytest.fixture(scope="module")
def digits_network(tmp_path_factory):
    """The path of a network of a fresh `digits` model."""
    data, path = load_dataset("digits"), tmp_path_factory.mktemp("restore") / "a.net"
    model = build("digits", 1, 8, 10)
    lc.save(lc.convert(lively(model, (1, 8, 8)), data.x_train[:4]), path)
    return str(path)


def test_shortcuts_in_the_network_are_refused(tmp_path):
    torch.manual_seed(0)
    model = lively(build("resnet20", 3, 8, 10, width=4, method="ca_lif"), SHAPE)
    graph = lc.convert(model, images(SHAPE, 4))
    with pytest.raises(lc.DataError, match="it has shortcuts or a constant input; start from a checkpoint instead"):
        restore(build("lenet", 3, 8, 10), graph, images(SHAPE, 8), LABELS[:8])


def test_dropout_acts_on_linear_layers_in_training_alone():
    data = load_dataset("digits")
    recipe = Recipe(epochs=2, batch=128, dropout=0.5)
    trained, plain = train(data, recipe), train(data, recipe.changed(dropout=0.0))
    assert trained.losses[-1] > plain.losses[-1]
    assert not any(module._forward_pre_hooks for module in trained.model.modules())
    assert np.array_equal(evaluate(trained.model, data.x_test[:9]), evaluate(trained.model, data.x_test[:9]))
