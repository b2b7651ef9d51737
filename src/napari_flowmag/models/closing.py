"""What noise has taken off a motion is put back.

In noise, careful steps stop short: a motion that is too small by a tenth is nearer to the truth, at
most pixels, than one that follows the noise. Magnified, all of it stays a tenth too small. But
over many pixels the pictures say by how much: of a smooth motion u, that part of the measured m
which its window agrees on, there is still missing

    c u,   c = -Σ u·r / Σ uᵀ M m,   r = Σ g d,   M = Σ g gᵀ,

where d is what the pictures differ by after warping by m, and g the gradients. u is smoother
than m, because the noise that made m would speak for itself in r. Noise of d makes c uncertain by
σ² / Σ uᵀ M m. Windows of several sizes are asked, widest first; of each, c takes as much as is
certain (a Kalman filter from wide to narrow ones).
"""

from __future__ import annotations

import torch
from torch import Tensor

from napari_flowmag.flow.pyramid import blur, pool, resize
from napari_flowmag.flow.steps import Evidence, independent
from napari_flowmag.models.significance import WIDER
from napari_flowmag.warp import sides

SHORT = 0.1
"""By which share a window's motion comes out shorter or longer than that of the window of twice the
size: a standard deviation."""

MOST = 0.5
"""No more than this share is put back, or taken off."""

_SMOOTH = 1
"""How many times the narrowest window, that u is the mean of, is doubled: σ = 8 px."""


@torch.no_grad()
def closing(seen: Evidence, motion: Tensor) -> Tensor:
    """Say what is missing of a motion.

    Parameters
    ----------
    seen : Evidence
        What the flow's last step saw of the pictures.
    motion : Tensor
        (B, 2, h, w) px of the flow's grid, as measured on it.

    Returns
    -------
    Tensor
        (B, 2, h, w) px of the grid, to be added. No gradient passes.
    """
    sizes, mean = [], motion
    for _ in range(_SMOOTH):
        sizes.append(mean)
        mean = pool(mean, 2)
    mean = _enlarge(blur(mean, 1.0), sizes)
    xx, xy, yy, xt, yt, left = seen.at(motion).split_with_sizes([1] * 6, 1)
    (x, y), (mean_x, mean_y) = (field.split_with_sizes([1, 1], 1) for field in (motion, mean))
    unexplained = -(mean_x * xt + mean_y * yt)
    explained = mean_x * (xx * x + xy * y) + mean_y * (xy * x + yy * y)
    known = torch.cat([unexplained, explained, left], 1) * seen.trust
    levels = [pool(known, 2**_SMOOTH)]
    for _ in range(WIDER - _SMOOTH):
        levels.append(pool(levels[-1], 2))
    missing = torch.zeros_like(levels[-1][:, :1])
    for doubled, level in reversed(list(enumerate(levels, _SMOOTH))):
        missing = resize(missing, level)
        unexplained, explained, noise = blur(level, 1.0).split_with_sizes([1, 1, 1], 1)
        explained = explained.clamp_min(0)
        weight = SHORT**2 * independent(doubled, sides(motion))
        certain = weight * explained + noise.clamp_min(1e-12)
        missing = missing + weight * (unexplained - explained * missing) / certain
        missing = missing.clamp(-MOST, MOST)
    missing = _enlarge(missing, sizes)
    # Beside outlines the mean has motion of what is not there.
    own = (motion * mean).sum(1, keepdim=True) / mean.square().sum(1, keepdim=True).clamp_min(1e-12)
    return missing * own.clamp(0, 1) * mean


def _enlarge(x: Tensor, sizes: list[Tensor]) -> Tensor:
    """Double the resolution again and again, up to that of the first of `sizes`."""
    for like in reversed(sizes):
        x = resize(x, like)
    return x
