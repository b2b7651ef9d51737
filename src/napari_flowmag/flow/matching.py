"""Coarse matching: a guess where motion is too large for linearised steps."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_flowmag.warp import sample, sides

RADIUS = 4
"""Candidates reach this far, in px of the grid (1/8 of the picture's)."""

SCORES = (2 * RADIUS + 1) ** 2

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
        seen = torch.cat([scores, first, hidden], 1)
        out = self.head(self.refine(seen.contiguous(memory_format=torch.channels_last))).float()
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
    h, w = sides(first)
    padded = F.pad(second, (RADIUS, RADIUS, RADIUS, RADIUS))
    side = range(2 * RADIUS + 1)
    scores = [(first * padded[..., i : i + h, j : j + w]).sum(1) for i in side for j in side]
    return torch.stack(scores, 1)
