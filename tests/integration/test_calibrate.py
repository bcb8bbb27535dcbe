"""Pretrained float networks: what calibration promises, measured against the float network and against itself."""

import copy
import dataclasses
import json
import pickle
import sys

import numpy as np
import pytest
import torch
from command import call
from torch import nn

import lava_conv as lc
from lava_conv import qat
from lava_conv.calibration.equalise import equalise
from lava_conv.calibration.inputs import to_pixels
from lava_conv.calibration.procedure import KINDS, METHODS, float_predictions
from lava_conv.calibration.response import ONE, Layer
from lava_conv.calibration.segments import Segments, watch
from lava_conv.calibration.spike_trains import Trains
from lava_conv.calibration.thresholds import Histogram
from lava_conv.training.loop import Recipe, train
from lava_conv.training.models import resnet20, resnet110

STEPS = 8


@pytest.fixture(scope="module")
def digits(kept):
    """Data, float model (takes pixels), its test predictions."""
    data, trained = kept(Recipe.flat(method="float", epochs=12))
    model = trained.model
    return data, model, float_predictions(model, data.x_test)


def sensible(model, shape=(3, 12, 12)):
    """The model with the normalisation statistics of random images, as if trained."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight, 0.7, 0.3)
            nn.init.normal_(module.bias, 0.1, 0.2)
            module.momentum = None
    model.train()
    with torch.no_grad():
        model(images(64, shape).float())
    return model.eval()


def images(count, shape=(3, 12, 12), seed=0):
    return torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_a_calibration_is_a_graph(digits, tmp_path):
    """It runs, is compared, lowered, fitted and saved as the graph in it."""
    data, model, _ = digits
    found = lc.calibrate(model, data.x_train[:32], STEPS, "mmse")
    plain, x = found.graph, data.x_test[:20]
    assert isinstance(found, lc.Graph) and type(plain) is lc.Graph and found == plain and found.graph is plain
    assert len(found.layer_errors) == sum(neuron.spiking for _, _, neuron in found.neuron_layers())
    record, wanted = (lc.run(graph, x, record_spikes=True) for graph in (found, plain))
    assert np.array_equal(record.logits, wanted.logits) and found.summary() == plain.summary()
    assert all(np.array_equal(record.spikes[i], s) for i, s in wanted.spikes.items())
    assert lc.compare(found, x, second="torch").equal
    assert lc.fit(found, "loihi1").as_json() == lc.fit(plain, "loihi1").as_json()
    stock = [lc.lower(graph, x, approximate=True) for graph in (found, plain)]
    assert np.array_equal(*(lowered.run(x).logits for lowered in stock))
    for graph, name in ((found, "a.net"), (plain, "b.net")):
        lc.save(graph, tmp_path / name)
    assert (tmp_path / "a.net").read_bytes() == (tmp_path / "b.net").read_bytes()
    assert lc.load(tmp_path / "a.net") == found


def test_a_calibration_is_copied_with_all_it_holds(digits):
    data, model, _ = digits
    found = lc.calibrate(model, data.x_train[:32], STEPS, "mmse")
    longer = dataclasses.replace(found, steps=STEPS + 1)
    assert longer.steps == STEPS + 1 == longer.graph.steps and found.steps == STEPS
    wanted = qat.evaluate(found.model, data.x_test[:20])
    for twin in (copy.copy(found), copy.deepcopy(found), pickle.loads(pickle.dumps(found)), dataclasses.replace(found)):
        assert type(twin) is type(found) and twin == found and twin.graph == found
        assert (twin.layer_errors, twin.comparison) == (found.layer_errors, found.comparison)
        assert np.array_equal(qat.evaluate(twin.model, data.x_test[:20]), wanted)
        assert np.array_equal(lc.run(twin, data.x_test[:20]).logits, lc.run(found, data.x_test[:20]).logits)


def test_calibrate_takes_its_own_options_only(digits):
    data, model, _ = digits
    with pytest.raises(TypeError, match=r"calibrate\(\) got an unexpected keyword argument 'per_chanel'"):
        lc.calibrate(model, data.x_train[:8], per_chanel=True)


# -- the whole way ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("neuron", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_and_neuron_stays_near_the_float_network(digits, method, neuron):
    data, model, said = digits
    graph = lc.calibrate(model, data.x_train[:128], STEPS, method, neuron=neuron, iterations=60)
    rows, quantised = graph.layer_errors, graph.model
    record = lc.run(graph, data.x_test)
    assert (record.predictions[-1] == said).mean() > (0.9 if method == "none" or neuron == "dtb" else 0.96)
    assert len(rows) == 4 and all(row.before >= 0 and row.after >= 0 for row in rows)
    # what the integers settle on is what the quantised model computes, to the last prediction
    reference = graph.reference(data.x_test)
    assert np.array_equal(reference.predictions[0], qat.evaluate(quantised, data.x_test).argmax(1))


@pytest.mark.parametrize("neuron", KINDS)
def test_simulator_and_lava_agree_on_a_calibrated_network(digits, neuron):
    pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")
    data, model, _ = digits
    graph = lc.calibrate(model, data.x_train[:32], STEPS, neuron=neuron)
    assert graph.input_code == "constant"
    result = lc.compare(graph, data.x_test[:5])
    assert result.equal, result.difference


def test_flash_settles_on_the_reference_exactly(digits):
    data, model, _ = digits
    graph = lc.calibrate(model, data.x_train[:64], 12, levels=5, input_code="flash")
    record, reference = lc.run(graph, data.x_test, 24), graph.reference(data.x_test)
    assert all(np.array_equal(record.counts[i], c) for i, c in reference.counts.items())


def test_unipolar_neurons_send_no_negative_spikes(digits, tmp_path):
    data, model, _ = digits
    graph = lc.calibrate(model, data.x_train[:64], STEPS, neuron="if")
    lc.save(graph, tmp_path / "if.net")
    assert lc.load(tmp_path / "if.net") == graph
    spikes = lc.run(graph, data.x_test[:50], record_spikes=True).spikes
    assert min(int(s.min()) for s in spikes.values()) == 0
    signed = lc.run(lc.calibrate(model, data.x_train[:64], STEPS), data.x_test[:50], record_spikes=True).spikes
    assert min(int(s.min()) for s in signed.values()) == -1


@pytest.mark.parametrize("neuron", KINDS)
@pytest.mark.parametrize(("code", "levels"), [("constant", STEPS), ("flash", 5)])
def test_what_is_calibrated_on_is_what_the_simulator_runs(digits, monkeypatch, neuron, code, levels):
    """The spikes that calibration saw in each layer are, spike for spike, those of the finished graph."""
    data, model, _ = digits
    seen, make = [], Trains.make

    def watched(self, node, chunk):
        seen.append(make(self, node, 7))
        return seen[-1]

    monkeypatch.setattr(Trains, "make", watched)
    options = {"neuron": neuron, "input_code": code, "levels": levels}
    graph = lc.calibrate(model, data.x_train[:40], STEPS, **options)
    record = lc.run(graph, data.x_train[:40], record_spikes=True)
    assert len(seen) == len(record.spikes) == 4
    for given, found in zip(seen, (s for _, s in sorted(record.spikes.items())), strict=True):
        steps, n, channels = found.shape[:3]
        assert np.array_equal(given.transpose(1, 0, 3, 2), found.reshape(steps, n, channels, -1))


def test_rates_of_a_constant_input():
    layer = Layer(KINDS["if"], 16, 16, spread=True)
    spikes = layer.respond(np.full((1, 1, 1, 1), round(0.3 * ONE), np.int32), 0.0)
    assert spikes.sum() == round(0.3 * 16)


def test_more_is_done_the_smaller_the_error(digits):
    data, model, _ = digits
    found = {}
    for method in ("none", "mmse", "light", "advanced"):
        rows = lc.calibrate(model, data.x_train[:128], STEPS, method, iterations=150).layer_errors
        found[method] = np.mean([row.after for row in rows])
        assert all(row.after <= row.before * 1.01 for row in rows)
    assert found["none"] > found["mmse"] > found["light"] > found["advanced"]


def test_same_seed_same_network_and_other_seed_another(digits):
    data, model, _ = digits
    make = lambda seed: lc.calibrate(model, data.x_train[:64], STEPS, "advanced", iterations=40, seed=seed)  # noqa: E731
    first = make(1)
    assert make(1) == first
    assert make(2) != first


@pytest.mark.parametrize("method", ["advanced", "distilled"])
def test_interrupted_calibration_goes_on_to_the_same_network(digits, tmp_path, method):
    data, model, _ = digits
    options = {"iterations": 40, "checkpoint": tmp_path / "keep.pt"}
    whole = lc.calibrate(model, data.x_train[:64], STEPS, method, iterations=40)
    for stop in (1, 3):

        def interrupt(done, total, stop=stop):
            if done == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            lc.calibrate(model, data.x_train[:64], STEPS, method, progress=interrupt, **options)
    seen = []
    resumed = lc.calibrate(model, data.x_train[:64], STEPS, method, progress=lambda *x: seen.append(x), **options)
    assert resumed == whole and len(resumed.layer_errors) == 4
    assert seen[-1][0] == seen[-1][1]
    with pytest.raises(lc.DataError, match="another model, with other images or options"):
        lc.calibrate(model, data.x_train[:65], STEPS, method, **options)
    (tmp_path / "keep.pt").write_bytes(b"no")
    with pytest.raises(lc.DataError, match=r"keep\.pt: not a readable checkpoint"):
        lc.calibrate(model, data.x_train[:64], STEPS, method, **options)


# -- pieces ----------------------------------------------------------------------------------------------------------


def test_threshold_search_finds_the_least_error_of_the_grid():
    values = torch.randn(20_000, generator=torch.Generator().manual_seed(0)).relu() * 3
    values[:5] = 40.0
    histogram = Histogram()
    for part in values.split(999):  # the largest value comes first, then never again
        histogram.add(part)
    steps = [40.0 * (1 - 0.01 * i) / 8 for i in range(95)]
    errors = [float((torch.floor(values / s + 0.5).clamp(0, 8) * s - values).square().mean()) for s in steps]
    found = histogram.step(8, search=True)
    assert histogram.step(8, search=False) == 5.0
    assert min(errors) <= errors[int(np.argmin(np.abs(np.array(steps) - found)))] <= 1.02 * min(errors)
    growing = Histogram()
    for part in values.sort().values.split(999):
        growing.add(part)
    assert growing.counts.sum() == len(values) and growing.largest == 40.0
    assert np.isclose(growing.step(8, search=True), found, rtol=0.05)


def test_thresholds_per_channel_leave_the_float_network_alone():
    torch.manual_seed(0)
    model = sensible(nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(8, 6, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(54, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 4),
    ))  # fmt: skip
    with torch.no_grad():
        model[1].weight[:2] *= 8
    traced = qat.prepare(model, "ca_lif", levels=8).eval()
    before = watch(traced, images(20).float(), lambda *_: None)
    segments = Segments(traced)
    ranges = {str(n.target): torch.rand(c) + 0.1 for n, c in zip(segments.quantisers, (8, 8, 6, 12), strict=True)}
    done = equalise(segments, ranges)
    assert done == [
        str(n.target) for n in segments.quantisers[2:]
    ]  # the average reads the first, no weights make its own
    after = watch(traced, images(20).float(), lambda *_: None)
    assert torch.allclose(before, after, rtol=1e-4, atol=1e-4 * float(before.abs().max()))


def test_shortcuts_share_their_thresholds_per_channel():
    torch.manual_seed(0)
    traced = qat.prepare(sensible(resnet20(width=4)), "ca_lif", levels=8).eval()
    before = watch(traced, images(20).float(), lambda *_: None)
    segments = Segments(traced)
    found = {}
    watch(traced, images(20).float(), lambda path, taken, given: found.update({path: given.shape[1]}))
    ranges = {str(n.target): torch.rand(found[str(n.target)]) + 0.1 for n in segments.quantisers}
    assert len(equalise(segments, ranges)) == 19
    after = watch(traced, images(20).float(), lambda *_: None)
    assert torch.allclose(before, after, rtol=1e-3, atol=1e-4 * float(before.abs().max()))


def test_per_channel_thresholds_help_where_channels_differ(digits):
    data, model, _ = digits
    model = torch.nn.Sequential(*model)
    loud = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    follower = [m for m in model.modules() if isinstance(m, nn.Conv2d)][1:]
    with torch.no_grad():  # the same float network, one channel of the first layer 30 times as loud
        loud[0].weight[0] *= 30
        loud[0].bias[0] *= 30
        follower[0].weight[:, 0] /= 30
    errors = [
        np.mean([r.after for r in lc.calibrate(model, data.x_train[:64], STEPS, "mmse", per_channel=p).layer_errors])
        for p in (False, True)
    ]
    with torch.no_grad():
        loud[0].weight[0] /= 30
        loud[0].bias[0] /= 30
        follower[0].weight[:, 0] *= 30
    assert errors[1] < 0.5 * errors[0]


# -- residual networks -----------------------------------------------------------------------------------------------


class PreActivation(nn.Module):
    """Normalisation and ReLU before each convolution; the stream is added to before any activation (He et al. 2016)."""

    def __init__(self, width=8, blocks=2):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2 * blocks))
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2 * blocks))
        self.last = nn.BatchNorm2d(width)
        self.linear = nn.Linear(width, 5)

    def forward(self, x):
        x = self.stem(x)
        for i in range(0, len(self.norms), 2):
            y = self.convs[i](torch.relu(self.norms[i](x)))
            x = x + self.convs[i + 1](torch.relu(self.norms[i + 1](y)))
        return self.linear(torch.relu(self.last(x)).mean((2, 3)))


def agreement(model, graph, count=200):
    x = images(count, graph.input_shape, seed=9)
    with torch.no_grad():
        wanted = model(x.float()).numpy()
    return np.corrcoef(lc.run(graph, x.numpy()).logits[-1].ravel(), wanted.ravel())[0, 1]


def test_pre_activation_blocks_become_streams_of_both_signs():
    torch.manual_seed(1)
    model = sensible(PreActivation())
    with pytest.raises(lc.ConversionError, match="activation before the branch"):
        qat.prepare(model, "ca_lif")
    graph = lc.calibrate(model, images(64), 32, "ttrbr")
    quantised = graph.model
    assert sum(m.zero == 16 for m in quantised.modules() if isinstance(m, qat.LearnedStep)) == 2
    assert agreement(model, graph) > 0.97
    x = images(50, seed=3).numpy()
    assert np.array_equal(graph.reference(x).predictions[0], qat.evaluate(quantised, x).argmax(1))


@pytest.mark.parametrize("method", ["mmse", "light"])
def test_residual_blocks_with_1x1_shortcuts(method):
    torch.manual_seed(0)
    model = sensible(resnet20(width=4))
    graph = lc.calibrate(model, images(32), 24, method)
    assert any(layer.skips for layer in graph.layers)
    assert agreement(model, graph) > 0.9


@pytest.mark.slow
def test_resnet_110_is_converted():
    torch.manual_seed(0)
    model = sensible(resnet110(width=4))
    graph = lc.calibrate(model, images(16), 32, "light")
    rows = graph.layer_errors
    assert len(rows) == 109 and sum(bool(layer.neuron) for layer in graph.layers) == 110
    assert agreement(model, graph, 100) > 0.8


# -- images and scales -----------------------------------------------------------------------------------------------


def test_scales_of_images():
    pixels = images(4)
    as_floats = pixels.float() / 255
    for given, options, scale in (
        (pixels, {}, 1.0),
        (pixels.float(), {}, 1.0),
        (as_floats, {}, 1 / 255),
        (pixels, {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2)}, 1 / 255),
        ((as_floats - 0.5) / 0.25, {"mean": (0.5,), "std": (0.25,)}, 1 / 255),
        (pixels.float() * 2 - 6, {"mean": (6.0,), "input_scale": 2.0}, 2.0),
    ):
        found, unit = to_pixels(given, *(options.get(k) for k in ("input_scale", "mean", "std")))
        assert torch.equal(found, pixels) and unit == scale


@pytest.mark.parametrize(
    ("given", "options", "sentence"),
    [
        (torch.randn(4, 3, 12, 12), {}, "that no uint8 pixels give"),
        (torch.full((2, 3, 12, 12), torch.nan), {}, "NaN or infinity"),
        (torch.zeros(2, 3, 12, 12, dtype=torch.int64), {}, "dtype torch.int64"),
        (torch.zeros(0, 3, 12, 12, dtype=torch.uint8), {}, "pass one image at least"),
        (torch.zeros(3, 12, dtype=torch.uint8), {}, r"shape \(3, 12\)"),
        (images(4), {"mean": (0.5, 0.5)}, "mean has 2 numbers, needed is one for each of 3"),
        (images(4), {"std": (0.0, 1.0, 1.0)}, "std is"),
    ],
)
def test_images_that_cannot_be(given, options, sentence):
    model = sensible(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 3)))
    with pytest.raises(lc.DataError, match=sentence):
        lc.calibrate(model, given, 8, **options)


def test_a_scale_that_the_model_never_saw_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 3))
    model[1].momentum = None
    model(images(64) / 255)
    with pytest.raises(lc.DataError, match=r"1: the images give .* times the variance .* input_scale"):
        lc.calibrate(model, images(16), 8)
    lc.calibrate(model, images(16), 8, input_scale=1 / 255)


def test_mean_and_std_go_into_the_first_layer():
    torch.manual_seed(0)
    mean, std = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(800, 3))
    normalise = lambda x: (x / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]  # noqa: E731
    model[1].momentum = None
    model(normalise(images(64)))
    graph = lc.calibrate(model.eval(), images(64), 32, mean=mean, std=std)
    x = images(100, seed=2)
    with torch.no_grad():
        wanted = model(normalise(x)).numpy()
    assert np.corrcoef(lc.run(graph, x.numpy()).logits[-1].ravel(), wanted.ravel())[0, 1] > 0.99
    assert (float_predictions(model, x, None, mean, std) == wanted.argmax(1)).all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"method": "best"}, "method is 'best', allowed is none, mmse, light"),
        ({"neuron": "lif"}, "neuron is 'lif', allowed is calif, dtb, if"),
        ({"steps": 0}, r"steps is 0, allowed is 1\.\.255"),
        ({"levels": 300}, r"levels is 300, allowed is 1\.\.255"),
        ({"max_pool": "conv"}, "max_pool is 'conv', allowed is None, average"),
        ({"input_code": "poisson"}, "input_code is 'poisson', allowed is flash, constant"),
    ],
)
def test_options_out_of_range(digits, options, sentence):
    data, model, _ = digits
    with pytest.raises(lc.ConversionError, match=sentence):
        lc.calibrate(model, data.x_train[:8], **options)


def test_quantised_models_and_unknown_layers_are_refused(digits, trained_digits):
    data, model, _ = digits
    with pytest.raises(lc.ConversionError, match="quantised already"):
        lc.calibrate(trained_digits[1].model, data.x_train[:8])
    odd = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10))
    with pytest.raises(lc.ConversionError, match=r"(?s)1 is a GELU.*2 is a MaxPool2d"):
        lc.calibrate(odd, data.x_train[:8])
    before = {k: v.clone() for k, v in model.state_dict().items()}
    lc.calibrate(model, data.x_train[:8], 4)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("last", [nn.Identity(), nn.Dropout(0.5)])
def test_what_comes_behind_the_last_layer_does_not_matter(last):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), np.uint8)
    options = {"steps": 8, "method": "advanced", "iterations": 20}
    graphs = [lc.calibrate(m, images, **options) for m in (model, nn.Sequential(*model, last).eval())]
    logits = [graph.reference(images).logits for graph in graphs]
    assert np.ptp(logits[0]) > 0 and np.array_equal(*logits)


def test_relu6_keeps_its_clip():
    torch.manual_seed(0)
    model = sensible(nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), nn.Flatten(), nn.Linear(800, 5)
    ))  # fmt: skip
    with torch.no_grad():
        model[1].weight *= 10
    quantised = lc.calibrate(model, images(64), 32, "none").model
    step = next(m for m in quantised.modules() if isinstance(m, qat.LearnedStep)).unit()
    assert float(step) * 32 == pytest.approx(6.0)


# -- for users of the command line -----------------------------------------------------------------------------------


def test_commands_tell_float_checkpoints_from_quantised_ones(digits, tmp_path):
    data, _, _ = digits
    for method, command, remedy in (
        ("float", "convert", "lava-conv calibrate"),
        ("dynamic_threshold", "calibrate", "lava-conv convert"),
    ):
        train(data, Recipe.flat(method=method, epochs=1), tmp_path / f"{method}.pt")
        done = call(command, tmp_path / f"{method}.pt", tmp_path / "o.net")
        assert done.returncode == 2 and remedy in done.stderr


def test_command_with_a_network_of_ones_own(digits, tmp_path):
    model = digits[1]
    (tmp_path / "mine.py").write_text(
        "from lava_conv.training.models import digits\ndef network():\n    return digits()\n"
    )
    torch.save(model[1].state_dict(), tmp_path / "w.pt")
    words = ("calibrate", "w.pt", "out.net", "--model", "mine:network", "--steps", 8, "--images", 64, "--samples", 200)
    done = call(*words, "--input-scale", 1 / 255, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["accuracy"][-1] > found["ann_accuracy"] - 0.05 and len(found["layers"]) == 4
    assert lc.load(tmp_path / "out.net").steps == 8
    for words, sentence in (
        (("calibrate", "w.pt", "o.net", "--model", "mine:nothing"), "write PACKAGE.MODULE:FUNCTION"),
        (("calibrate", "nowhere.pt", "o.net"), "there is no such checkpoint"),
        (("calibrate", "w.pt", "o.net"), "weights of another program"),
        (("calibrate", "w.pt", "o.net", "--model", "mine:network", "--mean", "a,b"), "write a number for each channel"),
    ):
        done = call(*words, cwd=tmp_path)
        assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "o.net").exists() and sys.version_info >= (3, 10)
