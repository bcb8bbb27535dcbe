"""Which images an epoch of training takes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import lava_conv as lc
from lava_conv.qat import evaluate
from lava_conv.training.data import load_dataset
from lava_conv.training.loop import Recipe, load_trained, train
from lava_conv.training.selection import Selection

SKIPPING = Recipe(epochs=4, batch=128, skip_easy=0.5)


def drawn(selection, epoch, seed=0):
    """Indices and weights of all batches of 10 that epoch `epoch` of 16 takes."""
    parts = selection.batches(epoch, 16, 10, torch.Generator().manual_seed(seed))
    assert all(len(chosen) == 10 for chosen, _ in parts)
    return torch.cat([chosen for chosen, _ in parts]), torch.cat([weights for _, weights in parts])


def scored(share):
    """1,000 images, the first 700 learned."""
    selection = Selection(1000, share)
    selection.note(torch.arange(1000), torch.cat([torch.full((700,), 0.1), torch.full((300,), 2.0)]))
    return selection


@pytest.mark.parametrize("selection", [scored(0.0), Selection(1000, 0.5)], ids=["no share", "no scores yet"])
def test_every_image_once(selection):
    chosen, weights = drawn(selection, 1)
    assert chosen.sort().values.equal(torch.arange(1000)) and (weights == 1).all()
    assert not chosen.equal(torch.arange(1000)) and not chosen.equal(drawn(selection, 1, seed=1)[0])


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_learned_images_are_left_out_and_others_stand_in(share):
    chosen, weights = drawn(scored(share), 3)
    easy = chosen < 700
    assert len(chosen.unique()) == len(chosen) and (~easy).sum() >= 300 - 9  # what is left beyond whole batches
    assert abs(int(easy.sum()) - 700 * (1 - share)) < 60
    assert (weights[~easy] == 1).all() and torch.allclose(weights[easy], torch.tensor(1 / (1 - share)))
    assert abs(float(weights.sum()) - 1000) < 150  # on average the gradient of all


def test_the_last_eighth_takes_all():
    assert [len(drawn(scored(0.5), epoch)[0]) == 1000 for epoch in (12, 13, 14, 15)] == [False, False, True, True]


def test_a_batch_larger_than_what_is_left_is_what_is_left():
    selection = Selection(4, 0.5)
    parts = selection.batches(0, 1, 10, torch.Generator())
    assert [len(chosen) for chosen, _ in parts] == [4]


def test_training_skips_resumes_to_the_same_bits_and_learns(tmp_path):
    data = load_dataset("digits")
    steps = []
    whole = train(data, SKIPPING.changed(epochs=16), progress=lambda done, of: steps.append((done, of)))
    assert (evaluate(whole.model, data.x_test).argmax(1) == data.y_test).mean() > 0.95
    usual = 16 * (len(data.x_train) // 128)
    assert steps[-1] == (usual, usual) and len(steps) < 0.9 * usual
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)

    def stop(epoch, loss):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, SKIPPING, tmp_path / "x.pt", after_epoch=stop)
    resumed = train(data, SKIPPING, tmp_path / "x.pt", resume=True)
    whole = train(data, SKIPPING)
    assert whole.losses == resumed.losses
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert load_trained(tmp_path / "x.pt").recipe.skip_easy == 0.5


def test_wrong_shares_and_checkpoints(tmp_path):
    data = load_dataset("digits")
    data = replace(data, x_train=data.x_train[:40], y_train=data.y_train[:40])
    for share in (-0.1, 0.95, np.nan):
        with pytest.raises(lc.DataError, match=r"skip_easy is .*, allowed is a number, 0 to 0.9"):
            train(data, SKIPPING.changed(skip_easy=share))
    path = tmp_path / "x.pt"
    train(data, SKIPPING.changed(epochs=1), path)
    state = torch.load(path, weights_only=True)
    for scores in (None, torch.zeros(3)):
        torch.save({name: value for name, value in (state | {"scores": scores}).items() if value is not None}, path)
        with pytest.raises(lc.DataError, match="does not fit its own recipe"):
            train(data, SKIPPING.changed(epochs=1), path, resume=True)
