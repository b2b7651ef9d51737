"""Image operations of the Gauss–Newton flow: scales, gradients, means, soft thresholds."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_flowmag.warp import sides


class Level(NamedTuple):
    """One frame at one scale: its picture and gradients along x and y, each (B, 1, H, W)."""

    image: Tensor
    dx: Tensor
    dy: Tensor


def grey(picture: Tensor) -> Tensor:
    """Mean of the channels, (B, 1, H, W)."""
    # Added one by one: several times as fast as their mean where they are last in memory.
    channels = picture.shape[1]
    total = picture[:, :1]
    for k in range(1, channels):
        total = total + picture[:, k : k + 1]
    return total / channels


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian mean, σ in px, the border repeated."""
    reach = max(int(2.5 * sigma + 0.5), 1)
    weights = [math.exp(-(k**2) / (2 * sigma**2)) for k in range(reach + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    return _symmetric(x, [weight / total for weight in weights])


def smooth(image: Tensor) -> Tensor:
    """Read `image` at its own pixels as `sample_spline` reads it anywhere."""
    return _symmetric(image, [2 / 3, 1 / 6])


def rise(x: Tensor, ends: tuple[float, float]) -> Tensor:
    """0 up to the first end, 1 from the second on, linear between."""
    return ((x - ends[0]) / (ends[1] - ends[0])).clamp(0, 1)


def mean3(x: Tensor) -> Tensor:
    """Mean of 3×3 pixels, the border repeated."""
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    for axis in (2, 3):
        length = sides(x)[axis - 2] - 2
        pair = x.narrow(axis, 0, length) + x.narrow(axis, 2, length)
        x = pair.add_(x.narrow(axis, 1, length))
    return x.mul_(1 / 9)


def max_around(x: Tensor, width: int) -> Tensor:
    """Give the highest value within a square of an odd width around each pixel."""
    # By pairs, twice as wide each time: many times as fast as pooling on a CPU.
    reach = width // 2
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    for axis in (2, 3):
        seen = 1
        while seen < width:
            step = min(seen, width - seen)
            length = sides(x)[axis - 2] - step
            x = torch.maximum(x.narrow(axis, 0, length), x.narrow(axis, step, length))
            seen += step
    return x


def _symmetric(x: Tensor, weights: list[float]) -> Tensor:
    """Filter along both axes by the weights of distance 0, 1, …; the border repeated.

    By sums of moved pictures: for so few taps several times as fast as a convolution, and
    autocast leaves it in full precision.
    """
    reach = len(weights) - 1
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    for axis in (2, 3):
        length = sides(x)[axis - 2] - 2 * reach
        out = x.narrow(axis, reach, length) * weights[0]
        for k in range(1, reach + 1):
            pair = x.narrow(axis, reach - k, length) + x.narrow(axis, reach + k, length)
            out.add_(pair, alpha=weights[k])
        x = out
    return x


def fill(x: Tensor, block: int) -> Tensor:
    """Repeat the last rows and columns until the sizes are multiples of `block`."""
    height, width = sides(x)
    missing = -width % block, -height % block
    return F.pad(x, (0, missing[0], 0, missing[1]), mode="replicate") if any(missing) else x


def pool(x: Tensor, block: int) -> Tensor:
    """Mean of square blocks (1, 2, 4, … px wide); sizes that do not divide are filled first."""
    x = fill(x, block)
    # Halved again and again: several times as fast as average pooling on a CPU.
    for _ in range(block.bit_length() - 1):
        x = x[..., ::2, :] + x[..., 1::2, :]
        x = x[..., ::2] + x[..., 1::2]
    return x / block**2


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Bring `x` to the size of `like`: as it is, or twice as large (bilinear)."""
    height, width = sides(like)
    if sides(x) == (height, width):
        return x
    x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    return x[..., :height, :width]


def shading(image: Tensor, known: Tensor) -> Tensor:
    """Return what of a picture is coarser than about 8 px: its mean around each px.

    Parameters
    ----------
    image : Tensor
        (B, 1, H, W), 0 where it is not known.
    known : Tensor
        (B, 1, H, W): 1 where it is, else 0.
    """
    pooled = F.avg_pool2d(torch.cat([image, known], 1), 8, ceil_mode=True)
    pooled = blur(pooled, 0.5)
    mean = pooled[:, :1] / pooled[:, 1:].clamp_min(1e-3)
    for axis in (2, 3):
        mean = _continued(mean, axis)
    mean = F.interpolate(mean, scale_factor=8, mode="bilinear", align_corners=False)
    height, width = sides(image)
    return mean[..., 8 : 8 + height, 8 : 8 + width]


def _continued(x: Tensor, axis: int) -> Tensor:
    """Add a pixel at both ends, half as far as the slope there would lead.

    Light that changes across the picture has a slope at the border, too; all of it would be a
    noisier guess than half.
    """
    last = sides(x)[axis - 2] - 1
    first, end = x.narrow(axis, 0, 1), x.narrow(axis, last, 1)
    inner = x.narrow(axis, min(1, last), 1), x.narrow(axis, max(last - 1, 0), 1)
    return torch.cat([torch.lerp(first, inner[0], -0.5), x, torch.lerp(end, inner[1], -0.5)], axis)


def gradients(image: Tensor) -> Level:
    """Add central differences to a picture."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    dx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    dy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return Level(image, dx, dy)


def within(flow: Tensor) -> Tensor:
    """Where differences between the two frames mean something, (B, 1, H, W) of 0 and 1.

    Not where the second frame is read outside its border, which is repeated there, nor at the
    border itself, where slopes are halved: both would say that nothing moves.

    Parameters
    ----------
    flow : Tensor
        (B, 2, H, W) px: where the second frame is read.
    """
    with torch.no_grad():
        height, width = sides(flow)
        x = torch.arange(width, dtype=flow.dtype, device=flow.device)
        y = torch.arange(height, dtype=flow.dtype, device=flow.device)[:, None]
        inside = _inside(x, width) & _inside(y, height)
        inside = inside & _inside(flow[:, 0] + x, width) & _inside(flow[:, 1] + y, height)
        return inside.unsqueeze(1).to(flow.dtype)


def _inside(position: Tensor, size: int) -> Tensor:
    """Tell what lies between the second and the last but one pixel along an axis."""
    return (position - (size - 1) / 2).abs() <= (size - 3) / 2
