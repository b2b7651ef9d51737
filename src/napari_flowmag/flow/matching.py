"""Coarse matching: a guess where motion is too large for linearised steps."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_flowmag.flow.outlines import channels_last
from napari_flowmag.warp import sample, sides

RADIUS = 4
"""Candidates reach this far, in px of the grid (1/8 of the picture's)."""

SCORES = (2 * RADIUS + 1) ** 2

_BLOCK = 8
"""Px along a block of vectors that are compared at once."""

SHARPNESS = 16.0
"""By how much a perfect match outweighs an unrelated one, as a logarithm."""


class Matches(NamedTuple):
    """What was found by matching.

    Attributes
    ----------
    start : Tensor
        (B, 2, h, w), px of the grid: the displacement that all others are added to.
    likely : Tensor
        (B, SCORES, h, w): logarithm of how likely each of the displacements around it is, row
        by row.
    """

    start: Tensor
    likely: Tensor


class Matcher(nn.Module):
    """Compare learnt features of two frames over a window of displacements.

    Parameters
    ----------
    hidden : int
        Channels of the state that the flow's steps carry on.
    features : int
        Channels of the compared features.
    """

    def __init__(self, hidden: int, features: int = 32) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(16, 24, 3, 1, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(24, features, 3, 2, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(features, features, 3, 1, 1),
        )
        seen = SCORES + features + hidden
        self.refine = nn.Sequential(
            nn.Conv2d(seen, 64, 3, 1, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(64, 64, 3, 1, 2, dilation=2),
            nn.LeakyReLU(0.1),
            nn.Conv2d(64, 48, 3, 1, 1),
            nn.LeakyReLU(0.1),
        )
        # correction of the scores, change of the state, trust in the match
        self.head = nn.Conv2d(48, SCORES + hidden + 1, 3, 1, 1)
        nn.init.zeros_(self.head.weight)
        bias = torch.zeros(SCORES + hidden + 1)
        bias[-1] = -2.0  # start with little motion: matches mean nothing before they are learnt
        self.head.bias = nn.Parameter(bias)

    def features(self, image: Tensor) -> Tensor:
        """Describe a picture (B, 1, H, W): unit vectors at 1/4 of its size."""
        return F.normalize(self.encode(image).float(), dim=1).contiguous()

    def forward(
        self, first: Tensor, second: Tensor, flow: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor, Matches]:
        """Find the displacements that match best.

        Parameters
        ----------
        first, second : Tensor
            Features of the two frames, (B, features, h, w).
        flow : Tensor
            (B, 2, h, w), px of this grid: what displacements are looked for around.
        hidden : Tensor
            (B, hidden, h, w): the state that the steps carry on.

        Returns
        -------
        flow : Tensor
            (B, 2, h, w): moved towards the match, as far as that is to be trusted.
        hidden : Tensor
            (B, hidden, h, w): the next state.
        matches : Matches
            For training.
        """
        scores = correlate(first, sample(second, flow, padding="zeros"))
        out = self.head(self.refine(channels_last(scores, first, hidden))).float()
        likely = (SHARPNESS * scores + out[:, :SCORES]).log_softmax(1)
        match = torch.einsum("bkhw,kc->bchw", likely.exp(), candidates(likely))
        trust = out[:, -1:].sigmoid()
        return flow + trust * match, hidden + out[:, SCORES:-1], Matches(flow, likely)


def candidates(like: Tensor) -> Tensor:
    """Displacements (SCORES, 2) in px of the grid that are compared, row by row."""
    steps = torch.arange(-RADIUS, RADIUS + 1, dtype=like.dtype, device=like.device)
    return torch.stack([steps.repeat(2 * RADIUS + 1), steps.repeat_interleave(2 * RADIUS + 1)], 1)


def correlate(first: Tensor, second: Tensor) -> Tensor:
    """Compare each vector of `first` with those of `second` around the same place.

    Parameters
    ----------
    first, second : Tensor
        (B, C, h, w).

    Returns
    -------
    Tensor
        (B, SCORES, h, w): inner products, row by row; 0 outside the picture.
    """
    # Blocks of vectors with all that is around them, by a matrix product each: a tenth of the
    # operations that moving one picture over the other takes.
    (batch, channels), (height, width) = first.shape[:2], sides(first)
    right, below = -width % _BLOCK, -height % _BLOCK
    rows, columns = (height + below) // _BLOCK, (width + right) // _BLOCK
    first = F.pad(first, (0, right, 0, below))
    second = F.pad(second, (RADIUS, RADIUS + right, RADIUS, RADIUS + below))
    seen, side = _BLOCK + 2 * RADIUS, 2 * RADIUS + 1
    here = first.unfold(2, _BLOCK, _BLOCK).unfold(3, _BLOCK, _BLOCK).permute(0, 2, 3, 4, 5, 1)
    here = here.reshape(-1, _BLOCK**2, channels)
    around = second.unfold(2, seen, _BLOCK).unfold(3, seen, _BLOCK).permute(0, 2, 3, 1, 4, 5)
    with torch.autocast(first.device.type, enabled=False):
        products = here @ around.reshape(-1, channels, seen**2)
    # Of each vector those at its own place in the block and up to `side` px on.
    steps = (_BLOCK * seen**2 + seen, seen**2 + 1, seen, 1)
    size = (len(products), _BLOCK, _BLOCK, side, side)
    scores = products.as_strided(size, (_BLOCK**2 * seen**2, *steps))
    scores = scores.reshape(batch, rows, columns, _BLOCK, _BLOCK, SCORES).permute(0, 5, 1, 3, 2, 4)
    return scores.reshape(batch, SCORES, height + below, width + right)[..., :height, :width]
