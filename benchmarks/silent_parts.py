# ruff: noqa: E501
"""The pieces that `silent.py` makes networks of: for each kind of variation, ways of writing it, as source text.

A piece turns `x` into `x`, from spikes (what an activation gives) to spikes. `«expression»` is a submodule or a parameter
that the constructor makes, `«name=expression»` one that is used again as `self.name`. $C, $H, $W are the shape of `x`,
$N is C * H * W, $K the number of classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# -- layers that users derive from torch's ------------------------------------------------------------------------------


class StandardConv2d(nn.Conv2d):
    """Weight standardisation (Qiao et al. 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        w = w / (w.std((1, 2, 3), keepdim=True) + 1e-3) / 4
        return F.conv2d(x, w, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ScaledConv2d(nn.Conv2d):
    def _conv_forward(self, input, weight, bias):
        return super()._conv_forward(input, weight * 0.5, bias)


class MaskedConv2d(nn.Conv2d):
    """Forward as torch's, after the weight was masked."""

    def forward(self, x):
        mask = torch.ones_like(self.weight)
        mask[:, :, -1] = 0
        return self._conv_forward(x, self.weight * mask, self.bias)


class OwnConv2d(nn.Conv2d):
    """A derived class that changes nothing."""


class NegativeReLU(nn.ReLU):
    def forward(self, x):
        return -torch.relu(x)


class ShiftedReLU(nn.ReLU):
    def forward(self, x):
        return super().forward(x - 0.1)


class LeakyHardtanh(nn.Hardtanh):
    def forward(self, x):
        return F.leaky_relu(x, 0.2)


class CosineLinear(nn.Linear):
    def forward(self, x):
        return F.linear(F.normalize(x, dim=1), self.weight, self.bias)


class DoubledLinear(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class FixedNorm2d(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) * 0.5


class OnePlusNorm2d(nn.BatchNorm2d):
    """gamma is 1 + weight."""

    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, 1 + self.weight, self.bias, eps=self.eps)


class AlwaysDropout(nn.Dropout):
    def forward(self, x):
        return F.dropout(x, self.p, True)


class NoisyIdentity(nn.Identity):
    def forward(self, x):
        return x * 1.5


class SumPool2d(nn.AvgPool2d):
    def forward(self, x):
        return super().forward(x) * 4


class ReversedFlatten(nn.Flatten):
    def forward(self, x):
        return super().forward(x).flip(1)


class ReversedSequential(nn.Sequential):
    def forward(self, x):
        for module in reversed(list(self)):
            x = module(x)
        return x


class SkippingSequential(nn.Sequential):
    def forward(self, x):
        return super().forward(x) + x


class TwiceSequential(nn.Sequential):
    def forward(self, x):
        return super().forward(super().forward(x))


class DropPath(nn.Module):
    """Stochastic depth, the identity in evaluation."""

    def forward(self, x):
        if self.training:
            return x * (torch.rand(len(x), *[1] * (x.ndim - 1)) < 0.5)
        return x


class DepthBlock(nn.Module):
    """Stochastic depth that decides once a batch (Huang et al. 2016); in evaluation the branch is weighted."""

    def __init__(self, channels, share=1.0):
        super().__init__()
        self.conv, self.share = nn.Conv2d(channels, channels, 3, padding=1), share

    def forward(self, x):
        if self.training and float(torch.rand(())) < 0.5:
            return torch.relu(x)
        out = self.conv(x)
        if not self.training and self.share != 1:
            out = out * self.share
        return torch.relu(out + x)


class AlwaysTraining(nn.Module):
    """A container that does not follow eval()."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def train(self, mode=True):
        return self

    def forward(self, x):
        return self.module(x)


class StraightThroughSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0) * 0.5

    @staticmethod
    def backward(ctx, g):
        return g


# -- pieces -------------------------------------------------------------------------------------------------------------

CONV = "x = «nn.Conv2d($C, $C, 3, padding=1)»(x)\n"
NORM = "x = «nn.BatchNorm2d($C)»(x)\n"
RELU = "x = «nn.ReLU()»(x)\n"
PLAIN = {
    "conv, relu": CONV + RELU,
    "conv, norm, relu": CONV + NORM + RELU,
    "sequential": "x = «nn.Sequential(nn.Conv2d($C, $C, 3, padding=1, bias=False), nn.BatchNorm2d($C), nn.ReLU())»(x)",
    "strided": "x = «nn.Conv2d($C, 5, 3, stride=2, padding=1)»(x)\n" + RELU,
    "depthwise separable": "x = «nn.ReLU()»(«nn.BatchNorm2d($C)»(«nn.Conv2d($C, $C, 3, padding=1, groups=$C, bias=False)»(x)))\n"
    "x = «nn.ReLU()»(«nn.Conv2d($C, 6, 1)»(x))",
    "grouped, dilated": "x = «nn.ReLU()»(«nn.Conv2d($C, 2 * $C, 3, padding=2, dilation=2, groups=$C)»(x))\n"
    "x = «nn.ReLU()»(«nn.Conv2d(2 * $C, 4, 1)»(x))",
    "average pool": "x = «nn.AvgPool2d(2)»(x)\n" + CONV + RELU,
    "residual": "y = «nn.ReLU()»(«nn.BatchNorm2d($C)»(«nn.Conv2d($C, $C, 3, padding=1, bias=False)»(x)))\n"
    "y = «nn.BatchNorm2d($C)»(«nn.Conv2d($C, $C, 3, padding=1, bias=False)»(y))\nx = «nn.ReLU()»(y + x)",
    "residual, projected": "y = «nn.BatchNorm2d(6)»(«nn.Conv2d($C, 6, 3, padding=1, stride=2, bias=False)»(x))\n"
    "x = «nn.ReLU()»(y + «nn.BatchNorm2d(6)»(«nn.Conv2d($C, 6, 1, stride=2, bias=False)»(x)))",
    "concatenation": "y = «nn.ReLU()»(«nn.Conv2d($C, 3, 3, padding=1)»(x))\nx = torch.cat([x, y], 1)\n"
    "x = «nn.ReLU()»(«nn.Conv2d($C + 3, 4, 1)»(x))",
    "concatenation of equal branches": "y = «nn.ReLU()»(«nn.Conv2d($C, 3, 3, padding=1)»(x))\n"
    "x = torch.cat([«nn.ReLU()»(«nn.Conv2d($C, 3, 1)»(x)), y], 1)\nx = «nn.ReLU()»(«nn.Conv2d(6, 4, 1)»(x))",
}  # fmt: skip

RELUS = {
    "nn.ReLU(inplace=True)": "x = «nn.ReLU(inplace=True)»(x)",
    "F.relu": "x = F.relu(x)",
    "F.relu(inplace=True)": "x = F.relu(x, inplace=True)",
    "F.relu(inplace=True), result dropped": "F.relu(x, inplace=True)",
    "torch.relu": "x = torch.relu(x)",
    ".relu()": "x = x.relu()",
    ".relu_()": "x = x.relu_()",
    ".relu_(), result dropped": "x.relu_()",
    "torch.relu_": "x = torch.relu_(x)",
    "F.relu_": "x = F.relu_(x)",
    "torch.nn.functional.relu(input=)": "x = F.relu(input=x)",
    "clamp(min=0)": "x = x.clamp(min=0)",
    "clamp_(min=0)": "x = x.clamp_(min=0)",
    "clamp(0)": "x = torch.clamp(x, 0)",
    "clamp(0, 1.5)": "x = x.clamp(0, 1.5)",
    "clamp_(0, 1.5), result dropped": "x.clamp_(0, 1.5)",
    "torch.clamp(min=0, max=2)": "x = torch.clamp(x, min=0, max=2)",
    "torch.clamp(input=)": "x = torch.clamp(input=x, min=0)",
    "clip(0)": "x = x.clip(0)",
    "clamp_min(0)": "x = x.clamp_min(0)",
    "torch.clamp_min": "x = torch.clamp_min(x, 0)",
    "clamp(max=1)": "x = x.clamp(max=1)",
    "clamp(min=0.25)": "x = x.clamp(min=0.25)",
    "clamp(min=-0.25)": "x = x.clamp(min=-0.25)",
    "clamp(0, -1)": "x = x.clamp(0, -1)",
    "clamp(min=False)": "x = x.clamp(min=False)",
    "clamp by a tensor": "x = x.clamp(min=«torch.nn.Parameter(torch.zeros(1))»)",
    "nn.ReLU6": "x = «nn.ReLU6()»(x)",
    "nn.ReLU6(inplace=True)": "x = «nn.ReLU6(True)»(x)",
    "F.relu6": "x = F.relu6(x)",
    "F.relu6(inplace=True), result dropped": "F.relu6(x, inplace=True)",
    "nn.Hardtanh(0, 1)": "x = «nn.Hardtanh(0, 1)»(x)",
    "nn.Hardtanh(0, 1, True)": "x = «nn.Hardtanh(0, 1, True)»(x)",
    "nn.Hardtanh(0, 0.3)": "x = «nn.Hardtanh(0, 0.3)»(x)",
    "F.hardtanh(0, 1)": "x = F.hardtanh(x, 0, 1)",
    "F.hardtanh(min_val=, max_val=)": "x = F.hardtanh(x, min_val=0.0, max_val=0.7)",
    "F.hardtanh_": "F.hardtanh_(x, 0.0, 1.0)",
    "nn.Hardtanh(-1, 1)": "x = «nn.Hardtanh(-1, 1)»(x)",
    "F.hardtanh(x)": "x = F.hardtanh(x)",
    "nn.Threshold(0, 0)": "x = «nn.Threshold(0, 0)»(x)",
    "nn.Threshold(0.2, 0)": "x = «nn.Threshold(0.2, 0)»(x)",
    "F.threshold": "x = F.threshold(x, 0.0, 0.0)",
    "maximum": "x = torch.maximum(x, torch.zeros_like(x))",
    "max(0)": "x = torch.max(x, torch.zeros(1))",
    "x * (x > 0)": "x = x * (x > 0)",
    "where": "x = torch.where(x > 0, x, 0.0)",
    "masked_fill": "x = x.masked_fill(x < 0, 0)",
    "x[x < 0] = 0": "x[x < 0] = 0",
    "leaky_relu(0)": "x = F.leaky_relu(x, 0.0)",
    "leaky_relu(0.1)": "x = F.leaky_relu(x, 0.1)",
    "PReLU": "x = «nn.PReLU(init=0.1)»(x)",
    "abs": "x = x.abs()",
    "square": "x = x**2",
    "RReLU": "x = «nn.RReLU()»(x)",
    "softplus": "x = F.softplus(x)",
    "rrelu(training=True)": "x = F.rrelu(x, training=True)",
    "twice": "x = F.relu(F.relu(x))",
    "relu, then relu6": "x = «nn.ReLU()»(x)\nx = «nn.ReLU6()»(x)",
    "relu, then hardtanh(0, 0.5)": "x = «nn.ReLU()»(x)\nx = «nn.Hardtanh(0, 0.5)»(x)",
    "relu, then clamp(max=0.5)": "x = «nn.ReLU()»(x)\nx = x.clamp(max=0.5)",
    "relu, then clamp(0, 0.5)": "x = «nn.ReLU()»(x)\nx = x.clamp(0, 0.5)",
    "hardtanh(0, 0.5), then relu": "x = «nn.Hardtanh(0, 0.5)»(x)\nx = F.relu(x)",
    "hardtanh(0, 0.5), then hardtanh(0, 2)": "x = «nn.Hardtanh(0, 0.5)»(x)\nx = «nn.Hardtanh(0, 2)»(x)",
    "one nn.ReLU for all": "x = «act=nn.ReLU()»(x)\nx = «nn.Conv2d($C, $C, 1)»(x)\nx = self.act(x)",
    "one nn.ReLU6(inplace) for all": "x = «act=nn.ReLU6(True)»(x)\nx = «nn.Conv2d($C, $C, 1)»(x)\nx = self.act(x)",
    "activation from a table": "x = «nn.ModuleDict({'relu': nn.ReLU()})»['relu'](x)",
    "activation in a list": "for m in «nn.ModuleList([nn.ReLU(), nn.Identity()])»: x = m(x)",
    "activation kept as a function": "act = torch.relu\nx = act(x)",
    "nn.ReLU subclass, negative": "x = «NegativeReLU()»(x)\nx = «nn.ReLU()»(«nn.Conv2d($C, $C, 1)»(x))",
    "nn.ReLU subclass, shifted": "x = «ShiftedReLU()»(x)",
    "nn.Hardtanh subclass": "x = «LeakyHardtanh(0, 1)»(x)",
    "autograd.Function": "x = StraightThroughSign.apply(x)",
    "relu(x) + relu(-x)": "x = F.relu(x) + F.relu(-x)",
    "relu under no_grad": "with torch.no_grad(): x = F.relu(x)",
    "relu of double": "x = F.relu(x.double()).to(x.dtype)",
    "relu out=": "x = torch.clamp(x, min=0, out=torch.empty(0))",
}  # fmt: skip

CONVS = {
    "padding='same'": "x = «nn.Conv2d($C, 5, 3, padding='same')»(x)",
    "padding='same', even kernel": "x = «nn.Conv2d($C, 5, 2, padding='same')»(x)",
    "padding='same', dilated": "x = «nn.Conv2d($C, 5, 3, padding='same', dilation=2)»(x)",
    "padding='valid'": "x = «nn.Conv2d($C, 5, 3, padding='valid')»(x)",
    "padding_mode='reflect'": "x = «nn.Conv2d($C, 5, 3, padding=1, padding_mode='reflect')»(x)",
    "padding_mode='circular'": "x = «nn.Conv2d($C, 5, 3, padding=1, padding_mode='circular')»(x)",
    "padding_mode='replicate', 0": "x = «nn.Conv2d($C, 5, 3, padding_mode='replicate')»(x)",
    "kernel (3, 1), stride (2, 1)": "x = «nn.Conv2d($C, 5, (3, 1), stride=(2, 1), padding=(1, 0))»(x)",
    "kernel (1, 3), dilation (1, 2)": "x = «nn.Conv2d($C, 5, (1, 3), dilation=(1, 2), padding=(0, 2))»(x)",
    "large padding": "x = «nn.Conv2d($C, 5, 3, padding=3)»(x)",
    "stride beyond the kernel": "x = «nn.Conv2d($C, 5, 1, stride=3)»(x)",
    "groups": "x = «nn.Conv2d($C, 2 * $C, 3, groups=$C)»(x)",
    "lazy": "x = «nn.Conv2d($C, 5, 3, bias=True)»(x)",
    "F.conv2d": "x = F.conv2d(x, «nn.Parameter(torch.randn(5, $C, 3, 3) / 3)»)",
    "F.conv2d of a module's weight": "«conv=nn.Conv2d($C, 5, 3, padding=1)»\nx = F.conv2d(x, self.conv.weight)",
    "F.conv2d of a scaled weight": "«conv=nn.Conv2d($C, 5, 3)»\nx = F.conv2d(x, self.conv.weight * 0.5, self.conv.bias)",
    "conv.forward": "«conv=nn.Conv2d($C, 5, 3)»\nx = self.conv.forward(x)",
    "conv._conv_forward": "«conv=nn.Conv2d($C, 5, 3)»\nx = self.conv._conv_forward(x, self.conv.weight * 2, None)",
    "conv(input=x)": "x = «nn.Conv2d($C, 5, 3)»(input=x)",
    "F.pad": "x = F.pad(x, (1, 1, 1, 1))\nx = «nn.Conv2d($C, 5, 3)»(x)",
    "F.pad by 1": "x = F.pad(x, (1, 1, 1, 1), value=1.0)\nx = «nn.Conv2d($C, 5, 3)»(x)",
    "nn.ZeroPad2d": "x = «nn.ZeroPad2d(1)»(x)\nx = «nn.Conv2d($C, 5, 3)»(x)",
    "nn.ConstantPad2d": "x = «nn.ConstantPad2d(1, 0.5)»(x)\nx = «nn.Conv2d($C, 5, 3)»(x)",
    "nn.ReflectionPad2d": "x = «nn.ReflectionPad2d(1)»(x)\nx = «nn.Conv2d($C, 5, 3)»(x)",
    "one convolution twice": "x = F.relu(«conv=nn.Conv2d($C, $C, 3, padding=1)»(x))\nx = self.conv(x)",
    "one convolution under two names": "«conv=nn.Conv2d($C, $C, 3, padding=1)»\n«again=self.conv»\n"
    "x = self.again(F.relu(self.conv(x)))",
    "one convolution on two branches": "x = «conv=nn.Conv2d($C, $C, 3, padding=1)»(x) + self.conv(F.relu(«nn.Conv2d($C, $C, 1)»(x)))",
    "one block twice": "x = «b=nn.Sequential(nn.Conv2d($C, $C, 3, padding=1), nn.BatchNorm2d($C), nn.ReLU())»(x)\nx = self.b(x)",
    "tied weights": "«a=nn.Conv2d($C, $C, 3, padding=1)»\n«b=nn.Conv2d($C, $C, 3, padding=1)»\n@self.b.weight = self.a.weight\n"
    "x = self.b(F.relu(self.a(x)))",
    "tied, transposed weights": "«a=nn.Conv2d($C, $C, 1)»\nx = F.conv2d(F.relu(self.a(x)), self.a.weight.transpose(0, 1))",
    "two convolutions in a row": "x = «nn.Conv2d($C, 5, 3)»(«nn.Conv2d($C, $C, 1)»(x))",
    "sum of two convolutions": "x = «nn.Conv2d($C, 5, 3, padding=1)»(x) + «nn.Conv2d($C, 5, 1)»(x)",
    "sum of one convolution's output": "x = «nn.Conv2d($C, 5, 1)»(x)\nx = x + x",
    "concatenated sums": "x = torch.cat([«nn.Conv2d($C, 5, 3, padding=1)»(x), «nn.Conv2d($C, 2, 1)»(x)], 1)",
    "concatenated sums, unequal sizes": "x = torch.cat([«nn.Conv2d($C, 2, 3, padding=1)»(x) * 1, «nn.Conv2d($C, 5, 1)»(x)], 1)",
    "transposed convolution": "x = «nn.ConvTranspose2d($C, 5, 2, stride=2)»(x)",
    "linear on the last axis": "x = «nn.Linear($W, 5)»(x)",
    "linear as 1x1": "x = «nn.Linear($C, 5)»(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)",
    "Conv2d subclass that changes nothing": "x = «OwnConv2d($C, 5, 3)»(x)",
    "weight standardisation": "x = «StandardConv2d($C, 5, 3, padding=1)»(x)",
    "overridden _conv_forward": "x = «ScaledConv2d($C, 5, 3)»(x)",
    "masked convolution": "x = «MaskedConv2d($C, 5, 3, padding=1)»(x)",
    "transposed axes": "x = «nn.Conv2d($C, 5, (3, 2))»(x.transpose(2, 3))",
    "transposed back": "x = «nn.Conv2d($C, 5, (3, 2))»(x.transpose(2, 3)).transpose(2, 3)",
    "channel shuffle": "x = x.view(x.size(0), 2, $C // 2, $H, $W).transpose(1, 2).reshape(x.size(0), $C, $H, $W)\nx = «nn.Conv2d($C, 5, 3)»(x)",
    "nn.ChannelShuffle": "x = «nn.Conv2d($C, 5, 3)»(«nn.ChannelShuffle(2)»(x))",
    "flip": "x = «nn.Conv2d($C, 5, 3)»(x.flip(3))",
    "roll": "x = «nn.Conv2d($C, 5, 3)»(torch.roll(x, 1, 3))",
    "cropped": "x = «nn.Conv2d($C, 5, 3)»(x[:, :, 1:, :-1])",
    "split channels": "a, b = x.chunk(2, 1)\nx = torch.cat([«nn.Conv2d($C // 2, 3, 1)»(a), «nn.Conv2d($C - $C // 2, 3, 1)»(b)], 1)",
    "channels reversed": "x = «nn.Conv2d($C, 5, 3)»(x[:, list(range($C - 1, -1, -1))])",
    "upsampled": "x = «nn.Conv2d($C, 5, 3, stride=2)»(F.interpolate(x, scale_factor=2))",
    "channels_last": "x = «nn.Conv2d($C, 5, 3)»(x.contiguous(memory_format=torch.channels_last))",
    "bias added by hand": "x = «nn.Conv2d($C, 5, 3, bias=False)»(x) + «nn.Parameter(torch.randn(1, 5, 1, 1))»",
    "gated": "y = «nn.Conv2d($C, $C, 1)»(x)\nx = «nn.Conv2d($C, $C, 1)»(x) * torch.sigmoid(y)",
    "squeeze and excitation": "x = x * torch.sigmoid(«nn.Conv2d($C, $C, 1)»(x.mean((2, 3), keepdim=True)))",
    "matmul": "x = x.flatten(2).transpose(1, 2) @ «nn.Parameter(torch.randn($C, 5) / 3)»\nx = x.transpose(1, 2).view(-1, 5, $H, $W)",
    "a convolution nobody uses": "y = «nn.Conv2d($C, 5, 3)»(x)\nx = «nn.Conv2d($C, 5, 3)»(x)",
    "a branch nobody uses": "y = F.relu(«nn.Conv2d($C, 5, 3)»(x))\nx = «nn.Conv2d($C, 5, 3)»(x)",
    "no bias at all": "x = «nn.Conv2d($C, 5, 3, bias=False)»(x)",
    "bias set to None": "«conv=nn.Conv2d($C, 5, 3)»\n@self.conv.bias = None\nx = self.conv(x)",
    "Conv1d on rows": "x = «nn.Conv1d($C * $H, 5, 3)»(x.flatten(1, 2))[:, :, None]",
    "try and except": "try: x = «nn.Conv2d($C, 5, 3)»(x)\nexcept TypeError: x = x",
    "in-place on the weight": "«conv=nn.Conv2d($C, 5, 3)»\nx = self.conv(x)\nx = x.mul_(1)",
}  # fmt: skip

NORMS = {
    "affine=False": "x = «nn.BatchNorm2d($C, affine=False)»(x)",
    "track_running_stats=False": "x = «nn.BatchNorm2d($C, track_running_stats=False)»(x)",
    "eps=0.1": "x = «nn.BatchNorm2d($C, eps=0.1)»(x)",
    "twice": "x = «nn.BatchNorm2d($C)»(«nn.BatchNorm2d($C)»(x))",
    "one for two places": "x = F.relu(«bn=nn.BatchNorm2d($C)»(x))\nx = self.bn(«nn.Conv2d($C, $C, 1)»(x))",
    "F.batch_norm": "«bn=nn.BatchNorm2d($C)»\nx = F.batch_norm(x, self.bn.running_mean, self.bn.running_var, self.bn.weight, self.bn.bias)",
    "F.batch_norm(training=True)": "«bn=nn.BatchNorm2d($C)»\nx = F.batch_norm(x, None, None, self.bn.weight, self.bn.bias, True)",
    "FixedNorm subclass": "x = «FixedNorm2d($C)»(x)",
    "1 + weight": "x = «OnePlusNorm2d($C)»(x)",
    "SyncBatchNorm": "x = «nn.SyncBatchNorm($C)»(x)",
    "GroupNorm": "x = «nn.GroupNorm(1, $C)»(x)",
    "InstanceNorm2d": "x = «nn.InstanceNorm2d($C, affine=True)»(x)",
    "InstanceNorm2d with running statistics": "x = «nn.InstanceNorm2d($C, track_running_stats=True)»(x)",
    "LayerNorm": "x = «nn.LayerNorm([$C, $H, $W])»(x)",
    "LocalResponseNorm": "x = «nn.LocalResponseNorm(2)»(x)",
    "LayerScale": "x = x * «nn.Parameter(torch.rand(1, $C, 1, 1) + 0.5)»",
    "affine by hand": "x = x * «nn.Parameter(torch.rand(1, $C, 1, 1) + 0.5)» + «nn.Parameter(torch.randn(1, $C, 1, 1))»",
    "buffer added": "@self.register_buffer('shift', torch.randn(1, $C, 1, 1))\nx = x + self.shift",
    "always in training": "x = «AlwaysTraining(nn.BatchNorm2d($C))»(x)",
    "bn.forward": "«bn=nn.BatchNorm2d($C)»\nx = self.bn.forward(x)",
    "bn.eval() in forward": "«bn=nn.BatchNorm2d($C)»\nself.bn.eval()\nx = self.bn(x)",
    "bn.train() in forward": "«bn=nn.BatchNorm2d($C)»\nself.bn.train()\nx = self.bn(x)",
    "BatchNorm1d on flattened pixels": "x = «nn.BatchNorm1d($C)»(x.flatten(2)).view(-1, $C, $H, $W)",
}  # fmt: skip

POOLS = {
    "AvgPool2d(3, stride=1, padding=1)": "x = «nn.AvgPool2d(3, 1, 1)»(x)",
    "AvgPool2d(3, 2, 1, count_include_pad=False)": "x = «nn.AvgPool2d(3, 2, 1, count_include_pad=False)»(x)",
    "AvgPool2d(3, 2, ceil_mode=True)": "x = «nn.AvgPool2d(3, 2, ceil_mode=True)»(x)",
    "AvgPool2d(2, ceil_mode=True)": "x = «nn.AvgPool2d(2, ceil_mode=True)»(x)",
    "AvgPool2d(divisor_override=3)": "x = «nn.AvgPool2d(2, divisor_override=3)»(x)",
    "AvgPool2d((1, 2))": "x = «nn.AvgPool2d((1, 2))»(x)",
    "AvgPool2d(2, stride=1)": "x = «nn.AvgPool2d(2, stride=1)»(x)",
    "AvgPool2d(1)": "x = «nn.AvgPool2d(1)»(x)",
    "F.avg_pool2d(2)": "x = F.avg_pool2d(x, 2)",
    "F.avg_pool2d(3, stride=2, ceil_mode=True)": "x = F.avg_pool2d(x, 3, stride=2, ceil_mode=True)",
    "F.avg_pool2d(count_include_pad=False)": "x = F.avg_pool2d(x, 3, 2, 1, False, False)",
    "F.avg_pool2d(kernel_size=(2, 1))": "x = F.avg_pool2d(x, kernel_size=(2, 1))",
    "torch.nn.functional.avg_pool2d(divisor_override)": "x = F.avg_pool2d(x, 2, divisor_override=1)",
    "AdaptiveAvgPool2d(1)": "x = «nn.AdaptiveAvgPool2d(1)»(x)",
    "AdaptiveAvgPool2d(2)": "x = «nn.AdaptiveAvgPool2d(2)»(x)",
    "AdaptiveAvgPool2d(3)": "x = «nn.AdaptiveAvgPool2d(3)»(x)",
    "AdaptiveAvgPool2d((None, 1))": "x = «nn.AdaptiveAvgPool2d((None, 1))»(x)",
    "F.adaptive_avg_pool2d((2, 1))": "x = F.adaptive_avg_pool2d(x, (2, 1))",
    "mean((2, 3), keepdim=True)": "x = x.mean((2, 3), keepdim=True)",
    "mean(dim=[-2, -1], keepdim=True)": "x = x.mean(dim=[-2, -1], keepdim=True)",
    "torch.mean(x, (2, 3), True)": "x = torch.mean(x, (2, 3), True)",
    "mean(3, keepdim=True)": "x = x.mean(3, keepdim=True)",
    "mean((1, 2), keepdim=True)": "x = x.mean((1, 2), keepdim=True)",
    "mean((0, 2, 3))": "x = x - x.mean((0, 2, 3), keepdim=True)",
    "sum((2, 3), keepdim=True)": "x = x.sum((2, 3), keepdim=True)",
    "x[:, :, ::2, ::2]": "x = x[:, :, ::2, ::2]",
    "two averages": "x = «nn.AvgPool2d(2, 1)»(«nn.AvgPool2d(2)»(x))",
    "average of a sum": "x = «nn.AvgPool2d(2)»(«nn.Conv2d($C, $C, 1)»(x))\nx = F.relu(x)",
    "average of a convolution after it": "x = F.relu(«nn.AvgPool2d(2)»(«nn.BatchNorm2d($C)»(«nn.Conv2d($C, $C, 3)»(x))))",
    "one average twice": "x = «pool=nn.AvgPool2d(2)»(x)\nx = F.relu(«nn.Conv2d($C, $C, 3, padding=1)»(x))\nx = self.pool(x)",
    "average subclass": "x = «SumPool2d(2)»(x)",
    "LPPool2d": "x = «nn.LPPool2d(1, 2)»(x)",
    "normalised average": "x = «nn.BatchNorm2d($C)»(«nn.AvgPool2d(2)»(x))\nx = F.relu(x)",
    "average, relu": "x = F.relu(«nn.AvgPool2d(2)»(x))",
    "average + shortcut": "x = F.relu(«nn.AvgPool2d(2)»(x) + «nn.Conv2d($C, $C, 2, stride=2)»(x))",
    "MaxPool2d(2)": "x = «nn.MaxPool2d(2)»(x)",
    "MaxPool2d(3, 2, 1)": "x = «nn.MaxPool2d(3, 2, 1)»(x)",
    "MaxPool2d(3, 2, ceil_mode=True)": "x = «nn.MaxPool2d(3, 2, ceil_mode=True)»(x)",
    "MaxPool2d(2, dilation=2)": "x = «nn.MaxPool2d(2, dilation=2)»(x)",
    "MaxPool2d(2, return_indices=True)": "x, _ = «nn.MaxPool2d(2, return_indices=True)»(x)",
    "F.max_pool2d(2)": "x = F.max_pool2d(x, 2)",
    "F.max_pool2d(3, 2, ceil_mode=True)": "x = F.max_pool2d(x, 3, 2, ceil_mode=True)",
    "torch.max_pool2d(2, dilation=2)": "x = torch.max_pool2d(x, 2, dilation=2)",
    "F.max_pool2d(kernel_size=2, stride=1)": "x = F.max_pool2d(x, kernel_size=2, stride=1)",
    "AdaptiveMaxPool2d(2)": "x = «nn.AdaptiveMaxPool2d(2)»(x)",
    "amax": "x = x.amax((2, 3), keepdim=True)",
}  # fmt: skip

ADDITIONS = {
    "y + x": "x = y + x",
    "x + y": "x = x + y",
    "y += x": "y += x\nx = y",
    "y += x, x again": "y += x\nx = F.relu(y) + x",
    "x += y": "x += y",
    "y.add(x)": "x = y.add(x)",
    "y.add_(x)": "x = y.add_(x)",
    "y.add_(x), result dropped": "y.add_(x)\nx = y",
    "x.add_(y)": "x = x.add_(y)",
    "torch.add": "x = torch.add(x, y)",
    "torch.add(alpha=2)": "x = torch.add(x, y, alpha=2)",
    "x.add(y, alpha=0.5)": "x = x.add(y, alpha=0.5)",
    "x.add_(y, alpha=-1)": "x = x.add_(y, alpha=-1)",
    "torch.add(input=, other=)": "x = torch.add(input=x, other=y)",
    "torch.add(out=)": "x = torch.add(x, y, out=torch.empty(0))",
    "torch.sub": "x = torch.sub(x, y)",
    "x - y": "x = x - y",
    "y - x": "x = y - x",
    "x.sub_(y)": "x.sub_(y)",
    "x + 2 * y": "x = x + 2 * y",
    "2 * x + y": "x = 2 * x + y",
    "x * 0.5 + y * 0.5": "x = x * 0.5 + y * 0.5",
    "(x + y) / 2": "x = (x + y) / 2",
    "(x + y) * 0.7": "x = (x + y) * 0.7",
    "(x + y).mul_(2)": "x = (x + y).mul_(2)",
    "x + y + 1": "x = x + y + 1",
    "x + y + x": "x = x + y + x",
    "x + (y + y)": "x = x + (y + y)",
    "1 + x + y": "x = 1 + x + y",
    "sum([x, y])": "x = sum([x, y])",
    "stack, sum": "x = torch.stack([x, y]).sum(0)",
    "stack, mean": "x = torch.stack([x, y]).mean(0)",
    "functools.reduce": "x = functools.reduce(torch.add, [x, y])",
    "operator.add": "x = operator.add(x, y)",
    "operator.iadd": "x = operator.iadd(y, x)",
    "x.__add__(y)": "x = x.__add__(y)",
    "FloatFunctional.add": "x = «torch.ao.nn.quantized.FloatFunctional()».add(x, y)",
    "FloatFunctional.add_relu": "x = «torch.ao.nn.quantized.FloatFunctional()».add_relu(x, y)",
    "torch.addcmul": "x = torch.addcmul(x, y, torch.ones(1))",
    "torch.lerp": "x = torch.lerp(x, y, 0.5)",
    "x * y": "x = x * y",
    "maximum(x, y)": "x = torch.maximum(x, y)",
    "LayerScale on the branch": "x = x + y * «nn.Parameter(torch.rand(1, $C, 1, 1))»",
    "ReZero": "x = x + «nn.Parameter(torch.tensor(0.5))» * y",
    "broadcast over channels": "x = x + y[:, :1]",
    "broadcast over space": "x = x + y.mean((2, 3), keepdim=True)",
    "broadcast convolution": "x = x + «nn.Conv2d($C, 1, 1)»(y)",
    "broadcast pool": "x = x + F.adaptive_avg_pool2d(F.relu(y), 1)",
    "DropPath": "x = x + «DropPath()»(y)",
    "y.data": "x = x + y.data",
    "y.detach()": "x = x + y.detach()",
    "y.clone()": "x = x + y.clone()",
    "x.clone(), then x.add_": "z = x.clone()\nz.add_(y)\nx = z",
    "dropout on the branch": "x = x + «nn.Dropout(0.3)»(y)",
    "padded shortcut": "x = F.pad(x[:, :-1], (0, 0, 0, 0, 0, 1)) + y",
    "strided shortcut": "x = x[:, :, ::2, ::2] + y[:, :, ::2, ::2]",
    "einsum": "x = x + torch.einsum('nchw,c->nchw', y, «nn.Parameter(torch.rand($C))»)",
    "two residuals in a chain": "z = F.relu(x + y)\nx = z + «nn.Conv2d($C, $C, 1)»(z)",
    "relu(y) + x": "x = F.relu(y) + x",
    "relu(y) + relu6(x)": "x = F.relu(y) + F.relu6(x)",
}  # fmt: skip
BRANCHES = (
    "y = «nn.Conv2d($C, $C, 3, padding=1)»(x)",
    "y = «nn.BatchNorm2d($C)»(«nn.Conv2d($C, $C, 3, padding=1, bias=False)»(x))",
    "y = F.relu(«nn.Conv2d($C, $C, 1)»(x))\ny = «nn.Conv2d($C, $C, 3, padding=1)»(y)",
)

JOINS = {
    "cat([x, y], 1)": "x = torch.cat([x, y], 1)",
    "cat((y, x), dim=1)": "x = torch.cat((y, x), dim=1)",
    "cat(dim=-3)": "x = torch.cat([x, y], dim=-3)",
    "cat(axis=1)": "x = torch.cat([x, y], axis=1)",
    "cat([x, x])": "x = torch.cat([x, x], 1)",
    "cat([x, y, x])": "x = torch.cat([x, y, x], 1)",
    "cat(dim=2)": "x = torch.cat([x, y[:, :1].expand_as(x)], 2)",
    "cat(dim=-1) of 4-D": "x = torch.cat([x, x], -1)",
    "cat(dim=0)": "x = torch.cat([x, x], 0)[: len(x)]",
    "cat of three": "x = torch.cat([x, y, F.relu(«nn.Conv2d($C, 2, 1)»(x))], 1)",
    "cat of cat": "x = torch.cat([torch.cat([x, y], 1), F.relu(«nn.Conv2d($C, 2, 1)»(x))], 1)",
    "cat then relu": "x = F.relu(torch.cat([x, «nn.Conv2d($C, 3, 1)»(x)], 1))",
    "cat then norm, relu": "x = torch.cat([x, y], 1)\nx = F.relu(«nn.LazyBatchNorm2d()»(x))",
    "cat of sums then norm": "x = torch.cat([«nn.Conv2d($C, 3, 1)»(x), «nn.Conv2d($C, 2, 1)»(x)], 1)\nx = F.relu(«nn.BatchNorm2d(5)»(x))",
    "cat of sum and spikes": "x = F.relu(torch.cat([«nn.Conv2d($C, 3, 1)»(x), y], 1))",
    "cat of pools": "x = torch.cat([«nn.AvgPool2d(2)»(x), «nn.AvgPool2d(2)»(y)], 1)",
    "cat of pool and strided": "x = torch.cat([«nn.AvgPool2d(2)»(x), F.relu(«nn.Conv2d($C, 3, 2, stride=2)»(x))], 1)",
    "cat then pool": "x = «nn.AvgPool2d(2)»(torch.cat([x, y], 1))",
    "torch.concat": "x = torch.concat([x, y], 1)",
    "torch.hstack": "x = torch.hstack([x, y])",
    "cat(tensors=, dim=)": "x = torch.cat(tensors=[x, y], dim=1)",
    "cat with zeros": "x = torch.cat([x, torch.zeros(x.size(0), 1, $H, $W)], 1)",
    "cat with clipped": "x = torch.cat([x, «nn.Hardtanh(0, 0.5)»(«nn.Conv2d($C, 3, 1)»(x))], 1)",
    "cat of x and 2x": "x = torch.cat([x, 2 * x], 1)",
    "cat then add": "x = F.relu(«nn.Conv2d($C, $C + 3, 1)»(x) + torch.cat([x, y], 1))",
    "cat of unequal ranges": "x = torch.cat([x, F.relu(«nn.Conv2d($C, 3, 1)»(x) * 20)], 1)",
    "FloatFunctional.cat": "x = «torch.ao.nn.quantized.FloatFunctional()».cat([x, y], 1)",
    "dense block": "for c in «nn.ModuleList([nn.Conv2d($C, 2, 3, padding=1), nn.Conv2d($C + 2, 2, 3, padding=1)])»: "
    "x = torch.cat([x, F.relu(c(x))], 1)",
    "x * 2 before cat": "x = x.mul_(2)\nx = torch.cat([x, y], 1)",
}  # fmt: skip

SCALINGS = {
    "x * 2": "x = x * 2",
    "2 * x": "x = 2 * x",
    "x / 2": "x = x / 2",
    "x.mul(0.5)": "x = x.mul(0.5)",
    "x.mul_(3)": "x.mul_(3)",
    "x *= 2": "x *= 2",
    "x /= 2": "x /= 2",
    "x + 1": "x = x + 1",
    "x += 1": "x += 1",
    "x - 0.5": "x = x - 0.5",
    "1 - x": "x = 1 - x",
    "-x": "x = -x",
    "x.neg()": "x = x.neg()",
    "x.sqrt()": "x = x.abs().sqrt()",
    "x.add(1)": "x = x.add(1)",
    "torch.add(x, 1)": "x = torch.add(x, 1)",
    "x + torch.ones": "x = x + torch.ones(1, $C, 1, 1)",
    "x + parameter": "x = x + «nn.Parameter(torch.ones(1))»",
    "x * parameter": "x = x * «nn.Parameter(torch.full((1,), 0.3))»",
    "x.to(bfloat16)": "x = x.to(torch.bfloat16).to(torch.float32)",
    "x.half().float()": "x = x.half().float()",
    "round": "x = torch.round(x * 4) / 4",
    "floor_": "x.floor_()",
    "x.pow(1)": "x = x.pow(1)",
    "normalised": "x = F.normalize(x)",
    "clipped noise": "x = x + 0.1 * torch.randn_like(x)",
    "x.type_as": "x = x.type_as(x)",
    "x.int().float()": "x = x.int().float()",
    "if x.sum() > 0": "if x.sum() > 0: x = x * 2",
    "if x.shape[0] > 1": "if x.shape[0] > 1: x = x * 2",
    "if len(x) > 3": "x = x * (2 if x.size(0) > 3 else 1)",
    "assert": "assert x.dim() == 4",
    "x / x.shape[2]": "x = x / x.shape[2]",
    "x / len(x)": "x = x / x.size(0)",
    "in training only": "x = x * 2 if self.training else x",
    "in evaluation only": "x = x if self.training else x * 2",
    "counter in a buffer": "@self.register_buffer('seen', torch.ones(()))\nx = x * self.seen",
    "python attribute": "@self.factor = 1.5\nx = x * self.factor",
    "softmax2d": "x = F.softmax(x, 1)",
}  # fmt: skip

IDENTITIES = {
    "nn.Identity": "x = «nn.Identity()»(x)",
    "NoisyIdentity subclass": "x = «NoisyIdentity()»(x)",
    "nn.Dropout": "x = «nn.Dropout(0.5)»(x)",
    "nn.Dropout2d": "x = «nn.Dropout2d(0.5)»(x)",
    "nn.Dropout(inplace=True)": "x = «nn.Dropout(0.5, True)»(x)",
    "nn.AlphaDropout": "x = «nn.AlphaDropout(0.5)»(x)",
    "nn.FeatureAlphaDropout": "x = «nn.FeatureAlphaDropout(0.5)»(x)",
    "F.dropout without training": "x = F.dropout(x, 0.2)",
    "F.dropout(training=True)": "x = F.dropout(x, 0.2, training=True)",
    "F.dropout(training=self.training)": "x = F.dropout(x, 0.5, training=self.training)",
    "F.dropout2d(x, 0.2, self.training)": "x = F.dropout2d(x, 0.5, self.training)",
    "F.dropout2d without training": "x = F.dropout2d(x, 0.5)",
    "F.dropout(training=False)": "x = F.dropout(x, 0.5, training=False)",
    "F.dropout(p=0)": "x = F.dropout(x, 0.0)",
    "torch.dropout(train=False)": "x = torch.dropout(x, 0.5, False)",
    "torch.dropout(train=True)": "x = torch.dropout(x, 0.5, True)",
    "F.alpha_dropout": "x = F.alpha_dropout(x, 0.3, True)",
    "AlwaysDropout subclass": "x = «AlwaysDropout(0.3)»(x)",
    "dropout always in training": "x = «AlwaysTraining(nn.Dropout(0.3))»(x)",
    "contiguous": "x = x.contiguous()",
    "clone": "x = x.clone()",
    "detach": "x = x.detach()",
    "float": "x = x.float()",
    "to(x.dtype)": "x = x.to(x.dtype)",
    "view(x.shape)": "x = x.view(x.shape)",
    "view(x.size())": "x = x.view(x.size())",
    "reshape(-1, C, H, W)": "x = x.reshape(-1, $C, $H, $W)",
    "view(-1, C, W, H)": "x = x.view(-1, $C, $W, $H)",
    "flatten, unflatten": "x = x.flatten(1).unflatten(1, ($C, $H, $W))",
    "permute there and back": "x = x.permute(0, 2, 3, 1).permute(0, 3, 1, 2)",
    "channels_last": "x = x.to(memory_format=torch.channels_last)",
    "unsqueeze, squeeze": "x = x.unsqueeze(1).squeeze(1)",
    "x[:]": "x = x[:]",
    "x[...]": "x = x[..., :]",
    "empty Sequential": "x = «nn.Sequential()»(x)",
    "squeeze()": "x = x.squeeze()",
    "nn.Flatten(0, 0)": "x = «nn.Flatten(0, 0)»(x)",
    "DropPath": "x = «DropPath()»(x)",
    "DepthBlock": "x = «DepthBlock($C)»(x)",
    "DepthBlock, weighted": "x = «DepthBlock($C, 0.5)»(x)",
    "ReversedSequential": "x = «ReversedSequential(nn.ReLU(), nn.BatchNorm2d($C), nn.Conv2d($C, $C, 1))»(x)",
    "SkippingSequential": "x = F.relu(«SkippingSequential(nn.Conv2d($C, $C, 3, padding=1), nn.BatchNorm2d($C))»(x))",
    "TwiceSequential": "x = «TwiceSequential(nn.Conv2d($C, $C, 1), nn.ReLU())»(x)",
    "checkpoint": "x = torch.utils.checkpoint.checkpoint(«nn.Sequential(nn.Conv2d($C, $C, 1), nn.ReLU())», x, use_reentrant=False)",
    "module called through a list": "for m in [«nn.Conv2d($C, $C, 1)», torch.relu]: x = m(x)",
    "fx.wrap'd": "x = torch.nn.functional.relu(torch.Tensor.add(x, 0))",
    "torch.Tensor.relu(x)": "x = torch.Tensor.relu(x)",
    "getattr(x, 'relu')()": "x = getattr(x, 'relu')()",
    "torch.no_grad": "with torch.no_grad(): x = F.relu(«nn.Conv2d($C, $C, 1)»(x))",
    "print(x.shape)": "y = x.shape[1]",
    "dictionary": "d = {'a': F.relu(«nn.Conv2d($C, $C, 1)»(x)), 'b': x}\nx = d['a'] + d['b']",
    "tuple": "a, b = (x, F.relu(«nn.Conv2d($C, $C, 1)»(x)))\nx = b",
    "upsample by 1": "x = F.interpolate(x, scale_factor=1)",
    "quant and dequant stubs": "x = «torch.ao.quantization.DeQuantStub()»(«torch.ao.quantization.QuantStub()»(x))",
}  # fmt: skip

ALIASES = (
    "y = x",
    "y = «nn.Identity()»(x)",
    "y = «nn.Dropout(0.5, inplace=True)»(x)",
    "y = «nn.Dropout(0.3)»(x)",
    "y = F.dropout(x, 0.5, self.training)",
    "y = x.view(x.shape)",
    "y = x.view(x.size(0), $C, $H, $W)",
    "y = x.reshape(x.shape)",
    "y = x.contiguous()",
    "y = x.detach()",
    "y = x[:]",
    "y = x.float()",
    "y = x.clone()",
    "y = x.narrow(1, 0, $C)",
    "y = x.flatten(1).view(x.shape)",
    "y = «nn.Sequential()»(x)",
    "y = x + 0",
    "y = x.expand_as(x)",
    "y = x.chunk(1, 1)[0]",
    "y = «nn.Flatten(2)»(x).view(x.shape)",
    "y = x.data",
)
INPLACE = (
    "y = y.relu_()",
    "y = F.relu(y, inplace=True)",
    "y = «nn.ReLU(inplace=True)»(y)",
    "F.relu(y, inplace=True)",
    "«nn.ReLU(inplace=True)»(y)",
    "y = «nn.ReLU6(inplace=True)»(y)",
    "y = F.hardtanh(y, 0, 0.5, inplace=True)",
    "y.clamp_(min=0)",
    "y.clamp_(0, 0.5)",
    "torch.relu_(y)",
    "y.mul_(2)",
    "y *= 0.5",
    "y.add_(1)",
    "y += 1",
    "y.sub_(0.1)",
    "y.neg_()",
    "y.zero_()",
    "y[:, 0] = 0",
    "y[:, :, 0].mul_(2)",
    "y.copy_(torch.relu(y))",
    "y.add_(«nn.Conv2d($C, $C, 1)»(x))",
    "y += «nn.Conv2d($C, $C, 1)»(x)",
    "with torch.no_grad(): y.mul_(2)",
    "torch.add(y, 1, out=y)",
    "y = y.relu()",
)
AFTERWARDS = (
    "x = «nn.Conv2d($C, $C, 3, padding=1)»(y) + x",
    "x = x + «nn.BatchNorm2d($C)»(«nn.Conv2d($C, $C, 3, padding=1, bias=False)»(y))",
    "x = «nn.Conv2d($C, $C, 1)»(F.relu(x))",
    "x = «nn.Conv2d($C, $C, 1)»(F.relu(x)) + «nn.Conv2d($C, $C, 1)»(F.relu(y))",
    "x = torch.cat([F.relu(x), F.relu(y)], 1)",
    "x = F.relu(«nn.Conv2d($C, $C, 1)»(F.relu(y))) + F.relu(x)",
)


def alias(rng):
    """(name, text): an operation in place on a tensor that is read again, perhaps under another name."""
    before = rng.choice((CONV, CONV + NORM, CONV + RELU, CONV + NORM + RELU))
    name = rng.choice(ALIASES[: rng.choice((6, 6, 14, len(ALIASES)))])
    change = rng.choice(INPLACE[: rng.choice((8, 8, 10, len(INPLACE)))])
    after = rng.choice(AFTERWARDS)
    return f"{name}; {change}; {after}", f"{before}{name}\n{change}\n{after}\nx = F.relu(x)\n"


ENTRANCES = {
    "x.float()": "x = x.float()",
    "x * 1": "x = x * 1",
    "x / 255": "x = x / 0.5",
    "x - mean": "x = x - 0.4",
    "(x - mean) / std": "x = (x - 0.4) / 0.3",
    "normalised by buffers": "@self.register_buffer('mean', torch.rand(1, $C, 1, 1))\nx = x - self.mean",
    "sub_": "x = x.clone().sub_(0.5)",
    "norm at the image": "x = «nn.BatchNorm2d($C)»(x)",
    "relu at the image": "x = F.relu(x)",
    "pool at the image": "x = «nn.AvgPool2d(2)»(x)",
    "max pool at the image": "x = «nn.MaxPool2d(2)»(x)",
    "dropout at the image": "x = «nn.Dropout(0.2)»(x)",
    "identity at the image": "x = «nn.Identity()»(x)",
    "transposed image": "x = x.transpose(2, 3)",
    "cropped image": "x = x[:, :, 1:-1, 1:-1]",
    "one channel": "x = x[:, :1]",
    "padded image": "x = F.pad(x, (1, 1, 1, 1), value=0.5)",
    "resized image": "x = F.interpolate(x, size=(8, 8))",
    "image + noise": "x = x + torch.randn_like(x)",
    "image in both branches": "x = F.relu(«nn.Conv2d($C, 4, 3, padding=1)»(x) + «nn.Conv2d($C, 4, 1)»(x))",
    "cat of the image": "x = torch.cat([x, F.relu(«nn.Conv2d($C, 3, 1)»(x))], 1)",
    "cat of the image twice": "x = torch.cat([x, x], 1)",
    "image used again": "x = torch.cat([F.relu(«nn.Conv2d($C, 3, 1)»(x)), F.relu(«nn.Conv2d($C, 3, 3, padding=1)»(x))], 1)",
    "image added": "x = F.relu(«nn.Conv2d($C, $C, 1)»(x) + x)",
    "in-place on the image": "x = x.clone().mul_(2)",
    "first activation clipped at 0.5": "x = «nn.Hardtanh(0, 0.5)»(«nn.Conv2d($C, 4, 3)»(x))",
    "first activation clipped at 2": "x = «nn.Hardtanh(0, 2)»(«nn.Conv2d($C, 4, 3)»(x))",
    "first layer linear": "x = F.relu(«nn.Linear($N, 32)»(x.flatten(1))).view(-1, 2, 4, 4)",
    "first layer without bias, reflect": "x = F.relu(«nn.Conv2d($C, 4, 3, padding=1, padding_mode='reflect')»(x))",
    "first layer padding='same'": "x = F.relu(«nn.Conv2d($C, 4, 3, padding='same')»(x))",
    "first layer of groups": "x = F.relu(«nn.Conv2d($C, 2 * $C, 3, groups=$C)»(x))",
    "training normalises": "x = x - x.mean() if self.training else x",
}  # fmt: skip

HEADS = {
    "nn.Flatten, nn.Linear": "x = «nn.Linear($N, $K)»(«nn.Flatten()»(x))",
    "torch.flatten(x, 1)": "x = «nn.Linear($N, $K)»(torch.flatten(x, 1))",
    "flatten(start_dim=1)": "x = «nn.Linear($N, $K)»(x.flatten(start_dim=1))",
    "flatten(1, -1)": "x = «nn.Linear($N, $K)»(x.flatten(1, -1))",
    "flatten(1, 3)": "x = «nn.Linear($N, $K)»(x.flatten(1, 3))",
    "flatten(-3)": "x = «nn.Linear($N, $K)»(x.flatten(-3))",
    "view(x.size(0), -1)": "x = «nn.Linear($N, $K)»(x.view(x.size(0), -1))",
    "view(x.shape[0], -1)": "x = «nn.Linear($N, $K)»(x.view(x.shape[0], -1))",
    "reshape(len)": "x = «nn.Linear($N, $K)»(x.reshape(x.shape[0], $N))",
    "view(-1, N)": "x = «nn.Linear($N, $K)»(x.view(-1, $N))",
    "view(-1, N // 2), 2 rows an image": "x = «nn.Linear($N // 2, $K)»(x.reshape(-1, $N // 2))[::2]",
    "view(*shape[:1], -1)": "x = «nn.Linear($N, $K)»(x.view(*x.shape[:1], -1))",
    "flatten(2) and mean": "x = «nn.Linear($C, $K)»(x.flatten(2).mean(2))",
    "flatten(2) and mean(-1)": "x = «nn.Linear($C, $K)»(x.flatten(2).mean(-1))",
    "mean((2, 3))": "x = «nn.Linear($C, $K)»(x.mean((2, 3)))",
    "mean([-1, -2])": "x = «nn.Linear($C, $K)»(x.mean([-1, -2]))",
    "mean(3).mean(2)": "x = «nn.Linear($C, $K)»(x.mean(3).mean(2))",
    "mean(dim=(-2, -1))": "x = «nn.Linear($C, $K)»(torch.mean(x, dim=(-2, -1)))",
    "mean((1, 2))": "x = «nn.Linear($W, $K)»(x.mean((1, 2)))",
    "mean((1, 3))": "x = «nn.Linear($H, $K)»(x.mean((1, 3)))",
    "sum((2, 3))": "x = «nn.Linear($C, $K)»(x.sum((2, 3)))",
    "amax((2, 3))": "x = «nn.Linear($C, $K)»(x.amax((2, 3)))",
    "average, flatten": "x = «nn.Linear($C, $K)»(«nn.Flatten()»(«nn.AdaptiveAvgPool2d(1)»(x)))",
    "average, [:, :, 0, 0]": "x = «nn.Linear($C, $K)»(F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0])",
    "average, squeeze": "x = «nn.Linear($C, $K)»(F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1))",
    "average, relu, flatten": "x = «nn.Linear($C, $K)»(«nn.Flatten()»(F.relu(«nn.AdaptiveAvgPool2d(1)»(x))))",
    "average with overlap, flatten": "x = «nn.LazyLinear($K)»(«nn.Flatten()»(«nn.AvgPool2d(3, 1)»(x)))",
    "average with padding, flatten": "x = «nn.LazyLinear($K)»(«nn.Flatten()»(«nn.AvgPool2d(2, 2, 1)»(x)))",
    "average with ceil_mode, flatten": "x = «nn.LazyLinear($K)»(«nn.Flatten()»(«nn.AvgPool2d(3, 2, ceil_mode=True)»(x)))",
    "average without padding, flatten": "x = «nn.LazyLinear($K)»(«nn.Flatten()»(«nn.AvgPool2d(3, 2, 1, count_include_pad=False)»(x)))",
    "adaptive average to 3": "x = «nn.LazyLinear($K)»(«nn.Flatten()»(«nn.AdaptiveAvgPool2d(3)»(x)))",
    "average with divisor 1": "x = «nn.LazyLinear($K)»(«nn.Flatten()»(F.avg_pool2d(x, 2, divisor_override=1)))",
    "two averages": "x = «nn.LazyLinear($K)»(«nn.Flatten()»(«nn.AvgPool2d(2)»(«nn.AvgPool2d(2)»(x))))",
    "average, dropout, flatten": "x = «nn.LazyLinear($K)»(«nn.Dropout(0.5)»(«nn.Flatten()»(«nn.AvgPool2d(2)»(x))))",
    "max pool, flatten": "x = «nn.LazyLinear($K)»(«nn.Flatten()»(«nn.MaxPool2d(2)»(x)))",
    "permute, flatten": "x = «nn.Linear($N, $K)»(x.permute(0, 2, 3, 1).flatten(1))",
    "transpose, flatten": "x = «nn.Linear($N, $K)»(x.transpose(2, 3).flatten(1))",
    "flip, flatten": "x = «nn.Linear($N, $K)»(x.flatten(1).flip(1))",
    "ReversedFlatten subclass": "x = «nn.Linear($N, $K)»(«ReversedFlatten()»(x))",
    "hidden layer": "x = «nn.Linear($N, 16)»(x.flatten(1))\nx = «nn.Linear(16, $K)»(F.relu(x))",
    "hidden layer, BatchNorm1d": "x = «nn.BatchNorm1d(16)»(«nn.Linear($N, 16)»(x.flatten(1)))\nx = «nn.Linear(16, $K)»(F.relu(x))",
    "BatchNorm1d after relu": "x = F.relu(«nn.Linear($N, 16)»(x.flatten(1)))\nx = «nn.Linear(16, $K)»(«nn.BatchNorm1d(16)»(x))",
    "BatchNorm1d on flattened": "x = «nn.BatchNorm1d($N)»(x.flatten(1))\nx = «nn.Linear($N, $K)»(F.relu(x))",
    "hidden layer, in place": "x = «nn.Linear($N, 16)»(x.flatten(1))\nF.relu_(x)\nx = «nn.Linear(16, $K)»(x)",
    "hidden layers with a shortcut": "x = F.relu(«nn.Linear($N, 16)»(x.flatten(1)))\nx = F.relu(«nn.Linear(16, 16)»(x) + x)\nx = «nn.Linear(16, $K)»(x)",
    "hidden layer, concatenated": "x = F.relu(«nn.Linear($N, 8)»(x.flatten(1)))\nx = torch.cat([x, F.relu(«nn.Linear(8, 8)»(x))], 1)\nx = «nn.Linear(16, $K)»(x)",
    "flat concatenation": "y = F.relu(«nn.Conv2d($C, 2, 1)»(x))\nx = torch.cat([x.flatten(1), y.flatten(1)], 1)\nx = «nn.LazyLinear($K)»(x)",
    "flat concatenation, dim=-1": "y = F.relu(«nn.Conv2d($C, 2, 1)»(x))\nx = torch.cat([x.flatten(1), y.flatten(1)], -1)\nx = «nn.LazyLinear($K)»(x)",
    "two linear heads added": "x = x.flatten(1)\nx = «nn.Linear($N, $K)»(x) + «nn.Linear($N, $K)»(x)",
    "linear heads on two depths": "y = F.relu(«nn.Conv2d($C, 3, 1)»(x))\nx = «nn.LazyLinear($K)»(y.flatten(1)) + «nn.Linear($N, $K)»(x.flatten(1))",
    "two linear heads joined": "x = x.flatten(1)\nx = torch.cat([«nn.Linear($N, $K)»(x), «nn.Linear($N, 2)»(x)], 1)",
    "two linear layers in a row": "x = «nn.Linear(8, $K)»(«nn.Linear($N, 8)»(x.flatten(1)))",
    "F.linear": "x = F.linear(x.flatten(1), «nn.Parameter(torch.randn($K, $N) / 8)»)",
    "x @ weight.T": "«fc=nn.Linear($N, $K)»\nx = x.flatten(1) @ self.fc.weight.T",
    "cosine": "x = «CosineLinear($N, $K)»(x.flatten(1))",
    "doubled subclass": "x = «DoubledLinear($N, $K)»(x.flatten(1))",
    "no bias": "x = «nn.Linear($N, $K, bias=False)»(x.flatten(1))",
    "Bilinear": "x = «nn.Bilinear($N, $N, $K)»(x.flatten(1), x.flatten(1))",
    "1x1 convolution, average": "x = «nn.Conv2d($C, $K, 1)»(x)\nx = F.adaptive_avg_pool2d(x, 1).flatten(1)",
    "1x1 convolution, relu, average": "x = F.relu(«nn.Conv2d($C, $K, 1)»(x))\nx = F.adaptive_avg_pool2d(x, 1).flatten(1)",
    "average, 1x1 convolution": "x = «nn.Conv2d($C, $K, 1)»(F.adaptive_avg_pool2d(x, 1)).flatten(1)",
    "convolution of the whole image": "x = «nn.Conv2d($C, $K, ($H, $W))»(x).flatten(1)",
    "norm at the logits": "x = «nn.BatchNorm1d($K)»(«nn.Linear($N, $K)»(x.flatten(1)))",
    "relu at the logits": "x = F.relu(«nn.Linear($N, $K)»(x.flatten(1)))",
    "one logit": "x = «nn.Linear($N, 1)»(x.flatten(1))",
    "one logit, sigmoid": "x = torch.sigmoid(«nn.Linear($N, 1)»(x.flatten(1)))",
    "one logit, squeezed": "x = «nn.Linear($N, 1)»(x.flatten(1)).squeeze(1)",
    "linear called twice": "x = x.flatten(1)\nx = «fc=nn.Linear($N, $N)»(x)\nx = F.relu(x)\nx = F.relu(self.fc(x))\nx = «nn.Linear($N, $K)»(x)",
    "dead linear": "x = x.flatten(1)\ny = «nn.Linear($N, $K)»(x)\nx = «nn.Linear($N, $K)»(x)",
}  # fmt: skip

TAILS = {
    "softmax": "x = x.softmax(1)",
    "nn.Softmax": "x = «nn.Softmax(1)»(x)",
    "nn.LogSoftmax": "x = «nn.LogSoftmax(1)»(x)",
    "F.log_softmax": "x = F.log_softmax(x, dim=1)",
    "sigmoid": "x = torch.sigmoid(x)",
    "x * 2": "x = x * 2",
    "-x": "x = -x",
    "x / temperature": "x = x / 4.0",
    "x * -1": "x = x * -1.0",
    "x + prior": "x = x + «nn.Parameter(torch.randn($K) * 3)»",
    "x * class weight": "x = x * «nn.Parameter(torch.randn($K))»",
    "dropout": "x = «nn.Dropout(0.5)»(x)",
    "F.dropout without training": "x = F.dropout(x, 0.5)",
    "identity": "x = «nn.Identity()»(x)",
    "flip": "x = x.flip(1)",
    "x[:, [..]]": "x = x[:, [1, 0]]",
    "x[:, :2]": "x = x[:, :2]",
    "roll": "x = torch.roll(x, 1, 1)",
    "view": "x = x.view(-1, $K)",
    "squeeze": "x = x.squeeze()",
    "tuple": "x = (x,)",
    "list": "x = [x]",
    "dictionary": "x = {'logits': x}",
    "logits and features": "x = (x, x * 0)",
    "argmax": "x = x.argmax(1)",
    "neg_": "x.neg_()",
    "relu_": "x.relu_()",
    "clamp": "x = x.clamp(-1, 1)",
    "tanh": "x = torch.tanh(x)",
    "softmin": "x = F.softmin(x, 1)",
    "normalised": "x = F.normalize(x)",
    "result dropped": "torch.neg(x)",
    "NegativeReLU": "x = «NegativeReLU()»(x)",
    "batch difference": "x = x - x.mean(0)",
    "exp": "x = x.exp()",
    "1 / x": "x = 1 / x",
    "Flatten": "x = «nn.Flatten()»(x)",
    "ReversedFlatten subclass": "x = «ReversedFlatten()»(x)",
    "NoisyIdentity subclass": "x = «NoisyIdentity()»(x)",
}  # fmt: skip
