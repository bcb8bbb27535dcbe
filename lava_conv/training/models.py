"""Plain float networks of the source papers, by name; `lava_conv.qat.prepare` quantises them.

Weight layers stand without bias where normalisation follows. Pooling is learned (a convolution with stride 2) as in
Zou et al. 2024, or an average.
"""

import inspect
from collections.abc import Callable

from torch import Tensor, fx, nn

from lava_conv.errors import DataError
from lava_conv.network.fixedpoint import INPUT_MAX
from lava_conv.qat.layers import Pixels
from lava_conv.qat.options import Quantisation
from lava_conv.qat.preparation import prepare


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1
) -> list[nn.Module]:
    """Convolution, normalisation, ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


def _pool(width: int) -> list[nn.Module]:
    """The learned pooling: a 2x2 convolution with stride 2."""
    return _conv(width, width, 2, stride=2)


def _dense(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]


def digits(channels: int = 1, size: int = 8, classes: int = 10) -> nn.Sequential:
    """24C3-P2-32C3-128-10 for images of 8x8: small enough to train in seconds."""
    return nn.Sequential(
        *_conv(channels, 24, 3, padding=1),
        *_pool(24),
        *_conv(24, 32, 3, padding=1),
        nn.Flatten(),
        *_dense(32 * (size // 2) ** 2, 128),
        nn.Linear(128, classes),
    )


def lenet(channels: int = 1, size: int = 28, classes: int = 10) -> nn.Sequential:
    """32C5-P2-64C5-P2-1000-10, the MNIST network of Zou et al. 2024."""
    return nn.Sequential(
        *_conv(channels, 32, 5, padding=2),
        *_pool(32),
        *_conv(32, 64, 5, padding=2),
        *_pool(64),
        nn.Flatten(),
        *_dense(64 * (size // 4) ** 2, 1000),
        nn.Linear(1000, classes),
    )


def vgg11(channels: int = 3, size: int = 24, classes: int = 10, width: int = 96) -> nn.Sequential:
    """96C3-256C3-P2-384C3-P2-384C3-256C3-P2-1024C3-1024-10 on 24x24 crops (Zou et al. 2024)."""
    a, b, c, d = width, width * 8 // 3, width * 4, width * 32 // 3
    return nn.Sequential(
        *_conv(channels, a, 3, padding=1),
        *_conv(a, b, 3, padding=1),
        *_pool(b),
        *_conv(b, c, 3, padding=1),
        *_pool(c),
        *_conv(c, c, 3, padding=1),
        *_conv(c, b, 3, padding=1),
        *_pool(b),
        *_conv(b, d, 3, padding=1),
        nn.Flatten(),
        *_dense(d * (size // 8) ** 2, d),
        nn.Linear(d, classes),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, and a shortcut past them (1x1 where the shape changes)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """Residual network for small images (He et al. 2016): a 3x3 convolution, stages of blocks, average, linear."""

    def __init__(self, widths: tuple[int, ...], blocks: int, channels: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        stages, inputs = [], widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stages.append(ResidualBlock(inputs, width, 2 if stage and not block else 1))
                inputs = width
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.relu(self.bn(self.conv(x))))
        return self.linear(self.flatten(self.pool(x)))


def resnet18(channels: int = 3, size: int = 32, classes: int = 10, width: int = 64) -> ResNet:
    """ResNet-18 as used on CIFAR: four stages of two blocks, 64 to 512 channels."""
    return ResNet((width, 2 * width, 4 * width, 8 * width), 2, channels, classes)


def resnet20(channels: int = 3, size: int = 32, classes: int = 10, width: int = 16) -> ResNet:
    """ResNet-20: three stages of three blocks, 16 to 64 channels."""
    return ResNet((width, 2 * width, 4 * width), 3, channels, classes)


def resnet56(channels: int = 3, size: int = 32, classes: int = 10, width: int = 16) -> ResNet:
    """ResNet-56: three stages of nine blocks, 16 to 64 channels."""
    return ResNet((width, 2 * width, 4 * width), 9, channels, classes)


def resnet110(channels: int = 3, size: int = 32, classes: int = 10, width: int = 16) -> ResNet:
    """ResNet-110: three stages of eighteen blocks, 16 to 64 channels."""
    return ResNet((width, 2 * width, 4 * width), 18, channels, classes)


def mobilenet_v1(channels: int = 3, size: int = 32, classes: int = 10, width: int = 32) -> nn.Sequential:
    """MobileNet-V1 (Howard et al. 2017): 27 convolutions, depthwise and 1x1 in turn; with average and linear 29 layers.

    Strides suit 32x32 images: three halvings before the average.
    """
    plan = [(1, 2), (2, 4), (1, 4), (2, 8), (1, 8), (2, 16), *[(1, 16)] * 5, (1, 32), (1, 32)]
    layers, inputs = _conv(channels, width, 3, padding=1), width
    for stride, factor in plan:
        layers += _conv(inputs, inputs, 3, stride=stride, padding=1, groups=inputs)
        layers += _conv(inputs, width * factor, 1)
        inputs = width * factor
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


MODELS: dict[str, Callable[..., nn.Module]] = {
    "digits": digits,
    "lenet": lenet,
    "vgg11": vgg11,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "resnet56": resnet56,
    "resnet110": resnet110,
    "mobilenet-v1": mobilenet_v1,
}


def build_float(name: str, channels: int, size: int, classes: int, width: int | None = None) -> nn.Sequential:
    """A fresh plain network of the table MODELS, behind `Pixels` that brings uint8 images to 0..1."""
    return nn.Sequential(Pixels(1 / INPUT_MAX), _made(name, channels, size, classes, width))


def build(
    name: str,
    channels: int,
    size: int,
    classes: int,
    width: int | None = None,
    options: Quantisation | None = None,
    **changes: object,
) -> fx.GraphModule:
    """A fresh network of the table MODELS, quantised by `options`, the defaults unless given, with `changes`."""
    return prepare(_made(name, channels, size, classes, width), (options or Quantisation()).changed(**changes))


def _made(name: str, channels: int, size: int, classes: int, width: int | None) -> nn.Module:
    if name not in MODELS:
        raise DataError(f"model is {name!r}, allowed are {', '.join(MODELS)}")
    if width is None:
        return MODELS[name](channels, size, classes)
    if "width" not in (known := inspect.signature(MODELS[name]).parameters):
        raise DataError(f"model {name} has no width, allowed are {', '.join(known)}")
    return MODELS[name](channels, size, classes, width)
