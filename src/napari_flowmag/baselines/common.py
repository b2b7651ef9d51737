"""What baselines share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from napari_flowmag.models.base import Alpha, Magnifier, broadcast_alpha

CLOSE = 1e-6
"""Factors this near to 1 are 1: what rounding makes of a mean of ones."""


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


class WholeFrame(Magnifier):
    """A magnifier that repaints whole pictures, each channel from itself, without learnt weights.

    All is done in `render`, which gets the whole frame; there is nothing to cut into tiles.
    """

    alpha_range = (0.0, float("inf"))
    # One at a time: what moves is not seen in any other channel. More at once may be given.
    channels = 1
    context = 0
    light = True

    def prepare(self, reference: Tensor) -> tuple[()]:
        """Nothing depends on the reference alone."""
        return ()

    def predict(self, prepared: Any, frame: Tensor, alpha: Alpha) -> Tensor:
        """Nothing is estimated locally: (B, 0, H, W)."""
        return frame[:, :0]
