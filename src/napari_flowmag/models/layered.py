"""Two layers at outlines: what is in front and what it hides, each with a motion of its own.

A pixel on an outline is part object, part ground. One displacement a pixel moves both, and has to
change over a few px from one motion to the other: it bends the object's edge and stretches the
ground beside it. Here a picture is taken apart into a layer that moves far, one that moves less,
and how much of each pixel the one in front covers (an alpha matte; Porter and Duff 1984). Each is
moved by its own motion, and that in front is laid over the other.

What moves farther is in front unless the picture says otherwise: an outline moves with what it is
the outline of, so that on it the frames differ as the motion of that in front would have it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_flowmag.flow.pyramid import blur, gradients, grey, max_around, mean3, pool, resize, rise
from napari_flowmag.models.area import Area, area_of
from napari_flowmag.warp import sample, sides

SHARE = 0.75
"""Of the layers where there is an outline, the rest is of the single field: their errors differ."""

APART = (1.0, 2.0)
"""Px by which motions around a pixel must differ for two layers: none below, in full above."""

MEASURED = (1.5, 2.5)
"""Px by which they may differ as measured: in full below, none above. The farther apart they are,
the less is known of where outlines lie, and of what is in front."""

_AROUND = 13
"""Px of half the resolution, width of what is looked at for two motions."""

_NEAR, _ABRUPT = 5, (0.6, 0.8)
"""Px of half the resolution, and how much of the difference within `_AROUND` there must be within
so few: no layers below, in full above. Motion that changes smoothly bends one thing."""

_BAND = (0.01, 0.05)
"""How far the share of a motion is from 0 and from 1 where outlines may lie: not below, above."""

_CELL, _WIDE = 16, 3.0
"""What is in front is decided by all that is around: px of a cell, and σ in cells."""

_DOUBT = 0.03
"""Of what both motions leave unexplained, by how much it must be less with the shorter one."""

_ALIKE = 0.3
"""Of the difference between the two motions: what is nearer than that to one of them shows it."""

_EDGE, _STEEP = 0.6, 1.5
"""The measured motion fades over some px across an outline. Where it has so much of the difference
half a pixel is covered, and coverage rises so many times as fast."""

_PURE = 0.05
"""Coverage from 0 or from 1 up to which a pixel shows one layer alone."""

_ROUNDS = 4
"""Fixed-point rounds for the sampling field of a layer, whose motion is smooth."""


class Outlines(NamedTuple):
    """Where two motions meet, at half the resolution.

    Attributes
    ----------
    share : Tensor
        (B, 1, h, w) in [0, 1]: 0 where there is one motion alone.
    motion, size, highest, apart : Tensor
        Motion of the frame's points and its size (px of the frame), the largest size around each
        pixel, and by how much sizes differ there.
    """

    share: Tensor
    motion: Tensor
    size: Tensor
    highest: Tensor
    apart: Tensor


def outlines(motion: Tensor, factor: Tensor) -> Outlines:
    """Find where two motions meet.

    Parameters
    ----------
    motion : Tensor
        (B, 2, H, W) px from the reference, as measured, at each point of the frame.
    factor : Tensor
        (B, 1, 1, 1) or (B, 1, H, W): how many times their motion the points are to go.
    """
    # Motion of layers, and colours under others, are smooth: half the resolution does.
    small = pool(motion, 2)
    at = small.detach()  # where there are two is a choice: no gradient
    size = torch.hypot(at[:, :1], at[:, 1:])
    highest, lowest = max_around(size, _AROUND), -max_around(-size, _AROUND)
    apart = highest - lowest
    near_by = max_around(size, _NEAR) + max_around(-size, _NEAR)
    most = max_around(near_by, _AROUND - _NEAR + 1)  # of all such windows within the wide one
    abrupt = rise(most / apart.clamp_min(1e-6), _ABRUPT)
    known = 1 - rise(max_around(apart, _AROUND), MEASURED)
    share = rise(_small(factor) * apart, APART) * abrupt * known
    return Outlines(share, small, size, highest, apart)


def drawn_in(found: Outlines, factor: Tensor, size: tuple[int, int]) -> Area | None:
    """Give the part of pictures of a size that two layers may change; None: no part of it.

    `factor` as for :func:`outlines`.
    """
    return area_of(found.share, (_small(factor) * found.highest).abs(), size)


def layered(
    single: Tensor,
    reference: Tensor,
    frame: Tensor,
    field: Tensor,
    motion: Tensor,
    factor: Tensor,
    found: Outlines,
) -> Tensor:
    """Say what changes in a moved frame if it moves in two layers where it has outlines.

    Parameters
    ----------
    single : Tensor
        (B, C, H, W): the moved frame by a single sampling field. Nothing darker or brighter than
        its nearest px is drawn into it.
    reference, frame : Tensor
        (B, C, H, W): the frame is what moves.
    field : Tensor
        (B, 2, H, W) px: the single sampling field.
    motion, factor : Tensor
        As for :func:`outlines`.
    found : Outlines
        From :func:`outlines`.

    Returns
    -------
    Tensor
        (B, C, H, W), to be added to `single`. Gradients pass, but not by the choice of where there
        are two layers and which is in front.
    """
    moved, outline = _moved(reference, frame, motion, factor, found)
    # Both are read linearly, so that what that blurs is no change.
    change = moved - sample(frame, field)
    lowest, highest = -max_around(-single, 3), max_around(single, 3)
    return SHARE * outline * (change + single).clamp(lowest, highest).sub(single)


def _small(factor: Tensor) -> Tensor:
    return factor if factor.shape[-2:] == (1, 1) else pool(factor, 2)


def _moved(
    reference: Tensor, frame: Tensor, motion: Tensor, factor: Tensor, found: Outlines
) -> tuple[Tensor, Tensor]:
    """Give the frame moved in two layers, and where it has an outline: (B, 1, H, W) in [0, 1]."""
    channels = frame.shape[1]
    small, outline, factor = found.motion, found.share, _small(factor)
    far, near = _two_motions(found)
    coverage = _coverage(reference, frame, motion, far, near, outline)
    covered, shown = pool(coverage, 2), pool(frame, 2)
    anywhere = outline <= 0
    pure = [(covered > 1 - _PURE) | anywhere, (covered < _PURE) | anywhere]
    fields = [_inverse(factor * _continued(small, known)) for known in pure]
    front, back = (_spread(shown, known) for known in pure)
    front, back = _explained(shown, front, back, covered)
    front = _spread(front, (covered > 0.5) | anywhere)
    back = _spread(back, (covered < 0.5) | anywhere)
    full = resize(torch.cat([front, back, *fields, outline], 1), motion)
    sizes = [channels, channels, 2, 2, 1]
    front, back, from_front, from_back, outline = full.split_with_sizes(sizes, 1)
    front, back = _explained(frame, front, back, coverage)
    front = sample(torch.cat([front, coverage, outline], 1), from_front)
    back = sample(torch.cat([back, outline], 1), from_back)
    outline = torch.maximum(front[:, -1:], back[:, -1:]).detach()
    return torch.lerp(back[:, :-1], front[:, :-2], front[:, -2:-1]), outline


def _explained(
    picture: Tensor, front: Tensor, back: Tensor, coverage: Tensor
) -> tuple[Tensor, Tensor]:
    """Change two layers by as little as makes a picture of them."""
    missing = picture - torch.lerp(back, front, coverage)
    hidden = 1 - coverage
    missing = missing / (coverage.square() + hidden.square())
    return torch.addcmul(front, coverage, missing), torch.addcmul(back, hidden, missing)


def _two_motions(found: Outlines) -> tuple[Tensor, Tensor]:
    """Give the farther and the shorter motion around each pixel."""
    _, small, size, highest, apart = found
    far = _spread(small, size >= highest - _ALIKE * apart, coarse=True)
    near = _spread(small, size <= highest - (1 - _ALIKE) * apart, coarse=True)
    return resize(far, small), resize(near, small)


def _coverage(
    reference: Tensor, frame: Tensor, motion: Tensor, far: Tensor, near: Tensor, outline: Tensor
) -> Tensor:
    """Give how much of each pixel of the frame is in front; (B, 1, H, W)."""
    full = resize(torch.cat([far, near, outline], 1), motion)
    far, near, outline = full.split_with_sizes([2, 2, 1], 1)
    way = far - near
    along = ((motion - near) * way).sum(1, keepdim=True)
    share = along / way.square().sum(1, keepdim=True).clamp_min(1e-8)
    band = outline * rise(torch.minimum(share, 1 - share), _BAND)
    with torch.no_grad():
        shorter = _shorter_in_front(reference, frame, motion, far, near, band)
    return (_STEEP * (torch.where(shorter, 1 - share, share) - _EDGE) + 0.5).clamp(0, 1)


def _shorter_in_front(
    reference: Tensor, frame: Tensor, motion: Tensor, far: Tensor, near: Tensor, band: Tensor
) -> Tensor:
    """Tell by which of two motions outlines have moved; (B, 1, H, W) bool."""
    now = grey(frame)
    before = sample(grey(reference), -motion)
    _, dx, dy = gradients((now + before) / 2)

    def along(way: Tensor) -> Tensor:
        return dx * way[:, :1] + dy * way[:, 1:]

    # By the farther motion the frames differ by `middle + half`, by the shorter by `middle - half`.
    half = along(far - near) / 2
    middle = now - before + along((far + near) / 2 - motion)
    seen = torch.cat([2 * middle * half, middle.square() + half.square()], 1)
    less, unexplained = blur(pool(band * seen, _CELL), _WIDE).chunk(2, 1)
    share = less / unexplained.clamp_min(1e-12)
    share = F.interpolate(share, scale_factor=_CELL, mode="bilinear", align_corners=False)
    height, width = sides(now)
    return share[..., :height, :width] > _DOUBT


def _spread(x: Tensor, known: Tensor, coarse: bool = False, fewest: int = 3) -> Tensor:
    """Fill all but what is known with means of what is, coarser and coarser.

    Parameters
    ----------
    x : Tensor
        (B, C, H, W).
    known : Tensor
        (B, 1, H, W) bool.
    coarse : bool
        Give half of the resolution: all that is as smooth as motion needs.
    fewest : int
        Of nine px that many must be known for their mean to count in full.
    """
    here = known.to(x)
    pyramid = [torch.cat([x * here, here], 1)]
    while min(sides(pyramid[-1])) > 2:
        pyramid.append(pool(pyramid[-1], 2))
    last = pyramid.pop()
    filled = last[:, :-1] / last[:, -1:].clamp_min(1e-6)
    for level in reversed(pyramid[1:] if coarse else pyramid):
        mean = mean3(level)
        share = mean[:, -1:]
        finer = resize(filled, level)
        enough = (9 / fewest * share).clamp(0, 1)
        filled = torch.lerp(finer, mean[:, :-1] / share.clamp_min(1e-6), enough)
    return filled


def _continued(motion: Tensor, known: Tensor) -> Tensor:
    """Keep motion where all around is known, smooth it at the ends of that and fill the rest."""
    whole = mean3(mean3(known.to(motion))) > 0.999
    filled = _spread(motion, known, coarse=True, fewest=1)  # thin things are known in few
    return torch.where(whole, motion, resize(filled, motion))


def _inverse(small: Tensor) -> Tensor:
    """Give the sampling field of a smooth displacement at half the resolution, px of the full."""
    field = -small
    for _ in range(_ROUNDS - 1):
        field = -sample(small, field / 2)
    return field
