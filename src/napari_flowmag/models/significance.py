"""Tell motion from noise: whether the pictures bear out what was measured.

What is still is never measured as quite still. The noise of two pictures looks like motion of a
hundredth of a pixel, which a large α makes one of several px: still ground wobbles. So each place
is asked whether moving it as measured explains the difference of the two pictures better than
leaving it where it is, by more than noise does by chance. This is a likelihood ratio: over a
window with motion m, gradients g of the mean picture and a difference d of the two,

    Σ d² - Σ (d + g·m)²  =  -(mᵀ M m + 2 mᵀ b),   M = Σ g gᵀ,   b = Σ g d,

is some σ² by chance, with two degrees of freedom, and grows with the window where all of it moves.

Windows of many sizes are asked, widest first: faint motion in much noise is found in wide ones,
where it has moved together, outlines between what moves and what is still in narrow ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from napari_flowmag.flow.outlines import GRID
from napari_flowmag.flow.pyramid import blur, pool, resize, rise
from napari_flowmag.flow.steps import Evidence, independent
from napari_flowmag.warp import sides

EVIDENCE = (6.0, 12.0)
"""In σ²: what counts as chance below, in full above. By the best of all its motions, one still
window in twenty has more than 6 by chance, and one in four hundred more than 12."""

AGAINST = (1.0, 2.0)
"""The same, of what speaks against the motion of a wider window."""

APART = (0.1, 0.5)
"""Share of its square by which motion differs from that of a wider window: up to the first it is
the same, from the second on another."""

SURE = (0.5, 1.0)
"""Px: longer motion is none of noise."""

HEAVY = (0.08, 0.16)
"""Noise, as a share of the picture's contrast, in which absence of evidence says little: from the
second on the measured motion is taken as it is, which is too small rather than too large there."""

WIDER = 5
"""How many times windows are doubled."""


@torch.no_grad()
def significance(seen: Evidence, motion: Tensor) -> Tensor:
    """Say how far the pictures bear out a motion.

    Parameters
    ----------
    seen : Evidence
        What the flow's last step saw of the pictures.
    motion : Tensor
        (B, 2, h, w) px of the flow's grid, as measured on it.

    Returns
    -------
    Tensor
        (B, 1, h, w) in [0, 1]: 0 where nothing says that anything moves. No gradient passes.
    """
    # Of windows σ is one cell.
    levels = [torch.cat([seen.at(0.0), motion], 1)]
    for _ in range(WIDER):
        levels.append(pool(levels[-1], 2))
    moves = torch.zeros_like(levels[-1][:, :1])
    wide = torch.zeros_like(levels[-1][:, :2])
    for doubled, level in reversed(list(enumerate(levels))):
        moves, wide = resize(moves, level), resize(wide, level)
        window, local = blur(level, 1.0).split_with_sizes([6, 2], 1)
        borne_out = _gain(window, local)
        left = (window[:, 5:] - borne_out.clamp_min(0)).clamp_min(1e-12)
        noise = left / independent(doubled, sides(motion))
        found = rise(borne_out / noise, EVIDENCE)
        # Still in spite of what moves around it: that would explain less than standing still.
        differs = (local - wide).square().sum(1, keepdim=True)
        differs = differs / wide.square().sum(1, keepdim=True).clamp_min(1e-12)
        follows = 1 - rise(-_gain(window, wide) / noise, AGAINST) * rise(differs, APART)
        moves = torch.maximum(found, moves * follows)
        wide = torch.lerp(follows * wide, local, found)
    length = GRID * torch.hypot(motion[:, :1], motion[:, 1:])
    unasked = torch.maximum(rise(length, SURE), rise(left.sqrt(), HEAVY))
    return torch.maximum(moves, unasked)


def _gain(seen: Tensor, motion: Tensor) -> Tensor:
    """By how much less a motion leaves unexplained than no motion, mean over a window."""
    xx, xy, yy, xt, yt, _ = seen.split_with_sizes([1] * 6, 1)
    x, y = motion.split_with_sizes([1, 1], 1)
    return -(x * (xx * x + 2 * (xy * y + xt)) + y * (yy * y + 2 * yt))
