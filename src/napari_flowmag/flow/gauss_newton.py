"""Optical flow by Gauss–Newton steps whose weights are learned.

Coarse to fine, each step warps the second frame by the flow so far and solves the
Lucas–Kanade normal equations for the remaining motion. A small recurrent network looks at
the images, the residual and the solutions that windows of several sizes propose; it says
how far to trust each pixel, how to mix the windows, how strongly to hold on to the flow
so far, and how to spread it to neighbours. The arithmetic that makes sub-pixel motion
accurate is thus exact; what images cannot tell (flat regions, boundaries, noise) is learned.

What coarse pictures do not show, such as small things that move far, is found by matching: at
1/8 of the resolution learned features of the two frames are compared around the flow so far.

At the end cells that agree are averaged (:mod:`napari_flowmag.flow.agreement`).

The module is differentiable from end to end, so it serves as the flow of the
magnification loss and as the motion estimate inside the sampling-field magnifier.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_flowmag.flow.agreement import agreed
from napari_flowmag.flow.matching import Matcher, Matches
from napari_flowmag.flow.outlines import (
    GRID,
    OUTLINES,
    Shares,
    channels_last,
    one_channel,
)
from napari_flowmag.flow.pyramid import (
    Level,
    blur,
    fill,
    gradients,
    grey,
    pool,
    resize,
    shading,
    smooth,
)
from napari_flowmag.flow.steps import Evidence, Update, products, step
from napari_flowmag.warp import sides

# Levels have pictures of 1/32, 1/16, 1/8, 1/4, 1/2 and full resolution; here are the px of these
# per px of the grid that a level solves on. Past 1/4 of the resolution only the measurement gets
# finer: that is where sub-pixel accuracy comes from, while motion is smooth and all else costs
# time.
LEVELS = (1, 1, 1, 1, 2, 4)
# Where matches are looked for (before that level's steps), and the level whose picture's features
# they compare.
MATCHED, DESCRIBED = 2, 4
STEPS = (2, 2, 2, 1, 1, 1)


class Prepared(NamedTuple):
    """What is computed once for a reference frame."""

    mean: Tensor
    gain: Tensor
    pictures: tuple[Tensor, ...]
    levels: tuple[Level, ...]
    contexts: tuple[tuple[Tensor, Tensor], ...]
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
    maps : Tensor
        (B, 1, H, W): what else was asked for; without channels if nothing was.
    steps : list of Tensor
        The flow after every step, after matching and, the last, after averaging
        (:mod:`~napari_flowmag.flow.agreement`), on its grid and in px of it; for training.
    matches : Matches
        What was found by matching; for training.
    seen : Evidence
        What the last step saw.
    """

    flow: Tensor
    maps: Tensor
    hidden: Tensor
    steps: list[Tensor]
    matches: Matches
    seen: Evidence


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
        1/8, 1/4, 1/2 and full resolution; at the last one or more.
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
        if len(steps) != len(LEVELS) or min(steps) < 0 or not steps[-1]:
            raise ValueError(
                f"steps = {steps}: give {len(LEVELS)} numbers of steps, the last 1 or more"
            )
        self.config: dict[str, Any] = {"width": width, "context": context, "steps": list(steps)}
        self.schedule, self.width = tuple(steps), width
        self.updates = nn.ModuleList(Update(width, context) for _ in LEVELS)
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
        self.outlines = nn.Conv2d(3 * GRID**2, OUTLINES, 3, 1, 1)
        self.shares = Shares(width)
        self.to(memory_format=torch.channels_last)

    def prepare(self, first: Tensor) -> Prepared:
        """Everything about the first frame that does not depend on the second.

        Parameters
        ----------
        first : Tensor
            (B, C, H, W), in [0, 1]; any C (its mean is used), any contrast.
        """
        seen = grey(first)
        mean = seen.mean((2, 3), keepdim=True)
        # A floor, so that a flat picture's noise is not blown up into texture.
        gain = 1 / seen.std((2, 3), keepdim=True).clamp_min(0.02)
        pyramid = _pyramid((seen - mean) * gain)
        pictures = [smooth(image) for image in pyramid]
        levels = [gradients(_flat(picture)) for picture in pictures]
        features = self.matcher.features(_flat(pyramid[DESCRIBED]))
        contexts = []
        for level, ratio, network, update in zip(
            levels, LEVELS, self.contexts, self.updates, strict=True
        ):
            seen = torch.cat([level.image, 2 * level.dx, 2 * level.dy], 1)
            seen = F.pixel_unshuffle(fill(seen, ratio), ratio)
            contexts.append(cast("Update", update).prepare(network(channels_last(seen))))
        outlines = self.outlines(channels_last(seen)).float()  # of the last, finest level
        return Prepared(
            mean, gain, tuple(pictures), tuple(levels), tuple(contexts), features, outlines
        )

    def estimate(
        self,
        prepared: Prepared,
        second: Tensor,
        detach: bool = False,
        maps: nn.Conv2d | None = None,
        sharpness: float = 1.0,
    ) -> Estimate:
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
        maps : nn.Conv2d, optional
            What else to read off the last step's features, (B, 1, h, w): it is brought to full
            resolution as the flow is.
        sharpness : float
            Of outlines, see :class:`~napari_flowmag.flow.outlines.Shares`.
        """
        pyramid = _pyramid((grey(second) - prepared.mean) * prepared.gain)
        features = self.matcher.features(_flat(pyramid[DESCRIBED]))
        flow = torch.zeros_like(prepared.contexts[0][0][:, :2])
        hidden = torch.zeros_like(prepared.contexts[0][0][:, :1]).repeat(1, self.width, 1, 1)
        steps: list[Tensor] = []
        for i, (count, ratio) in enumerate(zip(self.schedule, LEVELS, strict=True)):
            context, update = prepared.contexts[i], cast("Update", self.updates[i])
            if sides(flow) != sides(context[0]):
                flow, hidden = 2 * resize(flow, context[0]), resize(hidden, context[0])
            if i == MATCHED:
                flow = flow.detach() if detach else flow
                flow, hidden, matches = self.matcher(prepared.features, features, flow, hidden)
                steps.append(flow)
            for _ in range(count):
                flow = flow.detach() if detach else flow
                both = products(prepared.pictures[i], prepared.levels[i], pyramid[i], flow, ratio)
                flow, hidden, seen = step(update, both, context, flow, hidden)
                steps.append(flow)
        flow = agreed(flow, seen)
        steps.append(flow)
        wanted = [GRID * flow] if maps is None else [GRID * flow, one_channel(maps, hidden)]
        height, width = sides(second)
        full = self.shares(torch.cat(wanted, 1), hidden, prepared.outlines, sharpness)
        full = full[..., :height, :width]
        return Estimate(full[:, :2], full[:, 2:], hidden, steps, matches, seen)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow (B, 2, H, W) px from `first` to `second`, each (B, C, H, W)."""
        return self.estimate(self.prepare(first), second).flow


def _pyramid(image: Tensor) -> list[Tensor]:
    """Pictures at the levels' resolutions, coarsest first."""
    images = [image]
    for _ in LEVELS[1:]:
        images.append(pool(blur(images[-1], 0.7), 2))
    return images[::-1]


def _flat(image: Tensor) -> Tensor:
    return image - shading(image, torch.ones_like(image))
