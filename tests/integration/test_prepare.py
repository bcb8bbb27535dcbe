"""From a plain nn.Module to integers: layers, functional calls, structures of the papers, options, refusals."""

import numpy as np
import pytest
import torch
from nets import assert_exact, images, lively
from torch import nn
from torch.nn import functional

import lava_conv as lc
from lava_conv import qat
from lava_conv.network.neurons import NEURONS
from lava_conv.qat.layers import Int8Linear, LearnedStep, MedianQuant, TernaryConv2d
from lava_conv.qat.options import Quantisation
from lava_conv.training import models
from lava_conv.training.unroll import Unrolled


class Flat(nn.Module):
    """Dense shortcuts, and flattened branches that are joined."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 3, 3), nn.Conv2d(1, 2, 5, stride=2)
        self.wide, self.deep, self.norm = nn.Linear(116, 24), nn.Linear(24, 24, bias=False), nn.BatchNorm1d(24)
        self.deeper, self.short, self.last = nn.Linear(24, 24), nn.Linear(116, 24), nn.Linear(24, 3)

    def forward(self, x):
        x = torch.cat([torch.flatten(self.a(x).relu(), 1), functional.relu(self.b(x)).flatten(1)], 1)
        y = functional.relu(self.wide(x))
        y = functional.relu(self.norm(self.deep(y)) + y)
        return self.last(functional.relu(self.deeper(y) + self.short(x)))


METHODS = [
    {"method": "dynamic_threshold", "n_max": 8},
    {"method": "dynamic_threshold", "k": 1, "n_max": 12},
    {"method": "ca_lif", "levels": 8},
]


class Functional(nn.Module):
    """Nested modules, functional calls, a shared ReLU, both kinds of shortcut, averages, dropout, a view."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 3, padding=2, dilation=2)
            self.narrow = nn.Conv2d(8, 8, 1, bias=False)
            self.norm = nn.BatchNorm2d(8)

        def forward(self, x):
            y = functional.relu(self.conv(x))
            return torch.relu(self.norm(self.narrow(y)) + x)

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 8, (3, 5), stride=(1, 2), padding=(1, 2), bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.block = self.Block()
        self.depthwise = nn.Conv2d(8, 16, 3, padding=1, groups=8)
        self.short = nn.Sequential(nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.dense = nn.Linear(16 * 3 * 2, 20)
        self.last = nn.Linear(20, 5)

    def forward(self, x):
        x = self.relu(self.norm(self.first(x)))
        x = self.block(x)
        y = self.depthwise(x)
        y += self.short(x)
        x = self.relu(y)
        x = functional.avg_pool2d(x, 2)
        x = functional.dropout(x, 0.2, self.training)
        x = x.view(x.size(0), -1)
        return self.last(self.relu(self.dense(x)))


class Joined(nn.Module):
    """Two branches of different depth, concatenated; then a normal and a depthwise convolution; global average."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.a = nn.Conv2d(4, 6, 1)
        self.b = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1))
        self.both = nn.Conv2d(12, 8, 3, stride=2)
        self.each = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.tail = nn.Conv2d(20, 10, 1, bias=False)
        self.norm = nn.BatchNorm2d(10)
        self.last = nn.Linear(10, 4)

    def forward(self, x):
        x = self.stem(x).relu()
        joined = torch.cat([self.a(x).relu(), functional.relu(self.b(x))], dim=1)
        each = functional.avg_pool2d(functional.relu(self.each(joined)), 3, 2)
        joined = torch.cat((functional.relu(self.both(joined)), each), 1)
        x = functional.relu6(self.norm(self.tail(joined)))
        return self.last(x.mean((2, 3)))


class OneDimensional(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(2, 6, 5, stride=2, padding=2, bias=False), nn.BatchNorm1d(6), nn.ReLU(),
            nn.Conv1d(6, 8, 3, padding="valid", groups=2), nn.ReLU6(), nn.AvgPool1d(2),
            nn.Conv1d(8, 8, 3, dilation=2, padding=2), nn.Hardtanh(0, 4),
        )  # fmt: skip
        self.pool, self.last = nn.AdaptiveAvgPool1d(1), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(torch.flatten(self.pool(self.body(x)), 1))


@pytest.mark.parametrize("options", METHODS, ids=str)
@pytest.mark.parametrize(
    ("plain", "shape"),
    [(Functional, (2, 6, 8)), (Joined, (1, 9, 9)), (OneDimensional, (2, 24)), (Flat, (1, 8, 8))],
    ids=str,
)
def test_layers_and_calls(plain, shape, options):
    torch.manual_seed(1)
    model = lively(qat.prepare(plain(), **options), shape)
    graph = assert_exact(model, shape, steps=40)
    wanted = "DTB" if options["method"] == "dynamic_threshold" else "CALIF"
    assert {layer.neuron for layer in graph.layers} == {"", wanted, "ACC"}


@pytest.mark.parametrize("options", [METHODS[0], METHODS[2]], ids=str)
def test_branches_run_on_lava_and_through_the_file(options, tmp_path):
    pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")
    torch.manual_seed(1)
    for plain, shape in ((Functional, (2, 6, 8)), (Joined, (1, 9, 9)), (Flat, (1, 8, 8))):
        graph = lc.convert(lively(qat.prepare(plain(), **options), shape), images(shape, 2))
        lc.save(graph, tmp_path / "m.net")
        again = lc.load(tmp_path / "m.net")
        assert again == graph
        result = lc.compare(again, images(shape, 3), steps=6)
        assert result.equal, result


@pytest.mark.parametrize("options", METHODS, ids=str)
def test_unrolled_model_is_the_simulator_step_for_step(options):
    """Logits of the float unrolling, over the readout's unit, are the simulator's integers after each step."""
    for plain, shape in ((Functional, (2, 6, 8)), (Joined, (1, 9, 9)), (Flat, (1, 8, 8))):
        torch.manual_seed(1)
        model = lively(qat.prepare(plain(), **options), shape)
        x = images(shape, 12)
        with torch.no_grad():
            logits = Unrolled(qat.exact(model), 7)(torch.tensor(x).double()).numpy()
        integers = lc.run(lc.convert(model, x[:2]), x, 7).logits
        unit = (logits[-1].max(1) - logits[-1].min(1)) / (integers[-1].max(1) - integers[-1].min(1))
        assert np.allclose(logits / unit[0], integers, rtol=0, atol=1e-6 * np.abs(integers).max())
        assert len(np.unique(integers[:, 0], axis=0)) > 2, "steps differ"


def test_training_on_few_steps():
    torch.manual_seed(0)
    model = qat.prepare(Functional(), n_max=4)
    x = torch.randint(0, 256, (64, 2, 6, 8)).float()
    y = (x[:, 0, :, :4].mean((1, 2)) > x[:, 0, :, 4:].mean((1, 2))).long()
    model(x)  # running statistics
    spiking = Unrolled(model, 3).train()
    assert not model.norm.training and model.training
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss = functional.cross_entropy(spiking(x)[-1], y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


STRUCTURES = {  # narrow versions; the full widths are in test_full_width
    "lenet": (models.lenet, (1, 28, 28), {}),
    "vgg11": (models.vgg11, (3, 24, 24), {"width": 12}),
    "resnet18": (models.resnet18, (3, 16, 16), {"width": 8}),
    "resnet20": (models.resnet20, (3, 16, 16), {"width": 8}),
    "mobilenet-v1": (models.mobilenet_v1, (3, 16, 16), {"width": 8}),
}


@pytest.mark.parametrize("options", [{"method": "dynamic_threshold", "n_max": 8}, METHODS[2]], ids=str)
@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_of_the_papers(name, options):
    """Random weights; 29 layers in MobileNet. Deep networks settle late: a change runs through every layer."""
    build, shape, sizes = STRUCTURES[name]
    torch.manual_seed(0)
    model = lively(qat.prepare(build(channels=shape[0], size=shape[1], **sizes), **options), shape)
    graph = lc.convert(model, images(shape, 2), steps=8)
    assert_exact(model, shape, {"mobilenet-v1": 96}.get(name, 64), converted=graph)
    weights = sum(s.synapse is not None for s in graph.layers)
    assert weights == {"lenet": 6, "vgg11": 11, "resnet18": 18, "resnet20": 20, "mobilenet-v1": 28}[name]


@pytest.mark.slow  # the branches above are in every run
def test_a_deep_structure_on_lava():
    """ResNet-20, with shortcuts of both kinds and aligned windows: every spike of every step."""
    pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")
    torch.manual_seed(0)
    model = lively(qat.prepare(models.resnet20(width=4, size=8), "ca_lif", levels=4), (3, 8, 8))
    result = lc.compare(lc.convert(model, images((3, 8, 8), 2)), images((3, 8, 8), 2), steps=6)
    assert result.equal and result.values > 10_000, result


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"method": "dynamic_threshold", "n_max": 8}, METHODS[2]], ids=str)
@pytest.mark.parametrize("name", STRUCTURES)
def test_full_width(name, options):
    build, shape, _ = STRUCTURES[name]
    shape = {"resnet18": (3, 32, 32), "resnet20": (3, 32, 32), "mobilenet-v1": (3, 32, 32)}.get(name, shape)
    torch.manual_seed(0)
    model = lively(qat.prepare(build(channels=shape[0], size=shape[1]), **options), shape, batches=1)
    assert_exact(model, shape, 64, count=2)


def test_training_goes_through_and_the_plain_model_stays():
    torch.manual_seed(0)
    plain = Functional()
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    for options in METHODS:
        model = qat.prepare(plain, **options)
        assert set(before) <= set(model.state_dict()), "names of the plain model stay"
        optimiser = torch.optim.Adam(model.parameters(), 3e-3)
        x = torch.randint(0, 256, (64, 2, 6, 8)).float()
        y = (x[:, 0, :, :4].mean((1, 2)) > x[:, 0, :, 4:].mean((1, 2))).long()
        losses = []
        for _ in range(60):
            loss = functional.cross_entropy(model(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert losses[-1] < 0.3 * losses[0], options
        assert_exact(model.eval(), (2, 6, 8), 40)
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())


@pytest.mark.parametrize("options", METHODS, ids=str)
def test_power_of_two_steps(options):
    torch.manual_seed(1)
    for plain, shape in ((Functional(), (2, 6, 8)), (models.resnet20(width=4, size=8), (3, 8, 8))):
        model = lively(qat.prepare(plain, power_of_two=True, **options), shape)
        graph = assert_exact(model, shape, steps=64)
        for index, layer, neuron in graph.neuron_layers():
            if neuron.spiking:
                # constants and layers of shortcuts alone (averages) have no weights to scale
                step = layer.params.delta if layer.neuron == "DTB" else layer.params.theta
                assert (step & (step - 1) == 0).all(), (index, step)


def test_no_upper_clip():
    model = lively(qat.prepare(Functional(), "ca_lif", levels=4, clip=False), (2, 6, 8))
    graph = assert_exact(model, (2, 6, 8), steps=64)
    assert all(layer.params.max_count == 0 for layer in graph.layers if layer.neuron == "CALIF")
    clipped = lively(qat.prepare(Functional(), "ca_lif", levels=4), (2, 6, 8))
    assert (
        max(c.max() for c in assert_exact(clipped, (2, 6, 8), 64).reference(images((2, 6, 8), 5)).counts.values()) <= 4
    )


def test_ties_of_integers_are_ties_of_the_evaluated_model():
    """However their sums were rounded: the first of them is the prediction of both."""
    model = lively(qat.prepare(Functional(), "ca_lif", levels=8), (2, 6, 8))
    x = images((2, 6, 8), 3000)
    integers = lc.convert(model, x[:2]).reference(x).logits[0].astype(int)
    logits = qat.evaluate(model, x)
    equal = integers[:, :, None] == integers[:, None]
    assert equal.sum() > integers.size, "without a tie nothing is shown"
    assert np.array_equal(equal, logits[:, :, None] == logits[:, None])
    assert np.array_equal(integers.argmax(1), logits.argmax(1))


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_weights_of_few_bits(bits):
    """All layers but the first and the last have them; a step is 2 * mean|w| / sqrt(most) at most."""
    model = lively(qat.prepare(Functional(), "ca_lif", levels=8, weight_bits=bits), (2, 6, 8))
    graph = assert_exact(model, (2, 6, 8), steps=64)
    most = 2 ** (bits - 1) - 1
    weights = [layer.synapse.weight for layer in graph.layers if layer.kind in ("conv", "dense")]
    inner = {int(np.abs(weight).max()) for weight in weights[1:-1]}
    assert max(inner) == most and np.abs(weights[0]).max() > 120 and np.abs(weights[-1]).max() == 127
    layer = Int8Linear(400, 3)
    layer.weight.data[0, 0] = 100.0
    layer.narrow(bits)
    integer, scale = layer.quantise()
    assert integer.abs().max() == most and (integer[1:] == 0).float().mean() < 0.6
    limit = layer.weight.abs().mean(1) * 2 / most**0.5
    if bits < 8:
        torch.testing.assert_close(scale[0], limit[0])
        assert (scale <= limit * 1.0001).all()
    else:
        assert scale[0] == 100 / 127


@pytest.mark.parametrize("choice", ["conv", "average"])
@pytest.mark.parametrize("options", METHODS, ids=str)
def test_max_pooling_is_replaced_on_request(choice, options):
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10))
    with pytest.raises(lc.ConversionError, match=r"2 is a MaxPool2d.*max_pool='conv'"):
        qat.prepare(plain, **options)
    model = qat.prepare(plain, max_pool=choice, **options)
    assert_exact(lively(model, (1, 8, 8)), (1, 8, 8), 32)


class Everything(nn.Module):
    """All that has no spiking form, in one forward."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.act = nn.LeakyReLU()
        self.pool = nn.MaxPool2d(2)
        self.next = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.norm = nn.InstanceNorm2d(4)
        self.last = nn.Linear(64, 10)

    def forward(self, x):
        x = self.pool(self.act(self.conv(x)))
        x = functional.gelu(self.next(x)) * 2
        x = self.norm(x)
        x = torch.softmax(self.last(torch.flatten(x, 1)), 1)
        return x


def test_everything_unsupported_is_told_at_once():
    with pytest.raises(lc.ConversionError) as caught:
        qat.prepare(Everything())
    for part in (
        "act is a LeakyReLU", "pool is a MaxPool2d", "next pads with 'reflect'", "gelu is a GELU", "mul calls mul",
        "norm is a InstanceNorm2d", "softmax calls softmax",
    ):  # fmt: skip
        assert part in str(caught.value), part


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x + y


class Linear(nn.Module):
    """conv -> conv without an activation."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Linear(32, 2)

    def forward(self, x):
        return self.c(torch.flatten(torch.relu(self.b(self.a(x))), 1))


class PreActivation(nn.Module):
    """A sum used by an activation and, with something added, by another."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1), nn.Linear(128, 2)

    def forward(self, x):
        raw = self.a(x)
        raw = raw + self.b(torch.relu(raw))
        return self.c(torch.flatten(torch.relu(raw), 1))


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        (TwoInputs(), "y is a second input"),
        (Linear(), "b takes a sum that no activation follows"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), "1 is what the model ends in; it must end in an nn.Linear"),
        (nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)), "0 is applied to the image"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2)), "1 flattens a sum"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Hardtanh(), nn.Flatten(), nn.Linear(72, 2)), "clips at -1.0"),
        (PreActivation(), "used by two activations"),
        (nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU()), "only 1-D and 2-D"),
    ],
)
def test_refusals(plain, message):
    with pytest.raises(lc.ConversionError, match=message):
        qat.prepare(plain, "ca_lif")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "li"}, "prepare: method is 'li', allowed is 'dynamic_threshold' or 'ca_lif'"),
        ({"levels": 0}, "prepare: levels is 0, allowed is a whole number, 1 to 255"),
        ({"levels": 8.5}, "levels is 8.5, allowed is a whole number, 1 to 255"),
        ({"k": -1}, "k is -1, allowed is a whole number, 0 to 8"),
        ({"n_max": True}, "n_max is True, allowed is a whole number, 0 to 255"),
        ({"clip": 1}, "clip is 1, allowed is True or False"),
        ({"max_pool": "max"}, "max_pool is 'max'"),
        ({"input_scale": 0.0}, "input_scale is 0.0, allowed is a number above 0"),
        ({"levels": 8}, "levels is 8, but method dynamic_threshold does not use it; .* choose method ca_lif"),
        ({"method": "ca_lif", "k": 1}, "k is 1, but method ca_lif does not use it; .* method dynamic_threshold"),
        ({"method": "gao", "n_max": 4}, "n_max is 4, but method ca_lif does not use it"),
        ({"colour": 1}, "prepare has no option colour; allowed are method, k, levels"),
        ({"weight_bits": 1}, "weight_bits is 1, allowed is a whole number, 2 to 8"),
        ({"weight_bits": 9}, "weight_bits is 9, allowed is a whole number, 2 to 8"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(lc.ConversionError, match=message):
        qat.prepare(nn.Linear(2, 2), **options)


def test_defaults_and_names_of_version_0_1_are_taken():
    plain = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    example = images((1, 8, 8), 2)
    for old, new in (("zou", "dynamic_threshold"), ("gao", "ca_lif")):
        wanted = Quantisation(new)
        assert Quantisation(old) == wanted and Quantisation(old).method == new
        made = [
            qat.prepare(plain, old, example_input=example),
            qat.prepare(
                plain, new, example_input=example, **{f: v for f, v in wanted.as_flat().items() if f != "method"}
            ),
            qat.prepare(plain, wanted, example_input=example),
        ]
        first, *others = (str(model) for model in made)
        assert all(other == first for other in others)


def test_input_scale_is_part_of_the_model():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    model = lively(qat.prepare(plain, "ca_lif", input_scale=1 / 255), (1, 8, 8))
    assert model(torch.full((1, 1, 8, 8), 255.0)).abs().max() < 10
    assert_exact(model, (1, 8, 8), 40)


def test_quantisers_are_those_of_the_papers():
    """Median quantisation and learned steps against their formulas, away from ties."""
    y = torch.linspace(-3, 9, 1001).double()
    for k in (0, 1, 2):
        assert torch.equal(MedianQuant(k)(y), torch.clamp(torch.floor(2**k * y + 0.5), min=0) / 2**k)
    step = LearnedStep(6, step=0.75).double().eval()
    assert torch.equal(step(y), torch.clamp(torch.floor(y / 0.75 + 0.5), 0, 6) * 0.75)
    assert step.neuron in NEURONS and np.isclose(float(step.unit().detach()), 0.75)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("k", "n_max"), [(0, 0), (0, 4), (1, 3), (2, 0)])
def test_gradients_pass_the_median_straight_between_its_clips(dtype, k, n_max):
    y = torch.linspace(-3, 9, 1001, dtype=dtype).requires_grad_()  # 0 and 3 are no multiples of its step
    given = torch.randn(1001, generator=torch.Generator().manual_seed(0)).to(dtype)
    out = MedianQuant(k, n_max)(y)
    out.backward(given)
    smooth = y.detach().clamp(0, n_max / 2**k if n_max else None)
    assert out.dtype == dtype and torch.equal(out, torch.floor(smooth * 2**k + 0.5).clamp(0, n_max or None) / 2**k)
    between = (y > 0) & (y < n_max / 2**k) if n_max else y > 0
    assert torch.equal(y.grad, torch.where(between, given, 0)) and between.any() and not between.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("clip", "zero"), [(True, 0), (False, 0), (True, 3)])
def test_gradients_of_learned_steps_are_those_of_the_paper(dtype, clip, zero):
    """Against the same composed of torch's operations, each with its own gradient."""
    y = torch.linspace(-5, 9, 1001, dtype=dtype).reshape(7, 143)
    given = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    step = LearnedStep(6, clip=clip, step=0.77, zero=zero).to(dtype)
    one = y.clone().requires_grad_()
    out = step(one)
    out.backward(given)
    two, size = y.clone().requires_grad_(), step.step.detach().clone().requires_grad_()
    unit = size * (143 * 6) ** -0.5
    unit = unit + (size - unit).detach()
    smooth = torch.relu(two / unit + zero)
    smooth = smooth.clamp(max=6) if clip else smooth
    count = smooth + (torch.floor(smooth.detach() + 0.5) - smooth).detach()
    wanted = (count - zero) * unit
    wanted.backward(given)
    assert torch.allclose(out, wanted, rtol=1e-6) and torch.allclose(one.grad, two.grad, rtol=1e-6)
    assert torch.allclose(step.step.grad, size.grad, rtol=1e-4 if dtype == torch.float32 else 1e-12)
    assert size.grad.abs() > 0.01


def test_gradients_pass_ternary_weights_unchanged():
    layer = TernaryConv2d(3, 5, 3)
    with torch.no_grad():
        layer.weight[0, 0, 0] = torch.tensor([0.0, 1.0, -1.0])
    integers, scale = layer.quantise()
    w = layer.weight.detach()
    assert torch.equal(integers, torch.sign(w) * (w.abs() > 0.7 * w.abs().mean())) and scale == 1
    assert integers.detach().unique().tolist() == [-1, 0, 1]
    given = torch.randn(w.shape)
    integers.backward(given)
    assert torch.equal(layer.weight.grad, given)


def test_steps_are_powers_of_two_up_to_the_largest_allowed():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 6), nn.ReLU()]
    images = np.random.default_rng(0).integers(0, 256, (8, 1, 8, 8), np.uint8)
    steps = {}
    for most in (None, 64, 4):
        model = qat.prepare(nn.Sequential(*layers, nn.Linear(6, 3)), "ca_lif", power_of_two=True, step_max=most)
        model.train()(torch.from_numpy(images))
        graph = lc.convert(model.eval(), images)
        steps[most] = np.concatenate([graph.layers[i].params.theta >> graph.layers[i].params.shift for i in (1, 3)])
        assert (steps[most] & (steps[most] - 1) == 0).all()
    assert steps[None].max() > 64 and steps[64].max() == 64 and steps[4].max() == 4
    with pytest.raises(lc.ConversionError, match="step_max is 48, allowed is a power of two up to 32768"):
        qat.prepare(nn.Sequential(*layers), power_of_two=True, step_max=48)
    with pytest.raises(lc.ConversionError, match="step_max is 64, but power_of_two is False; set power_of_two"):
        qat.prepare(nn.Sequential(*layers), step_max=64)
