"""Warping of images by displacement fields: pure tensor functions."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Interpolation = Literal["bilinear", "bicubic", "nearest"]
Padding = Literal["border", "reflection", "zeros"]


def identity_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Pixel coordinates of an image.

    Parameters
    ----------
    height, width : int
        Size of the image in px.
    like : Tensor
        The result has this tensor's dtype and device.

    Returns
    -------
    Tensor
        (1, 2, H, W); channel 0 is x, channel 1 is y.
    """
    y = torch.arange(height, dtype=like.dtype, device=like.device)
    x = torch.arange(width, dtype=like.dtype, device=like.device)
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])[None]


def sample(
    image: Tensor,
    flow: Tensor,
    mode: Interpolation = "bilinear",
    padding: Padding = "border",
) -> Tensor:
    """Read an image at displaced positions: ``out(x) = image(x + flow(x))``.

    With the optical flow from a first to a second frame this is backward warping: it
    brings the second frame onto the first one's grid (the warping of Eq. 4).

    Parameters
    ----------
    image : Tensor
        (B, C, H, W).
    flow : Tensor
        (B, 2, h, w) in px of ``image``, channel 0 along x, channel 1 along y. The pixel
        centres of the result are those of the image's first h rows and w columns.
    mode : {"bilinear", "bicubic", "nearest"}
        Interpolation between pixels.
    padding : {"border", "reflection", "zeros"}
        What lies outside the image; the paper reflects.

    Returns
    -------
    Tensor
        (B, C, h, w).
    """
    # Non-contiguous views of a batch corrupted memory in grid_sample's backward pass on CPU.
    image, flow = image.contiguous(), flow.contiguous()
    height, width = image.shape[-2:]
    position = identity_grid(flow.shape[-2], flow.shape[-1], flow) + flow
    scale = position.new_tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)])
    grid = position.permute(0, 2, 3, 1) * scale - 1
    return F.grid_sample(image, grid, mode=mode, padding_mode=padding, align_corners=True)


def splat(values: Tensor, flow: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Push every pixel along its displacement (forward warping), bilinear.

    Parameters
    ----------
    values : Tensor
        (B, C, H, W).
    flow : Tensor
        (B, 2, H, W) px: where each pixel goes, relative to where it is.
    weight : Tensor
        (B, 1, H, W), at least 0: how much a pixel counts where several meet.

    Returns
    -------
    total : Tensor
        (B, C, H, W): the weighted sum of what arrives. ``total / share`` is its mean.
    share : Tensor
        (B, 1, H, W): the sum of the weights that arrive; 0 where nothing does.
    """
    batch, channels, height, width = values.shape
    position = identity_grid(height, width, flow) + flow
    corner = position.detach().floor()
    part = position - corner
    carried = torch.cat([values * weight, weight], 1).flatten(2)
    out = carried.new_zeros(batch, channels + 1, height * width)
    for right in (0, 1):
        for down in (0, 1):
            share = (part[:, 0] if right else 1 - part[:, 0]) * (part[:, 1] if down else 1 - part[:, 1])
            x, y = corner[:, 0] + right, corner[:, 1] + down
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            index = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).long()
            moved = carried * (share * inside).flatten(1).unsqueeze(1)
            out = out.scatter_add(2, index.flatten(1).unsqueeze(1).expand_as(moved), moved)
    out = out.view(batch, channels + 1, height, width)
    return out[:, :channels], out[:, channels:]
