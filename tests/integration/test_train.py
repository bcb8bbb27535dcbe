"""Training: resumes to the same bits, reads nothing that executes; data sets come in as they should."""

import os
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import lava_conv as lc
from lava_conv.errors import DataError
from lava_conv.qat import Quantisation, evaluate
from lava_conv.training.augmentation import augmented, cut_out, shifted
from lava_conv.training.data import Dataset, centred, load_dataset
from lava_conv.training.loop import CHECKPOINT_KEYS, load_trained, read_checkpoint, train
from lava_conv.training.recipe import Augmentation, Model, Optimiser, Recipe

QUICK = Recipe(epochs=3, batch=128)
TINY = Recipe(epochs=1, batch=10)


def weights(trained):
    return torch.cat([p.flatten() for p in trained.model.state_dict().values()])


def stop_after_one(epoch, loss):
    raise KeyboardInterrupt


def test_resume_gives_the_same_bits(tmp_path):
    data = load_dataset("digits")
    whole = train(data, QUICK)
    with pytest.raises(KeyboardInterrupt):
        train(data, QUICK, tmp_path / "x.pt", after_epoch=stop_after_one)
    resumed = train(data, QUICK, tmp_path / "x.pt", resume=True)
    assert torch.equal(weights(whole), weights(resumed)) and whole.losses == resumed.losses
    assert torch.equal(weights(load_trained(tmp_path / "x.pt")), weights(whole))


@pytest.fixture
def checkpoint(tmp_path):
    data = tiny()
    train(data, TINY, tmp_path / "x.pt")
    return tmp_path / "x.pt"


def tiny(name="tiny", size=8):
    x = np.random.default_rng(0).integers(0, 256, (20, 1, size, size), dtype=np.uint8)
    y = np.arange(20) % 3
    return Dataset(name, x, y, x, y)


def rewrite(path, change):
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


@pytest.mark.parametrize(
    ("data", "recipe", "message"),
    [
        (tiny(), TINY.changed(batch=5), r"another recipe .*\(batch 10, now 5\); choose"),
        (tiny(), TINY.changed(epochs=2, lr=0.5), r"\(lr 0.002, now 0.5; epochs 1, now 2\)"),
        (tiny("other"), TINY, r"\(data tiny, now other\)"),
        (tiny(size=12), TINY, r"\(images of \(1, 8, 8\), now \(1, 12, 12\)\)"),
    ],
)
def test_resume_refuses_another_run(checkpoint, data, recipe, message):
    before = checkpoint.read_bytes()
    with pytest.raises(lc.DataError, match=message):
        train(data, recipe, checkpoint, resume=True)
    assert checkpoint.read_bytes() == before


def test_checkpoint_of_an_older_release(checkpoint):
    """Fields that the recipe has got since have their defaults."""
    rewrite(checkpoint, lambda state: [state["recipe"].pop(name) for name in ("rotate", "scale")])
    assert load_trained(checkpoint).recipe == TINY
    assert train(tiny(), TINY, checkpoint, resume=True).losses == load_trained(checkpoint).losses
    with pytest.raises(lc.DataError, match=r"\(rotate 0.0, now 5.0\)"):
        train(tiny(), TINY.changed(rotate=5.0), checkpoint, resume=True)


VERSION_0_1 = {  # the recipe of a checkpoint, as asdict gave it
    "model": "digits", "k": 0, "epochs": 40, "batch": 64, "lr": 2e-3, "shift": 1, "smoothing": 0.0, "seed": 0,
    "method": "zou", "levels": 16, "rotate": 0.0, "scale": 0.0, "encoder_levels": 4, "start": "", "unroll": 0,
    "n_max": 0, "crop": 0, "flip": False, "bf16": False, "width": 0, "optimiser": "adam", "decay": 0.0, "warmup": 0,
    "power_of_two": False, "step_max": 0, "clip": True, "skip_easy": 0.0, "spike_penalty": 0.0, "late_penalty": 0.0,
    "weight_bits": 8, "cutout": 0, "dropout": 0.0, "teachers": (), "distill": 0.7, "temperature": 2.0,
    "one_output": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("old", "recipe"),
    [
        ({}, Recipe()),
        ({"method": "gao", "levels": 4, "k": 1, "lr": 4e-3},  # k was ignored
         Recipe(quantisation=Quantisation("ca_lif", levels=4), optimiser=Optimiser(lr=4e-3))),
        ({"method": "gao", "power_of_two": True, "step_max": 64, "weight_bits": 4, "rotate": 10},
         Recipe(quantisation=Quantisation("ca_lif", power_of_two=True, step_max=64, weight_bits=4),
                augmentation=Augmentation(rotate=10))),
        ({"method": "float", "levels": 8, "power_of_two": True, "model": "lenet", "optimiser": "sgd"},  # ignored, too
         Recipe(quantisation=None, model=Model("lenet"), optimiser=Optimiser("sgd"))),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_checkpoint_of_version_0_1_loads_and_resumes(tmp_path, old, recipe):
    recipe, old = recipe.changed(epochs=2, batch=10), VERSION_0_1 | old | {"epochs": 2, "batch": 10}
    whole = train(tiny(), recipe)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), recipe, tmp_path / "x.pt", after_epoch=stop_after_one)
    rewrite(tmp_path / "x.pt", lambda state: state.update(recipe=old))
    assert load_trained(tmp_path / "x.pt").recipe == recipe
    resumed = train(tiny(), recipe, tmp_path / "x.pt", resume=True)
    assert torch.equal(weights(whole), weights(resumed)) and whole.losses == resumed.losses
    written = torch.load(tmp_path / "x.pt", weights_only=True)["recipe"]
    assert written.keys() == VERSION_0_1.keys() and written["method"] in ("dynamic_threshold", "ca_lif", "float")
    assert load_trained(tmp_path / "x.pt").recipe == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *[(lambda state, key=key: state.pop(key), f"lacks {key};") for key in CHECKPOINT_KEYS],
        (lambda state: [state.pop(key) for key in ("rng", "data")], "lacks data, rng;"),
        (lambda state: state.update(version=2), "no checkpoint of this release"),
        (
            lambda state: state["recipe"].update(colour=1),
            r"recipe is not of this release \(it has no option colour; allowed are model, width",
        ),
        (lambda state: state.update(recipe=[3]), "the checkpoint is damaged at recipe"),
    ],
)
def test_incomplete_checkpoint(checkpoint, change, message):
    rewrite(checkpoint, change)
    with pytest.raises(lc.DataError, match=message):
        read_checkpoint(checkpoint)


def test_checkpoint_of_another_model(checkpoint):
    rewrite(checkpoint, lambda state: state.update(model={}))
    for call in (lambda: load_trained(checkpoint), lambda: train(tiny(), TINY, checkpoint, resume=True)):
        with pytest.raises(lc.DataError, match="does not fit its own recipe") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_checkpoint_is_written_whole_with_the_umask_mode(tmp_path, monkeypatch):
    before = os.umask(0o027)
    try:
        train(tiny(), TINY, tmp_path / "x.pt")
    finally:
        os.umask(before)
    assert (tmp_path / "x.pt").stat().st_mode & 0o777 == 0o640
    written = (tmp_path / "x.pt").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(lc.DataError, match=r"cannot be written .*No space left"):
        train(tiny(), TINY.changed(seed=1), tmp_path / "x.pt")
    assert (tmp_path / "x.pt").read_bytes() == written and os.listdir(tmp_path) == ["x.pt"]


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta"])
def test_wrong_device(device):
    with pytest.raises(lc.BackendError, match=f"device '{device}' is not to be had") as caught:
        train(tiny(), TINY, device=device)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(50)])
def test_damaged_checkpoint(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(lc.DataError, match=r"not a readable checkpoint|is an empty file"):
        load_trained(tmp_path / "x.pt")
    with pytest.raises(lc.DataError, match="no such checkpoint"):
        load_trained(tmp_path / "y.pt")


def test_checkpoint_executes_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"version": 1, "model": Evil()}, tmp_path / "x.pt")
    with pytest.raises(lc.DataError):
        load_trained(tmp_path / "x.pt")
    assert not (tmp_path / "owned").exists()


class Program(torch.nn.Module):
    """As TorchScript it makes a file when it is loaded."""

    path: str

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    @torch.jit.export
    def __getstate__(self):
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.path, self.training = state[0], state[1]
        torch.from_file(state[0], True, 4)

    def forward(self, x):
        return x


def test_programs_are_no_checkpoints(tmp_path):
    """torch.load runs TorchScript, and unpacks tar files, in spite of weights_only before torch 2.6."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.save(torch.jit.script(Program(str(tmp_path / "owned"))), str(tmp_path / "x.pt"))
        with pytest.raises(lc.DataError, match=r"not a readable checkpoint \(a TorchScript archive"):
            load_trained(tmp_path / "x.pt")
    torch.save({"version": 1}, tmp_path / "y.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(lc.DataError, match=r"not a readable checkpoint \(no zip file"):
        load_trained(tmp_path / "y.pt")
    assert not (tmp_path / "owned").exists()


def test_training_begins_with_given_weights(tmp_path):
    data = load_dataset("digits")
    train(data, QUICK, tmp_path / "a.pt")
    first = Recipe.flat(epochs=1, batch=128, lr=1e-6, start=str(tmp_path / "a.pt"), encoder_levels=2)
    tuned = train(data, first)
    assert tuned.losses[0] < load_trained(tmp_path / "a.pt").losses[-1] * 1.5 < QUICK.epochs
    assert tuned.model.get_submodule("2").n_max == 2
    with pytest.raises(lc.DataError, match="weights are of another network"):
        train(data, Recipe.flat(model="lenet", epochs=1, start=str(tmp_path / "a.pt")))


@pytest.mark.parametrize("model", ["digits", "lenet", "resnet20"])
@pytest.mark.parametrize("before", ["float", "dynamic_threshold", "ca_lif"])
def test_training_begins_with_the_weights_of_any_method(tmp_path, model, before):
    data = tiny()
    width = {"width": 4} if model == "resnet20" else {}
    path = tmp_path / "a.pt"
    start = train(data, TINY.changed(model=model, method=before, **width), path).model.state_dict()
    for method in ("dynamic_threshold", "ca_lif"):
        tuned = train(data, TINY.changed(model=model, method=method, lr=1e-12, start=str(path), **width))
        found, equal = tuned.model.state_dict(), 0
        for name, value in found.items():
            source = start.get(f"1.{name}" if before == "float" else name)
            if source is None:
                assert name.rpartition(".")[2] in ("step", "step_ready") and before != "ca_lif"
            elif name.endswith("weight"):
                assert torch.allclose(value, source, atol=1e-9)
                equal += 1
        assert equal > 3


def test_augmentation_keeps_images_and_follows_its_generator():
    x = torch.rand(6, 1, 8, 8) * 255
    options = Augmentation(shift=1, rotate=20, scale=0.2)
    one, two = (augmented(x, options, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, two) and one.shape == x.shape and not torch.equal(one, x)
    assert one.min() >= 0 and one.max() <= 255
    assert torch.equal(augmented(x, Augmentation(shift=0), torch.Generator()), x)


@pytest.mark.parametrize("options", [{"method": "ca_lif", "levels": 8}, {"k": 1}])
def test_both_methods_train_to_exact_integers(options):
    data = load_dataset("digits")
    trained = train(data, Recipe.flat(epochs=6, **options))
    graph = lc.convert(trained.model, data.x_train[:16], steps=16)
    reference = graph.reference(data.x_test)
    assert np.array_equal(reference.predictions[0], evaluate(trained.model, data.x_test).argmax(1))
    assert reference.accuracy(data.y_test)[0] > 0.95
    record = lc.run(graph, data.x_test, steps=32)
    assert all(np.array_equal(record.counts[i], c) for i, c in reference.counts.items())


def test_shifts_move_whole_pixels():
    x = torch.arange(2 * 1 * 4 * 4, dtype=torch.float32).reshape(2, 1, 4, 4) + 1
    seen = set()
    for seed in range(40):
        moved = shifted(x, 1, torch.Generator().manual_seed(seed))
        rows, columns = torch.nonzero(moved[0, 0] == 6)[0].tolist()
        seen.add((rows, columns))
        assert abs(rows - 1) <= 1 and abs(columns - 1) <= 1
    assert len(seen) == 9


def test_a_hole_is_a_whole_square_of_the_mean_anywhere():
    x = torch.arange(2 * 2 * 5 * 5, dtype=torch.float32).reshape(2, 2, 5, 5)
    x[:, :, 2, 2] += 0.25  # no pixel is the mean
    places = set()
    for seed in range(60):
        holed = cut_out(x, 3, torch.Generator().manual_seed(seed))
        hidden = holed != x
        assert torch.equal(hidden[:, 0], hidden[:, 1]) and (hidden.sum((2, 3)) == 9).all()
        mean = x.mean((2, 3), keepdim=True).expand_as(x)
        assert torch.equal(holed[hidden], mean[hidden])
        top, left = torch.nonzero(hidden[0, 0])[0].tolist()
        assert hidden[0, 0, top : top + 3, left : left + 3].all()
        places.add((top, left))
    assert len(places) == 9
    options = Augmentation(shift=0, cutout=3)
    assert torch.equal(augmented(x, options, torch.Generator().manual_seed(59)), holed)


def test_digits_are_split_by_class_and_seed():
    a, b = load_dataset("digits", seed=0), load_dataset("digits", seed=1)
    assert a.x_train.shape == (1437, 1, 8, 8) and a.x_test.dtype == np.uint8 and a.x_test.max() == 240
    assert np.bincount(a.y_test).min() >= 34 and not np.array_equal(a.x_test, b.x_test)


def test_npz(tmp_path, monkeypatch):
    x, y = np.zeros((6, 8, 8, 3), np.uint8), np.arange(6) % 3
    x[:, 0, 0, 2] = 7
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y[:, None], x_test=x[:2], y_test=y[:2])
    monkeypatch.setenv("LAVA_CONV_DATA", str(tmp_path))
    for data in (load_dataset("mnist"), load_dataset(str(tmp_path / "mnist.npz"))):
        assert data.shape == (3, 8, 8) and data.x_train[0, 2, 0, 0] == 7 and data.classes == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": np.zeros((6, 8, 8))}, "dtype float64"),
        ({"x_train": np.zeros((6, 8), np.uint8)}, "shape"),
        ({"y_test": np.zeros(3, int)}, "needed are 2 integers"),
        ({"y_test": -np.ones(2, int)}, "needed are 2 integers"),
        ({"x_test": np.zeros((2, 9, 9), np.uint8)}, "x_test of"),
        ({"x_test": None}, "lacks x_test"),
    ],
)
def test_wrong_npz(tmp_path, change, message):
    x, y = np.zeros((6, 8, 8), np.uint8), np.zeros(6, int)
    arrays = {"x_train": x, "y_train": y, "x_test": x[:2], "y_test": y[:2]} | change
    np.savez(tmp_path / "a.npz", **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(lc.DataError, match=message):
        load_dataset(str(tmp_path / "a.npz"))


def test_unknown_and_corrupt_sets(tmp_path):
    with pytest.raises(lc.DataError, match="'imagenet'"):
        load_dataset("imagenet")
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(lc.DataError, match="not a readable"):
        load_dataset(str(tmp_path / "a.npz"))
    with pytest.raises(lc.DataError, match="no such file"):
        load_dataset(str(tmp_path / "b.npz"))


@pytest.mark.parametrize("stored", [True, False])
def test_torchvision_loads_each_part_once(tmp_path, monkeypatch, stored):
    calls = []

    def mnist(root, train, download):
        calls.append((train, download))
        if not stored and not download:
            raise RuntimeError("Dataset not found. You can use download=True to download it")
        return SimpleNamespace(data=torch.zeros((4, 28, 28), dtype=torch.uint8), targets=torch.arange(4))

    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(datasets=SimpleNamespace(MNIST=mnist)))
    assert load_dataset("mnist", tmp_path).shape == (1, 28, 28)
    tries = (False,) if stored else (False, True)
    assert calls == [(train, download) for train in (True, False) for download in tries]


@pytest.mark.parametrize("seeds", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_digits_reach_98_percent_at_four_steps(seeds):
    """All integer, mean over seeds (split and training), T = 4."""
    accuracies = []
    for seed in range(seeds):
        data = load_dataset("digits", seed=seed)
        graph = lc.convert(train(data, Recipe(seed=seed)).model, data.x_train[:16], steps=4)
        accuracies.append(lc.run(graph, data.x_test).accuracy(data.y_test)[-1])
    print(f"digits, T = 4, {seeds} seeds:", np.round(accuracies, 4), "mean", np.mean(accuracies).round(4))
    assert np.mean(accuracies) >= 0.98


def test_crop_and_flip_resume_to_the_same_weights(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (40, 3, 12, 12), dtype=np.uint8), rng.integers(0, 3, 40)
    data = Dataset("twelve", x, y, x[:8], y[:8])
    recipe = Recipe.flat(model="digits", epochs=2, batch=20, crop=8, flip=True, bf16=True)
    whole = train(data, recipe)
    assert whole.shape == (3, 8, 8)
    with pytest.raises(KeyboardInterrupt):
        train(data, recipe, tmp_path / "a.pt", after_epoch=stop_after_one)
    again = train(data, recipe, tmp_path / "a.pt", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True))
    with pytest.raises(DataError, match="crop is 13, allowed is 0"):
        train(data, recipe.changed(crop=13))


def test_crops_come_from_everywhere_and_half_are_mirrored():
    x = torch.arange(36.0).reshape(1, 1, 6, 6).repeat(4000, 1, 1, 1)
    seen = augmented(x, Augmentation(shift=0, crop=4, flip=True), torch.Generator().manual_seed(0))
    assert seen.shape == (4000, 1, 4, 4)
    mirrored = seen[:, 0, 0, 0] > seen[:, 0, 0, 1]
    assert 0.45 < mirrored.float().mean() < 0.55
    corners = torch.where(mirrored, seen[:, 0, 0, 3], seen[:, 0, 0, 0])
    assert set(corners.tolist()) == {6.0 * i + j for i in range(3) for j in range(3)}


def test_centred_cuts_the_middle_and_leaves_small_images_alone():
    x = np.arange(72, dtype=np.uint8).reshape(1, 2, 6, 6)
    assert np.array_equal(centred(x, (2, 4, 2)), x[:, :, 1:5, 2:4])
    assert centred(x, (2, 6, 6)) is x and centred(x, (2, 8, 8)) is x


def test_float_training_and_what_it_refuses(tmp_path):
    data = load_dataset("digits")
    recipe = Recipe.flat(method="float", epochs=3, optimiser="sgd", lr=0.05, decay=5e-4, warmup=1)
    trained = train(data, recipe, tmp_path / "f.pt")
    assert trained.losses[-1] < trained.losses[0]
    with torch.no_grad():
        right = trained.model(torch.tensor(data.x_test)).argmax(1).numpy() == data.y_test
    assert right.mean() > 0.85
    again = load_trained(tmp_path / "f.pt")
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), trained.model.parameters(), strict=True))
    half = train(data, recipe, tmp_path / "g.pt", after_epoch=None)
    assert all(torch.equal(a, b) for a, b in zip(half.model.parameters(), trained.model.parameters(), strict=True))
    with pytest.raises(lc.DataError, match="train: optimiser is 'lion', allowed is 'adam' or 'sgd'"):
        train(data, Recipe.flat(optimiser="lion", epochs=1))
    with pytest.raises(lc.DataError, match="model digits has no width"):
        train(data, Recipe.flat(method="float", width=8, epochs=1))
    with pytest.raises(lc.DataError, match="model digits has no width"):
        train(data, Recipe.flat(width=8, epochs=1))
