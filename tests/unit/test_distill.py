"""Distillation: what teachers say, the loss against it, training with it, resumed and refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lava_conv as lc
from lava_conv.qat import evaluate
from lava_conv.training.data import load_dataset
from lava_conv.training.distillation import divergence, soft_labels
from lava_conv.training.loop import Recipe, load_trained, train

LEARNING = Recipe(epochs=2, batch=128)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Data set and the path of a teacher trained on it."""
    data, path = load_dataset("digits"), tmp_path_factory.mktemp("teacher") / "teacher.pt"
    train(data, Recipe.flat(epochs=12, batch=128, method="float"), path)
    return data, str(path)


class First(nn.Module):
    """Logits are the first two columns of the image."""

    def forward(self, x):
        return x[:, 0, 0, :2]


def test_soft_labels_are_the_log_of_the_mean_of_probabilities():
    x = torch.randint(0, 4, (700, 1, 3, 2), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    y = torch.randint(0, 4, (700, 1, 2, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)

    def probabilities(images):
        return images[:, 0, 0, :2].double().softmax(1)

    plain = soft_labels([First(), First()], [x, y], False, "cpu", False)
    assert plain.shape == (700, 2) and plain.dtype == torch.float32 and not plain.is_inference()
    torch.testing.assert_close(plain.exp().double(), (probabilities(x) + probabilities(y)) / 2)
    mirrored = soft_labels([First(), First()], [x, y], True, "cpu", False)
    views = [x, x.flip(3), y, y.flip(3)]
    torch.testing.assert_close(mirrored.exp().double(), sum(map(probabilities, views)) / 4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_divergence(temperature):
    generator = torch.Generator().manual_seed(0)
    logits, soft = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    soft = soft.log_softmax(1)
    p, q = ((v / temperature).softmax(1) for v in (soft, logits))
    expected = temperature**2 * (p * (p / q).log()).sum(1)
    torch.testing.assert_close(divergence(logits, soft, temperature), expected)
    torch.testing.assert_close(divergence(soft + 7, soft, temperature), torch.zeros(5, dtype=torch.float64))


def test_training_learns_from_teachers_alone(taught):
    """With wrong labels: what is right comes from the teachers."""
    data, teacher = taught
    wrong = replace(data, y_train=(data.y_train + 1) % 10)
    trained = train(wrong, LEARNING.changed(epochs=12, teachers=(teacher,), distill=1.0))
    assert (evaluate(trained.model, data.x_test).argmax(1) == data.y_test).mean() > 0.9
    labels = train(wrong, LEARNING.changed(epochs=12, teachers=(teacher,), distill=0.0))
    assert labels.losses == train(wrong, LEARNING.changed(epochs=12)).losses


def test_resume_gives_the_same_bits_without_the_teachers(taught, tmp_path):
    data, teacher = taught
    recipe = LEARNING.changed(teachers=(teacher, str(tmp_path / "second.pt")), cutout=3)
    (tmp_path / "second.pt").write_bytes(Path(teacher).read_bytes())
    whole = train(data, recipe)

    def stop(epoch, loss):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, recipe, tmp_path / "x.pt", after_epoch=stop)
    (tmp_path / "second.pt").unlink()
    resumed = train(data, recipe, tmp_path / "x.pt", resume=True)
    assert resumed.losses == whole.losses and load_trained(tmp_path / "x.pt").recipe == recipe
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    with pytest.raises(lc.DataError, match=r"second.pt: there is no such checkpoint"):
        train(data, recipe)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distill": 1.5}, "distill is 1.5, allowed is a number, 0 to 1"),
        ({"distill": np.nan}, "distill is nan, allowed is a number, 0 to 1"),
        ({"temperature": 0.0}, "temperature is 0.0, allowed is a number above 0"),
        ({"temperature": np.inf}, "temperature is inf, allowed is a number above 0"),
        ({"cutout": 9}, "cutout is 9, allowed is 0 to 8"),
        ({"cutout": -1}, "cutout is -1, allowed is a whole number, 0 or more"),
    ],
)
def test_recipes_that_cannot_be_followed(taught, change, message):
    data, teacher = taught
    with pytest.raises(lc.DataError, match=message):
        train(data, LEARNING.changed(teachers=(teacher,), **change))


def test_teachers_of_other_data_are_refused(taught):
    data, teacher = taught
    with pytest.raises(lc.DataError, match=r"teacher.pt: the teacher knows 10 classes of digits, here are 10 of mine;"):
        train(replace(data, name="mine"), LEARNING.changed(teachers=(teacher,)))
    few = data.y_train < 9
    fewer = replace(data, x_train=data.x_train[few], y_train=data.y_train[few], y_test=data.y_test % 9)
    with pytest.raises(lc.DataError, match=r"the teacher knows 10 classes of digits, here are 9 of digits;"):
        train(fewer, LEARNING.changed(teachers=(teacher,)))
