"""Networks to train, by name. Each is a plain nn.Sequential of the layers in `lava_conv.qat.layers`."""

from collections.abc import Callable

from torch import nn

from lava_conv.errors import DataError
from lava_conv.qat.layers import Int8Conv2d, MedianQuant, Pixels, Readout, TernaryConv2d, TernaryLinear

ENCODER_LEVELS = 4  # the encoder sends at most 4 spikes in a row (B of Zou et al. 2024)


def encoder(channels: int, width: int, kernel: int, padding: int) -> list[nn.Module]:
    """The first layer: int8 weights on pixels, level 0, at most B = 4 spikes."""
    conv = Int8Conv2d(channels, width, kernel, padding=padding)
    return [Pixels(), conv, nn.BatchNorm2d(width), MedianQuant(0, ENCODER_LEVELS, encoder=True)]


def conv_block(inputs: int, width: int, k: int, kernel: int, **options: int) -> list[nn.Module]:
    """Ternary convolution, normalisation, median quantisation."""
    return [TernaryConv2d(inputs, width, kernel, **options), nn.BatchNorm2d(width), MedianQuant(k)]


def pool_block(width: int, k: int) -> list[nn.Module]:
    """The learned pooling of Zou et al. 2024: a 2x2 convolution with stride 2."""
    return conv_block(width, width, k, 2, stride=2)


def dense_block(inputs: int, width: int, k: int) -> list[nn.Module]:
    """Ternary dense layer, normalisation, median quantisation."""
    return [TernaryLinear(inputs, width), nn.BatchNorm1d(width), MedianQuant(k)]


def digits(channels: int = 1, size: int = 8, classes: int = 10, k: int = 0) -> nn.Sequential:
    """24C3-P2-32C3-128-10 for images of 8x8: small enough to train in seconds."""
    return nn.Sequential(
        *encoder(channels, 24, 3, 1),
        *pool_block(24, k),
        *conv_block(24, 32, k, 3, padding=1),
        nn.Flatten(),
        *dense_block(32 * (size // 2) ** 2, 128, k),
        Readout(128, classes),
    )


def lenet(channels: int = 1, size: int = 28, classes: int = 10, k: int = 0) -> nn.Sequential:
    """32C5-P2-64C5-P2-1000-10, the MNIST network of Zou et al. 2024."""
    return nn.Sequential(
        *encoder(channels, 32, 5, 2),
        *pool_block(32, k),
        *conv_block(32, 64, k, 5, padding=2),
        *pool_block(64, k),
        nn.Flatten(),
        *dense_block(64 * (size // 4) ** 2, 1000, k),
        Readout(1000, classes),
    )


MODELS: dict[str, Callable[..., nn.Sequential]] = {"digits": digits, "lenet": lenet}


def build(name: str, **options: int) -> nn.Sequential:
    """A fresh network of the table MODELS."""
    if name not in MODELS:
        raise DataError(f"model is {name!r}, allowed are {', '.join(MODELS)}")
    return MODELS[name](**options)
