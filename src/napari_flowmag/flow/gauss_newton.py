"""Optical flow by Gauss–Newton steps whose weights are learned.

Coarse to fine, each step warps the second frame by the flow so far and solves the
Lucas–Kanade normal equations for the remaining motion. A small recurrent network looks at
the images, the residual and the solutions that windows of several sizes propose; it says
how far to trust each pixel, how to mix the windows, how strongly to hold on to the flow
so far, and how to spread it to neighbours. The arithmetic that makes sub-pixel motion
accurate is thus exact; what images cannot tell (flat regions, boundaries, noise) is learned.

The module is differentiable from end to end, so it serves as the flow of the
magnification loss and as the motion estimate inside the sampling-field magnifier.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_flowmag.warp import sample_spline

WINDOWS = 4
# A step is bounded (px of its level): past this the linearisation says nothing.
STEP = 2.0


class Level(NamedTuple):
    """One frame at one scale of the pyramid, on the grid of its images."""

    image: Tensor
    dx: Tensor
    dy: Tensor


class Prepared(NamedTuple):
    """What is computed once for a reference frame."""

    mean: Tensor
    gain: Tensor
    levels: tuple[Level, ...]
    contexts: tuple[Tensor, ...]


class Estimate(NamedTuple):
    """Result of the estimator.

    Attributes
    ----------
    flow : Tensor
        (B, 2, H, W) px.
    hidden : Tensor
        (B, width, ceil(H/2), ceil(W/2)) features of the last step.
    steps : list of Tensor
        The flow after every step, on that step's grid, in px of that grid; for training.
    """

    flow: Tensor
    hidden: Tensor
    steps: list[Tensor]


def _blur(x: Tensor, sigma: float) -> Tensor:
    reach = max(int(2.5 * sigma + 0.5), 1)
    taps = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-taps.square() / (2 * sigma**2))
    kernel, channels = kernel / kernel.sum(), x.shape[1]
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    x = F.conv2d(x, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(x, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


def _halve(x: Tensor) -> Tensor:
    """Mean of 2×2 px; odd sizes repeat the last row or column first."""
    height, width = x.shape[-2:]
    if height % 2 or width % 2:
        x = F.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
    return F.avg_pool2d(x, 2)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    if x.shape[-2:] == size:
        return x
    return F.interpolate(
        x, size=(2 * x.shape[-2], 2 * x.shape[-1]), mode="bilinear", align_corners=False
    )[..., : size[0], : size[1]]


def _flatten(image: Tensor) -> Tensor:
    """Take away shading coarser than about 8 px: flicker must not look like motion."""
    shading = F.avg_pool2d(image, 8, ceil_mode=True, count_include_pad=False)
    shading = F.interpolate(_blur(shading, 0.5), scale_factor=8, mode="bilinear", align_corners=False)
    return image - shading[..., : image.shape[-2], : image.shape[-1]]


def _smooth(image: Tensor) -> Tensor:
    """What :func:`sample_spline` reads from `image` at its own pixels."""
    kernel, channels = image.new_tensor([1 / 6, 2 / 3, 1 / 6]), image.shape[1]
    image = F.pad(image, (1, 1, 1, 1), mode="replicate")
    image = F.conv2d(image, kernel.view(1, 1, 1, 3).expand(channels, 1, 1, 3), groups=channels)
    return F.conv2d(image, kernel.view(1, 1, 3, 1).expand(channels, 1, 3, 1), groups=channels)


def _gradients(image: Tensor) -> Level:
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    dx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    dy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return Level(image, dx, dy)


def _solve(m: Tensor, damping: Tensor | float) -> tuple[Tensor, Tensor]:
    """Solve the 2×2 normal equations; also the smaller eigenvalue's order of magnitude."""
    xx, xy, yy, xt, yt = m.unbind(2)
    xx, yy = xx + damping, yy + damping
    # The determinant is clamped: its gradient is infinite where the image is flat.
    det = (xx * yy - xy * xy).clamp_min(1e-9)
    step = torch.stack([xy * yt - yy * xt, xy * xt - xx * yt], 2) / det.unsqueeze(2)
    return step, (det / (xx + yy)).clamp_min(1e-7).log() / 8 + 1


class _Update(nn.Module):
    """One level's network: what it learns is shared by the level's steps."""

    def __init__(self, width: int, context: int, free: bool) -> None:
        super().__init__()
        self.trust = nn.Sequential(
            nn.Conv2d(width + context + 3, 16, 3, 1, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(16, 1, 3, 1, 1),
        )
        # hidden, context; per window: step (2) and eigenvalue; residual (2), flow − its mean (2)
        self.first = nn.Conv2d(width + context + 3 * WINDOWS + 4, width, 3, 1, 1)
        self.second = nn.Conv2d(width, width, 3, 1, 1)
        # window mixture, damping, gain, spreading; a free step where motion is too large to solve
        self.free = free
        self.head = nn.Conv2d(width, WINDOWS + 2 + 9 + 2 * free, 3, 1, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.trust[-1].weight)  # type: ignore[arg-type]
        nn.init.constant_(self.trust[-1].bias, 2.0)  # type: ignore[arg-type]
        # Start as plain Lucas-Kanade: middle windows, light damping, no spreading.
        bias = torch.zeros(WINDOWS + 2 + 9 + 2 * free)
        bias[:WINDOWS] = torch.tensor([-1.0, 0.0, 0.5, 0.0])
        bias[WINDOWS] = -6.0
        bias[WINDOWS + 2 + 4] = 4.0
        self.head.bias.data = bias


class GaussNewtonFlow(nn.Module):
    """Differentiable optical flow by learned-weight Gauss–Newton steps.

    Parameters
    ----------
    width : int
        Channels of the update networks.
    context : int
        Channels of the reference frame's features.
    steps : sequence of int
        Gauss–Newton steps at each level, coarsest first; the last level uses the images at
        full resolution (but solves on the half-resolution grid), the one before it half
        resolution, and so on.
    """

    architecture = "gauss_newton"
    differentiable = True

    def __init__(
        self, width: int = 24, context: int = 16, steps: tuple[int, ...] = (3, 3, 2, 1, 3)
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"width": width, "context": context, "steps": list(steps)}
        self.width, self.schedule = width, tuple(steps)
        self.updates = nn.ModuleList(
            _Update(width, context, free=i < len(steps) - 2) for i in range(len(steps))
        )
        self.contexts = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(3 if i < len(steps) - 1 else 12, context, 3, 1, 1),
                nn.LeakyReLU(0.1),
                nn.Conv2d(context, context, 3, 1, 1),
                nn.LeakyReLU(0.1),
            )
            for i in range(len(steps))
        )
        # 4×-grid of the half-resolution flow: 9 neighbours for each of the 4 sub-pixels
        self.upsample = nn.Conv2d(width, 36, 3, 1, 1)
        nn.init.zeros_(self.upsample.weight)
        nn.init.zeros_(self.upsample.bias)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)

    # ---- reference -------------------------------------------------------------------

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
        levels = [_gradients(_smooth(image)) for image in self._pyramid((grey - mean) * gain)]
        contexts = []
        for i, (level, network) in enumerate(zip(levels, self.contexts, strict=True)):
            seen = torch.cat([level.image, 2 * level.dx, 2 * level.dy], 1)
            if i == len(levels) - 1:
                seen = F.pixel_unshuffle(_even(seen), 2)
            contexts.append(network(seen.contiguous(memory_format=torch.channels_last)))
        return Prepared(mean, gain, tuple(levels), tuple(contexts))

    def _pyramid(self, image: Tensor) -> list[Tensor]:
        """Coarsest first."""
        images = [image]
        for _ in range(len(self.schedule) - 1):
            images.append(_halve(_blur(images[-1], 0.7)))
        return [_flatten(image) for image in reversed(images)]

    # ---- flow ------------------------------------------------------------------------

    def estimate(self, prepared: Prepared, second: Tensor) -> Estimate:
        """Flow from the prepared first frame to `second` (B, C, H, W)."""
        grey = (second.mean(1, keepdim=True) - prepared.mean) * prepared.gain
        pyramid = self._pyramid(grey)
        flow = hidden = None
        steps: list[Tensor] = []
        last = len(self.schedule) - 1
        for i, count in enumerate(self.schedule):
            level, other, context = prepared.levels[i], pyramid[i], prepared.contexts[i]
            size = context.shape[-2:]
            if flow is None or hidden is None:
                flow = context.new_zeros(context.shape[0], 2, *size)
                hidden = context.new_zeros(context.shape[0], self.width, *size)
            elif i < last:
                flow, hidden = 2 * _resize(flow, size), _resize(hidden, size)
            # The finest level measures at full and solves at half resolution.
            for _ in range(count):
                flow, hidden = self._step(
                    self.updates[i], level, other, context, flow, hidden, i == last
                )
                steps.append(flow)
        assert flow is not None and hidden is not None
        return Estimate(self._upsample(flow, hidden, second.shape[-2:]), hidden, steps)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow (B, 2, H, W) px from `first` to `second`, each (B, C, H, W)."""
        return self.estimate(self.prepare(first), second).flow

    def _step(
        self,
        update: nn.Module,
        level: Level,
        other: Tensor,
        context: Tensor,
        flow: Tensor,
        hidden: Tensor,
        full: bool,
    ) -> tuple[Tensor, Tensor]:
        # As in RAFT, no gradient passes through the flow that a step starts from: a Newton
        # step forgets its start to first order, and the long way back only adds noise.
        flow = flow.detach()
        products = self._products(level, other, flow, full)
        m, t2 = products[:, :5], products[:, 5:6]
        g2 = m[:, 0:1] + m[:, 2:3]
        noise = torch.cat(
            [(t2 + 1e-5).log() / 8, (g2 + 1e-5).log() / 8, (t2 / (g2 + 1e-3)).clamp(0, 4) / 4], 1
        )
        trust = update.trust(_cat(hidden, context, noise)).sigmoid()
        windows = self._windows(torch.cat([m, t2], 1) * trust)
        proposals, sharp = _solve(windows[:, :, :5], 1e-3)
        proposals = STEP * torch.tanh(proposals / STEP)
        near = (windows[:, 1:3, 5] + 1e-5).log() / 8
        bend = flow - F.avg_pool2d(flow, 5, 1, 2, count_include_pad=False)
        seen = _cat(hidden, context, proposals.flatten(1, 2), sharp, near, bend)
        hidden = F.leaky_relu(update.second(F.leaky_relu(update.first(seen), 0.1)), 0.1) + hidden
        out = update.head(hidden)
        mix = out[:, :WINDOWS].softmax(1).unsqueeze(2)
        damping = out[:, WINDOWS : WINDOWS + 1].clamp(-12, 2).exp()
        gain = 1 + out[:, WINDOWS + 1 : WINDOWS + 2].tanh() * 0.5
        step, _ = _solve((mix * windows[:, :, :5]).sum(1, keepdim=True), damping)
        flow = flow + gain * STEP * torch.tanh(step[:, 0] / STEP)
        if update.free:
            flow = flow + out[:, WINDOWS + 11 :]
        return _spread(flow, out[:, WINDOWS + 2 : WINDOWS + 11].softmax(1)), hidden

    @staticmethod
    def _products(level: Level, other: Tensor, flow: Tensor, full: bool) -> Tensor:
        """(B, 6, h, w): gradient and difference products on the solving grid."""
        size = level.image.shape[-2:]
        warped = _gradients(sample_spline(other, 2 * _resize(flow, size) if full else flow))
        dx, dy = (level.dx + warped.dx) / 2, (level.dy + warped.dy) / 2
        dt = warped.image - level.image
        products = torch.cat([dx * dx, dx * dy, dy * dy, dx * dt, dy * dt, dt * dt], 1)
        if not full:
            return products
        # Steps are solved in half-resolution px: one of them is two of the images' px.
        scale = products.new_tensor([4, 4, 4, 2, 2, 1]).view(1, 6, 1, 1)
        return _halve(products) * scale

    @staticmethod
    def _windows(products: Tensor) -> Tensor:
        """(B, WINDOWS, C, h, w): products averaged over windows of growing size."""
        size = products.shape[-2:]
        out = [_blur(products, 0.6)]
        coarse = _blur(out[0], 1.0)
        out.append(coarse)
        sizes: list[tuple[int, int]] = []
        for _ in range(WINDOWS - 2):
            sizes.append((coarse.shape[-2], coarse.shape[-1]))
            coarse = _blur(_halve(coarse), 1.0)
            wide = coarse
            for target in reversed(sizes):
                wide = _resize(wide, target)
            out.append(wide)
        return torch.stack([x[..., : size[0], : size[1]] for x in out], 1)

    def _upsample(self, flow: Tensor, hidden: Tensor, size: tuple[int, ...]) -> Tensor:
        """Half-resolution flow to full resolution; each px a learned mean of 9 neighbours."""
        b, _, h, w = flow.shape
        weights = self.upsample(hidden).view(b, 9, 4, h, w)
        # On top of bilinear interpolation's weights, so that smooth motion stays exact.
        weights = (weights + _BILINEAR.to(weights).view(1, 9, 4, 1, 1)).softmax(1)
        padded = F.pad(2 * flow, (1, 1, 1, 1), mode="replicate")
        near = [padded[..., i : i + h, j : j + w] for i in range(3) for j in range(3)]
        out = sum(weights[:, k].unsqueeze(1) * v.unsqueeze(2) for k, v in enumerate(near))
        return F.pixel_shuffle(out.flatten(1, 2), 2)[..., : size[0], : size[1]]  # type: ignore[union-attr]


def _bilinear_logits() -> Tensor:
    """Log weights of 3×3 neighbours for the 4 sub-pixels of bilinear upsampling by 2."""
    near, far = 0.75, 0.25
    line = torch.tensor([[far, near, 1e-3], [1e-3, near, far]])
    weights = torch.einsum("ai,bj->ijab", line, line).reshape(9, 4)
    return (weights / weights.sum(0)).log()


_BILINEAR = _bilinear_logits()


def _even(x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    return (
        F.pad(x, (0, width % 2, 0, height % 2), mode="replicate") if height % 2 or width % 2 else x
    )


def _cat(*parts: Tensor) -> Tensor:
    return torch.cat(parts, 1).contiguous(memory_format=torch.channels_last)


def _spread(flow: Tensor, weights: Tensor) -> Tensor:
    """Each px becomes a weighted mean of its 3×3 neighbours; weights (B, 9, h, w)."""
    h, w = flow.shape[-2:]
    padded = F.pad(flow, (1, 1, 1, 1), mode="replicate")
    near = [padded[..., i : i + h, j : j + w] for i in range(3) for j in range(3)]
    return torch.stack([weights[:, k : k + 1] * v for k, v in enumerate(near)]).sum(0)
