"""What baselines share."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_flowmag.errors import FlowmagError
from napari_flowmag.models.base import Alpha, Magnifier, broadcast_alpha

CLOSE = 1e-6
"""Factors this near to 1 are 1: what rounding makes of a mean of ones."""


def require_px(name: str, what: str, value: float, low: float, high: float) -> None:
    """Refuse an option that is out of its range, NaN included.

    Raises
    ------
    FlowmagError
        Naming the baseline, its option, the value and the range.
    """
    if not low <= value <= high:
        raise FlowmagError(
            f"{name} with a {what} of {value:g} px: give a number from {low:g} to {high:g}"
        )


def keep_unmagnified(picture: Tensor, frame: Tensor, alpha: Alpha) -> Tensor:
    """Return the picture, with the frame's own pixels, to the bit, where α is 1.

    Parameters
    ----------
    picture, frame : Tensor
        (B, C, H, W).
    alpha : Alpha
        Magnification of every pixel of the picture.
    """
    factor = broadcast_alpha(alpha).to(picture)
    return torch.where((factor - 1).abs() <= CLOSE, frame, picture)


def factor_at(alpha: Alpha, like: Tensor) -> Tensor:
    """Magnification on the grid of a band, (B, 1, 1, 1) or (B, 1, h, w).

    Parameters
    ----------
    alpha : Alpha
        Magnification of every pixel of the picture.
    like : Tensor
        (B, C, h, w): the band.
    """
    factor = broadcast_alpha(alpha).to(like)
    if factor.shape[-2:] in ((1, 1), like.shape[-2:]):
        return factor
    return F.interpolate(factor, like.shape[-2:], mode="area")


def smooth(values: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """Average values over a Gaussian window, the border repeated.

    Parameters
    ----------
    values, weight : Tensor
        (B, C, H, W); `weight` at least 0: how much each value counts. Where none does, the
        result is 0.
    sigma : float
        Standard deviation in px.
    """
    reach = math.ceil(3 * sigma)
    at = torch.arange(-reach, reach + 1, dtype=values.dtype, device=values.device)
    window = (-0.5 * (at / sigma) ** 2).exp()
    both = torch.cat([values * weight, weight], 1)
    count = both.shape[1]
    across = (window / window.sum()).expand(count, 1, 1, -1)
    both = F.pad(both, (reach,) * 4, mode="replicate")
    both = F.conv2d(F.conv2d(both, across, groups=count), across.mT, groups=count)
    total, share = both.chunk(2, 1)
    return total / share.clamp_min(torch.finfo(values.dtype).tiny)


class WholeFrame(Magnifier):
    """A magnifier that repaints whole pictures, each channel from itself, without learnt weights.

    All is done in `render`, which gets the whole frame; there is nothing to cut into tiles.
    """

    alpha_range = (0.0, float("inf"))
    # One at a time: what moves is not seen in any other channel. More at once may be given.
    channels = 1
    context = 0
    light = True
    trainable = False

    def prepare(self, reference: Tensor) -> tuple[()]:
        """Nothing depends on the reference alone."""
        return ()

    def predict(self, prepared: Any, frame: Tensor, alpha: Alpha) -> Tensor:
        """Nothing is estimated locally: (B, 0, H, W)."""
        return frame[:, :0]


class FlowMagnifier(Magnifier):
    """A magnifier that moves pictures of any channels and values by a flow's estimate.

    Parameters
    ----------
    flow : nn.Module
        ``flow(reference, frame)``, see :mod:`napari_flowmag.flow`.
    """

    alpha_range = (0.0, float("inf"))
    channels = None
    context = 96
    light = True
    trainable = False

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def prepare(self, reference: Tensor) -> tuple[Tensor]:
        """Keep the motion image: flows are measured between two."""
        return (reference,)

    def predict(self, prepared: tuple[Tensor], frame: Tensor, alpha: Alpha) -> Tensor:
        """Motion from reference to frame, (B, 2, H, W) px."""
        # Flows take one channel or three.
        pair = (p if p.shape[1] == 3 else p.mean(1, keepdim=True) for p in (*prepared, frame))
        flow: Tensor = self.flow(*(p.contiguous() for p in pair))
        return flow
