"""Pictures of a magnifier at work, to look at while it is trained."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_flowmag.models.base import Magnifier
from napari_flowmag.warp import MARGIN, sample_spline, spline_coefficients

SWAY = 0.5
"""Largest displacement in px of what :func:`slices` magnifies."""

_FRAMES, _PERIOD = 48, 24
_STRIP = 64  # px of height around the line: more of the picture is not needed
_AT_ONCE = 8


def before_and_after(reference: Tensor, frame: Tensor, magnified: Tensor) -> NDArray[np.uint8]:
    """Lay out a row for each pair: reference, frame and magnified frame.

    Parameters
    ----------
    reference, frame, magnified : Tensor
        (B, 3, H, W) in [0, 1].

    Returns
    -------
    ndarray
        (B * H, 3 * W, 3).
    """
    rows = torch.cat([reference, frame, magnified.float()], 3)
    return _bytes(torch.cat(list(rows), 1))


def slices(magnifier: Magnifier, pictures: Tensor, alpha: float) -> NDArray[np.uint8]:
    """Let pictures sway sideways by half a px, magnify that, and draw x-t slices.

    A row for each picture: the slice before, the slice after, and what would be exact, since the
    motion is known. Time runs downwards, over two periods.

    Parameters
    ----------
    magnifier : Magnifier
        What is trained.
    pictures : Tensor
        (B, 3, H, W) in [0, 1], on the magnifier's device.
    alpha : float
        Magnification asked for.

    Returns
    -------
    ndarray
        (B * 48, 3 * W, 3).
    """
    top = max(0, (pictures.shape[2] - _STRIP) // 2)
    strips = pictures[:, :, top : top + _STRIP]
    rows = []
    for strip in torch.split(strips, 1):
        clip, exact = _swaying(strip, SWAY), _swaying(strip, alpha * SWAY)
        reference = clip[:1]
        after = torch.cat([
            magnifier(
                reference.expand_as(frames).contiguous(),
                frames,
                frames.new_full((len(frames),), alpha),
            )
            for frames in torch.split(clip, _AT_ONCE)
        ])  # fmt: skip
        middle = strip.shape[2] // 2
        rows.append(torch.cat([c.float()[:, :, middle] for c in (clip, after, exact)], 2))
    return _bytes(torch.cat(rows).movedim(1, 0))


def _swaying(picture: Tensor, amplitude: float) -> Tensor:
    """Return (T, 3, H, W): a picture (1, 3, H, W) that sways by so many px."""
    phase = 2 * math.pi * torch.arange(_FRAMES, device=picture.device) / _PERIOD
    flow = picture.new_zeros(_FRAMES, 2, *picture.shape[2:])
    flow[:, 0] = -amplitude * phase.sin().view(-1, 1, 1)
    knots = spline_coefficients(picture).expand(_FRAMES, -1, -1, -1)
    return sample_spline(knots, flow, MARGIN).clamp(0, 1)


def _bytes(picture: Tensor) -> NDArray[np.uint8]:
    scaled = (255 * picture.clamp(0, 1)).round().byte()
    found: NDArray[np.uint8] = scaled.permute(1, 2, 0).cpu().numpy()
    return found
