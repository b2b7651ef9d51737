"""Laplacian pyramid (Burt and Adelson 1983) of tensors of any size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SMALLEST = 8
"""Height or width in px below which no coarser level is made."""


def bands(picture: Tensor) -> list[Tensor]:
    """Split a picture into bands, fine to coarse, and what is coarser than all.

    Parameters
    ----------
    picture : Tensor
        (B, C, H, W).

    Returns
    -------
    list of Tensor
        (B, C, H / 2^l, W / 2^l), rounded up; :func:`collapse` of them is the picture.
    """
    out = []
    while min(picture.shape[-2:]) >= 2 * _SMALLEST:
        smaller = _blur(picture)[..., ::2, ::2]
        out.append(picture - _expand(smaller, picture))
        picture = smaller
    return [*out, picture]


def collapse(parts: list[Tensor]) -> Tensor:
    """Undo :func:`bands`."""
    picture = parts[-1]
    for band in reversed(parts[:-1]):
        picture = band + _expand(picture, band)
    return picture


def _expand(small: Tensor, like: Tensor) -> Tensor:
    spread = torch.zeros_like(like)
    spread[..., ::2, ::2] = small
    # Of the pixels that are blurred a quarter is not 0; at odd ends that holds only inside, so
    # what was spread is counted.
    ones = torch.zeros_like(like[:1, :1])
    ones[..., ::2, ::2] = 1
    return _blur(spread) / _blur(ones)


def _blur(picture: Tensor) -> Tensor:
    """Binomial filter 1 4 6 4 1 along both axes, the border repeated."""
    kernel = picture.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    channels = picture.shape[1]
    across = kernel.expand(channels, 1, 1, -1)
    padded = F.pad(picture, (2, 2, 2, 2), mode="replicate")
    return F.conv2d(F.conv2d(padded, across, groups=channels), across.mT, groups=channels)
