"""Image operations of the Gauss–Newton flow: scales, gradients, means."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_flowmag.warp import full_precision


class Level(NamedTuple):
    """One frame at one scale: its picture and gradients along x and y, each (B, 1, H, W)."""

    image: Tensor
    dx: Tensor
    dy: Tensor


@full_precision
def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian mean, σ in px, the border repeated."""
    reach = max(int(2.5 * sigma + 0.5), 1)
    taps = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-taps.square() / (2 * sigma**2))
    kernel, channels = kernel / kernel.sum(), x.shape[1]
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    x = F.conv2d(x, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(x, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


def fill(x: Tensor, block: int) -> Tensor:
    """Repeat the last rows and columns until the sizes are multiples of `block`."""
    height, width = x.shape[-2:]
    missing = -width % block, -height % block
    return F.pad(x, (0, missing[0], 0, missing[1]), mode="replicate") if any(missing) else x


def pool(x: Tensor, block: int) -> Tensor:
    """Mean of square blocks; sizes that do not divide are filled first."""
    return F.avg_pool2d(fill(x, block), block) if block > 1 else x


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Bring `x` to the size of `like`: as it is, or twice as large (bilinear)."""
    height, width = like.shape[-2:]
    if x.shape[-2:] == like.shape[-2:]:
        return x
    x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    return x[..., :height, :width]


def flatten(image: Tensor) -> Tensor:
    """Take away shading coarser than about 8 px: flicker must not look like motion."""
    shading = F.avg_pool2d(image, 8, ceil_mode=True, count_include_pad=False)
    shading = F.interpolate(
        blur(shading, 0.5), scale_factor=8, mode="bilinear", align_corners=False
    )
    return image - shading[..., : image.shape[-2], : image.shape[-1]]


@full_precision
def smooth(image: Tensor) -> Tensor:
    """Read `image` at its own pixels as `sample_spline` reads it anywhere."""
    kernel, channels = image.new_tensor([1 / 6, 2 / 3, 1 / 6]), image.shape[1]
    image = F.pad(image, (1, 1, 1, 1), mode="replicate")
    image = F.conv2d(image, kernel.view(1, 1, 1, 3).expand(channels, 1, 1, 3), groups=channels)
    return F.conv2d(image, kernel.view(1, 1, 3, 1).expand(channels, 1, 3, 1), groups=channels)


def gradients(image: Tensor) -> Level:
    """Add central differences to a picture."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    dx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    dy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return Level(image, dx, dy)
