"""What goes in and what comes out mean the same: images, branches, dead channels, widths, and the model as it came."""

import logging
import sys

import numpy as np
import pytest
import torch
from test_calibrate import images, sensible
from torch import nn
from torch.nn import functional

import lava_conv as lc
from lava_conv import qat
from lava_conv.calibration.inputs import fold_normalisation
from lava_conv.calibration.segments import Segments, watch
from lava_conv.calibration.spike_trains import Trains
from lava_conv.qat.layers import LearnedStep

SCALE = 1 / 255


def small(channels=3):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3)
    ).eval()


def settles_on_its_model(result, x):
    """What the integers settle on is what the quantised model computes, to the last logit."""
    reference = result.reference(x)
    wanted = qat.evaluate(result.model, x)
    assert np.isfinite(wanted).all()
    readout = next(m for m in result.model.modules() if isinstance(m, qat.Readout))
    grain = float(qat.exact(readout).grain(qat.exact(readout).quantise()[1])) / result.steps
    assert np.array_equal(reference.predictions[0], wanted.argmax(1))
    return np.corrcoef(reference.logits[0].ravel(), wanted.ravel())[0, 1] if grain else 1.0


# -- images that do not mean what the network takes ------------------------------------------------------------------

PIXELS = images(4, (3, 8, 8))
REFUSED = {
    "0..1": (PIXELS / 255, "from 0.*to 1 that are not whole numbers.*input_scale"),
    "normalised": ((PIXELS / 255 - 0.5) / 0.25, "from -2 to 2 that are not whole"),
    "rounded and normalised": ((PIXELS.float() - 128).round(), "from -128 to 127"),
    "NaN": (PIXELS.float() * torch.nan, "from nan to nan"),
    "int8": (PIXELS.to(torch.int8), "from -"),
    "beyond": (PIXELS.long() + 300, "to 555"),
    "channels last": (PIXELS.permute(0, 2, 3, 1), r"shape \(4, 8, 8, 3\).*look like \(N, H, W, C\)"),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("method", ["ca_lif", "dynamic_threshold"])
@pytest.mark.parametrize("kind", REFUSED)
def test_images_that_are_no_pixels_are_refused(kind, method, training):
    model = qat.prepare(small(), method, input_scale=SCALE).train(training)
    given, sentence = REFUSED[kind]
    with pytest.raises(lc.DataError, match=sentence):
        model(given)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.float16, torch.bfloat16])
def test_every_type_that_holds_pixels_gives_the_same(dtype):
    model = qat.prepare(small(), "ca_lif", input_scale=SCALE).eval()
    assert torch.equal(model(PIXELS.to(dtype)), model(PIXELS))


@pytest.mark.parametrize("given", [PIXELS > 128, (PIXELS > 128).byte(), (PIXELS > 128).float()])
def test_images_of_0_and_1_are_taken_aloud(given, caplog):
    qat.prepare(small(), "ca_lif").eval()(given)
    assert "nothing but 0 and 1" in caplog.text
    caplog.clear()
    qat.prepare(small(), "ca_lif").eval()(PIXELS * 0)
    assert not caplog.text


def test_training_takes_what_lies_between_pixels():
    model = qat.prepare(small(), "ca_lif").train()
    between = PIXELS * 0.5 + PIXELS.flip(0) * 0.5
    model(between)
    model.eval()
    with pytest.raises(lc.DataError, match="not whole numbers"):
        model(between)


def test_images_are_looked_at_once_per_run(monkeypatch):
    model = qat.prepare(small(), "ca_lif").eval()
    looked, look = [], qat.Pixels._look
    monkeypatch.setattr(qat.Pixels, "_look", lambda self, x: looked.append(look(self, x)))
    for _ in range(3):
        model(PIXELS)
    assert len(looked) == 1
    model.train()
    model(PIXELS)
    model.eval()
    model(PIXELS)
    assert len(looked) == 3


def test_calibration_refuses_images_of_another_shape():
    with pytest.raises(lc.DataError, match=r"shape \(4, 8, 8, 3\).*they look like \(N, H, W, C\)"):
        lc.calibrate(small(), PIXELS.permute(0, 2, 3, 1).numpy(), 4)
    with pytest.raises(lc.DataError, match=r"shape \(4, 1, 8, 8\).*pass \(N, C, H, W\)"):
        lc.calibrate(small(), PIXELS[:, :1], 4)


def test_a_scale_that_nothing_tells_is_asked_for(caplog):
    lc.calibrate(small(), PIXELS, 4)
    assert "nothing tells the scale" in caplog.text
    for options in ({"input_scale": 1.0}, {"input_scale": SCALE}):
        caplog.clear()
        lc.calibrate(small(), PIXELS, 4, **options)
        assert "scale of the images" not in caplog.text
    caplog.clear()
    with pytest.raises(lc.DataError, match="scales its images itself"):
        lc.calibrate(nn.Sequential(qat.Pixels(SCALE), small()), PIXELS, 4, input_scale=SCALE)
    lc.calibrate(nn.Sequential(qat.Pixels(SCALE), small()), PIXELS, 4)
    assert "scale of the images" not in caplog.text


MEAN, STD = (0.49, 0.4, 0.3), (0.25, 0.24, 0.26)


def normalise(x):
    return (x / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


PADDED = [
    {"padding": 1}, {"padding": 3, "kernel_size": 7, "stride": 2}, {"padding": 2, "dilation": 2, "bias": False},
    {"padding": (0, 1)},
]  # fmt: skip


@pytest.mark.parametrize("levels", [4, 32])
@pytest.mark.parametrize("options", [*PADDED, {"padding": "same"}])
def test_mean_and_std_are_exact_at_the_borders(options, levels):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, **{"kernel_size": 3, **options}), nn.ReLU())
    wanted = model(normalise(PIXELS))
    folded = fold_normalisation(model, MEAN, STD, 1.0, levels)
    assert torch.allclose(folded(PIXELS / 255), wanted, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("options", PADDED)
def test_a_padded_first_layer_keeps_its_borders_in_spikes(options):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, **{"kernel_size": 3, **options}), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(32, 3),
    )  # fmt: skip
    model[1].momentum = None
    model(normalise(images(64)))
    result = lc.calibrate(model.eval(), images(64), 32, mean=MEAN, std=STD)
    assert result.comparison.float_agreement == 1
    x = images(100, seed=2)
    with torch.no_grad():
        wanted = model(normalise(x)).numpy()
    found = lc.run(result, x.numpy()).logits[-1]
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.999  # 0.97 to 0.99 with black borders
    settles_on_its_model(result, x.numpy())


# -- dead channels ---------------------------------------------------------------------------------------------------

DEAD = {"zero": (0.0, 0.0), "zero with bias": (0.0, 0.5), "tiny below": (1e-8, -1.0), "tiny above": (1e-8, 0.5)}


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("options", [{}, {"input_code": "flash", "levels": 4}, {"per_channel": True}])
@pytest.mark.parametrize("kind", DEAD)
def test_a_dead_channel_is_a_constant(kind, options, place):
    model = small()
    factor, bias = DEAD[kind]
    with torch.no_grad():
        model[place].weight[3] *= factor
        model[place].bias[3] = bias
    x = images(32, (3, 8, 8))
    result = lc.calibrate(model, x, 8, input_scale=SCALE, **options)
    settles_on_its_model(result, x.numpy())
    counts = result.reference(x.numpy()).counts[1 + place // 2]
    assert np.ptp(counts[:, 3]) == 0 and (counts[:, 3] > 0).all() == (bias > 0)
    assert all(np.isfinite(list(vars(row).values())[1:]).all() for row in result.layer_errors)


@pytest.mark.parametrize("method", ["ca_lif", "dynamic_threshold"])
@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("kind", DEAD)
def test_a_dead_channel_of_a_trained_model_converts(kind, place, method):
    model = small()
    factor, bias = DEAD[kind]
    with torch.no_grad():
        model[place].weight[3] *= factor
        model[place].bias[3] = bias
    x = images(16, (3, 8, 8))
    model = qat.prepare(model, method, input_scale=SCALE).train()
    model(x)
    graph = lc.convert(model, x)
    assert np.array_equal(graph.reference(x.numpy()).predictions[0], qat.evaluate(model, x.numpy()).argmax(1))


def test_a_weak_channel_does_not_make_the_others_coarse():
    most = {}
    for factor in (1.0, 1e-5):
        model = small()
        with torch.no_grad():
            model[0].weight[3] *= factor
            model[0].bias[3] = 0.5
        result = lc.calibrate(model, images(32, (3, 8, 8)), 32, input_scale=SCALE)
        first = next(m for m in result.model.modules() if isinstance(m, nn.Conv2d))
        most[factor] = first.quantise()[0].abs().flatten(1).amax(1)
    assert (most[1e-5][:3] >= most[1.0][:3]).all()


def test_dead_normalised_channels_are_not_refused():
    x = images(32)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip
    with torch.no_grad():
        model[3].weight[:5] = 0  # pruned, and two quiet ones that were active on other images only
        model[3].bias[:5] = 0
        model[3].weight[5:7] *= 0.01
    sensible(model)
    with torch.no_grad():
        model[1].weight[:4] = 0
        model[4].running_var[5:7] *= 100
    settles_on_its_model(lc.calibrate(model, x, 8), x.numpy())
    with pytest.raises(lc.DataError, match="times the variance") as error:
        lc.calibrate(model, x, 8, input_scale=SCALE)
    assert "While executing" not in str(error.value)


# -- branches --------------------------------------------------------------------------------------------------------


class Branches(nn.Module):
    """Activations of different widths, joined in an order; behind them a pooling, and shortcuts of each other."""

    def __init__(self, widths=(6, 4), pool=False, nested=False, clip=False):
        super().__init__()
        self.firsts = nn.ModuleList(nn.Conv2d(3, w, 3, padding=1) for w in widths)
        self.pool, self.nested, self.clip = pool, nested, clip
        total = sum(widths)
        if nested:
            self.grow = nn.Conv2d(total, 5, 3, padding=1)
            total += 5
        self.behind, self.linear = nn.Conv2d(total, 6, 3, padding=1), nn.Linear(6, 3)

    def forward(self, x):
        act = functional.relu6 if self.clip else torch.relu
        parts = [act(self.firsts[0](x)), *(torch.relu(first(x)) for first in self.firsts[1:])]
        y = torch.cat(parts, 1)
        if self.nested:  # the new one first, as DenseNets have it
            y = torch.cat([torch.relu(self.grow(y)), y], 1)
        if self.pool:
            y = functional.avg_pool2d(y, 2)
        return self.linear(torch.relu(self.behind(y)).mean((2, 3)))


class Joined(nn.Module):
    """Two activations that are added, which shares their unit too."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 6, 3, padding=1)
        self.c, self.linear = nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 3)

    def forward(self, x):
        a, b = torch.relu(self.a(x)), torch.relu(self.b(x))
        return self.linear(torch.relu(self.c(a + b)).mean((2, 3)))


JOINTS = {
    "6, 4": Branches, "4, 6": lambda: Branches((4, 6)), "5, 5": lambda: Branches((5, 5)),
    "three": lambda: Branches((3, 5, 4)), "nested": lambda: Branches((4, 6), nested=True),
    "pool": lambda: Branches((6, 4), pool=True), "clip": lambda: Branches((6, 4), clip=True), "added": Joined,
}  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"per_channel": True}, {"method": "ttrbr"}, {"method": "distilled"}])
@pytest.mark.parametrize("kind", JOINTS)
def test_branches_have_corrections_of_their_own(kind, options, monkeypatch):
    torch.manual_seed(0)
    model = JOINTS[kind]().eval()
    x = images(24, (3, 8, 8))
    seen, make = [], Trains.make
    monkeypatch.setattr(Trains, "make", lambda self, node, chunk: seen.append(make(self, node, 7)) or seen[-1])
    result = lc.calibrate(model, x, 8, input_scale=SCALE, iterations=10, **options)
    settles_on_its_model(result, x.numpy())
    # the spikes that calibration saw are, spike for spike, those of the finished network
    spikes = [s for _, s in sorted(lc.run(result, x.numpy(), record_spikes=True).spikes.items())]
    for given in seen:
        parts = [spikes.pop(0)]
        while (
            sum(part.shape[2] for part in parts) < given.shape[3]
        ):  # an average of joined branches is a layer for each
            parts.append(spikes.pop(0))
        found = np.concatenate([part.reshape(*part.shape[:3], -1) for part in parts], axis=2)
        assert np.array_equal(given.transpose(1, 0, 3, 2), found)
    assert not spikes


def test_branches_err_as_one_convolution_does():
    """Two filters banks that are joined, and the same filters in one layer."""
    torch.manual_seed(0)
    branches = Branches((5, 5)).eval()
    with torch.no_grad():
        branches.firsts[1].weight *= 0.3
    one = nn.Sequential(
        nn.Conv2d(3, 10, 3, padding=1), nn.ReLU(), branches.behind, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        branches.linear,
    ).eval()  # fmt: skip
    with torch.no_grad():
        one[0].weight.copy_(torch.cat([f.weight for f in branches.firsts]))
        one[0].bias.copy_(torch.cat([f.bias for f in branches.firsts]))
    x = images(64, (3, 8, 8))
    errors = [lc.calibrate(m, x, 8, input_scale=SCALE).layer_errors[-1].after for m in (branches, one)]
    assert errors[0] < 1.02 * errors[1]


def test_joined_activations_share_their_step_whatever_the_order():
    class Crossed(nn.Module):
        """a with b, then c with a: all three must have one unit."""

        def __init__(self):
            super().__init__()
            self.first = nn.ModuleList(nn.Conv2d(3, 4, 3, padding=1) for _ in range(3))
            self.left, self.right, self.linear = nn.Conv2d(8, 4, 3), nn.Conv2d(8, 4, 3), nn.Linear(4, 3)

        def forward(self, x):
            a, b, c = (functional.relu6(self.first[0](x)), *(torch.relu(f(x)) for f in self.first[1:]))
            left, right = torch.relu(self.left(torch.cat([a, b], 1))), torch.relu(self.right(torch.cat([c, a], 1)))
            return self.linear((left + right).mean((2, 3)))

    torch.manual_seed(0)
    model = qat.prepare(Crossed(), "ca_lif", input_scale=SCALE).train()
    x = images(16, (3, 8, 8))
    model(x)
    steps = {id(m.step) for m in model.modules() if isinstance(m, LearnedStep)}
    assert len(steps) == 3  # of a, b and c; of left and right; of their average
    graph = lc.convert(model, x)
    assert np.array_equal(graph.reference(x.numpy()).predictions[0], qat.evaluate(model, x.numpy()).argmax(1))


# -- the model as it came --------------------------------------------------------------------------------------------


def pooled():
    torch.manual_seed(3)
    return sensible(nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(4), nn.Conv2d(8, 8, 3),
        nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8, 5),
    ))  # fmt: skip


def test_replaced_pooling_is_measured_against_the_given_model(caplog):
    model, x = pooled(), images(128)
    with torch.no_grad():
        told = model(x.float()).argmax(1)
    result = lc.calibrate(model, x, 16, max_pool="average", targets=told)
    found = result.comparison
    assert found.exchanged == ("3",) and found.images == 128 and found.model_accuracy == 1
    predictions = lc.run(result, x.numpy()).predictions[-1]
    assert found.agreement == found.accuracy == (predictions == told.numpy()).mean()
    assert found.float_agreement < 0.95
    assert found.warning in caplog.text and "average pooling in the place of max pooling (3) changes" in found.warning
    # the layers behind the exchange are measured against those of the model as it came
    segments = Segments(qat.prepare(model, "ca_lif", levels=16, max_pool="average").eval())
    seen = {}
    watch(segments.traced, x, lambda path, taken, given: seen.update({path: given}))
    assert [row.layer for row in result.layer_errors] == ["2", "_3_quantiser", "6"]
    assert result.layer_errors[1].before > 0.05  # against the averages themselves it is below 0.01


def test_without_an_exchange_the_float_network_is_the_model(caplog):
    torch.manual_seed(0)
    model, x = (
        sensible(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(800, 3))),
        images(64),
    )
    result = lc.calibrate(model, x, 32)
    found = result.comparison
    assert (found.float_agreement, found.exchanged, found.accuracy, found.warning) == (1, (), None, "")
    assert found.agreement > 0.9 and "agrees" not in caplog.text
    with pytest.raises(lc.DataError, match="needed are 64 integers, the number of the class of each image"):
        lc.calibrate(model, x, 32, targets=[0, 1, 2])


def test_poor_agreement_is_told_without_an_exchange_too(caplog):
    torch.manual_seed(0)
    model = sensible(nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 50),
    ))  # fmt: skip
    lc.calibrate(model, images(64), 1, "none")
    assert "the calibrated network agrees with the model as it came on" in caplog.text


# -- 24 bits ---------------------------------------------------------------------------------------------------------


def test_a_readout_beyond_24_bits_gets_a_coarser_scale(caplog):
    caplog.set_level(logging.INFO, "lava_conv")
    model = small()
    with torch.no_grad():
        model[4 + 1].weight *= 1e-4
        model[4 + 1].bias.copy_(torch.tensor([30.0, 30.001, 29.0]))
    x = images(32, (3, 8, 8))
    result = lc.calibrate(model, x, 16, input_scale=SCALE)
    result.check()
    assert "times as coarse, so that all sums fit 24 bits" in caplog.text
    settles_on_its_model(result, x.numpy())


@pytest.mark.parametrize("where", ["hidden", "readout", "average"])
def test_wide_layers_fit_24_bits(where, caplog):
    caplog.set_level(logging.INFO, "lava_conv")
    torch.manual_seed(0)
    wide = nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 100, 4), nn.ReLU(), nn.Linear(4, 3)
    )
    if where == "readout":
        wide = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 100, 3))
    if where == "average":
        wide = nn.Sequential(
            nn.Conv2d(3, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 3)
        )  # fmt: skip
    with torch.no_grad():
        for layer in wide:
            if isinstance(layer, nn.Linear):
                layer.weight.sign_().mul_(0.1)  # every weight is the largest
    x = images(16, (3, 12, 12))
    result = lc.calibrate(wide.eval(), x, 200, "mmse", input_scale=SCALE)
    result.check()
    assert "times as coarse" in caplog.text
    assert result.comparison.agreement > 0.9
    settles_on_its_model(result, x.numpy())


def test_unconvertible_models_are_refused_before_any_image():
    class Overlapping(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.linear = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 6, 3), nn.Linear(4, 3)
            self.grouped = nn.Conv2d(10, 4, 3, groups=2)

        def forward(self, x):
            y = torch.cat([torch.relu(self.a(x)), torch.relu(self.b(x))], 1)
            return self.linear(torch.relu(self.grouped(y)).mean((2, 3)))

    done = []
    with pytest.raises(lc.ConversionError, match="grouped: groups of the convolution reach over the joints"):
        lc.calibrate(Overlapping().eval(), PIXELS, 4, progress=lambda *x: done.append(x))
    assert not done


def test_a_resumed_calibration_keeps_scales_and_corrections(tmp_path):
    torch.manual_seed(0)
    model = Branches((4, 6), nested=True).eval()
    with torch.no_grad():
        model.linear.weight *= 1e-4
        model.linear.bias.copy_(torch.tensor([30.0, 30.001, 29.0]))
    x = images(16, (3, 8, 8))
    options = {"input_scale": SCALE, "method": "advanced", "iterations": 5}
    whole = lc.calibrate(model, x, 8, **options)
    for stop in (2, 4):

        def interrupt(done, total, stop=stop):
            if done == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            lc.calibrate(model, x, 8, progress=interrupt, checkpoint=tmp_path / "keep.pt", **options)
    resumed = lc.calibrate(model, x, 8, checkpoint=tmp_path / "keep.pt", **options)
    assert resumed == whole and len(resumed.layer_errors) == 4


def test_too_many_steps_are_refused_before_the_first_image(monkeypatch):
    procedure = sys.modules["lava_conv.calibration.procedure"]
    monkeypatch.setattr(procedure, "_float_logits", lambda *_: pytest.fail("an image was looked at"))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)).eval()
    with torch.no_grad():
        model[0].weight.sign_()
    with pytest.raises(lc.RangeError, match="1: the image, coming 255 times, drives the sums out of 24 bits"):
        lc.calibrate(model, PIXELS, 255, input_scale=SCALE)
