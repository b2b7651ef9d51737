"""Optical flow by Gauss–Newton steps whose weights are learned.

Learned features of the two frames are matched at 1/8 of the resolution, where motion may be
many px. Then, coarse to fine, each step warps the second frame by the flow so far and solves the
Lucas–Kanade normal equations for the remaining motion. A small recurrent network looks at
the images, the residual and the solutions that windows of several sizes propose; it says
how far to trust each pixel, how to mix the windows, how strongly to hold on to the flow
so far, and how to spread it to neighbours. The arithmetic that makes sub-pixel motion
accurate is thus exact; what images cannot tell (flat regions, boundaries, noise) is learned.

The module is differentiable from end to end, so it serves as the flow of the
magnification loss and as the motion estimate inside the sampling-field magnifier.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_flowmag.flow.matching import Matcher
from napari_flowmag.flow.pyramid import (
    Level,
    blur,
    fill,
    flatten,
    gradients,
    pool,
    resize,
    smooth,
    within,
)
from napari_flowmag.warp import sample_spline

WINDOWS = 4
# Levels have pictures of 1/8, 1/4, 1/2 and full resolution; here are the px of these per px of
# the grid that a level solves on. Past 1/4 of the resolution only the measurement gets finer:
# that is where sub-pixel accuracy comes from, while motion is smooth and all else costs time.
LEVELS = (1, 1, 2, 4)
GRID = 4
# A step is bounded (px of its level): past this the linearisation says nothing.
STEP = 2.0


class Prepared(NamedTuple):
    """What is computed once for a reference frame."""

    mean: Tensor
    gain: Tensor
    levels: tuple[Level, ...]
    contexts: tuple[Tensor, ...]
    features: Tensor


class Estimate(NamedTuple):
    """Result of the estimator.

    Attributes
    ----------
    flow : Tensor
        (B, 2, H, W) px.
    hidden : Tensor
        (B, width, ceil(H/4), ceil(W/4)) features of the last step.
    steps : list of Tensor
        Matches, and the flow after every step, on its grid and in px of it; for training.
    """

    flow: Tensor
    hidden: Tensor
    steps: list[Tensor]


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
        Gauss–Newton steps at each of the four levels, coarsest first: pictures at 1/8, 1/4,
        1/2 and full resolution.
    """

    architecture = "gauss_newton"
    differentiable = True

    def __init__(
        self,
        width: int = 24,
        context: int = 16,
        steps: tuple[int, ...] = (3, 1, 1, 1),
    ) -> None:
        super().__init__()
        if len(steps) != len(LEVELS) or min(steps) < 0:
            raise ValueError(f"steps = {steps}: give {len(LEVELS)} numbers of steps")
        self.config: dict[str, Any] = {"width": width, "context": context, "steps": list(steps)}
        self.schedule = tuple(steps)
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
        # For each of the 2×2 sub-pixels, the weights of 9 neighbours.
        self.upsample = nn.Conv2d(width, 36, 3, 1, 1)
        _start_at(self.upsample, torch.zeros(36))
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
        features = self.matcher.features(pyramid[-2])
        levels = [gradients(smooth(image)) for image in pyramid]
        contexts = []
        for level, ratio, network in zip(levels, LEVELS, self.contexts, strict=True):
            seen = torch.cat([level.image, 2 * level.dx, 2 * level.dy], 1)
            seen = F.pixel_unshuffle(fill(seen, ratio), ratio)
            contexts.append(network(_cat(seen)).float())
        return Prepared(mean, gain, tuple(levels), tuple(contexts), features)

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
        features = self.matcher.features(pyramid[-2])
        flow, hidden, match = self.matcher(prepared.features, features)
        steps = [match, flow]
        for i, (count, ratio) in enumerate(zip(self.schedule, LEVELS, strict=True)):
            context, update = prepared.contexts[i], cast("_Update", self.updates[i])
            if flow.shape[-2:] != context.shape[-2:]:
                flow, hidden = 2 * resize(flow, context), resize(hidden, context)
            for _ in range(count):
                flow = flow.detach() if detach else flow
                flow, hidden = _step(
                    update, prepared.levels[i], pyramid[i], context, flow, hidden, ratio
                )
                steps.append(flow)
        size = second.shape[-2:]
        return Estimate(self._upsample(flow, hidden)[..., : size[0], : size[1]], hidden, steps)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow (B, 2, H, W) px from `first` to `second`, each (B, C, H, W)."""
        return self.estimate(self.prepare(first), second).flow

    def _upsample(self, flow: Tensor, hidden: Tensor) -> Tensor:
        """From the grid to full resolution.

        To half of it, each px is a learned mean of 9 neighbours; from there on linear.
        """
        weights = self.upsample(hidden).float().unflatten(1, (9, 4))
        # On top of linear interpolation's weights, so that smooth motion stays exact.
        weights = (weights + _LINEAR.to(weights).view(1, 9, 4, 1, 1)).softmax(1)
        near = _neighbours(GRID * flow)
        out = torch.stack([weights[:, k, None] * v[:, :, None] for k, v in enumerate(near)]).sum(0)
        half = F.pixel_shuffle(out.flatten(1, 2), 2)
        return F.interpolate(half, scale_factor=GRID / 2, mode="bilinear", align_corners=False)


def _pyramid(image: Tensor) -> list[Tensor]:
    """Pictures at the levels' resolutions, coarsest first, without shading."""
    images = [image]
    for _ in LEVELS[1:]:
        images.append(pool(blur(images[-1], 0.7), 2))
    return [flatten(image) for image in reversed(images)]


def _step(
    update: _Update,
    level: Level,
    other: Tensor,
    context: Tensor,
    flow: Tensor,
    hidden: Tensor,
    ratio: int,
) -> tuple[Tensor, Tensor]:
    """One Gauss–Newton step: the flow so far and the hidden state → the next ones."""
    products = _products(level, other, flow, ratio)
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


def _products(level: Level, other: Tensor, flow: Tensor, ratio: int) -> Tensor:
    """(B, 6, h, w): gradient and difference products, averaged on the solving grid."""
    if ratio > 1:
        flow = F.interpolate(ratio * flow, scale_factor=ratio, mode="bilinear", align_corners=False)
    height, width = level.image.shape[-2:]
    warped = gradients(sample_spline(other, flow[..., :height, :width]))
    known = within(flow[..., :height, :width])
    dx, dy = known * (level.dx + warped.dx), known * (level.dy + warped.dy)
    dt = known * (warped.image - level.image)
    products = (dx * dx, dx * dy, dy * dy, dx * dt, dy * dt, dt * dt)
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
    """Log weights of 3×3 neighbours for the 4 sub-pixels of linear upsampling by 2."""
    near, far = 0.75, 0.25
    line = torch.tensor([[far, near, 1e-3], [1e-3, near, far]])
    weights = torch.einsum("ai,bj->ijab", line, line).reshape(9, 4)
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
