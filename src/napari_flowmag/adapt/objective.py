"""What an adaptation minimises: the paper's loss, by one flow estimator or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from napari_flowmag.adapt.pairs import Pairs
from napari_flowmag.adapt.settings import AdaptSettings
from napari_flowmag.loss import MagnificationLoss
from napari_flowmag.models.base import Magnifier


@dataclass(frozen=True)
class Objective:
    """Judges a magnifier on pairs.

    The estimator decides what can be gained: a magnifier that learnt from an estimator shares its
    errors, which the same estimator cannot see. One of another kind does.

    Attributes
    ----------
    losses : tuple of MagnificationLoss
        Eq. 3 to 5, each by one estimator.
    """

    losses: tuple[MagnificationLoss, ...]

    @classmethod
    def of(cls, settings: AdaptSettings, flows: Sequence[nn.Module]) -> Objective:
        """Make the objective that settings ask for, with loaded estimators."""
        weights = settings.magnification_weight, settings.colour_weight
        return cls(tuple(MagnificationLoss(flow, *weights, settings.normalise) for flow in flows))

    def __call__(self, magnifier: Magnifier, pairs: Pairs) -> Tensor:
        """Return the scalar to minimise."""
        reference, frame, alpha = pairs.reference, pairs.frame, pairs.alpha
        magnified = magnifier(reference, frame, alpha)
        if pairs.merge:
            # What is written in the end is one channel: the mean of the repeated ones.
            magnified = magnified.mean(1, keepdim=True).expand_as(reference)
        total = reference.new_zeros(())
        for loss in self.losses:
            total = total + loss(magnified.float(), reference, frame, alpha).total
        return total / len(self.losses)
