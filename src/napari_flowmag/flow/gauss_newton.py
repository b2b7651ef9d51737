"""Optical flow by Gauss–Newton steps whose weights are learned.

Coarse to fine, each step warps the second frame by the flow so far and solves the
Lucas–Kanade normal equations for the remaining motion. A small recurrent network looks at
the images, the residual and the solutions that windows of several sizes propose; it says
how far to trust each pixel, how to mix the windows, how strongly to hold on to the flow
so far, and how to spread it to neighbours. The arithmetic that makes sub-pixel motion
accurate is thus exact; what images cannot tell (flat regions, boundaries, noise) is learned.

What coarse pictures do not show, such as small things that move far, is found by matching: at
1/8 of the resolution learned features of the two frames are compared around the flow so far.

The module is differentiable from end to end, so it serves as the flow of the
magnification loss and as the motion estimate inside the sampling-field magnifier.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_flowmag.flow.matching import Matcher, Matches
from napari_flowmag.flow.pyramid import (
    Level,
    blur,
    fill,
    gradients,
    pool,
    resize,
    shading,
    smooth,
    within,
)
from napari_flowmag.warp import sample_spline

WINDOWS = 4
OUTLINES = 32  # channels that say how the grid's cells join
# Levels have pictures of 1/32, 1/16, 1/8, 1/4, 1/2 and full resolution; here are the px of these
# per px of the grid that a level solves on. Past 1/4 of the resolution only the measurement gets
# finer: that is where sub-pixel accuracy comes from, while motion is smooth and all else costs
# time.
LEVELS = (1, 1, 1, 1, 2, 4)
GRID = 4
# Where matches are looked for (before that level's steps), and the level whose picture's features
# they compare.
MATCHED, DESCRIBED = 2, 4
STEPS = (2, 2, 2, 1, 1, 1)
# A step is bounded (px of its level): past this the linearisation says nothing.
STEP = 2.0


class Prepared(NamedTuple):
    """What is computed once for a reference frame."""

    mean: Tensor
    gain: Tensor
    pictures: tuple[Tensor, ...]
    levels: tuple[Level, ...]
    contexts: tuple[Tensor, ...]
    features: Tensor
    outlines: Tensor


class Estimate(NamedTuple):
    """Result of the estimator.

    Attributes
    ----------
    flow : Tensor
        (B, 2, H, W) px.
    hidden : Tensor
        (B, width, ceil(H/4), ceil(W/4)) features of the last step.
    shares : Tensor
        (B, 9, 16, ceil(H/4), ceil(W/4)) for :func:`upsample`.
    steps : list of Tensor
        The flow after every step and after matching, on its grid and in px of it; for
        training.
    matches : Matches
        What was found by matching; for training.
    """

    flow: Tensor
    hidden: Tensor
    shares: Tensor
    steps: list[Tensor]
    matches: Matches


def _solve(m: Tensor, damping: Tensor | float) -> tuple[Tensor, Tensor]:
    """Solve the 2×2 normal equations; also the smaller eigenvalue's order of magnitude."""
    xx, xy, yy, xt, yt = m.unbind(2)
    xx, yy = xx + damping, yy + damping
    # The determinant is clamped: its gradient is infinite where the image is flat.
    det = (xx * yy - xy * xy).clamp_min(1e-9)
    step = torch.stack([xy * yt - yy * xt, xy * xt - xx * yt], 2) / det.unsqueeze(2)
    return step, (det / (xx + yy)).clamp_min(1e-7).log() / 8 + 1


def _start_at(layer: nn.Conv2d, bias: Tensor) -> None:
    """Have a layer give the same at every pixel until it has learnt better."""
    nn.init.zeros_(layer.weight)
    layer.bias = nn.Parameter(bias)


class _Update(nn.Module):
    """One level's network: what it learns is shared by the level's steps."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
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
        _start_at(self.head, bias)
        _start_at(cast("nn.Conv2d", self.trust[-1]), torch.tensor([2.0]))


class GaussNewtonFlow(nn.Module):
    """Differentiable optical flow by learned-weight Gauss–Newton steps.

    Parameters
    ----------
    width : int
        Channels of the update networks.
    context : int
        Channels of the reference frame's features.
    steps : sequence of int
        Gauss–Newton steps at each of the six levels, coarsest first: pictures at 1/32, 1/16,
        1/8, 1/4, 1/2 and full resolution.
    """

    architecture = "gauss_newton"
    differentiable = True

    def __init__(
        self,
        width: int = 24,
        context: int = 16,
        steps: tuple[int, ...] = STEPS,
    ) -> None:
        super().__init__()
        if len(steps) != len(LEVELS) or min(steps) < 0:
            raise ValueError(f"steps = {steps}: give {len(LEVELS)} numbers of steps")
        self.config: dict[str, Any] = {"width": width, "context": context, "steps": list(steps)}
        self.schedule, self.width = tuple(steps), width
        self.updates = nn.ModuleList(_Update(width, context) for _ in LEVELS)
        self.contexts = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(3 * ratio**2, context, 3, 1, 1),
                nn.LeakyReLU(0.1),
                nn.Conv2d(context, context, 3, 1, 1),
                nn.LeakyReLU(0.1),
            )
            for ratio in LEVELS
        )
        self.matcher = Matcher(width)
        # For each px of a cell of the grid, the weights of 9 neighbours.
        self.outlines = nn.Conv2d(3 * GRID**2, OUTLINES, 3, 1, 1)
        self.shares = nn.Sequential(
            nn.Conv2d(width, OUTLINES, 3, 1, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(OUTLINES, 9 * GRID**2, 1),
        )
        _start_at(cast("nn.Conv2d", self.shares[-1]), torch.zeros(9 * GRID**2))
        self.to(memory_format=torch.channels_last)

    def prepare(self, first: Tensor) -> Prepared:
        """Everything about the first frame that does not depend on the second.

        Parameters
        ----------
        first : Tensor
            (B, C, H, W), in [0, 1]; any C (its mean is used), any contrast.
        """
        grey = first.mean(1, keepdim=True)
        mean = grey.mean((2, 3), keepdim=True)
        # A floor, so that a flat picture's noise is not blown up into texture.
        gain = 1 / grey.std((2, 3), keepdim=True).clamp_min(0.02)
        pyramid = _pyramid((grey - mean) * gain)
        pictures = [smooth(image) for image in pyramid]
        levels = [gradients(_flat(picture)) for picture in pictures]
        features = self.matcher.features(_flat(pyramid[DESCRIBED]))
        contexts = []
        for level, ratio, network in zip(levels, LEVELS, self.contexts, strict=True):
            seen = torch.cat([level.image, 2 * level.dx, 2 * level.dy], 1)
            seen = F.pixel_unshuffle(fill(seen, ratio), ratio)
            contexts.append(network(_cat(seen)).float())
        outlines = self.outlines(_cat(seen)).float()  # of the last, finest level
        return Prepared(
            mean, gain, tuple(pictures), tuple(levels), tuple(contexts), features, outlines
        )

    def estimate(self, prepared: Prepared, second: Tensor, detach: bool = False) -> Estimate:
        """Flow from the prepared first frame to a second one.

        Parameters
        ----------
        prepared : Prepared
            From :meth:`prepare`.
        second : Tensor
            (B, C, H, W) in [0, 1].
        detach : bool
            Let no gradient pass through the flow that a step starts from, as RAFT does: for
            training on the error of every step. In a loss on the final flow it must pass:
            trained steps hold on to a good start, and the last one alone has a hundredth of
            the gradient.
        """
        pyramid = _pyramid((second.mean(1, keepdim=True) - prepared.mean) * prepared.gain)
        features = self.matcher.features(_flat(pyramid[DESCRIBED]))
        flow = torch.zeros_like(prepared.contexts[0][:, :2])
        hidden = torch.zeros_like(prepared.contexts[0][:, :1]).repeat(1, self.width, 1, 1)
        steps: list[Tensor] = []
        for i, (count, ratio) in enumerate(zip(self.schedule, LEVELS, strict=True)):
            context, update = prepared.contexts[i], cast("_Update", self.updates[i])
            if flow.shape[-2:] != context.shape[-2:]:
                flow, hidden = 2 * resize(flow, context), resize(hidden, context)
            if i == MATCHED:
                flow = flow.detach() if detach else flow
                flow, hidden, matches = self.matcher(prepared.features, features, flow, hidden)
                steps.append(flow)
            for _ in range(count):
                flow = flow.detach() if detach else flow
                products = _products(
                    prepared.pictures[i], prepared.levels[i], pyramid[i], flow, ratio
                )
                flow, hidden = _step(update, products, context, flow, hidden)
                steps.append(flow)
        shares = self._shares(prepared, hidden)
        height, width = second.shape[-2:]
        full = upsample(GRID * flow, shares)[..., :height, :width]
        return Estimate(full, hidden, shares, steps, matches)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow (B, 2, H, W) px from `first` to `second`, each (B, C, H, W)."""
        return self.estimate(self.prepare(first), second).flow

    def _shares(self, prepared: Prepared, hidden: Tensor) -> Tensor:
        first, *rest = self.shares
        seen: Tensor = first(_cat(hidden)).float() + prepared.outlines
        for layer in rest:
            seen = layer(seen)
        # On top of linear interpolation's weights, so that smooth motion stays exact.
        linear = _LINEAR.to(seen.device).view(1, 9, -1, 1, 1)
        logits = seen.float().reshape(len(seen), 9, GRID**2, *seen.shape[-2:])
        return (logits + linear).softmax(1)


def upsample(values: Tensor, shares: Tensor) -> Tensor:
    """From the grid to full resolution: each px is a learned mean of the 9 nearest cells.

    Parameters
    ----------
    values : Tensor
        (B, C, h, w).
    shares : Tensor
        (B, 9, 16, h, w), positive, their sum along the second axis is 1.

    Returns
    -------
    Tensor
        (B, C, 4h, 4w).
    """
    out = torch.zeros_like(values[:, :, None] * shares[:, :1])
    for k, near in enumerate(_neighbours(values)):
        out = torch.addcmul(out, shares[:, k, None], near[:, :, None])
    return F.pixel_shuffle(out.flatten(1, 2), GRID)


def _pyramid(image: Tensor) -> list[Tensor]:
    """Pictures at the levels' resolutions, coarsest first."""
    images = [image]
    for _ in LEVELS[1:]:
        images.append(pool(blur(images[-1], 0.7), 2))
    return images[::-1]


def _flat(image: Tensor) -> Tensor:
    return image - shading(image, torch.ones_like(image))


def _step(
    update: _Update, products: Tensor, context: Tensor, flow: Tensor, hidden: Tensor
) -> tuple[Tensor, Tensor]:
    """One Gauss–Newton step: the flow so far and the hidden state → the next ones."""
    m, t2 = products[:, :5], products[:, 5:6]
    g2 = m[:, 0:1] + m[:, 2:3]
    noise = torch.cat(
        [(t2 + 1e-5).log() / 8, (g2 + 1e-5).log() / 8, (t2 / (g2 + 1e-3)).clamp(0, 4) / 4], 1
    )
    # Neither trust nor damping may rule motion out: training would not find back from that.
    trust = 0.05 + 0.95 * update.trust(_cat(hidden, context, noise)).float().sigmoid()
    windows = _windows(torch.cat([m, t2], 1) * trust)
    proposals, sharp = _solve(windows[:, :, :5], 1e-3)
    proposals = STEP * torch.tanh(proposals / STEP)
    near = (windows[:, 1:3, 5] + 1e-5).log() / 8
    bend = flow - F.avg_pool2d(flow, 5, 1, 2, count_include_pad=False)
    seen = _cat(hidden, context, proposals.flatten(1, 2), sharp, near, bend)
    seen = F.leaky_relu(update.first(seen), 0.1)
    hidden = F.leaky_relu(update.second(seen), 0.1).float() + hidden
    out = update.head(hidden).float()
    mix = out[:, :WINDOWS].softmax(1).unsqueeze(2)
    damping = out[:, WINDOWS : WINDOWS + 1].clamp(-12, -2).exp()
    gain = 1 + out[:, WINDOWS + 1 : WINDOWS + 2].tanh() * 0.5
    step, _ = _solve((mix * windows[:, :, :5]).sum(1, keepdim=True), damping)
    flow = flow + gain * STEP * torch.tanh(step[:, 0] / STEP)
    return _spread(flow, out[:, WINDOWS + 2 :].softmax(1)), hidden


def _products(picture: Tensor, level: Level, other: Tensor, flow: Tensor, ratio: int) -> Tensor:
    """(B, 6, h, w): gradient and difference products, averaged on the solving grid.

    `picture` is what `level` is made from.
    """
    if ratio > 1:
        flow = F.interpolate(ratio * flow, scale_factor=ratio, mode="bilinear", align_corners=False)
    height, width = level.image.shape[-2:]
    known = within(flow[..., :height, :width])
    # Flicker must not look like motion, so shading is taken away: from what the frames differ by
    # after warping. Taken from each frame, it would depend on where in the frame a thing is, and
    # hold back what moves.
    change = known * (sample_spline(other, flow[..., :height, :width]) - picture)
    change = known * (change - shading(change, known))
    warped = gradients(level.image + change)
    dx, dy = known * (level.dx + warped.dx), known * (level.dy + warped.dy)
    products = (dx * dx, dx * dy, dy * dy, dx * change, dy * change, change.square())
    pooled = torch.cat([pool(product, ratio) for product in products], 1)
    # Means over the px that say something: a cell at the border is not a flat one.
    pooled = pooled / pool(known, ratio).clamp_min(1 / ratio**2)
    # Means of the two gradients; per px of the grid, which are `ratio` px of the picture.
    half = ratio / 2
    return pooled * pooled.new_tensor([half**2, half**2, half**2, half, half, 1]).view(1, 6, 1, 1)


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


def _linear_logits() -> Tensor:
    """Log weights of 3×3 neighbours for a cell's px by linear interpolation."""
    centres = (torch.arange(GRID) + 0.5) / GRID - 0.5
    far, near = centres.abs(), 1 - centres.abs()
    before, after = torch.where(centres < 0, far, 0), torch.where(centres > 0, far, 0)
    line = torch.stack([before, near, after], 1).clamp_min(1e-3)
    weights = torch.einsum("ai,bj->ijab", line, line).reshape(9, GRID**2)
    return (weights / weights.sum(0)).log()


_LINEAR = _linear_logits()


def _cat(*parts: Tensor) -> Tensor:
    return torch.cat(parts, 1).contiguous(memory_format=torch.channels_last)


def _spread(flow: Tensor, weights: Tensor) -> Tensor:
    """Each px becomes a weighted mean of its 3×3 neighbours; weights (B, 9, h, w)."""
    return torch.stack([weights[:, k, None] * v for k, v in enumerate(_neighbours(flow))]).sum(0)


def _neighbours(x: Tensor) -> list[Tensor]:
    """Move a picture to each of the 3×3 neighbours, row by row."""
    h, w = x.shape[-2:]
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return [padded[..., i : i + h, j : j + w] for i in range(3) for j in range(3)]
