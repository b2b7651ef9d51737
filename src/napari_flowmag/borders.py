"""What may lie beyond a picture's border, guessed by what the picture itself is like.

Magnified motion brings into view what was never filmed. Repeating the border draws streaks there;
the best linear guess from the px next to it continues what the picture is made of, and goes over
into their mean where nothing can be known. Its weights are fitted within the picture, where what
follows is known (linear prediction; Wiener 1949).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_flowmag.device import constant
from napari_flowmag.warp import MARGIN, sample_spline, sides, spline_coefficients

BEYOND = 8
"""Px that are guessed on each side; what is farther out repeats the last."""

_INWARDS, _ASIDE = 4, 3
"""Px that a guess looks at: from the border inwards, and to either side."""

_SAMPLES = 2048
"""Places of a picture that weights are fitted at, about."""

_RIDGE = 3e-3
"""Of the taps' mean square: holds weights small where the picture does not decide them."""

_TINY = 1e-30

Weights = tuple[Tensor, Tensor]


def border_weights(picture: Tensor) -> Weights | None:
    """Fit how a picture goes on to the sides, and how it goes on above and below.

    Parameters
    ----------
    picture : Tensor
        (B, C, H, W), any values.

    Returns
    -------
    tuple of Tensor, optional
        Twice (B, C, BEYOND, 2 · _ASIDE + 1, _INWARDS): for each px beyond the border, the weight
        of each px near it, along the border and from the inside out; their sum is 1. None: the
        picture is too small to tell.
    """
    if min(sides(picture)) < 2 * (_INWARDS + BEYOND):
        return None
    # Half precision would do for a network, not for equations, nor for pictures.
    with torch.no_grad(), torch.autocast(picture.device.type, enabled=False):
        # Apple's graphics have no double precision.
        seen = picture.cpu() if picture.device.type == "mps" else picture
        return _fit(seen).to(picture), _fit(seen.mT).to(picture)


def _fit(picture: Tensor) -> Tensor:
    """Fit by least squares: alike for left and right, and for either way along the border."""
    height, width = sides(picture)
    stride = max(1, int(math.sqrt(height * width / _SAMPLES)))
    seen = picture.unfold(2, 2 * _ASIDE + 1, stride).unfold(3, _INWARDS + BEYOND, stride)
    rows = [seen[..., _ASIDE, :]]
    rows += [seen[..., _ASIDE + k, :] + seen[..., _ASIDE - k, :] for k in range(1, _ASIDE + 1)]
    there = torch.stack(rows, -2).flatten(2, 3)  # (B, C, places, rows, px)
    there = torch.cat([there, there.flip(-1)], 2)
    # All relative to the px at the border: then weights add up to 1, and shades carry on.
    border = there[..., :1, _INWARDS - 1 : _INWARDS]
    count = constant((1.0, *_ASIDE * [2.0]), picture.dtype, picture.device)[:, None]
    taps = (there[..., :_INWARDS] - count * border).flatten(3).double()
    beyond = (there[..., :1, _INWARDS:] - border).flatten(3).double()
    square, product = taps.mT @ taps, taps.mT @ beyond
    identity = torch.eye(square.shape[-1], dtype=square.dtype, device=square.device)
    # In a flat picture all is 0: any weights will do.
    ridge = (_RIDGE * square.diagonal(dim1=-2, dim2=-1).mean(-1)).clamp_min(_TINY)
    found: Tensor = torch.linalg.solve_ex(square + ridge[..., None, None] * identity, product)[0]
    found = found.mT.reshape(*found.shape[:2], BEYOND, _ASIDE + 1, _INWARDS)
    weights = torch.cat([found[..., 1:, :].flip(-2), found], -2)
    rest = torch.zeros_like(weights)
    rest[..., _ASIDE, -1] = 1 - weights.sum((-2, -1))
    return weights + rest


def continued(picture: Tensor, weights: Weights | None) -> Tensor:
    """Add `BEYOND` px on each side of a picture.

    Parameters
    ----------
    picture : Tensor
        (B, C, H, W).
    weights : tuple of Tensor, optional
        From :func:`border_weights`, of this picture or one like it; of one picture or of each.
        None repeats the border.

    Returns
    -------
    Tensor
        (B, C, H + 2 · BEYOND, W + 2 · BEYOND), within the picture's own range of values.
    """
    if weights is None:
        return F.pad(picture, (BEYOND,) * 4, mode="replicate")
    lowest, highest = picture.amin((2, 3), keepdim=True), picture.amax((2, 3), keepdim=True)
    left, right = (side.clamp(lowest, highest) for side in _sideways(picture, weights[0]))
    wider = torch.cat([left, picture, right], -1)
    ends = torch.cat([wider[..., :_INWARDS, :], wider[..., -_INWARDS:, :]], -2).mT
    above, below = (side.clamp(lowest, highest).mT for side in _sideways(ends, weights[1]))
    return torch.cat([above, wider, below], -2)


def spline_beyond(picture: Tensor, weights: Weights | None) -> Tensor:
    """Prepare pictures, and what may lie around them, for :func:`read_beyond`.

    Parameters
    ----------
    picture : Tensor
        (B, C, H, W).
    weights : tuple of Tensor, optional
        See :func:`continued`.

    Returns
    -------
    Tensor
        (B, C, H + 2 · (BEYOND + MARGIN), W + 2 · (BEYOND + MARGIN)): coefficients of cubic
        splines.
    """
    return spline_coefficients(continued(picture, weights))


def read_beyond(coefficients: Tensor, displacement: Tensor) -> Tensor:
    """Read pictures, and what may lie around them, at displaced positions, by cubic splines.

    Parameters
    ----------
    coefficients : Tensor
        From :func:`spline_beyond`.
    displacement : Tensor
        (B, 2, H, W) px.

    Returns
    -------
    Tensor
        (B, C, H, W).
    """
    return sample_spline(coefficients, displacement, BEYOND + MARGIN)


def _sideways(picture: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Guess what lies to the left and to the right, (B, C, H, BEYOND) each."""
    with torch.autocast(picture.device.type, enabled=False):
        return _right(picture.flip(-1), weights).flip(-1), _right(picture, weights)


def _right(picture: Tensor, weights: Tensor) -> Tensor:
    border = F.pad(picture[..., -_INWARDS:], (0, 0, _ASIDE, _ASIDE), mode="replicate")
    near = border.unfold(2, 2 * _ASIDE + 1, 1).mT.flatten(3)
    guess: Tensor = near @ weights.flatten(3).mT
    return guess
