"""Models trained with off-the-shelf toolkits: exported weights, exact integers, refusals that say what to change."""

import warnings

import numpy as np
import pytest
import torch
from nets import images
from torch import nn
from torch.ao.quantization import QConfig, QConfigMapping, disable_observer, get_default_qat_qconfig_mapping
from torch.ao.quantization.quantize_fx import prepare_qat_fx
from torch.nn import functional

import lava_conv as lc
from lava_conv.frontends import torch_ao
from lava_conv.frontends.exported import ExportedConv2d

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:DeprecationWarning")


class Net(nn.Module):
    """conv-bn-relu, a residual addition, average, grouped convolution with a functional ReLU, dense, dropout."""

    def __init__(self, width=8):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.c2, self.b2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.relu, self.pool = nn.ReLU(), nn.AvgPool2d(2)
        self.c3 = nn.Conv2d(width, width, 3, padding=1, groups=2)
        self.l1, self.drop, self.l2 = nn.Linear(width * 16, 32), nn.Dropout(0.2), nn.Linear(32, 4)

    def forward(self, x):
        x = self.relu(self.b1(self.c1(x)))
        x = self.relu(self.b2(self.c2(x)) + x)
        x = functional.relu(self.c3(self.pool(x)))
        return self.l2(self.drop(self.relu(self.l1(torch.flatten(x, 1)))))


def batch(count, scale=1.0, seed=None):
    """Images with a bright quadrant, and which one it is."""
    if seed is not None:
        torch.manual_seed(seed)
    y = torch.randint(0, 4, (count,))
    x = torch.randint(0, 100, (count, 1, 8, 8)).float()
    for i, where in enumerate(y.tolist()):
        x[i, 0, 4 * (where // 2) : 4 * (where // 2) + 4, 4 * (where % 2) : 4 * (where % 2) + 4] += 120
    x[:, :, 0, 0], x[:, :, 7, 7] = 0, 255
    return x * scale, y


def fitted(model, steps=80, scale=1.0):
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    model.train()
    for _ in range(steps):
        x, y = batch(32, scale)
        loss = functional.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.7, "the network has not learned; its activations prove nothing"
    return model.eval()


def assert_equals(model, graph, scale=1.0, steps=64, count=200):
    """Predictions of the toolkit's own float32 model against the integers; the simulator settles on them."""
    x, y = batch(count, seed=5)
    with torch.no_grad():
        predictions = model(x * scale).argmax(1).numpy()
    pixels = x.numpy().astype(np.uint8)
    reference = graph.reference(pixels)
    assert np.array_equal(reference.predictions[0], predictions)
    assert (predictions == y.numpy()).mean() > 0.8
    record = lc.run(graph, pixels, steps, record=())
    assert all(np.array_equal(record.counts[i], c) for i, c in reference.counts.items())


@pytest.mark.parametrize("scale", [1.0, 1 / 255])
def test_torch_ao_with_our_qconfig(scale):
    torch.manual_seed(0)
    plain = Net()
    model = torch_ao.prepare(plain, batch(2)[0], levels=12, input_scale=scale)
    fitted(model)
    weight = model.c1.weight_fake_quant
    graph = lc.convert(model, images((1, 8, 8), 4), input_scale=scale)
    model.apply(disable_observer)
    assert_equals(model, graph)
    first = graph.layers[1].synapse.weight
    factor = (model.c1.bn.weight / torch.sqrt(model.c1.bn.running_var + model.c1.bn.eps)).reshape(-1, 1, 1, 1)
    meant = torch.round(model.c1.weight * factor / weight.scale.reshape(-1, 1, 1, 1)).detach().numpy()
    alive = first.any(axis=(1, 2, 3))
    assert alive.any() and np.array_equal(first[alive], meant[alive]), "weights are exported as they are"


def test_torch_ao_on_lava():
    pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")
    torch.manual_seed(0)
    model = fitted(torch_ao.prepare(Net(4), batch(2)[0], levels=8))
    result = lc.compare(lc.convert(model, images((1, 8, 8), 4)), images((1, 8, 8), 4), steps=10)
    assert result.equal, result


def test_torch_ao_wide_layers_are_exact_because_steps_are_whole():
    """2,304 inputs with int8 weights: without whole steps no integer thresholds serve (seen as the RangeError)."""
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(1, 64, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten(), nn.Linear(2304, 50), nn.ReLU(),
        nn.Linear(50, 4),
    )  # fmt: skip
    model = fitted(torch_ao.prepare(plain, batch(2)[0], levels=16))
    graph = lc.convert(model, images((1, 8, 8), 4))
    model.apply(disable_observer)
    assert_equals(model, graph)


def their_own(mapping, model=None, **options):
    torch.manual_seed(0)
    return fitted(prepare_qat_fx((model or Net()).train(), mapping, (batch(2)[0],)), **options)


def test_torch_ao_trained_by_the_user():
    """The stock 8-bit qconfig of qnnpack: 255 levels, rounding to even. Thresholds are rounded on request."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4))
    model = their_own(get_default_qat_qconfig_mapping("qnnpack"), plain)
    graph = lc.convert(model, images((1, 8, 8), 4), steps=255, max_steps=255, round_thresholds=True)
    x, _ = batch(200, seed=5)
    with torch.no_grad():
        predictions = model.apply(disable_observer)(x).argmax(1).numpy()
    reference = graph.reference(x.numpy().astype(np.uint8))
    assert (reference.predictions[0] != predictions).sum() <= 1, "one tie at most: logits were quantised to 8 bits"
    assert max(c.max() for c in reference.counts.values()) > 100


def quantised(**changes):
    weight = torch_ao._weight(per_channel=False)
    activation = torch_ao._activation(12)
    return QConfigMapping().set_global(QConfig(**({"activation": activation, "weight": weight} | changes)))


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (get_default_qat_qconfig_mapping("x86"), "quantises the image with step 2"),
        (quantised(), "quantises the image with step"),
    ],
)
def test_torch_ao_refusals(mapping, message):
    model = their_own(mapping, steps=80)
    with pytest.raises(lc.ConversionError, match=message):
        lc.convert(model, images((1, 8, 8), 4))


def test_torch_ao_uncalibrated():
    model = torch_ao.prepare(Net(), batch(2)[0])
    with pytest.raises(lc.ConversionError, match="never calibrated"):
        lc.convert(model, images((1, 8, 8), 4))


def test_brevitas():
    pytest.importorskip("brevitas", reason="an optional extra")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import brevitas.nn as qnn
        from brevitas.quant import Int8WeightPerChannelFloat, Uint8ActPerTensorFloat

    class Quantised(nn.Module):
        def __init__(self):
            super().__init__()
            self.c1 = qnn.QuantConv2d(1, 8, 3, padding=1, bias=False, weight_quant=Int8WeightPerChannelFloat)
            self.b1, self.r1 = nn.BatchNorm2d(8), qnn.QuantReLU(bit_width=4)
            self.c2, self.q2 = qnn.QuantConv2d(8, 8, 3, padding=1, weight_bit_width=4), qnn.QuantIdentity(bit_width=5)
            self.r2, self.pool = qnn.QuantReLU(bit_width=4), nn.AvgPool2d(2)
            self.q3 = qnn.QuantIdentity(bit_width=4, act_quant=Uint8ActPerTensorFloat)
            self.last = qnn.QuantLinear(128, 4, bias=True)

        def forward(self, x):
            x = self.r1(self.b1(self.c1(x)))
            x = self.r2(self.q2(self.c2(x)) + x)
            return self.last(torch.flatten(self.q3(self.pool(x)), 1))

    torch.manual_seed(0)
    model = Quantised()
    with torch.no_grad():
        model(batch(32)[0])
    model = fitted(model)
    graph = lc.convert(model, images((1, 8, 8), 4))
    assert_equals(model, graph)
    weights = model.c2.quant_weight().int().numpy()
    found = graph.layers[2].synapse.weight
    alive = found.any(axis=(1, 2, 3))
    assert alive.any() and np.array_equal(found[alive], weights[alive])
    model.last = qnn.QuantLinear(128, 4, bias=True, bias_quant=None, output_quant=Uint8ActPerTensorFloat)
    model.r1 = qnn.QuantSigmoid(bit_width=4)
    with pytest.raises(lc.ConversionError, match=r"r1 is a QuantSigmoid.*last has an output_quant"):
        lc.convert(model, images((1, 8, 8), 4))


def test_exported_layers_hold_what_they_are_given():
    from lava_conv.frontends.exported import export

    integer, scale = torch.randint(-7, 8, (4, 2, 3, 3)), torch.tensor([0.5, 1.0, 2.0, 0.25])
    layer = export(nn.Conv2d(2, 4, 3, stride=2), integer, scale, torch.arange(4.0))
    assert isinstance(layer, ExportedConv2d) and layer.stride == (2, 2)
    x = torch.randn(3, 2, 9, 9).double()
    meant = functional.conv2d(x, integer.double() * scale.reshape(-1, 1, 1, 1), torch.arange(4.0).double(), 2)
    assert torch.allclose(layer.double()(x), meant)
