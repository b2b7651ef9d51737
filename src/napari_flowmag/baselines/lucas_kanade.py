"""Lucas-Kanade flow, turned into a sampling field: no weights, no training.

The reference is read where the magnified motion says that a pixel came from. With
``y = x + α F(x)`` and ``x = y + v(y)`` the field v solves ``v(y) = -α F(y + v(y))``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from napari_flowmag.baselines.common import FlowMagnifier, keep_unmagnified, require_px
from napari_flowmag.flow.lucas_kanade import LucasKanadeFlow
from napari_flowmag.models.base import Alpha, broadcast_alpha
from napari_flowmag.warp import sample

ROUNDS = 8
"""Fixed-point rounds."""

STEPS = 5
"""Gauss-Newton steps."""


class LucasKanadeWarp(FlowMagnifier):
    """Reads the reference backward along magnified Lucas-Kanade flow.

    The flow is measured at full resolution alone, so it serves motion of a pixel or so.

    Parameters
    ----------
    sigma : float
        Standard deviation in px of the window: wide ones win in noise and inside objects, narrow
        ones at their boundaries.

    Raises
    ------
    FlowmagError
        If sigma is not from 0.1 to 100.
    """

    architecture = "lucas-kanade"

    def __init__(self, sigma: float = 5.0) -> None:
        require_px("lucas-kanade", "sigma", sigma, 0.1, 100)
        super().__init__(LucasKanadeFlow(sigma, STEPS, levels=1))
        self.config = {"sigma": sigma}
        self.context = int(STEPS * 3 * sigma) + 1

    def render(self, prediction: Tensor, reference: Tensor, frame: Tensor, alpha: Alpha) -> Tensor:
        """Read the reference along the sampling field; any channels, any values."""
        factor = broadcast_alpha(alpha).to(frame).expand(len(frame), 1, *frame.shape[-2:])
        displacement = factor * prediction
        field = -displacement
        for _ in range(ROUNDS):
            field = -sample(displacement, field)
        there = sample(torch.cat([reference, factor], 1), field)
        return keep_unmagnified(there[:, :-1], frame, there[:, -1:])
