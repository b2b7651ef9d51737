"""A magnifier that says where every output pixel comes from.

Direct synthesis must learn to copy a picture before it can move it. This one measures the
motion F from the reference to the frame, and reads the input pictures where the magnified
motion α F says: sharpness, bit depth and any number of channels are kept, and a larger α is
a longer displacement rather than something new to learn. What noise makes of still places is
set to zero (:mod:`napari_flowmag.models.significance`), what it takes off motion is put back
(:mod:`napari_flowmag.models.closing`).

A point x of the reference appears at ``y = x + α F(x)``. The *sampling field* v, with
``x = y + v(y)``, solves ``v(y) = -α F(y + v(y))`` by fixed-point iteration. It starts from
α F pushed forward (splatted) onto the output's grid, without which a moving object could
not leave its own outline; where several points meet, those that move farther are in front.
The same point is seen in the frame at ``y + v + F(x)``; a learned share
of each picture is mixed, which averages their noise and picks the one that shows the point.

One displacement a pixel bends outlines, whose pixels are part object, part ground: they are
drawn anew in two layers (:mod:`napari_flowmag.models.layered`).

Trained by the paper's loss (Eq. 3 to 5), which does not care how the picture is made.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_flowmag.borders import Weights, border_weights, read_beyond, spline_beyond
from napari_flowmag.flow.gauss_newton import STEPS, Estimate, GaussNewtonFlow, Prepared
from napari_flowmag.flow.outlines import GRID
from napari_flowmag.flow.pyramid import pool, resize
from napari_flowmag.models.base import Alpha, Magnifier, broadcast_alpha
from napari_flowmag.models.closing import closing
from napari_flowmag.models.layered import Outlines, drawn_in, layered, outlines
from napari_flowmag.models.significance import significance
from napari_flowmag.warp import sample, sides, splat

ROUNDS = 6
"""Fixed-point rounds for the sampling field."""

SHARPNESS = 0.25
"""Of outlines: full ones, which the loss asks for at moderate magnification, fray at large ones."""

REACH = 2.0
"""How far (px) rounds may lead from where they start."""

SETTLED = 0.5
"""By how much (px) the last round may still change a field that counts as found."""


class Shown(NamedTuple):
    """What is computed once of a reference that is drawn."""

    picture: Tensor
    weights: Weights | None
    coefficients: Tensor


class Single(NamedTuple):
    """A frame moved by one displacement a pixel.

    Attributes
    ----------
    picture : Tensor
        (B, C, H, W).
    field : Tensor
        (B, 2, H, W) px: where it was read in the frame.
    motion : Tensor
        (B, 2, H, W) px from the reference, as measured, at each point of the frame.
    beyond : Tensor
        (B, 1, H, W) or (B, 1, 1, 1) in [0, 1]: 0 where the frame keeps its own motion, α = 1.
    outlines : Outlines
        Where it is not enough.
    """

    picture: Tensor
    field: Tensor
    motion: Tensor
    beyond: Tensor
    outlines: Outlines


class FieldMagnifier(Magnifier):
    """Sampling-field magnifier.

    Parameters
    ----------
    width, context, steps
        Of the motion estimator, see :class:`~napari_flowmag.flow.gauss_newton.GaussNewtonFlow`.
    """

    architecture = "field"
    alpha_range = (0.0, float("inf"))
    channels = None
    decoder = ("flow.updates", "maps")
    context = 128
    light = True
    recordable = ("predict", "single", "layers")

    def __init__(
        self,
        width: int = 24,
        context: int = 16,
        steps: tuple[int, ...] = STEPS,
    ) -> None:
        super().__init__()
        self.flow = GaussNewtonFlow(width, context, steps)
        self.config: dict[str, Any] = self.flow.config
        # how much of the reference to mix in
        self.maps = nn.Conv2d(width, 1, 3, 1, 1)
        for parameter in self.maps.parameters():
            nn.init.zeros_(parameter)

    def prepare(self, reference: Tensor) -> Prepared:
        """Pyramid and features of the reference, see the base class."""
        return self.flow.prepare(reference)

    def predict(self, prepared: Prepared, frame: Tensor, alpha: Alpha) -> Tensor:
        """Give motion (2 maps, px) and share of the reference [0, 1]."""
        estimate = self.flow.estimate(prepared, frame, maps=self.maps, sharpness=SHARPNESS)
        moves, missing = self._judged(estimate, sides(frame))
        motion = moves * (estimate.flow.detach() + missing)
        if torch.is_grad_enabled():
            # As if all were borne out, or what is not found would never be learnt.
            motion = estimate.flow - (estimate.flow - motion).detach()
        return torch.cat([motion, estimate.maps.sigmoid()], 1)

    def _judged(self, estimate: Estimate, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Say at each px how far the motion is borne out, and what (px) is missing of it."""
        seen, motion = estimate.seen, estimate.steps[-1]
        cells = torch.cat([significance(seen, motion), GRID * closing(seen, motion)], 1)
        full = F.interpolate(cells, scale_factor=GRID, mode="bilinear", align_corners=False)
        full = full[..., : size[0], : size[1]]
        return full[:, :1], full[:, 1:]

    def show(self, reference: Tensor) -> Shown:
        """Spline of the reference, and how it may go on beyond its border."""
        weights = border_weights(reference)
        return Shown(reference, weights, spline_beyond(reference, weights))

    def render(self, prediction: Tensor, shown: Shown, frame: Tensor, alpha: Alpha) -> Tensor:
        """Read reference and frame along the sampling field; any channels, any values."""
        factor = broadcast_alpha(alpha).to(prediction)
        moved = self.single(prediction, shown, frame, factor)
        area = drawn_in(moved.outlines, factor - 1, sides(frame))
        if area is None:
            return moved.picture
        parts = moved.picture, shown.picture, frame, moved.field, moved.motion, factor - 1
        found = Outlines(*map(area.cut_small, moved.outlines))
        change = self.layers(*map(area.cut, parts), found)
        return moved.picture + area.put(area.cut(moved.beyond) * change, moved.picture)

    def single(self, prediction: Tensor, shown: Shown, frame: Tensor, factor: Tensor) -> Single:
        """Move all by one displacement a pixel."""
        frame = frame.contiguous()  # or all that is done to single channels takes far longer
        measured, further = prediction[:, :2], factor - 1
        field = sampling_field(factor * measured)
        if factor.shape[-2:] != (1, 1):
            factor = sample(factor.expand(len(field), -1, -1, -1), field)
        there = sample(prediction, field)
        motion, share = there[:, :2], there[:, 2:]
        # At α = 1 the frame itself is the answer, at α = 0 the reference.
        beyond = (factor - 1).clamp(0, 1)
        share = torch.where(factor < 1, 1 - factor, share * beyond)
        from_reference = read_beyond(shown.coefficients, field)
        # Where rounds did not converge, field + α F is not 0. Near α = 1 the frame is read as if
        # they had: at α = 1 exactly where it is, however torn the motion.
        missing = (2 - factor).clamp(0, 1) * (field + factor * motion)
        in_frame = field + motion - missing
        from_frame = read_beyond(spline_beyond(frame, shown.weights), in_frame)
        picture = share * from_reference + (1 - share) * from_frame
        # The frame has made its motion once; on its own grid that is, by little, elsewhere.
        in_place = sample(measured, -measured)
        return Single(picture, in_frame, in_place, beyond, outlines(in_place, further))

    def layers(self, *seen: Any) -> Tensor:
        """See :func:`~napari_flowmag.models.layered.layered`; a method, to be recorded."""
        return layered(*seen)


def sampling_field(displacement: Tensor, rounds: int = ROUNDS) -> Tensor:
    """Invert a displacement field: v with ``v(y) = -displacement(y + v(y))``.

    Parameters
    ----------
    displacement : Tensor
        (B, 2, H, W) px on the reference's grid: where each point goes. Where several points
        arrive, those that move farther are taken to be in front.
    rounds : int
        Fixed-point rounds.

    Returns
    -------
    Tensor
        (B, 2, H, W) px on the output's grid: where each point comes from. Where nothing
        arrives (disocclusion) it joins its surroundings smoothly. Gradients pass through
        the last round.
    """
    with torch.no_grad():
        # Half the resolution does for all rounds but the last; px stay those of the picture.
        small = pool(displacement, 2)
        start = field = _start(small)
        for _ in range(rounds - 1):
            field = _near(start, -sample(small, field / 2))
        start, field = resize(start, displacement), resize(field, displacement)
    last = _near(start, -sample(displacement, field))
    # What has not settled reads places at random, as of an object that has left: specks. Gradients
    # pass as if it had, or training would learn nothing where motion is torn.
    unsettled = 1 - _short(last - field, SETTLED)
    return last - (unsettled * (last - start)).detach()


def _near(start: Tensor, field: Tensor) -> Tensor:
    """Keep what lies within `REACH` px of the start, return to the start beyond.

    Where α F varies by more than 1 px a px (occlusion, torn motion) rounds do not converge
    but jump about; the start is what was pushed there, and smooth.
    """
    change = field - start
    return start + _short(change, REACH) * change


def _short(change: Tensor, most: float) -> Tensor:
    """1 where a change is at most so many px long, 0 from 1 px more; (B, 1, H, W)."""
    # Not torch.hypot, whose gradient is NaN where nothing changes.
    length = (change.square().sum(1, keepdim=True) + 1e-12).sqrt()
    return (most + 1 - length).clamp(0, 1)


def _start(small: Tensor) -> Tensor:
    """Displacements pushed to where they lead, holes filled from coarser and coarser means."""
    weight = torch.hypot(small[:, :1], small[:, 1:]).clamp(max=4).exp()
    carried = torch.cat([-small * weight, weight], 1)
    # What arrives is counted, too: how well a place is covered, whatever the weight.
    pyramid = [torch.cat(splat(carried, small / 2, torch.ones_like(weight)), 1)]
    while min(sides(pyramid[-1])) > 1:
        pyramid.append(pool(pyramid[-1], 2))
    filled = pyramid[-1][:, :2] / pyramid[-1][:, 2:3].clamp_min(1e-6)
    for arrived in reversed(pyramid[:-1]):
        coarse = resize(filled, arrived)
        mean = arrived[:, :2] / arrived[:, 2:3].clamp_min(1e-6)
        # Lone arrivals in a hole are torn off their surroundings: the coarser mean is better.
        covered = F.avg_pool2d(arrived[:, 3:], 3, 1, 1, count_include_pad=False)
        covered = (2 * covered - 0.5).clamp(0, 1) * (arrived[:, 3:] > 1e-3)
        filled = covered * mean + (1 - covered) * coarse
    return filled
