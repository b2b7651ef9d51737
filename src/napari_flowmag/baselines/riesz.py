"""Riesz-pyramid magnification (Wadhwa et al., ICCP 2014), relative to the reference.

Like phase-based magnification, with one band for all orientations: the Riesz transform of a
Laplacian pyramid's band gives its local phase along whatever direction is dominant there. Faster
than a steerable pyramid, and less exact where several directions cross. The transform is the
paper's approximation by differences of neighbours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_flowmag.baselines.common import (
    WholeFrame,
    factor_at,
    keep_unmagnified,
    require_px,
    smooth,
)
from napari_flowmag.baselines.laplacian import bands, collapse
from napari_flowmag.models.base import Alpha

_TINY = 1e-20


class RieszMagnifier(WholeFrame):
    """Multiplies the change of the quaternionic phase of a Riesz pyramid's bands.

    Parameters
    ----------
    sigma : float
        Standard deviation, in px of each band, of a Gaussian that averages changes of phase,
        weighted by amplitude. 0: none.

    Raises
    ------
    FlowmagError
        If sigma is not from 0 to 100.
    """

    architecture = "riesz"

    def __init__(self, sigma: float = 2.0) -> None:
        super().__init__()
        require_px("riesz", "sigma", sigma, 0, 100)
        self.sigma = sigma
        self.config = {"sigma": sigma}

    def render(self, prediction: Tensor, reference: Tensor, frame: Tensor, alpha: Alpha) -> Tensor:
        """Add what the bands change by to the frame; what is coarser than all bands stays."""
        before, after = bands(reference), bands(frame)
        added = [
            self._turned(b, a, factor_at(alpha, a) - 1) - a
            for b, a in zip(before[:-1], after[:-1], strict=True)
        ]
        out = frame + collapse([*added, torch.zeros_like(after[-1])])
        return keep_unmagnified(out, frame, alpha)

    def _turned(self, before: Tensor, after: Tensor, factor: Tensor) -> Tensor:
        """Turn the phase of a band further by `factor` times its change."""
        x0, y0 = _riesz(before)
        x1, y1 = _riesz(after)
        # The quotient of two quaternions, whose axes are the directions of the phase.
        real = after * before + x1 * x0 + y1 * y0
        x, y = x1 * before - after * x0, y1 * before - after * y0
        length = (x * x + y * y + _TINY).sqrt()
        phase = torch.atan2(length, real) / length
        x, y = phase * x, phase * y
        if self.sigma:
            amplitude = (after * after + x1 * x1 + y1 * y1).sqrt()
            x, y = smooth(x, amplitude, self.sigma), smooth(y, amplitude, self.sigma)
        length = (x * x + y * y + _TINY).sqrt()
        turn = factor * length
        return after * turn.cos() - (x1 * x + y1 * y) / length * turn.sin()


def _riesz(band: Tensor) -> tuple[Tensor, Tensor]:
    """Approximate Riesz transform along x and y: half the difference of both neighbours."""
    p = F.pad(band, (1, 1, 1, 1), mode="replicate")
    x = (p[..., 1:-1, :-2] - p[..., 1:-1, 2:]) / 2
    y = (p[..., :-2, 1:-1] - p[..., 2:, 1:-1]) / 2
    return x, y
