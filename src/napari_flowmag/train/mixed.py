"""Real pairs with synthetic ones among them, whose motion and magnified frame are known."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from napari_flowmag.synthetic.pairs import Pairs, PairSettings, generator_of, random_pairs
from napari_flowmag.train.config import MagnifierConfig
from napari_flowmag.train.data import PairBatches
from napari_flowmag.train.feed import Batch

_GREY = 0.01
"""Mean difference from the exact frame that is as good as none, of a value range of 1."""

_HARDLY = 0.1
"""px: of motion smaller than this, what noise hides cannot be asked for."""


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


def factor_error(found: Tensor, truth: Tensor) -> Tensor:
    """Tell how far motion is, as a whole, from as large as it truly is.

    Where noise hides motion, the least error is that of motion found as too small: estimates lean
    towards what is likelier anyway. Each point may; that all of a picture's do at once is a factor
    that a user measures.

    Parameters
    ----------
    found, truth
        (B, 2, H, W) px.

    Returns
    -------
    Tensor
        (B,): ``|sum (found - truth) · truth| / sum (|truth|² + _HARDLY²)``; for motion well above
        `_HARDLY` the share by which all of it together is too small or too large.
    """
    missing = ((found - truth) * truth).sum((1, 2, 3)).abs()
    floor = _HARDLY**2 * truth[0, 0].numel()
    return missing / (truth.square().sum((1, 2, 3)) + floor)


class MixedBatches(Dataset[Batch]):
    """Real batches in which random synthetic pairs, with known flow, take some places.

    Adds ``flow`` (B, 2, H, W) px, ``known`` (B,) bool and ``hiding`` (B,) noise as a share of the
    contrast to a batch; where the exact magnified frame counts in the loss ``exact`` (B, 3, H, W)
    and its magnification ``asked`` (B,), too.

    Parameters
    ----------
    real
        Batches to put them in.
    config
        Their share, motion and noise.
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
        self.settings = PairSettings(
            size=crop,
            motion=config.synthetic_motion,
            noise=config.synthetic_noise,
            light=config.synthetic_light,
        )
        if config.exact_weight:
            reach = config.max_motion or self.settings.reach
            span = config.alpha_min, config.alpha_max
            self.settings = replace(self.settings, alpha=span, reach=reach)
        self.draws = True  # synthetic pairs; else their places stay black

    def part(self, rank: int, ranks: int) -> Self:
        """Return the share of every batch that is a rank's."""
        part = copy.copy(self)
        part.real = self.real.part(rank, ranks)
        return part

    def on(self, device: torch.device) -> tuple[Dataset[Batch], Callable[[Batch], Batch]]:
        """See :class:`~napari_flowmag.train.feed.DrawsOnDevice`."""
        textures = [texture.to(device) for texture in self.textures]
        real = copy.copy(self)
        real.textures, real.draws = [], False

        def draw(batch: Batch) -> Batch:
            rows = batch["known"].nonzero()[:, 0]
            generator = generator_of(self.seed, int(batch.pop("position")), device)
            self._make_room(batch)
            if len(rows):
                _put(batch, rows, random_pairs(len(rows), textures, generator, self.settings))
            return batch

        return real, draw

    def __getitem__(self, index: int) -> Batch:
        places = [index * self.real.batch + place for place in self.real.places]
        generators = [generator_of(self.seed, place) for place in places]
        known = [float(torch.rand((), generator=g)) < self.share for g in generators]
        batch = self._real(places, known)
        if not self.draws:
            return batch | {"position": torch.tensor(places[0])}
        self._make_room(batch)
        for row, generator in enumerate(generators):
            if known[row]:
                pair = random_pairs(1, self.textures, generator, self.settings)
                _put(batch, torch.tensor([row]), pair)
        return batch

    def _real(self, places: Sequence[int], known: Sequence[bool]) -> Batch:
        """Return a batch of real pairs, black where synthetic ones will be."""
        crop, noise = self.real.config.crop, self.real.config.noise
        black, names = torch.zeros(3, crop, crop), ["reference", "frame"]
        names += [f"noisy_{name}" for name in names] if noise else []
        blank = dict.fromkeys(names, black)
        items = [
            blank | {"draw": self._draw(place)} if is_known else self.real.item(place)
            for place, is_known in zip(places, known, strict=True)
        ]
        batch = {name: torch.stack([item[name] for item in items]) for name in items[0]}
        return batch | {"known": torch.tensor(known)}

    def _draw(self, place: int) -> Tensor:
        """Return what the magnification of a synthetic pair follows from, where no frame has it."""
        return torch.tensor(np.random.default_rng([self.seed, place]).random()).float()

    def _make_room(self, batch: Batch) -> None:
        """Add what only synthetic pairs have."""
        reference = batch["reference"]
        batch["flow"] = torch.zeros_like(reference[:, :2])
        batch["hiding"] = torch.zeros_like(reference[:, 0, 0, 0])
        if self.settings.alpha:
            batch |= {"exact": reference.clone(), "asked": torch.ones_like(reference[:, 0, 0, 0])}


def _put(batch: Batch, rows: Tensor, pairs: Pairs) -> None:
    """Put synthetic pairs into some places of a batch."""
    batch["flow"][rows], batch["hiding"][rows] = pairs.flow, pairs.noise
    for side, pictures in (("reference", pairs.first), ("frame", pairs.second)):
        for name in (side, f"noisy_{side}"):
            if name in batch:
                batch[name][rows] = pictures
    if pairs.magnified is not None and pairs.alpha is not None:
        batch["exact"][rows], batch["asked"][rows] = pairs.magnified, pairs.alpha
