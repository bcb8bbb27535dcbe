"""Augmentation of training images: shifts, crops, mirrors, rotations, sizes, holes; all from one generator."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from lava_conv.training.recipe import Augmentation


def shifted(x: Tensor, reach: int, generator: torch.Generator, crop: int = 0) -> Tensor:
    """Each image of (N, C, H, W) moved by up to `reach` pixels in both directions, zeros coming in; then, with `crop`,
    a square of so many pixels out of it, anywhere.
    """
    if reach == 0 and not crop:
        return x
    n, _, *full = x.shape
    height, width = (crop or size for size in full)
    padded = functional.pad(x, (reach, reach, reach, reach))
    room = 2 * reach + full[0] - height  # images are square
    move = torch.randint(0, room + 1, (2, n, 1), generator=generator)
    rows = (move[0] + torch.arange(height))[:, None, :, None]
    columns = (move[1] + torch.arange(width))[:, None, None, :]
    return padded[torch.arange(n)[:, None, None, None], torch.arange(x.shape[1])[None, :, None, None], rows, columns]


def turned(x: Tensor, rotate: float, scale: float, generator: torch.Generator) -> Tensor:
    """Each image of (N, C, H, W) turned by up to `rotate` degrees and larger or smaller by up to the share `scale`."""
    turn, size = 2 * torch.rand(2, len(x), generator=generator) - 1
    angle, zoom = turn * math.radians(rotate), 1 + size * scale
    sine, cosine, zero = zoom * torch.sin(angle), zoom * torch.cos(angle), torch.zeros_like(angle)
    maps = torch.stack([torch.stack([cosine, -sine, zero], 1), torch.stack([sine, cosine, zero], 1)], 1)
    grid = functional.affine_grid(maps, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def cut_out(x: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Each image of (N, C, H, W) with the mean of its channels in a square of so many pixels, anywhere in it (Cutout,
    DeVries and Taylor 2017, with whole squares)."""
    n, _, height, width = x.shape
    top, left = (torch.randint(0, size - side + 1, (n, 1), generator=generator) for size in (height, width))
    rows, columns = torch.arange(height) - top, torch.arange(width) - left
    rows, columns = (rows >= 0) & (rows < side), (columns >= 0) & (columns < side)
    hole = (rows[:, :, None] & columns[:, None, :])[:, None]
    return torch.where(hole, x.mean((2, 3), keepdim=True), x)


def augmented(x: Tensor, options: Augmentation, generator: torch.Generator) -> Tensor:
    """Shifted, and if the options say so mirrored, rotated, scaled and with a hole; what was between pixels is
    interpolated."""
    x = shifted(x, options.shift, generator, options.crop)
    if options.flip:
        mirrored = torch.rand(len(x), generator=generator) < 0.5
        x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    if options.rotate or options.scale:
        x = turned(x, options.rotate, options.scale, generator)
    return cut_out(x, options.cutout, generator) if options.cutout else x
