"""What an adaptation minimises: the paper's loss, and how well the model's own motion explains."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_flowmag.adapt.pairs import Pairs
from napari_flowmag.adapt.settings import AdaptSettings
from napari_flowmag.loss import MagnificationLoss
from napari_flowmag.models.base import Magnifier
from napari_flowmag.warp import MARGIN, identity_grid, sample_spline, spline_coefficients

_CENSUS = 7
"""Side in px of the neighbourhood that is compared."""

_CONTRAST = 0.06
"""Difference of two neighbours at which the census is half-way saturated."""

_OUTLIER = 0.1
"""Squared census difference from which a pixel counts as hidden rather than misplaced."""

_EDGE = 20.0
"""How fast motion may change where the picture does."""


@dataclass(frozen=True)
class Objective:
    """Judges a magnifier on pairs.

    Attributes
    ----------
    loss : MagnificationLoss
        Eq. 3 to 5.
    motion_weight, smooth_weight : float
        See :class:`~napari_flowmag.adapt.settings.AdaptSettings`.
    """

    loss: MagnificationLoss
    motion_weight: float
    smooth_weight: float

    @classmethod
    def of(cls, settings: AdaptSettings, flow: nn.Module) -> Objective:
        """Make the objective that settings ask for, with a loaded flow estimator."""
        weights = settings.magnification_weight, settings.colour_weight
        loss = MagnificationLoss(flow, *weights, settings.normalise)
        return cls(loss, settings.motion_weight, settings.smooth_weight)

    def __call__(self, magnifier: Magnifier, pairs: Pairs) -> Tensor:
        """Return the scalar to minimise."""
        reference, frame, alpha = pairs.reference, pairs.frame, pairs.alpha
        prediction = magnifier.predict(magnifier.prepare(reference), frame, alpha)
        total = reference.new_zeros(())
        if self.loss.magnification_weight or self.loss.colour_weight:
            magnified = magnifier.render(prediction, reference, frame, alpha)
            if pairs.merge:
                # What is written in the end is one channel: the mean of the repeated ones.
                magnified = magnified.mean(1, keepdim=True).expand_as(reference)
            total = total + self.loss(magnified.float(), reference, frame, alpha).total
        motion = magnifier.motion(prediction)
        if motion is not None and self.motion_weight:
            error = brightness_error(reference, frame, motion)
            rough = roughness(reference, motion)
            total = total + self.motion_weight * (error + self.smooth_weight * rough)
        return total


def brightness_error(reference: Tensor, frame: Tensor, motion: Tensor) -> Tensor:
    """How badly a motion explains a frame, by the census of its neighbourhoods.

    The frame is read where the motion says, and the signs of the differences to the neighbours
    (softened) must be the reference's: brightness may drift. The census loss of Meister, Hur,
    Roth, "UnFlow", AAAI 2018, saturated where a place is hidden.

    Parameters
    ----------
    reference, frame : Tensor
        (B, C, H, W) in [0, 1].
    motion : Tensor
        (B, 2, H, W) px from the reference to the frame.

    Returns
    -------
    Tensor
        Scalar in [0, 1], over the pixels whose place lies in the frame.
    """
    moved = sample_spline(spline_coefficients(frame), motion, MARGIN)
    difference = (_census(reference) - _census(moved)).square()
    error = (difference / (_OUTLIER + difference)).mean(1, keepdim=True)
    height, width = motion.shape[-2:]
    place = identity_grid(height, width, motion) + motion
    limit = place.new_tensor([width - 1, height - 1]).view(1, 2, 1, 1)
    inside = ((place >= 0) & (place <= limit)).all(1, keepdim=True).to(error)
    return (error * inside).sum() / inside.sum().clamp_min(1)


def _census(picture: Tensor) -> Tensor:
    """Soft signs of the differences to the neighbours, (B, 49, H, W) in -1 … 1."""
    grey, side = picture.mean(1, keepdim=True), _CENSUS // 2
    padded = F.pad(grey, (side,) * 4, mode="replicate")
    around = F.unfold(padded, _CENSUS).view(len(grey), -1, *grey.shape[-2:])
    difference = around - grey
    softened: Tensor = difference / (_CONTRAST**2 + difference.square()).sqrt()
    return softened


def roughness(reference: Tensor, motion: Tensor) -> Tensor:
    """How much motion changes from pixel to pixel where the picture does not.

    Parameters
    ----------
    reference : Tensor
        (B, C, H, W) in [0, 1].
    motion : Tensor
        (B, 2, H, W) px.

    Returns
    -------
    Tensor
        Scalar, px a px.
    """
    total = motion.new_zeros(())
    for axis in (-1, -2):
        edge = torch.diff(reference, dim=axis).abs().mean(1, keepdim=True)
        total = total + ((-_EDGE * edge).exp() * torch.diff(motion, dim=axis).abs()).mean()
    return total
