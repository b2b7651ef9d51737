"""Real pairs with synthetic ones among them, whose motion and magnified frame are known."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from napari_flowmag.synthetic.pairs import PairSettings, generator_of, random_pairs
from napari_flowmag.train.config import MagnifierConfig
from napari_flowmag.train.data import PairBatches
from napari_flowmag.train.feed import Batch

_GREY = 0.01
"""Mean difference from the exact frame that is as good as none, of a value range of 1."""


def difference(magnified: Tensor, exact: Tensor, reference: Tensor) -> Tensor:
    """Compare magnified frames with exact ones, relative to what the reference differs from them.

    Where little of a picture moves, that little counts as much as a whole moving picture does.

    Parameters
    ----------
    magnified, exact, reference
        (B, C, H, W) in [0, 1].

    Returns
    -------
    Tensor
        (B,): mean absolute difference; 1 for a copy of the reference that differs by much more
        than `_GREY`.
    """
    undone = (reference - exact).abs().mean((1, 2, 3))
    return (magnified - exact).abs().mean((1, 2, 3)) / (undone + _GREY)


class MixedBatches(Dataset[Batch]):
    """Real batches in which random synthetic pairs, with known flow, take some places.

    Adds ``flow`` (B, 2, H, W) px and ``known`` (B,) bool to a batch; where the exact magnified
    frame counts in the loss ``exact`` (B, 3, H, W) and its magnification ``asked`` (B,), too.

    Parameters
    ----------
    real
        Batches to put them in.
    config
        Their share and motion.
    crop
        Height and width in px.
    textures
        uint8 (3, h, w) pictures to texture scenes with.
    seed
        Seed of the scenes.
    """

    def __init__(
        self,
        real: PairBatches,
        config: MagnifierConfig,
        crop: int,
        textures: Sequence[Tensor],
        seed: int,
    ) -> None:
        self.real, self.share, self.seed, self.textures = real, config.synthetic, seed, textures
        self.settings = PairSettings(size=crop, motion=config.synthetic_motion)
        if config.exact_weight:
            reach = config.max_motion or self.settings.reach
            span = config.alpha_min, config.alpha_max
            self.settings = replace(self.settings, alpha=span, reach=reach)

    def part(self, rank: int, ranks: int) -> Self:
        """Return the share of every batch that is a rank's."""
        part = copy.copy(self)
        part.real = self.real.part(rank, ranks)
        return part

    def __getitem__(self, index: int) -> Batch:
        batch = self.real[index]
        reference = batch["reference"]
        known = torch.zeros(len(reference), dtype=torch.bool)
        batch |= {"known": known, "flow": torch.zeros_like(reference[:, :2])}
        if self.settings.alpha:
            batch |= {"exact": reference.clone(), "asked": torch.ones(len(reference))}
        for row, place in enumerate(self.real.places):
            generator = generator_of(self.seed, index * self.real.batch + place)
            if torch.rand((), generator=generator) >= self.share:
                continue
            pair = random_pairs(1, self.textures, generator, self.settings)
            known[row], batch["flow"][row] = True, pair.flow[0]
            for side, pictures in (("reference", pair.first), ("frame", pair.second)):
                for name in (side, f"noisy_{side}"):
                    if name in batch:
                        batch[name][row] = pictures[0]
            if pair.magnified is not None and pair.alpha is not None:
                batch["exact"][row], batch["asked"][row] = pair.magnified[0], pair.alpha[0]
        return batch
