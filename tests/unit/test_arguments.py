"""What stands for a model or for images: unwrapped to the same values, or refused by what it is."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lava_conv as lc
from lava_conv.arguments import images_of, model_of
from lava_conv.errors import GROUPS, Problem, grouped, one_line
from lava_conv.training.data import load_dataset


@pytest.fixture
def model():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(8), nn.Linear(8, 2)
    model = nn.Sequential(*layers)
    model(torch.rand(9, 1, 4, 4))  # statistics other than those of a fresh one
    return model.eval()


WRAPPED = {
    "DataParallel": nn.DataParallel,
    "compiled": torch.compile,
    "averaged": torch.optim.swa_utils.AveragedModel,
    "several": lambda m: torch.compile(torch.optim.swa_utils.AveragedModel(nn.DataParallel(m))),
    "inside": lambda m: nn.Sequential(torch.compile(m[:3]), nn.DataParallel(m[3:])),
    "SyncBatchNorm": lambda m: nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(m)),
}


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("training", [False, True])
def test_a_wrapped_model_computes_the_same(model, kind, training):
    wrapped = WRAPPED[kind](model).train(training)
    before = [type(m) for m in wrapped.modules()]
    found = model_of(wrapped)
    assert {type(m) for m in found.modules()} <= {type(m) for m in model.modules()}
    assert [type(m) for m in wrapped.modules()] == before, "what was passed is not changed"
    assert found.training == training
    x = torch.rand(5, 1, 4, 4)
    wanted = model.train(training)(x)
    assert torch.equal(copy.deepcopy(found)(x), wanted)


def test_a_plain_model_is_given_back(model):
    assert model_of(model) is model


def lazy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that lazy modules are new
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))


NO_MODEL = {
    "a state dict": (lambda m: m.state_dict(), "state dict of 14 entries.*network.load_state_dict"),
    "a checkpoint": (lambda m: {"state_dict": m.state_dict(), "epoch": 3}, "a dictionary of 2 entries"),
    "a dictionary with the network": (lambda m: {"model": m}, r"pass that, checkpoint\['model'\]"),
    "a path": (lambda m: "a.pt", "is the path 'a.pt'; pass the network itself"),
    "a class": (lambda m: nn.Sequential, r"is the class Sequential; pass a network made of it, Sequential\(...\)"),
    "scripted": (torch.jit.script, "TorchScript module.*pass the nn.Module that was scripted"),
    "traced": (lambda m: torch.jit.trace(m, torch.rand(1, 1, 4, 4)), "TorchScript module"),
    "scripted inside": (lambda m: nn.Sequential(torch.jit.script(m)), "0 of the model is a TorchScript module"),
    "lazy": (lambda m: lazy(), "1 of the model is a LazyLinear without weights.*call the model on one batch"),
    "without values": (lambda m: nn.Linear(2, 2, device="meta"), "on the device 'meta'.*load its weights"),
    "images": (lambda m: torch.rand(1, 1, 4, 4), "pass the network first, then the images"),
    "an array": (lambda m: np.zeros(3), "pass the network first, then the images"),
    "None": (lambda m: None, "is of type NoneType, needed is a torch.nn.Module"),
    "a function": (lambda m: m.forward, "is of type method, needed is a torch.nn.Module"),
}


@pytest.mark.parametrize("kind", NO_MODEL)
def test_what_is_no_model_is_refused(model, kind):
    make, message = NO_MODEL[kind]
    with pytest.raises(lc.ConversionError, match=message):
        model_of(make(model))


IMAGES = np.arange(2 * 16, dtype=np.uint8).reshape(2, 1, 4, 4)
SAME = {
    "backwards": lambda x: x[::-1].copy()[::-1],
    "mirrored": lambda x: x[..., ::-1].copy()[..., ::-1],
    "foreign byte order": lambda x: x.astype(">u2"),
    "uint16": lambda x: x.astype(np.uint16),
    "float16": lambda x: x.astype(np.float16),
    "long double": lambda x: x.astype(np.longdouble),
    "a list": list,
    "numbers": lambda x: x.tolist(),
    "a list of tensors": lambda x: [torch.tensor(image) for image in x],
    "a tensor": torch.tensor,
    "bfloat16": lambda x: torch.tensor(x).bfloat16(),
    "with gradient": lambda x: torch.tensor(x).double().requires_grad_(),
    "transposed": lambda x: torch.tensor(x.transpose(1, 0, 2, 3).copy()).transpose(0, 1),
    "masked nowhere": np.ma.array,
}


@pytest.mark.parametrize("kind", SAME)
def test_images_in_any_form_are_the_same(kind):
    given = SAME[kind](IMAGES)
    found = images_of(given)
    assert torch.equal(found.double(), torch.tensor(IMAGES).double()) and not found.requires_grad
    assert found.numpy().flags.writeable


def test_images_that_cannot_be_written_to_stay_as_they_are():
    fixed = IMAGES.copy()
    fixed.flags.writeable = False
    images_of(fixed).zero_()
    assert np.array_equal(fixed, IMAGES)


NO_IMAGES = {
    "a loader": (lambda x: DataLoader(TensorDataset(torch.tensor(x))), r"next\(iter\(loader\)\)"),
    "a torch data set": (lambda x: TensorDataset(torch.tensor(x)), "pass a stack of its images"),
    "a data set": (lambda x: load_dataset(), r"data.x_train\[:256\]"),
    "a path": (lambda x: "a.png", "is the path 'a.png'; load it"),
    "paths": (lambda x: ["a.png", "b.png"], "a list of paths"),
    "a dictionary": (lambda x: {"x_train": x, "x_test": x}, "a dictionary of x_train, x_test"),
    "a batch": (lambda x: (x, np.arange(2)), r"a batch of images and labels; pass the images alone, batch\[0\]"),
    "None": (lambda x: None, "is None"),
    "nothing": (lambda x: [], "is empty"),
    "no image": (lambda x: x[:0], r"shape \(0, 1, 4, 4\); pass one image at least"),
    "a number": (lambda x: 3, r"shape \(\); pass one image"),
    "booleans": (lambda x: x > 3, r"dtype bool.*pass uint8 images, x \* 255"),
    "a tensor of booleans": (lambda x: torch.tensor(x > 3), "dtype bool"),
    "complex": (lambda x: x.astype(complex), "dtype complex128; pass an array of numbers"),
    "text": (lambda x: x.astype(str), "dtype <U"),
    "objects": (lambda x: x.astype(object), "dtype object"),
    "NaN": (lambda x: np.full(x.shape, np.nan), "hold NaN or infinity"),
    "different sizes": (lambda x: [x[0], x[1, :, :2]], "of different shapes"),
    "a network": (lambda x: nn.Linear(2, 2), "pass the network first, then the images"),
    "an iterator": (iter, "pass an array of images"),
    "masked": (lambda x: np.ma.masked_less(x, 3), r"masked at some places.*images.filled\(0\)"),
}


@pytest.mark.parametrize("kind", NO_IMAGES)
def test_what_is_no_images_is_refused(kind):

    make, message = NO_IMAGES[kind]
    with pytest.raises(lc.DataError, match=f"^example .*{message}"):
        images_of(make(IMAGES), "example")


# -- many problems ----------------------------------------------------------------------------------------------------


def test_problems_with_one_remedy_are_one_clause():
    many = [Problem(f"act{i}", "is a PReLU", "use nn.ReLU") for i in range(538)]
    assert grouped(many) == "act0, act1, act2 and 535 more (538 in all): each is a PReLU; use nn.ReLU"
    assert grouped(many[:3]) == "act0, act1 and act2: each is a PReLU; use nn.ReLU"
    assert grouped(many[:1]) == "act0 is a PReLU; use nn.ReLU"


def test_different_problems_are_numbered():
    found = grouped([Problem("a", "is a PReLU", "use nn.ReLU"), Problem("b", "is an LSTM", "leave it out"),
                     Problem("c", "is an ELU", "use nn.ReLU")])  # fmt: skip
    assert found == "(1) a is a PReLU and c is an ELU; use nn.ReLU; (2) b is an LSTM; leave it out"
    kinds = [Problem(f"p{i}", "is odd", f"remedy {i}") for i in range(GROUPS + 4)]
    assert grouped(kinds).endswith("and 4 more problems of other kinds; solve these first")


def test_foreign_words_are_cut_between_words():
    assert one_line(ValueError("first line\n  second")) == "first line second"
    assert one_line(ValueError()) == "ValueError"
    assert one_line("word " * 100, 23) == "word word word word ..."
    assert one_line("x" * 100, 10) == "x" * 10 + " ..."


# -- the default dtype ------------------------------------------------------------------------------------------------


@pytest.fixture
def double():
    """`torch.set_default_dtype(torch.float64)`, called from within the test."""
    yield lambda: torch.set_default_dtype(torch.float64)
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("method", ["light", "advanced", "distilled"])
def test_calibration_is_the_same_whatever_the_default_dtype(method, rng, double):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4))
    x = rng.integers(0, 256, (40, 1, 6, 6), dtype=np.uint8)
    wanted = lc.calibrate(model, x, 6, method, iterations=3)
    double()
    assert lc.calibrate(model, x, 6, method, iterations=3) == wanted
    assert torch.get_default_dtype() == torch.float64


@pytest.mark.parametrize("options", [{"method": "dynamic_threshold"}, {"method": "ca_lif", "levels": 6}], ids=str)
def test_training_in_double_converts_to_what_was_trained(options, rng, double):
    double()
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4)
    model = lc.qat.prepare(nn.Sequential(*layers), **options)
    x = rng.integers(0, 256, (40, 1, 6, 6), dtype=np.uint8)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(torch.tensor(x).double()), torch.arange(40) % 4).backward()
        optimiser.step()
    graph = lc.convert(model, x)
    assert np.array_equal(graph.reference(x).predictions[0], lc.qat.evaluate(model, x).argmax(1))


def test_errors_within_a_traced_model_keep_their_words(rng):
    layers = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)
    model = nn.Sequential(*layers).eval()  # its normalisation has seen nothing
    with pytest.raises(lc.DataError, match="times the variance that the model was trained with") as caught:
        lc.calibrate(model, rng.integers(0, 256, (20, 1, 4, 4), dtype=np.uint8))
    assert "While executing" not in str(caught.value) and "\n" not in str(caught.value)


def test_every_backend_has_the_signature_of_the_protocol():
    import importlib
    import inspect
    import typing

    from lava_conv.backends import BACKENDS
    from lava_conv.backends.protocol import Backend, Options
    from lava_conv.errors import BackendError

    asked = list(inspect.signature(Backend.__call__).parameters.values())[1:]
    own: dict[str, object] = {}
    checked = 0
    for module, name in BACKENDS.values():
        try:
            function = getattr(importlib.import_module(module), name)
        except BackendError as error:  # Lava is optional
            assert "not installed" in str(error)
            continue
        given = list(inspect.signature(function).parameters.values())
        assert [p.name for p in given[: len(asked)]] == [p.name for p in asked]
        assert all(p.kind == p.KEYWORD_ONLY and p.default is not p.empty for p in given[3:])
        assert all(inspect.signature(function).parameters[p.name].annotation == p.annotation for p in asked[3:])
        kinds = typing.get_type_hints(function)
        for p in given[len(asked) :]:
            assert own.setdefault(p.name, kinds[p.name]) == kinds[p.name], f"{p.name} means two things"
        checked += 1
    assert checked
    if checked == len(BACKENDS):
        assert typing.get_type_hints(Options, localns={"torch": torch}) == own
