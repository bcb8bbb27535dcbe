"""Whatever way a model is written and used: the quantised network is of the function it computes, or it is refused."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from nets import assert_exact, images, lively
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

import lava_conv as lc
from lava_conv import qat
from lava_conv.frontends import gate
from lava_conv.frontends.effective import effective
from lava_conv.frontends.module import open_model
from lava_conv.frontends.operations.activation import Quantise
from lava_conv.frontends.operations.image import Image
from lava_conv.frontends.operations.weights import Convolution
from lava_conv.frontends.program import Program, Step
from lava_conv.frontends.tracing import trace
from lava_conv.network.fixedpoint import TIE
from lava_conv.qat.layers import Int8Conv2d, LearnedStep, Readout

SHAPE = (1, 8, 8)


def plain(*inner):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), *inner, nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


class Double(nn.Module):
    def forward(self, weight):
        return 2 * weight


WEIGHTS = {
    "spectral_norm": spectral_norm,
    "weight_norm": weight_norm,
    "prune": lambda m: prune.l1_unstructured(m, "weight", 0.5),
    "parametrised spectral_norm": parametrizations.spectral_norm,
    "parametrised weight_norm": parametrizations.weight_norm,
    "parametrisation": lambda m: parametrize.register_parametrization(m, "weight", Double()),
    "of the bias": lambda m: parametrize.register_parametrization(m, "bias", Double()),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("name", WEIGHTS)
def test_the_computed_weight_counts_not_the_stored_one(name):
    """After load_state_dict `.weight` of the older hooks is that of the last forward pass."""
    model = plain()
    WEIGHTS[name](model[0])
    model.train()(torch.randn(2, *SHAPE))
    state = {key: value + 0.1 if value.is_floating_point() else value for key, value in model.state_dict().items()}
    model.load_state_dict(state)
    prepared = qat.prepare(model, "ca_lif")
    twin = effective(model)
    model.eval()(torch.randn(2, *SHAPE))
    assert torch.equal(prepared.get_submodule("0").weight, model[0].weight)
    assert torch.equal(twin[0].bias, model[0].bias) and twin.training, "modes and the rest are as they were"
    assert type(twin[0]) is nn.Conv2d
    model(torch.randn(2, *SHAPE))  # the user's own model is as it was


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("name", ["prune", "parametrisation"])
def test_computed_weights_of_a_quantised_model_convert(name):
    model = qat.prepare(plain(), "ca_lif", levels=8)
    WEIGHTS[name](model.get_submodule("0"))
    model.train()(torch.from_numpy(images(SHAPE, 16)))
    assert_exact(model, SHAPE, 24)


class InPlace(nn.Module):
    """Each way to change a tensor that has another name; `written` is the same function without."""

    def __init__(self, way, written=False):
        super().__init__()
        torch.manual_seed(0)
        self.way, self.written = way, written
        self.a, self.b, self.last = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(144, 3)
        self.relu, self.same = nn.ReLU(inplace=not written), nn.Identity()

    def forward(self, x):
        x = self.a(x)
        if self.written:
            x = functional.relu(x)
            y = self.b(x)
            return self.last(torch.flatten(functional.relu(y + x), 1))
        y = x if self.way != "identity" else self.same(x)
        if self.way in ("module", "identity"):
            y = self.relu(y)
        elif self.way == "method":
            y = y.relu_()
        elif self.way == "function":
            y = functional.relu(y, inplace=True)
        elif self.way == "clamp_":
            y.clamp_(0)
        z = self.b(y)
        total = z
        total += x  # z is total, too
        return self.last(torch.flatten(functional.relu(z), 1))


@pytest.mark.parametrize("way", ["module", "identity", "method", "function", "clamp_"])
def test_in_place_operations_reach_every_name_of_their_tensor(way):
    model, written = InPlace(way), InPlace(way, written=True)
    x = torch.randn(4, *SHAPE)
    torch.testing.assert_close(model(x.clone()), written(x))
    options = {"method": "ca_lif", "levels": 8}
    one, two = (lively(qat.prepare(m, **options), SHAPE) for m in (model, written))
    x = images(SHAPE, 32)
    assert np.array_equal(qat.evaluate(one, x), qat.evaluate(two, x))
    assert_exact(one, SHAPE, 24)


class OfAView(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.last = nn.Conv2d(1, 4, 3), nn.Linear(144, 3)

    def forward(self, x):
        x = self.a(x)
        y = x.flatten(1)
        y.relu_()
        return self.last(y + x.flatten(1))


def test_in_place_through_another_view_is_refused_by_name():
    with pytest.raises(lc.ConversionError, match="uses a, whose memory relu_ changed in place through another view"):
        qat.prepare(OfAView())


def test_a_traced_in_place_operation_gives_what_the_model_gives():
    class Odd(nn.Module):
        def forward(self, x):
            y = x
            x *= 2
            z = x + y
            y -= 1
            z.sub_(x)
            return z * y

    x = torch.randn(3, 4)
    assert torch.equal(trace(Odd(), lambda m: False)(x.clone()), Odd()(x.clone()))


class Depth(nn.Module):
    """Leaves its second convolution out now and then while it trains."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.last = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(144, 3)

    def forward(self, x):
        y = torch.relu(self.a(x))
        if not (self.training and random.random() < 1.0):
            y = torch.relu(self.b(y) + y)
        return self.last(y.flatten(1))


def test_models_are_read_in_evaluation_and_keep_their_modes():
    model = Depth().train()
    model.a.eval()
    prepared = qat.prepare(model, "ca_lif")
    assert "b" in dict(prepared.named_modules()) and prepared.training and not prepared.a.training
    assert model.training and not model.a.training
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), Dropping(), nn.Flatten(), nn.Linear(144, 3)).eval()
    with pytest.raises(lc.ConversionError, match=r"calls dropout; it drops values in evaluation mode, too"):
        qat.prepare(model)


class Dropping(nn.Module):
    def forward(self, x):
        return functional.dropout(x, 0.5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["0.weight", "3.bias", "1.running_var"])
def test_what_is_not_finite_is_refused_by_name(name, value):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    model.insert(2, nn.ReLU())
    name = name.replace("3.", "4.")
    dict((*model.named_parameters(), *model.named_buffers()))[name].data.view(-1)[1] = value
    for front in (qat.prepare, lambda m: lc.calibrate(m, images(SHAPE, 8), steps=4)):
        with pytest.raises(lc.ConversionError, match=rf"NaN or infinity in {name} \(1 of"):
            front(model)
    prepared = lively(qat.prepare(plain(), "ca_lif"), SHAPE)
    prepared.get_submodule("3").bias.data[0] = value
    with pytest.raises(lc.ConversionError, match=r"NaN or infinity in 3.bias \(1 of 3 values\)"):
        lc.convert(prepared, images(SHAPE, 4))


class Standardised(nn.Conv2d):
    def _conv_forward(self, input, weight, bias):
        return super()._conv_forward(input, weight - weight.mean(), bias)


def hooked(model):
    model[0].register_forward_hook(lambda module, args, given: given + 1)


def pre_hooked(model):
    model[1].register_forward_pre_hook(lambda module, args: (args[0] - 3,))


def around_all(model):
    model.register_forward_hook(lambda module, args, given: -given)


def replaced(model):
    model[0].forward = lambda x: functional.conv2d(x, -model[0].weight)


def replaced_part(model):
    model[0]._conv_forward = lambda x, weight, bias: functional.conv2d(x, -weight)


DIFFERENT = {hooked: "0", pre_hooked: "1", around_all: "the output", replaced: "0", replaced_part: "0"}


@pytest.mark.parametrize("change", DIFFERENT, ids=lambda f: f.__name__)
def test_code_outside_converted_layers_is_refused_by_layer(change):
    model = plain()
    change(model)
    with pytest.raises(lc.ConversionError, match=rf"prepare: {DIFFERENT[change]}( \(or .*\))? differs from the model"):
        qat.prepare(model)
    quantised = nn.Sequential(Int8Conv2d(1, 4, 3), LearnedStep(8, step=200.0), nn.Flatten(), Readout(144, 3))
    quantised[3].source = (quantised[1],)
    lc.convert(quantised, images(SHAPE, 4))
    change(quantised)
    if change is not around_all:
        with pytest.raises(lc.ConversionError, match=r"convert: .*(differs from the model|counts)"):
            lc.convert(quantised, images(SHAPE, 4))


def test_hooks_that_only_look_are_no_difference():
    model, seen = plain(), []
    model[0].register_forward_hook(lambda module, args, given: seen.append(given.shape))
    model[0].register_full_backward_hook(lambda module, given, wanted: None)
    qat.prepare(model)
    assert seen


def test_a_forward_replaced_on_the_model_is_the_function():
    def backwards(self, x):
        return nn.Sequential.forward(self, x.flip(3))

    model, other = plain(), plain()
    model.forward = backwards.__get__(model)
    with pytest.raises(lc.ConversionError, match="flip calls flip"):
        qat.prepare(model)
    other.forward = lambda x: other[4](other[3](other[1](other[0](x))))
    with pytest.raises(lc.ConversionError):
        qat.prepare(other)


def program_with(program, name, **changes):
    """The same Program, one operation changed."""
    steps = [
        replace(step, operation=replace(step.operation, **changes)) if step.place == name else step
        for step in program.steps
    ]
    return gate.Candidate.of_program(replace(program, steps=tuple(steps)))


def test_counts_that_flip_by_float32_rounding_are_told_apart():
    """A quantiser of counts beyond the model's own is refused; a flip next to a threshold is counted."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), LearnedStep(8, step=0.1)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([0.05 * (1 + 2e-7), 0.3]).reshape(2, 1, 1, 1))
    conv = Convolution(
        np.ones((2, 1, 1, 1), np.int8), np.array([0.05 * (1 - 1e-6), 0.3]), np.zeros(2), (1, 1), (0, 0), (1, 1), 1
    )
    unit = float(model[1].unit())
    steps = (
        Step("x", Image(), (), "x"),
        Step("conv", conv, ("x",), "0", ("0", 0)),
        Step("step", Quantise(unit, 8, 0, TIE, "CALIF", False), ("conv",), "1", ("1", 0)),
    )
    program = Program(steps, {}, ("step",))
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    candidate = gate.Candidate.of_program(program)
    witness = gate.Witness(model, x, candidate.origins, exact=False)
    flips = gate.check(witness, candidate, "convert")
    assert flips == gate.Flips(3, 12), "1, 3 and 5 times half a step"
    with pytest.raises(lc.ConversionError, match=r"convert: 1 counts 2 in the model and 1 here"):
        gate.check(witness, program_with(program, "1", n_max=1), "convert")


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_every_front_end_compares_its_worst_element(scale):
    """A translation that is wrong in one weight is found wherever it is."""
    model = lively(qat.prepare(plain(), "ca_lif", levels=8), SHAPE)
    program = open_model(model, SHAPE, 1.0).program
    candidate = gate.Candidate.of_program(program)
    x = torch.from_numpy(images(SHAPE, 4)).double()
    witness = gate.Witness(qat.exact(model), x, candidate.origins)
    gate.check(witness, candidate, "convert")
    first = next(step for step in program.steps if step.place == "0")
    bias = first.operation.bias + 1e-3 * scale * (np.arange(len(first.operation.bias)) == 2)
    with pytest.raises(lc.ConversionError, match=r"convert: 0 .*differs from the model by up to"):
        gate.check(witness, program_with(program, "0", bias=bias), "convert")


def test_a_model_of_no_usual_size_asks_for_an_example():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 5 * 9, 3))
    with pytest.raises(lc.ConversionError, match="pass example_input"):
        qat.prepare(model)
    qat.prepare(model, example_input=images((1, 7, 11), 2))
    with pytest.raises(lc.ConversionError, match=r"does not run on images of shape \(2, 1, 8, 8\)"):
        qat.prepare(model, example_input=images(SHAPE, 2))


# -- what prepare takes, convert takes -------------------------------------------------------------------------------


def tail(size):
    return nn.Flatten(), nn.Linear(size, 3)


ACCEPTED = {
    "two ReLUs": [nn.ReLU(), nn.ReLU(), *tail(144)],
    "ReLU, dropout, ReLU": [nn.ReLU(), nn.Dropout(0.1), nn.ReLU(), *tail(144)],
    "ReLU, flatten, ReLU": [nn.ReLU(), nn.Flatten(), nn.ReLU(), nn.Linear(144, 3)],
    "ReLU, average, ReLU": [nn.ReLU(), nn.AvgPool2d(2), nn.ReLU(), *tail(36)],
    "ReLU, ReLU6": [nn.ReLU(), nn.ReLU6(), *tail(144)],
    "ReLU6, Hardtanh": [nn.ReLU6(), nn.Hardtanh(0, 0.5), *tail(144)],
    "padding='same'": [nn.ReLU(), nn.Conv2d(4, 4, 3, padding="same"), nn.ReLU(), *tail(144)],
    "padding='same', even": [nn.ReLU(), nn.Conv2d(4, 4, (2, 4), padding="same"), nn.ReLU(), *tail(144)],
    "padding='same', dilated": [nn.ReLU(), nn.Conv2d(4, 4, 3, padding="same", dilation=2), nn.ReLU(), *tail(144)],
    "padding='valid'": [nn.ReLU(), nn.Conv2d(4, 4, 3, padding="valid"), nn.ReLU(), *tail(64)],
    "overlapping average": [nn.ReLU(), nn.AvgPool2d(3, 1), *tail(64)],
    "average with padding": [nn.ReLU(), nn.AvgPool2d(2, padding=1), *tail(64)],
    "average that leaves a rest": [nn.ReLU(), nn.AvgPool2d(4), *tail(4)],
    "ceil_mode that fits": [nn.ReLU(), nn.AvgPool2d(2, ceil_mode=True), *tail(36)],
    "flatten twice": [nn.ReLU(), nn.Flatten(), *tail(144)],
}


@pytest.mark.parametrize(
    "options", [{"method": "ca_lif", "levels": 8}, {"method": "dynamic_threshold", "n_max": 8}], ids=str
)
@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_by_prepare_and_by_convert(name, options):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), *ACCEPTED[name])
    assert_exact(lively(qat.prepare(model, **options), SHAPE), SHAPE, 32)


class Broadcast(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.last = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 6), nn.Linear(144, 3)

    def forward(self, x):
        x = torch.relu(self.a(x))
        return self.last(torch.flatten(torch.relu(self.b(x) + x), 1))


REFUSED = {
    "that do not divide": ([nn.ReLU(), nn.AdaptiveAvgPool2d(4), *tail(64)], "averages (6, 6) to (4, 4), which does"),
    "incomplete windows": ([nn.ReLU(), nn.AvgPool2d(4, ceil_mode=True), *tail(16)], "adds incomplete windows"),
    "padding left out": (
        [nn.ReLU(), nn.AvgPool2d(2, padding=1, count_include_pad=False), *tail(64)], "use count_include_pad=True",
    ),
    "the last axis": ([nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), *tail(144)], "linear layer on the last axis"),
    "even, dilated": (
        [nn.ReLU(), nn.Conv2d(4, 4, 2, padding="same", dilation=3), nn.ReLU(), *tail(144)], "use an odd kernel",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_training(name):
    layers, message = REFUSED[name]
    with pytest.raises(lc.ConversionError) as caught:
        qat.prepare(nn.Sequential(nn.Conv2d(1, 4, 3), *layers), "ca_lif", example_input=images(SHAPE, 2))
    assert message in str(caught.value)


def test_additions_that_broadcast_are_refused_before_training():
    with pytest.raises(lc.ConversionError, match=r"add adds values of shapes \(4, 1, 1\) and \(4, 6, 6\)"):
        qat.prepare(Broadcast(), "ca_lif")


def test_sizes_unknown_to_prepare_are_refused_at_first_images():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 3))
    prepared = qat.prepare(model, "ca_lif")
    with pytest.raises(lc.ConversionError, match=r"averages \(7, 7\) to \(3, 3\), which does not divide it"):
        prepared.train()(torch.zeros(2, 1, 9, 9))
    assert_exact(lively(prepared, SHAPE), SHAPE, 16)


@pytest.mark.parametrize("choice", ["conv", "average"])
def test_what_replaces_max_pooling_has_its_geometry(choice):
    def net(*options, size):
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(*options), nn.Flatten(), nn.Linear(size, 3))

    def prepared(model):
        return qat.prepare(model, "ca_lif", max_pool=choice, example_input=images(SHAPE, 2))

    with pytest.raises(lc.ConversionError, match="adds incomplete windows"):
        prepared(net(4, None, 0, 1, False, True, size=16))
    assert_exact(lively(prepared(net(2, None, 0, 1, False, True, size=36)), SHAPE), SHAPE, 64)
    dilated = net(2, 2, 0, 2, size=16)
    if choice == "average":
        with pytest.raises(lc.ConversionError, match="has dilation"):
            prepared(dilated)
    else:
        assert_exact(lively(prepared(dilated), SHAPE), SHAPE, 64)


@pytest.mark.parametrize("scale", [1 / 255, 0.017, 0.1, 1 / 3])
def test_the_comparison_uses_whole_pixels_at_any_scale(scale):
    """(pixel * scale) / scale is not always the pixel again."""
    x = np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8)
    qat.prepare(plain(), "ca_lif", input_scale=scale, example_input=x)
