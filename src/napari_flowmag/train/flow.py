"""Training the default flow estimator: supervised, on random pairs with exact flow."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from napari_flowmag.checkpoint import read_checkpoint
from napari_flowmag.errors import FlowmagError
from napari_flowmag.flow.gauss_newton import LEVELS, STEPS, GaussNewtonFlow
from napari_flowmag.flow.matching import Matches, candidates
from napari_flowmag.flow.pyramid import fill, pool
from napari_flowmag.synthetic.pairs import (
    Pairs,
    PairSettings,
    generator_of,
    load_textures,
    random_pairs,
)
from napari_flowmag.train.config import plain, require, without_places
from napari_flowmag.train.feed import Batch, share

HELD_OUT = 8
"""Every eighth texture is kept for validation."""


@dataclass(frozen=True)
class FlowConfig:
    """What the flow estimator is and what it learns from.

    Parameters
    ----------
    textures
        Folder of PNG or JPEG pictures to texture the scenes with; unset uses procedural
        textures alone.
    crop
        Height and width of a training pair in px.
    batch
        Pairs in a batch.
    motion
        Smallest and largest motion scale in px.
    noise
        Smallest and largest noise as a share of the pair's contrast.
    light
        Share of pairs in which light changes across the frame.
    width
        Channels of the update networks.
    context
        Channels of the reference frame's features.
    gauss_newton_steps
        Gauss–Newton steps at each pyramid level, coarsest first.
    init
        Flow checkpoint to start from.
    """

    textures: Path | None = None
    crop: int = 96
    batch: int = 8
    motion: tuple[float, float] = (0.01, 20.0)
    noise: tuple[float, float] = (0.003, 0.3)
    light: float = 0.0
    width: int = 24
    context: int = 16
    gauss_newton_steps: tuple[int, ...] = STEPS
    init: Path | None = None

    def __post_init__(self) -> None:
        require(self.crop >= 32, "crop", self.crop, "must be at least 32 px")
        for name in ("batch", "width", "context"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        steps = self.gauss_newton_steps
        require(
            len(steps) == len(LEVELS) and min(steps) >= 0 and steps[-1] > 0,
            "gauss_newton_steps",
            steps,
            f"give {len(LEVELS)} numbers of at least 0, the last of them above 0",
        )
        for name in ("motion", "noise"):
            low, high = getattr(self, name)
            require(0 < low <= high, name, (low, high), "must be two rising numbers above 0")
        require(0 <= self.light <= 1, "light", self.light, "must be from 0 to 1")


class RandomPairs(Dataset[Batch]):
    """Endless random pairs; batch `i` is a function of (seed, i) and the kind of device.

    Parameters
    ----------
    textures, settings
        What is drawn; see :func:`~napari_flowmag.synthetic.pairs.random_pairs`.
    batch
        Pairs in a batch.
    seed
        Seed of all.
    names
        What of the pairs a batch holds.
    draws
        Random numbers for each pair beside that, ``draws`` (B, draws) in [0, 1), for a loss that
        varies what it sees.
    """

    def __init__(
        self,
        textures: list[Tensor],
        batch: int,
        settings: PairSettings,
        seed: int,
        names: tuple[str, ...] = ("first", "second", "flow", "occluded"),
        draws: int = 0,
    ) -> None:
        self.textures, self.batch, self.settings, self.seed = textures, batch, settings, seed
        self.names, self.draws = names, draws
        self.places = range(batch)

    def part(self, rank: int, ranks: int) -> Self:
        """Return the share of every batch that is a rank's; nothing else of it is drawn."""
        part = copy.copy(self)
        part.places = share(self.batch, rank, ranks)
        return part

    def on(self, device: torch.device) -> tuple[Dataset[Batch], Callable[[Batch], Batch]]:
        """See :class:`~napari_flowmag.train.feed.DrawsOnDevice`."""
        textures = [texture.to(device) for texture in self.textures]

        def draw(batch: Batch) -> Batch:
            generator = generator_of(self.seed, int(batch["position"]), device)
            return self._drawn(len(self.places), textures, generator)

        return _Positions(self.batch, self.places.start), draw

    def __getitem__(self, index: int) -> Batch:
        pairs = [
            self._drawn(1, self.textures, generator_of(self.seed, index * self.batch + place))
            for place in self.places
        ]
        return {name: torch.cat([pair[name] for pair in pairs]) for name in pairs[0]}

    def _drawn(self, count: int, textures: list[Tensor], generator: torch.Generator) -> Batch:
        pairs = random_pairs(count, textures, generator, self.settings)
        batch = {name: getattr(pairs, name) for name in self.names}
        if self.draws:
            size = count, self.draws
            batch["draws"] = torch.rand(size, generator=generator, device=generator.device)
        return batch


class _Positions(Dataset[Batch]):
    """Where in the endless sequence of pairs a process's share of each batch begins."""

    def __init__(self, batch: int, first: int) -> None:
        self.batch, self.first = batch, first

    def __getitem__(self, index: int) -> Batch:
        return {"position": torch.tensor(index * self.batch + self.first)}


def split_textures(folder: Path | None) -> tuple[list[Tensor], list[Tensor]]:
    """Return the pictures of a folder to train on, and those kept for validation.

    Raises
    ------
    FlowmagError
        If there are fewer than two.
    """
    textures = load_textures(folder) if folder else []
    seen = [texture for i, texture in enumerate(textures) if i % HELD_OUT]
    if textures and not seen:
        raise FlowmagError(f"{folder}: one texture is too few, as one is kept for validation")
    return seen, textures[::HELD_OUT]


class FlowTask:
    """Trains :class:`GaussNewtonFlow`; a task of :func:`napari_flowmag.train.loop.fit`."""

    def __init__(self, config: FlowConfig, seed: int = 0) -> None:
        self.config = config
        self.settings = PairSettings(
            size=config.crop, motion=config.motion, noise=config.noise, light=config.light
        )
        seen, self.held_out = split_textures(config.textures)
        self.dataset = RandomPairs(seen, config.batch, self.settings, seed)
        torch.manual_seed(seed)
        self.module = GaussNewtonFlow(config.width, config.context, config.gauss_newton_steps)
        if config.init:
            _start_from(self.module, config.init)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare all steps' flow with the truth, see :func:`flow_loss`."""
        estimate = self.module.estimate(self.module.prepare(batch["first"]), batch["second"], True)
        truth, occluded = batch["flow"], batch["occluded"]
        total, terms = flow_loss(estimate.flow, estimate.steps, truth, occluded)
        missed = match_loss(estimate.matches, truth, occluded)
        return total + MATCH * missed, {**terms, "match": missed}

    def validate(self) -> dict[str, float]:
        """Mean end-point error in px by the size of the pair's motion, on held-out textures."""
        generator = torch.Generator().manual_seed(1)
        device = next(self.module.parameters()).device
        out: dict[str, list[float]] = {}
        for _ in range(12):
            pairs = random_pairs(16, self.held_out, generator, self.settings)
            for size, error in _errors(self.module, pairs, device):
                out.setdefault(bin_name(size), []).append(error)
        return {f"epe {name}": float(np.mean(v)) for name, v in sorted(out.items())}

    def pictures(self) -> dict[str, np.ndarray]:
        """Nothing to look at."""
        return {}

    def checkpoint(self) -> dict[str, Any]:
        """Return what is saved beside the weights."""
        facts = without_places(plain(self.config), "textures", "init")
        return {
            "kind": "flow",
            "architecture": "gauss_newton",
            "config": self.module.config,
            "training": {"settings": facts},
        }


def _start_from(module: GaussNewtonFlow, path: Path) -> None:
    try:
        module.load_state_dict(read_checkpoint(path, "flow").state)
    except RuntimeError as error:
        raise FlowmagError(f"setting init: {path} does not fit the settings of the flow") from error


POWER = 0.7
"""Exponent of the training penalty."""

BINS = (0.1, 0.5, 2.0, 8.0)


def bin_name(size: float) -> str:
    """Name of the class of motion that a mean flow magnitude in px belongs to."""
    edges = (0.0, *BINS, 99.0)
    k = sum(size >= edge for edge in BINS)
    return f"{edges[k]:g}-{edges[k + 1]:g} px"


def _errors(flow: nn.Module, pairs: Pairs, device: torch.device) -> list[tuple[float, float]]:
    found = flow(pairs.first.to(device), pairs.second.to(device)).cpu()
    error = torch.hypot(*(found - pairs.flow).unbind(1)).mean((1, 2))
    size = torch.hypot(*pairs.flow.unbind(1)).mean((1, 2))
    return list(zip(size.tolist(), error.tolist(), strict=True))


APART = 1.5
"""Weight of the error of what moves unlike its surroundings."""

_AROUND = 33
"""Width in px of these surroundings."""

_TINY = 0.05
"""px: motion apart of less than this is hardly any."""


def apartness(truth: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """How far a flow differs from its mean around each point, and how rare that is there.

    Parameters
    ----------
    truth
        (B, 2, H, W) px.
    scale
        (B, 1, 1, 1) px: differences of this size are large.

    Returns
    -------
    apart
        (B, 1, H, W) px.
    weight
        (B, 1, H, W), in [0, 1): near 1 on a thin structure that moves alone, next to nothing on the
        background around it, a quarter on both sides of an outline.
    """

    def around(values: Tensor) -> Tensor:
        # Along one axis, then the other: the same mean, sixteen times as fast.
        for window in ((_AROUND, 1), (1, _AROUND)):
            padding = (window[0] // 2, window[1] // 2)
            values = F.avg_pool2d(values, window, 1, padding, count_include_pad=False)
        return values

    apart = torch.hypot(*(truth - around(truth)).unbind(1)).unsqueeze(1)
    square = apart.square() + 1e-8
    # The background of a line is as far from their mean as the line is rare: many px, a little
    # each, that would outweigh it.
    rare = square / (square + around(square))
    return apart, rare.square() * apart / (apart + scale)


def flow_loss(
    flow: Tensor, steps: list[Tensor], truth: Tensor, occluded: Tensor, floor: float = 0.15
) -> tuple[Tensor, dict[str, Tensor]]:
    """Error of all steps, later ones counting more, relative to the size of the motion.

    Dividing by (mean |F| + `floor`) keeps large motions from drowning small ones; the floor
    keeps pairs whose motion is lost in noise from asking for stillness everywhere. The
    `POWER` below 1 (as in PWC-Net's fine-tuning) has points that can be exact become exact,
    rather than trading their accuracy for that of points that cannot.

    That gives thin structures up: a line of 2 px that moves alone is a hundredth of the picture,
    and an outlier. So the error of what moves unlike its surroundings (:func:`apartness`)
    counts once more, linearly, and relative to what moves so.
    """
    scale = (torch.hypot(*truth.unbind(1)).mean((1, 2)) + floor).view(-1, 1, 1, 1)
    visible = 1 - 0.7 * occluded.float()
    apart, weight = apartness(truth, scale)
    weight = visible * weight
    whole = (weight * (apart + _TINY + 0.1 * scale)).sum((1, 2, 3)).clamp_min(1e-6)

    @cache
    def wanted(stride: int) -> tuple[Tensor, ...]:
        return *_pooled(truth, visible, stride), *_pooled(truth, weight, stride)

    def penalty(flow: Tensor, stride: int) -> tuple[Tensor, Tensor]:
        target, share, rare, heavy = wanted(stride)
        relative = (_distance(flow - target) + 0.002) / scale
        far = _distance(flow - rare)
        missed = (stride**2 * (far * heavy).sum((1, 2, 3)) / whole).mean()
        return (relative**POWER * share).mean() + APART * missed, missed

    final, missed = penalty(flow, 1)
    total = 2 * final
    for i, step in enumerate(steps):
        # Sizes are rounded up from level to level, so a crop need not be a multiple of them.
        size, cells = truth.shape[-1], step.shape[-1]
        stride = next(2**k for k in range(size.bit_length()) if -(-size // 2**k) == cells)
        total = total + 0.8 ** (len(steps) - i) * penalty(stride * step, stride)[0]
    epe = torch.hypot(*(flow - truth).unbind(1)).mean((1, 2))
    relative = (epe / scale.flatten()).mean()
    return total, {"epe": epe.mean(), "relative": relative, "apart": missed, "final": final}


MATCH = 0.3
"""Weight of the error of matching."""


def match_loss(matches: Matches, truth: Tensor, occluded: Tensor) -> Tensor:
    """How unlikely the matching finds the true displacement: cross-entropy, visible points' mean.

    A displacement between four candidates is all four, as in linear interpolation. The mean
    of all candidates, which the flow is made of, would teach little where it starts out wrong.

    Parameters
    ----------
    matches
        What was found, on the grid that is 1/8 of the picture's.
    truth
        (B, 2, H, W) px.
    occluded
        (B, 1, H, W): points that are not seen in the second frame, not counted.
    """
    cell = 8
    known = torch.cat([truth / cell, 1 - occluded.to(truth)], 1)
    # At the middle of a cell, not its mean: two things' mean motion is that of neither.
    known = fill(known, cell)[..., cell // 2 :: cell, cell // 2 :: cell]
    wanted, visible = known[:, :2] - matches.start.detach(), known[:, 2]
    distance = (wanted.unsqueeze(1) - candidates(truth)[None, :, :, None, None]).abs()
    share = (1 - distance).clamp_min(0).prod(2)
    counted = visible * share.sum(1)  # displacements out of reach cannot be asked for
    missed = -(visible * (share * matches.likely).sum(1)).sum((1, 2))
    # Each pair's own mean, as any other loss: the mean over processes is that over the batch.
    return (missed / counted.sum((1, 2)).clamp_min(1)).mean()


def _pooled(flow: Tensor, weight: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Weighted mean of a flow on a grid of `stride` px, and the mean weights."""
    pooled = pool(torch.cat([weight * flow, weight], 1), stride)
    return pooled[:, :2] / pooled[:, 2:].clamp_min(1e-9), pooled[:, 2:]


def _distance(error: Tensor) -> Tensor:
    return (error.square().sum(1, keepdim=True) + 1e-8).sqrt()
