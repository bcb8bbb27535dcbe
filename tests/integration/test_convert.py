"""Conversion: exact for odd normalisations too, everything unsupported at once, one sentence each."""

import numpy as np
import pytest
import torch
from torch import nn

import lava_conv as lc
from lava_conv import qat
from lava_conv.frontends.exported import FixedStep, export
from lava_conv.training.models import build


def random_model(k=0, seed=0):
    """A digits network whose normalisation has random statistics, negative and zero gammas included."""
    torch.manual_seed(seed)
    model = build("digits", 1, 8, 10, k=k)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # running statistics become those of the one batch
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight, 0.5, 1.0)
            module.weight.data[0] = 0
            module.weight.data[1] = -0.7
            nn.init.normal_(module.bias, 0.2, 0.5)
    model(torch.randint(0, 256, (64, 1, 8, 8)).float())
    return model


@pytest.mark.parametrize("k", [0, 1, 2])
def test_random_gammas_stay_exact(k, rng):
    model = random_model(k)
    images = rng.integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    graph = lc.convert(model, images[:4], steps=16)
    assert np.array_equal(graph.reference(images).predictions[0], qat.evaluate(model, images).argmax(1))
    record, reference = lc.run(graph, images, steps=16), graph.reference(images)
    settled = sum(int((record.counts[i] == c).sum()) for i, c in reference.counts.items())
    assert settled > 0.5 * sum(c.size for c in reference.counts.values())


def test_negative_gammas_are_flipped_and_zero_ones_constant(rng):
    model = random_model()
    graph = lc.convert(model, rng.integers(0, 256, (4, 1, 8, 8), dtype=np.uint8))
    first = model.get_submodule("0").quantise()[0].detach().numpy()
    assert np.array_equal(graph.layers[1].synapse.weight[1], -first[1])
    assert not graph.layers[1].synapse.weight[0].any()


def test_trained_network_is_exact_on_the_whole_test_set(trained_digits):
    data, trained = trained_digits
    graph = lc.convert(trained.model, data.x_train[:8])
    predictions = qat.evaluate(trained.model, data.x_test).argmax(1)
    assert np.array_equal(graph.reference(data.x_test).predictions[0], predictions)
    assert (predictions == data.y_test).mean() > 0.95


def test_counts_equal_the_model_in_every_layer(trained_digits):
    """Independent of the converter's own check: hooks on the float64 model."""
    data, trained = trained_digits
    graph, model, seen = lc.convert(trained.model, data.x_train[:8]), qat.exact(trained.model), []
    for module in model.modules():
        if isinstance(module, qat.MedianQuant):
            module.register_forward_hook(lambda m, _, out: seen.append((out * 2**m.k).round().long().numpy()))
    with torch.no_grad():
        model(torch.tensor(data.x_test).double())
    for counts, expected in zip(graph.reference(data.x_test).counts.values(), seen, strict=True):
        assert np.array_equal(counts, expected)


def test_everything_unsupported_is_listed_at_once():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10))
    with pytest.raises(lc.ConversionError) as caught:
        lc.convert(model, np.zeros((1, 1, 8, 8), np.uint8))
    message = str(caught.value)
    for part in ("0 is a Conv2d", "1 is a ReLU", "2 is a MaxPool2d", "4 is a Linear", "max_pool='conv'", "qat.prepare"):
        assert part in message


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(qat.Pixels(), nn.Flatten(), qat.MedianQuant()), "must end in a linear layer"),
        (nn.Sequential(qat.Pixels(), nn.AvgPool2d(2), qat.Int8Conv2d(1, 2, 3)), "2: it takes an average"),
        (nn.Sequential(qat.Int8Conv2d(1, 2, 3), qat.TernaryConv2d(2, 2, 3)), "1: it follows a sum"),
        (nn.Sequential(qat.Int8Conv2d(1, 2, 3), qat.MedianQuant()), "must end in a linear layer"),
        (nn.Sequential(qat.Int8Conv2d(3, 2, 3), qat.MedianQuant(), nn.Flatten(), qat.Readout(72, 2)), "channels"),
        (Branching(), "cannot be traced"),
    ],
)
def test_wrong_models(model, message):
    with pytest.raises(lc.ConversionError, match=message):
        lc.convert(model, np.zeros((1, 1, 8, 8), np.uint8))


@pytest.mark.parametrize("broken", ["normalise", "search_thresholds"])
def test_a_wrong_pass_is_found_and_named(broken, monkeypatch, rng):
    """The check after conversion is real: plant a fault in a pass, and it names the pass and the layer."""
    import sys

    from lava_conv.conversion import algebra

    module = algebra if broken == "normalise" else sys.modules["lava_conv.conversion.builder"]
    right = getattr(module, broken)

    def shifted_fold(sums, factor, shift):
        return right(sums, factor, shift + (0.5 if len(factor) == 32 else 0.0))

    def wrong_search(theta, delta, *rest, **options):
        found = right(theta, delta, *rest, **options)
        return found._replace(theta=found.theta + (found.delta // 2 if len(theta) == 32 else 0))

    monkeypatch.setattr(module, broken, shifted_fold if broken == "normalise" else wrong_search)
    words = r"folding: .* layer 3 \(_8\)" if broken == "normalise" else r"threshold search: layer 3 \(_8\)"
    with pytest.raises(lc.ConversionError, match=words):
        lc.convert(random_model(), rng.integers(0, 256, (4, 1, 8, 8), dtype=np.uint8))


def test_wrong_examples():
    for example in (
        np.zeros((2, 2)),
        np.full((1, 1, 8, 8), 0.5),
        np.full((1, 1, 8, 8), np.nan),
        np.zeros((0, 1, 8, 8)),
    ):
        with pytest.raises(lc.DataError, match="example_input"):
            lc.convert(build("digits", 1, 8, 10), example)


def test_max_steps_below_steps():
    with pytest.raises(lc.ConversionError, match="max_steps is 4"):
        lc.convert(build("digits", 1, 8, 10), np.zeros((1, 1, 8, 8), np.uint8), steps=8, max_steps=4)


def test_diverged_model():
    model = build("digits", 1, 8, 10)
    model.get_submodule("1").weight.data[3] = float("nan")
    with pytest.raises(lc.ConversionError, match="diverged"):
        lc.convert(model, np.zeros((1, 1, 8, 8), np.uint8))


@pytest.fixture(scope="module")
def gao_digits(kept):
    from lava_conv.training.loop import Recipe

    data, trained = kept(Recipe.flat(method="ca_lif", levels=8, epochs=6))
    return data, trained.model


def test_constant_input_settles_on_the_same_network(gao_digits):
    data, model = gao_digits
    flash = lc.convert(model, data.x_train[:8], steps=16)
    constant = lc.convert(model, data.x_train[:8], steps=16, input_code="constant")
    predictions = qat.evaluate(model, data.x_test).argmax(1)
    one, other = flash.reference(data.x_test), constant.reference(data.x_test)
    assert np.array_equal(one.predictions[0], predictions) and np.array_equal(other.predictions[0], predictions)
    assert all(np.array_equal(one.counts[i], other.counts[i]) for i in one.counts)
    # the counts grow evenly: half of them after half of the steps, where a flash is nearly done
    half = lc.run(flash, data.x_test[:100], 8), lc.run(constant, data.x_test[:100], record_spikes=True)
    early = half[1].spikes[1][:8].sum(0, dtype=int).sum() / half[1].counts[1].sum()
    assert 0.4 < early < 0.6 < half[0].counts[1].sum() / one.counts[1][:100].sum()


def test_constant_input_on_lava(gao_digits):
    pytest.importorskip("lava.magma", reason="Lava runs on Python 3.10 only")
    data, model = gao_digits
    graph = lc.convert(model, data.x_train[:8], steps=6, input_code="constant")
    assert lc.compare(graph, data.x_test[:6]).equal


def test_input_codes_are_named(gao_digits):
    data, model = gao_digits
    with pytest.raises(lc.ConversionError, match="input_code is 'rate', allowed are flash and constant"):
        lc.convert(model, data.x_train[:8], input_code="rate")


def half_even(n_max, zero):
    """One neuron that takes pixel / 2 - 100 and rounds halves to the even neighbour."""
    layer = export(nn.Conv2d(1, 1, 1), torch.ones(1, 1, 1, 1), torch.tensor(0.5), torch.tensor([-100.0]))
    quantiser = FixedStep(1.0, n_max, zero)
    return nn.Sequential(qat.Pixels(), layer, quantiser, nn.Flatten(), qat.Readout(1, 2, quantiser))


@pytest.mark.parametrize("zero", [0, 1])
def test_even_is_counted_from_the_zero_point(zero):
    """With one threshold within reach a tie can be met exactly: value 0 is even, whatever count stands for it."""
    model = half_even(1, zero)
    pixels = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1)
    graph = lc.convert(model, pixels[:1], 4)
    values = model[:3](torch.from_numpy(pixels).double()).numpy()
    assert np.array_equal(graph.reference(pixels).counts[1], np.rint(values).astype(int) + zero)


def test_halves_that_go_up_are_reported_without_an_example(caplog):
    pixel = np.zeros((1, 1, 1, 1), np.uint8)
    lc.convert(half_even(3, 0), pixel, 8)
    assert "halves that go up" in caplog.text and "may change some on others" in caplog.text
