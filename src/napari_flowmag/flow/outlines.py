"""From the cells that a flow is solved on to pixels, along the reference's outlines."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_flowmag.device import constant
from napari_flowmag.warp import sides, strips

GRID = 4
"""Px of a picture along a cell of the grid."""

OUTLINES = 32
"""Channels that say how cells join."""

_STRIP_CELLS = 2**10
"""Of a strip, for whose pixels it is kept how much they take of each neighbour."""


class Shares(nn.Sequential):
    """For each px of a cell of the grid, how much of the nine nearest cells' values it takes.

    Parameters
    ----------
    width : int
        Channels of the features of cells.
    """

    def __init__(self, width: int) -> None:
        last = nn.Conv2d(OUTLINES, 9 * GRID**2, 1)
        start_at(last, torch.zeros(9 * GRID**2))
        super().__init__(nn.Conv2d(width, OUTLINES, 3, 1, 1), nn.LeakyReLU(0.1), last)

    def forward(  # type: ignore[override]
        self, values: Tensor, hidden: Tensor, outlines: Tensor, sharpness: float = 1.0
    ) -> Tensor:
        """Bring values from the grid to full resolution.

        Parameters
        ----------
        values : Tensor
            (B, C, h, w).
        hidden : Tensor
            (B, width, h, w): the flow's last features.
        outlines : Tensor
            (B, OUTLINES, h, w): what the reference's pixels add.
        sharpness : float
            How much of what was learned counts: at 0 it is linear interpolation.

        Returns
        -------
        Tensor
            (B, C, 4h, 4w).
        """
        first, between, last = self[0], self[1], cast("nn.Conv2d", self[2])
        seen = between(first(channels_last(hidden)).float() + outlines)
        # On top of linear interpolation's weights, so that smooth motion stays exact. A matrix
        # product, because a convolution's result would have to be brought into this order.
        bias = sharpness * cast("Tensor", last.bias) + constant(_LINEAR, seen.dtype, seen.device)
        weight = torch.cat(
            [sharpness * last.weight.permute(0, 2, 3, 1).flatten(1), bias[:, None]], 1
        ).expand(len(seen), -1, -1)
        seen = torch.cat([seen.contiguous(), torch.ones_like(seen[:, :1])], 1)
        near, found = neighbours(values), []
        for rows in strips(seen, _STRIP_CELLS):
            part = seen[:, :, rows]
            logits = torch.bmm(weight, part.flatten(2)).float()
            shares = logits.view(len(part), 9, GRID**2, *sides(part)).softmax(1)
            found.append(upsample([cell[:, :, rows] for cell in near], shares))
        return torch.cat(found, 2)


def upsample(near: list[Tensor], shares: Tensor) -> Tensor:
    """From the grid to full resolution: each px is a mean of the 9 nearest cells.

    Parameters
    ----------
    near : list of Tensor
        (B, C, h, w) each: from :func:`neighbours`.
    shares : Tensor
        (B, 9, 16, h, w), positive, their sum along the second axis is 1.

    Returns
    -------
    Tensor
        (B, C, 4h, 4w).
    """
    first, *rest = near
    out = shares[:, 0, None] * first[:, :, None]
    for k, cell in enumerate(rest, 1):
        out = torch.addcmul(out, shares[:, k, None], cell[:, :, None])
    # As pixel_shuffle does it, in a third of its time on a CPU.
    (batch, channels), (height, width) = out.shape[:2], sides(out)
    out = out.view(batch, channels, GRID, GRID, height, width).permute(0, 1, 4, 2, 5, 3)
    return out.reshape(batch, channels, GRID * height, GRID * width)


def _linear_logits() -> tuple[float, ...]:
    """Log weights of 3×3 neighbours for a cell's px by linear interpolation."""
    centres = (torch.arange(GRID) + 0.5) / GRID - 0.5
    far, near = centres.abs(), 1 - centres.abs()
    before, after = torch.where(centres < 0, far, 0), torch.where(centres > 0, far, 0)
    line = torch.stack([before, near, after], 1).clamp_min(1e-3)
    weights = torch.einsum("ai,bj->ijab", line, line).reshape(9, GRID**2)
    return tuple((weights / weights.sum(0)).log().flatten().tolist())


_LINEAR = _linear_logits()


def start_at(layer: nn.Conv2d, bias: Tensor) -> None:
    """Have a layer give the same at every pixel until it has learnt better."""
    nn.init.zeros_(layer.weight)
    layer.bias = nn.Parameter(bias)


def channels_last(*parts: Tensor) -> Tensor:
    """Join channels, in the order in memory in which convolutions are fastest."""
    # One by one: several times as fast as bringing all of them together into that order.
    return torch.cat([part.contiguous(memory_format=torch.channels_last) for part in parts], 1)


def one_channel(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a 3×3 convolution that has a single channel as its result, (B, 1, h, w).

    As a product of matrices and sums of moved pictures: on a CPU four times as fast.
    """
    height, width = sides(x)
    # Cloned, as where in memory a matrix begins decides how its products are rounded.
    taps = layer.weight[0].flatten(1).mT.clone() @ x.flatten(2)
    taps = F.pad(taps.float().view(-1, 9, height, width), (1, 1, 1, 1))
    out = cast("Tensor", layer.bias).float() + taps[:, :1, :height, :width]
    for k in range(1, 9):
        i, j = divmod(k, 3)
        out.add_(taps[:, k : k + 1, i : i + height, j : j + width])
    return out


def neighbours(x: Tensor) -> list[Tensor]:
    """Move a picture to each of the 3×3 neighbours, row by row."""
    h, w = sides(x)
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return [padded[..., i : i + h, j : j + w] for i in range(3) for j in range(3)]
