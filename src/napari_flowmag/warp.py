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
    # grid_sample turns NaN positions into reads outside the image on some builds, and
    # non-contiguous views of a batch corrupted memory in its backward pass on CPU.
    image, flow = image.contiguous(), flow.contiguous()
    height, width = image.shape[-2:]
    position = identity_grid(flow.shape[-2], flow.shape[-1], flow) + flow
    scale = position.new_tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)])
    grid = position.permute(0, 2, 3, 1) * scale - 1
    return F.grid_sample(image, grid, mode=mode, padding_mode=padding, align_corners=True)
