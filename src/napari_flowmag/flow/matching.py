"""Coarse matching: a first guess where motion is too large for linearised steps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RADIUS = 4
"""Candidates reach this far, in px of the grid (1/8 of the picture's)."""

SCORES = (2 * RADIUS + 1) ** 2


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
        seen = SCORES + features + hidden + 2
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
        bias[-1] = -3.0  # start by leaving the flow as it is
        self.head.bias = nn.Parameter(bias)
        self.hidden = hidden

    def features(self, image: Tensor) -> Tensor:
        """Describe a picture (B, 1, H, W): unit vectors at 1/4 of its size."""
        return F.normalize(self.encode(image).float(), dim=1)

    def forward(
        self, first: Tensor, second: Tensor, flow: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Improve a flow by what matches.

        Parameters
        ----------
        first, second : Tensor
            Features of the two frames, (B, features, h, w).
        flow : Tensor
            (B, 2, h, w), px of this grid, so far.
        hidden : Tensor
            (B, hidden, h, w).

        Returns
        -------
        flow, hidden : Tensor
            As they came in, updated.
        """
        scores = 16 * correlate(first, second)
        seen = torch.cat([scores / 16, first, hidden, flow], 1)
        seen = seen.contiguous(memory_format=torch.channels_last)
        out = self.head(self.refine(seen)).float()
        likely = (scores + out[:, :SCORES]).softmax(1)
        steps = torch.arange(-RADIUS, RADIUS + 1, dtype=likely.dtype, device=likely.device)
        dx, dy = steps.repeat(2 * RADIUS + 1), steps.repeat_interleave(2 * RADIUS + 1)
        match = torch.einsum("bkhw,kc->bchw", likely, torch.stack([dx, dy], 1))
        trust = out[:, -1:].sigmoid()
        return flow + trust * (match - flow), hidden + out[:, SCORES:-1]


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
    h, w = first.shape[-2:]
    padded = F.pad(second, (RADIUS, RADIUS, RADIUS, RADIUS))
    side = range(2 * RADIUS + 1)
    scores = [(first * padded[..., i : i + h, j : j + w]).sum(1) for i in side for j in side]
    return torch.stack(scores, 1)
