"""Neighbours that agree share what they know of their motion.

What a step measures at a place is noisy, and what is next to it mostly moves alike. So each cell
of the grid becomes a mean of itself and the eight cells around it, at a distance of 1, 2, 4, …
cells in turn (an edge-avoiding à-trous filter; Dammertz et al. 2010). Each counts by how certain
its motion is, and by how well it agrees: two motions may differ by what noise makes of them. How
much that is the pictures themselves say, and it shrinks as means are taken (variance-guided
filtering; Schied et al. 2017).
"""

from __future__ import annotations

from types import EllipsisType

import torch
from torch import Tensor

from napari_flowmag.flow.pyramid import blur, max_around
from napari_flowmag.flow.steps import Evidence, independent
from napari_flowmag.warp import sides

REACHES = (1, 2, 4, 8)
"""Cells from the middle to its neighbours, in turn."""

_APART = 8.0
"""Times the variances of two motions, the square by which they differ where they count as 1 / e."""

_LEFT = 2.5
"""By so much more noise is left in a mean than if that of neighbours were independent."""

_AROUND = 5
"""Cells, width of the surroundings whose least noise a cell has: at outlines the pictures differ by
more than noise."""

_LEAST = 2.0
"""By how much noise is above the least of its surroundings."""

_ROUGH, _ROUGHER = 4.0, 2.0
"""Cells: what of a motion is finer (σ) is no less than its noise, but for so many times. In heavy
noise steps have averaged more than a window of one cell."""

_RANGE = 1e-12, 4.0
"""Px² of the grid: what variances are held within."""


def agreed(flow: Tensor, seen: Evidence) -> Tensor:
    """Average motion over what moves alike.

    Parameters
    ----------
    flow : Tensor
        (B, 2, h, w) px of the grid.
    seen : Evidence
        What the step saw that measured it.

    Returns
    -------
    Tensor
        (B, 2, h, w) px of the grid. Gradients pass, but not by the noise.
    """
    bound = variance(flow, seen)
    noise = torch.minimum(bound, _ROUGHER * roughness(flow)).clamp(*_RANGE)
    certain = 1 / bound
    for reach in REACHES:
        flow, certain, noise = _mean(flow, certain, noise, reach)
    return flow


@torch.no_grad()
def variance(flow: Tensor, seen: Evidence) -> Tensor:
    """Say how uncertain a motion is by what the pictures differ by after warping.

    Parameters
    ----------
    flow, seen : Tensor, Evidence
        As for :func:`agreed`.

    Returns
    -------
    Tensor
        (B, 1, h, w) px² of the grid: along each axis, that of the best motion of a window of
        σ = 1 cell whose slopes are the same in all directions (Cramér and Rao's bound).
    """
    products = seen.at(flow)
    both = torch.cat([products[:, :1] + products[:, 2:3], products[:, 5:]], 1)
    slopes, left = blur(both, 1.0).split_with_sizes([1, 1], 1)
    left = -_LEAST * max_around(-left, _AROUND)
    values = independent(0, sides(flow))
    return (2 * left / (values * slopes).clamp_min(1e-9)).clamp(*_RANGE)


@torch.no_grad()
def roughness(flow: Tensor) -> Tensor:
    """Say how much a motion differs from its mean around each cell.

    Parameters
    ----------
    flow : Tensor
        (B, 2, h, w) px of the grid.

    Returns
    -------
    Tensor
        (B, 1, h, w) px²: variance along each axis.
    """
    apart = flow - blur(flow, _ROUGH)
    return blur(apart.square().sum(1, keepdim=True), _ROUGH) / 2


def _mean(
    flow: Tensor, certain: Tensor, noise: Tensor, reach: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Average over 3×3 cells, `reach` apart: motion, how certain it is, and its variance."""
    known = torch.cat([flow * certain, certain], 1)
    uncertain = certain.square() * noise
    # Of the weights (1, 2, 1) along each axis.
    total, left = 4 * known, 16 * uncertain
    # Two cells agree as well either way: each pair is looked at once.
    for down, right, kernel in ((0, 1, 2.0), (1, 0, 2.0), (1, 1, 1.0), (1, -1, 1.0)):
        here, there = _pair(sides(flow), down * reach, right * reach)
        apart = (flow[here] - flow[there]).square().sum(1, keepdim=True)
        allowed = (noise[here] + noise[there]) * -_APART
        weight = kernel * (apart / allowed).exp()
        total[here].add_(weight * known[there])
        total[there].add_(weight * known[here])
        square = weight.square()
        left[here].add_(square * uncertain[there])
        left[there].add_(square * uncertain[here])
    flow, certain = total.split_with_sizes([2, 1], 1)
    noise = (_LEFT * left / certain.square()).clamp(*_RANGE)
    return flow / certain, certain / 16, noise


_Part = tuple[EllipsisType, slice, slice]


def _pair(size: tuple[int, int], down: int, right: int) -> tuple[_Part, _Part]:
    """Give the parts of a picture whose cells are so far apart from each other."""
    (height, width), left = size, max(-right, 0)
    right = max(right, 0)
    rows = slice(0, max(height - down, 0)), slice(min(down, height), height)
    columns = slice(left, max(width - right, left)), slice(right, max(width - left, right))
    return (..., rows[0], columns[0]), (..., rows[1], columns[1])
