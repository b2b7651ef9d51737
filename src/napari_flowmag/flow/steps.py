"""One Gauss–Newton step of the flow, with weights that a small network gives.

The products of gradients and differences are averaged over windows of several sizes, each px as
far as it is trusted; what each window proposes is mixed, added to the flow so far, and spread.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_flowmag.device import constant
from napari_flowmag.flow.outlines import GRID, channels_last, neighbours, one_channel, start_at
from napari_flowmag.flow.pyramid import Level, blur, gradients, pool, resize, shading, within
from napari_flowmag.warp import sample_spline, sides

WINDOWS = 4
# A step is bounded (px of its level): past this the linearisation says nothing.
STEP = 2.0

_ALIKE = 4
"""So many px have one value of noise of their own, as smoothed here, to slow changes."""


class Update(nn.Module):
    """One level's network: what it learns is shared by the level's steps."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.width, self.context = width, context
        self.trust = nn.Sequential(
            nn.Conv2d(width + context + 3, 16, 3, 1, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(16, 1, 3, 1, 1),
        )
        # hidden, context; per window: step (2) and eigenvalue; residual (2), flow − its mean (2)
        self.first = nn.Conv2d(width + context + 3 * WINDOWS + 4, width, 3, 1, 1)
        self.second = nn.Conv2d(width, width, 3, 1, 1)
        # window mixture, damping, gain, spreading
        self.head = nn.Conv2d(width, WINDOWS + 2 + 9, 3, 1, 1)
        # Start as plain Lucas-Kanade: middle windows, light damping, no spreading.
        bias = torch.zeros(WINDOWS + 2 + 9)
        bias[:WINDOWS] = torch.tensor([-1.0, 0.0, 0.5, 0.0])
        bias[WINDOWS] = -6.0
        bias[WINDOWS + 2 + 4] = 4.0
        start_at(self.head, bias)
        start_at(cast("nn.Conv2d", self.trust[-1]), torch.tensor([2.0]))

    def prepare(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what `trust` and `first` make of the reference's features, once for a clip."""
        known = slice(self.width, self.width + self.context)
        layers = cast("nn.Conv2d", self.trust[0]), self.first
        trust, first = (
            F.conv2d(context, layer.weight[:, known], layer.bias, padding=1).float()
            for layer in layers
        )
        return trust, first

    def trusted(self, hidden: Tensor, noise: Tensor, context: Tensor) -> Tensor:
        """Return how far to trust each px, in (0, 1)."""
        first, between, last = self.trust
        seen = between(context + self._rest(cast("nn.Conv2d", first), hidden, noise))
        # Training would not find back from ruling motion out.
        weight: Tensor = 0.05 + 0.95 * one_channel(cast("nn.Conv2d", last), seen).sigmoid()
        return weight

    def forward(self, hidden: Tensor, seen: tuple[Tensor, ...], context: Tensor) -> Tensor:
        """Return the next hidden state."""
        x = F.leaky_relu(context + self._rest(self.first, hidden, *seen), 0.1)
        return F.leaky_relu(self.second(x), 0.1).float() + hidden

    def _rest(self, layer: nn.Conv2d, hidden: Tensor, *seen: Tensor) -> Tensor:
        """Apply a layer to all that it sees but the reference's features."""
        before, after = layer.weight[:, : self.width], layer.weight[:, self.width + self.context :]
        weight = torch.cat([before, after], 1)
        return F.conv2d(channels_last(hidden, *seen), weight, padding=1).float()


class Evidence(NamedTuple):
    """What a step sees of the two pictures.

    With gradients g and the difference d of the pictures after warping by a flow:

    Attributes
    ----------
    products : Tensor
        (B, 6, h, w): means over a cell of g gᵀ (xx, xy, yy), of g d (x, y) and of d².
    flow : Tensor
        (B, 2, h, w) px of the grid: by which they were warped.
    trust : Tensor
        (B, 1, h, w) in (0, 1]: how far the step trusts each cell.
    """

    products: Tensor
    flow: Tensor
    trust: Tensor

    def at(self, flow: Tensor | float) -> Tensor:
        """Return what the products would be after warping by another flow near by."""
        xx, xy, yy, xt, yt, tt = self.products.split_with_sizes([1] * 6, 1)
        x, y = (flow - self.flow).split_with_sizes([1, 1], 1)
        along_x, along_y = xx * x + xy * y, xy * x + yy * y
        tt = tt + x * (2 * xt + along_x) + y * (2 * yt + along_y)
        return torch.cat([xx, xy, yy, xt + along_x, yt + along_y, tt], 1)


def independent(doubled: int, size: tuple[int, int]) -> float:
    """Count the values of noise in a window whose σ of a cell was doubled so many times.

    Parameters
    ----------
    doubled : int
        How many times.
    size : (int, int)
        Cells of the picture.
    """
    return min(4 * math.pi * 4.0**doubled, math.prod(size)) * GRID**2 / _ALIKE


def step(
    update: Update,
    products: Tensor,
    context: tuple[Tensor, Tensor],
    flow: Tensor,
    hidden: Tensor,
) -> tuple[Tensor, Tensor, Evidence]:
    """One Gauss–Newton step: the flow so far and the hidden state → the next ones."""
    m, t2 = products[:, :5], products[:, 5:6]
    g2 = m[:, 0:1] + m[:, 2:3]
    noise = torch.cat(
        [(t2 + 1e-5).log() / 8, (g2 + 1e-5).log() / 8, (t2 / (g2 + 1e-3)).clamp(0, 4) / 4], 1
    )
    seen = Evidence(products, flow, update.trusted(hidden, noise, context[0]))
    windows = _windows(products * seen.trust)
    proposals, sharp = _solve(windows[:, :, :5], 1e-3)
    proposals = STEP * torch.tanh(proposals / STEP)
    near = (windows[:, 1:3, 5] + 1e-5).log() / 8
    bend = flow - F.avg_pool2d(flow, 5, 1, 2, count_include_pad=False)
    hidden = update(hidden, (proposals.flatten(1, 2), sharp, near, bend), context[1])
    out = update.head(hidden).float()
    mix = out[:, :WINDOWS].softmax(1).unsqueeze(2)
    damping = out[:, WINDOWS : WINDOWS + 1].clamp(-12, -2).exp()
    gain = 1 + out[:, WINDOWS + 1 : WINDOWS + 2].tanh() * 0.5
    change, _ = _solve((mix * windows[:, :, :5]).sum(1, keepdim=True), damping)
    flow = flow + gain * STEP * torch.tanh(change[:, 0] / STEP)
    return _spread(flow, out[:, WINDOWS + 2 :].softmax(1)), hidden, seen


def products(picture: Tensor, level: Level, other: Tensor, flow: Tensor, ratio: int) -> Tensor:
    """(B, 6, h, w): gradient and difference products, averaged on the solving grid.

    `picture` is what `level` is made from.
    """
    if ratio > 1:
        flow = F.interpolate(ratio * flow, scale_factor=ratio, mode="bilinear", align_corners=False)
    height, width = sides(level.image)
    known = within(flow[..., :height, :width])
    # Flicker must not look like motion, so shading is taken away: from what the frames differ by
    # after warping. Taken from each frame, it would depend on where in the frame a thing is, and
    # hold back what moves.
    change = known * (sample_spline(other, flow[..., :height, :width]) - picture)
    change = known * (change - shading(change, known))
    warped = gradients(level.image + change)
    dx, dy = known * (level.dx + warped.dx), known * (level.dy + warped.dy)
    both = (dx * dx, dx * dy, dy * dy, dx * change, dy * change, change * change)
    pooled = pool(torch.cat(both, 1), ratio)
    # Means over the px that say something: a cell at the border is not a flat one.
    pooled = pooled / pool(known, ratio).clamp_min(1 / ratio**2)
    # Means of the two gradients; per px of the grid, which are `ratio` px of the picture.
    half = ratio / 2
    units = (half**2, half**2, half**2, half, half, 1.0)
    return pooled * constant(units, pooled.dtype, pooled.device).view(1, 6, 1, 1)


def _solve(m: Tensor, damping: Tensor | float) -> tuple[Tensor, Tensor]:
    """Solve the 2×2 normal equations; also the smaller eigenvalue's order of magnitude."""
    xx, xy, yy, xt, yt = m.unbind(2)
    xx, yy = xx + damping, yy + damping
    # The determinant is clamped: its gradient is infinite where the image is flat.
    det = (xx * yy - xy * xy).clamp_min(1e-9)
    step = torch.stack([xy * yt - yy * xt, xy * xt - xx * yt], 2) / det.unsqueeze(2)
    return step, (det / (xx + yy)).clamp_min(1e-7).log() / 8 + 1


def _windows(products: Tensor) -> Tensor:
    """(B, WINDOWS, C, h, w): products averaged over windows of growing size."""
    out = [blur(products, 0.6)]
    coarse = blur(out[0], 1.0)
    out.append(coarse)
    scales = []
    for _ in range(WINDOWS - 2):
        scales.append(coarse)
        coarse = blur(pool(coarse, 2), 1.0)
        wide = coarse
        for finer in reversed(scales):
            wide = resize(wide, finer)
        out.append(wide)
    return torch.stack(out, 1)


def _spread(flow: Tensor, weights: Tensor) -> Tensor:
    """Each px becomes a weighted mean of its 3×3 neighbours; weights (B, 9, h, w)."""
    return torch.stack([weights[:, k, None] * v for k, v in enumerate(neighbours(flow))]).sum(0)
