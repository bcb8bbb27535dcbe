"""Several processes, started by torchrun, that share a data set and behave as one.

What is guaranteed. Running: the same integers as in one process. Training: the data order, the augmentation, the batch
normalisation over the whole batch and the gradient of the whole batch are those of one process, so the weights are
equal in exact arithmetic; in floating point the sums of a batch are added up in another order, which changes their last
bits (and, where a weight or an activation lies next to a rounding threshold, in time more). All processes hold the same
bits at every step, and as many processes give the same bits again.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from lava_conv.errors import BackendError, DataError, LavaConvError
from lava_conv.qat.layers import LearnedStep

T = TypeVar("T")
_ended: list[object] = []


class Team(NamedTuple):
    """The processes at work: `size` of them, of which this one is number `rank`. By default this one, alone."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of `count` things in a row; the parts differ by at most one.

        Raises:
            DataError: there are fewer things than processes.
        """
        if count < self.size:
            raise DataError(f"{count} images cannot be shared by {self.size} processes; start fewer processes")
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in the order of their parts, for the first process; [] for the others."""
        if self.size == 1:
            return [value]
        found = [value] * self.size if self.first else None
        dist.gather_object(value, found)
        return found or []

    def join(self, part: Tensor) -> Tensor:
        """The parts (n,) of all processes behind one another, for every process."""
        if self.size == 1:
            return part
        found = [part] * self.size
        dist.all_gather_object(found, part.detach().cpu())
        return torch.cat(found)

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives in the first process, for all of them: only that one needs the file it reads."""
        if self.size == 1:
            return make()
        found: list[T | LavaConvError | None] = [None]
        if self.first:
            try:
                found[0] = make()
            except LavaConvError as error:
                found[0] = error
        dist.broadcast_object_list(found)
        if isinstance(found[0], LavaConvError):
            raise found[0]
        return cast(T, found[0])

    def add_up(self, parameters: list[nn.Parameter], loss: Tensor) -> float:
        """Replace every gradient by the sum over all processes; the sum of their losses."""
        if self.size == 1:
            return loss.item()
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([loss.detach().reshape(1).to(gradients[0].dtype), *(g.reshape(-1) for g in gradients)])
        dist.all_reduce(flat)
        for gradient, total in zip(gradients, flat[1:].split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))
        return flat[0].item()


@contextmanager
def team() -> Iterator[Team]:
    """The processes that torchrun started, connected by gloo; this process alone where it did not.

    Raises:
        BackendError: they cannot be connected.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Team()
        return
    try:
        dist.init_process_group("gloo")
    except (RuntimeError, ValueError) as error:
        raise BackendError(
            f"the processes of torchrun cannot be connected ({str(error).partition(chr(10))[0]}); check MASTER_ADDR, "
            f"MASTER_PORT and the network"
        ) from None
    try:
        yield Team(dist.get_rank(), dist.get_world_size())
    finally:
        # torch (2.3.1 at least) joins the threads of a group that nobody holds any more, while they may be waiting for
        # the interpreter that joins them; so it is held until the process ends, by when they have nothing to do
        _ended.append(dist.group.WORLD)
        dist.destroy_process_group()


class _Context(FunctionCtx):
    """What `forward` keeps for `backward`."""

    saved_tensors: tuple[Tensor, ...]
    eps: float


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias with mean and variance of the whole batch, over all processes.

    The last line of `forward` is torch's own kernel, so that values that fall on 0 in one process do here too.
    """

    @staticmethod
    def forward(
        ctx: _Context, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        axes, column = _axes(x)
        wide = x.to(weight.dtype)
        sums = torch.cat([wide.sum(axes), wide.new_full((1,), x.numel() / x.shape[1])])
        dist.all_reduce(sums)
        mean, count = sums[:-1] / sums[-1], sums[-1]
        variance = (wide - mean.reshape(column)).square().sum(axes)
        dist.all_reduce(variance)
        variance /= count
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        return functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps), mean, variance, count

    @staticmethod
    def backward(ctx: _Context, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, variance, count = ctx.saved_tensors
        axes, column = _axes(x)
        given, inverse = grads[0].to(weight.dtype), torch.rsqrt(variance + ctx.eps)
        unit = (x.to(weight.dtype) - mean.reshape(column)) * inverse.reshape(column)
        of_bias, of_weight = given.sum(axes), (given * unit).sum(axes)
        sums = torch.stack([of_bias, of_weight])
        dist.all_reduce(sums)
        shift, slope = (row.reshape(column) for row in sums / count)
        of_x = (given - shift - unit * slope) * (inverse * weight).reshape(column)
        return of_x.to(x.dtype), of_weight, of_bias, None


def _axes(x: Tensor) -> tuple[list[int], tuple[int, ...]]:
    """All axes but the channels', and the shape that puts a value per channel beside `x`."""
    return [axis for axis in range(x.ndim) if axis != 1], (1, -1) + (1,) * (x.ndim - 2)


class _JointNorm(_BatchNorm):
    """Batch normalisation in training with the mean and the variance of the whole batch, over all processes."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        made = cast(tuple[Tensor, ...], _Normalise.apply(input, self.weight, self.bias, self.eps))
        out, mean, variance, count = made
        with torch.no_grad():
            assert self.num_batches_tracked is not None and self.running_mean is not None
            assert self.running_var is not None
            self.num_batches_tracked += 1
            weight = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, weight)
            self.running_var.lerp_(variance * (count / (count - 1)), weight)
        return out


class _JointNorm1d(_JointNorm, nn.BatchNorm1d):
    pass


class _JointNorm2d(_JointNorm, nn.BatchNorm2d):
    pass


class _JointStep(LearnedStep):
    """A learned step that begins with what the first batch, the whole of it, gives."""

    def mean_size(self, y: Tensor) -> Tensor:
        size = super().mean_size(y)
        sums = torch.stack([size * y.numel(), size.new_tensor(float(y.numel()))])
        dist.all_reduce(sums)
        return sums[0] / sums[1]


JOINT: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: _JointNorm1d,
    nn.BatchNorm2d: _JointNorm2d,
    LearnedStep: _JointStep,
}


@contextmanager
def joint_statistics(model: nn.Module, members: Team) -> Iterator[None]:
    """Within the block, what the model takes from a batch as a whole it takes from the parts of all processes."""
    modules = [m for m in model.modules() if type(m) in JOINT] if members.size > 1 else []
    kinds = [type(m) for m in modules]
    for module in modules:
        module.__class__ = JOINT[type(module)]
    try:
        yield
    finally:
        for module, kind in zip(modules, kinds, strict=True):
            module.__class__ = kind
