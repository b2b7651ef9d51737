"""Pyramidal Lucas-Kanade flow: no weights, no training, and gradients pass through it.

Where a window of the picture has texture in both directions nothing is more accurate for small
motion; where it has none, motion stays what the coarser level found.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_flowmag.errors import FlowmagError
from napari_flowmag.flow.pyramid import gradients, within
from napari_flowmag.warp import MARGIN, sample_spline, spline_coefficients

_LUMA = (0.299, 0.587, 0.114)
_SMALLEST = 16
"""Height or width in px below which no coarser level is made."""

_STEP = 1.0
"""Largest change in px of one step: a linear model of the picture holds no further."""


class LucasKanadeFlow(nn.Module):
    """Iterative, coarse-to-fine Lucas-Kanade on the luma (Lucas and Kanade, IJCAI 1981).

    Gauss-Newton steps with a Gaussian window and the mean of both pictures' gradients; pictures
    are read as cubic B-splines.

    Parameters
    ----------
    sigma : float
        Standard deviation of the window in px of each level.
    steps : int
        Gauss-Newton steps on each level.
    levels : int
        Most levels, each half as large as the one before.
    damping : float
        Squared slope, of pictures in [0, 1], below which a window says nothing.

    Raises
    ------
    FlowmagError
        If a number makes no sense.
    """

    differentiable = True

    def __init__(
        self, sigma: float = 3.0, steps: int = 3, levels: int = 5, damping: float = 1e-5
    ) -> None:
        super().__init__()
        if not (sigma > 0 and steps >= 1 and levels >= 1 and damping > 0):
            raise FlowmagError(
                f"lucas_kanade with sigma {sigma}, steps {steps}, levels {levels}, "
                f"damping {damping}: all must be above 0"
            )
        self.steps, self.levels, self.damping = steps, levels, damping
        reach = math.ceil(3 * sigma)
        at = torch.arange(-reach, reach + 1, dtype=torch.float32)
        window = (-0.5 * (at / sigma) ** 2).exp()
        self.register_buffer("window", window / window.sum(), persistent=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Estimate the motion from ``first`` to ``second``.

        Parameters
        ----------
        first, second : Tensor
            (B, C, H, W) in [0, 1]. Of three channels the luma is used, else the mean.

        Returns
        -------
        Tensor
            (B, 2, H, W) px.
        """
        pyramids = [_pyramid(_grey(side), self.levels) for side in (first, second)]
        flow = torch.zeros_like(pyramids[0][-1]).expand(-1, 2, -1, -1)
        for one, other in zip(*map(reversed, pyramids), strict=True):
            size = one.shape[-2:]
            if flow.shape[-2:] != size:
                flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear")
                flow = flow[..., : size[0], : size[1]]
            coefficients = spline_coefficients(other)
            for _ in range(self.steps):
                moved = sample_spline(coefficients, flow, MARGIN)
                flow = flow + self._change(one, moved, within(flow))
        return flow

    def _change(self, first: Tensor, moved: Tensor, known: Tensor) -> Tensor:
        """One Gauss-Newton step, (B, 2, H, W) px: how much further than `moved` says."""
        mean = gradients((first + moved) / 2)
        dx, dy = known * mean.dx, known * mean.dy
        rest = known * (first - moved)
        products = torch.cat([dx * dx, dx * dy, dy * dy, dx * rest, dy * rest], 1)
        xx, xy, yy, xt, yt = self._smooth(products).unbind(1)
        xx, yy = xx + self.damping, yy + self.damping
        scale = 1 / (xx * yy - xy * xy)  # at least damping², never 0
        change = torch.stack([(yy * xt - xy * yt) * scale, (xx * yt - xy * xt) * scale], 1)
        # Not torch.hypot, whose gradient is NaN where nothing changes.
        length = (change.square().sum(1, keepdim=True) + 1e-12).sqrt()
        return change * (_STEP / length).clamp(max=1)

    def _smooth(self, maps: Tensor) -> Tensor:
        window = self.get_buffer("window").to(maps)
        count, reach = maps.shape[1], (len(window) - 1) // 2
        padded = F.pad(maps, (reach,) * 4, mode="replicate")
        across = window.expand(count, 1, 1, -1)
        return F.conv2d(F.conv2d(padded, across, groups=count), across.mT, groups=count)


def _grey(pictures: Tensor) -> Tensor:
    if pictures.shape[1] == 3:
        weights = pictures.new_tensor(_LUMA).view(1, 3, 1, 1)
        return (pictures * weights).sum(1, keepdim=True)
    return pictures.mean(1, keepdim=True)


def _pyramid(picture: Tensor, levels: int) -> list[Tensor]:
    """Return the picture and its halves; odd sizes are padded, so that two px make one."""
    pyramid = [picture]
    while len(pyramid) < levels and min(pyramid[-1].shape[-2:]) >= 2 * _SMALLEST:
        fine = pyramid[-1]
        height, width = fine.shape[-2:]
        padded = F.pad(fine, (1, 1 + width % 2, 1, 1 + height % 2), mode="replicate")
        # Weights 1 2 1 before two px become one: detail that the half cannot show is gone.
        smooth = F.avg_pool2d(F.avg_pool2d(padded, 2, 1), 2, 1)
        pyramid.append(F.avg_pool2d(smooth, 2))
    return pyramid
