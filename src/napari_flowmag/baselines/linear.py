"""Linear Eulerian magnification (Wu et al., SIGGRAPH 2012), relative to the reference.

Each band of a Laplacian pyramid is enlarged by itself: what it differs by from the reference's
is multiplied. That is a first-order model of motion, which breaks where the magnified motion is
more than an eighth of the band's wavelength; the paper therefore lowers the factor of fine
bands. There is no temporal filter: as with all magnifiers here, motion is that from the
reference.
"""

from __future__ import annotations

import torch
from torch import Tensor

from napari_flowmag.baselines.common import WholeFrame, factor_at, keep_unmagnified, require_px
from napari_flowmag.baselines.laplacian import bands, collapse
from napari_flowmag.models.base import Alpha


class LinearMagnifier(WholeFrame):
    """Enlarges the differences of a Laplacian pyramid's bands.

    Parameters
    ----------
    cutoff : float
        Wavelength λc in px from which bands get the whole magnification. With
        α δ < λ / 8 (the paper's Eq. 14; its 1 + α is our α) and δ such that λc just fulfils it,
        a finer band gets α λ / λc, but at least 1. 0: all bands get the whole. The paper chose
        λc for each clip, from 16 px up.

    Raises
    ------
    FlowmagError
        If the cutoff is not from 0 to 10,000.
    """

    architecture = "linear"

    def __init__(self, cutoff: float = 16.0) -> None:
        super().__init__()
        require_px("linear", "cutoff", cutoff, 0, 10_000)
        self.cutoff = cutoff
        self.config = {"cutoff": cutoff}

    def render(self, prediction: Tensor, reference: Tensor, frame: Tensor, alpha: Alpha) -> Tensor:
        """Add the enlarged differences to the frame; what is coarser than all bands stays."""
        # Pyramids are linear: that of the difference is the difference of the pyramids.
        parts = bands(frame - reference)
        added = [
            (self._limited(factor_at(alpha, part), level) - 1) * part
            for level, part in enumerate(parts[:-1])
        ]
        out = frame + collapse([*added, torch.zeros_like(parts[-1])])
        return keep_unmagnified(out, frame, alpha)

    def _limited(self, factor: Tensor, level: int) -> Tensor:
        if self.cutoff == 0:
            return factor
        wavelength = 2 ** (level + 1.5)  # px: the middle of the octave that the band covers
        lower = (factor * wavelength / self.cutoff).clamp_min(1)
        return torch.minimum(factor, lower)
