"""Training the network of Oh et al.: supervised, on random pairs with their magnified frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_flowmag.baselines.oh import OhMagnifier
from napari_flowmag.checkpoint import build, read_checkpoint
from napari_flowmag.errors import FlowmagError
from napari_flowmag.models import ARCHITECTURES
from napari_flowmag.synthetic.pairs import PairSettings, random_pairs
from napari_flowmag.train.config import plain, require, without_places
from napari_flowmag.train.flow import RandomPairs, split_textures

_NAMES = ("first", "second", "magnified", "alpha")


@dataclass(frozen=True)
class OhConfig:
    """What the network learns from, and what its loss asks.

    Parameters
    ----------
    textures
        Folder of PNG or JPEG pictures to texture the scenes with; unset uses procedural
        textures alone.
    crop
        Height and width of a training picture in px, a multiple of 4.
    batch
        Pairs in a batch.
    alpha
        Smallest and largest magnification.
    motion
        Smallest and largest motion scale between the two frames in px.
    reach
        Largest magnified motion scale in px.
    noise
        Smallest and largest noise as a share of the pair's contrast.
    regularisation
        Weight of what keeps texture and shape apart.
    init
        Checkpoint to start from.
    """

    textures: Path | None = None
    crop: int = 128
    batch: int = 4
    alpha: tuple[float, float] = (1.0, 100.0)
    motion: tuple[float, float] = (0.02, 10.0)
    reach: float = 30.0
    noise: tuple[float, float] = (0.003, 0.1)
    regularisation: float = 0.1
    init: Path | None = None

    def __post_init__(self) -> None:
        require(
            self.crop >= 32 and self.crop % 4 == 0,
            "crop",
            self.crop,
            "must be a multiple of 4 px, at least 32",
        )
        require(self.batch >= 1, "batch", self.batch, "must be at least 1")
        require(self.reach > 0, "reach", self.reach, "must be above 0 px")
        require(
            self.regularisation >= 0, "regularisation", self.regularisation, "must not be negative"
        )
        for name in ("alpha", "motion", "noise"):
            low, high = getattr(self, name)
            require(0 < low <= high, name, (low, high), "must be two rising numbers above 0")
        require(self.alpha[0] >= 1, "alpha", self.alpha, "the network only magnifies: 1 or more")


class OhTask:
    """Trains :class:`OhMagnifier`; a task of :func:`napari_flowmag.train.loop.fit`."""

    def __init__(self, config: OhConfig, seed: int = 0) -> None:
        self.config = config
        self.settings = PairSettings(
            size=config.crop,
            motion=config.motion,
            noise=config.noise,
            alpha=config.alpha,
            reach=config.reach,
        )
        seen, self.held_out = split_textures(config.textures)
        self.dataset = RandomPairs(seen, config.batch, self.settings, seed, _NAMES, draws=6)
        torch.manual_seed(seed)
        self.module = _start(config.init)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare the painted frame with the exact one, see :func:`oh_loss`."""
        return oh_loss(self.module, batch, self.config.regularisation)

    def validate(self) -> dict[str, float]:
        """Mean absolute error on held-out textures, beside that of the frame as it is."""
        generator = torch.Generator().manual_seed(1)
        device = next(self.module.parameters()).device
        errors, before = [], []
        for _ in range(4):
            pairs = random_pairs(8, self.held_out, generator, self.settings)
            assert pairs.alpha is not None
            first, second, exact, alpha = (getattr(pairs, name).to(device) for name in _NAMES)
            errors.append(float((self.module(first, second, alpha) - exact).abs().mean()))
            before.append(float((second - exact).abs().mean()))
        return {"error": float(np.mean(errors)), "error unmagnified": float(np.mean(before))}

    def pictures(self) -> dict[str, np.ndarray]:
        """Nothing to look at."""
        return {}

    def checkpoint(self) -> dict[str, Any]:
        """Return what is saved beside the weights."""
        facts = without_places(plain(self.config), "textures", "init")
        return {
            "kind": "magnifier",
            "architecture": OhMagnifier.architecture,
            "config": self.module.config,
            "training": {"settings": facts},
        }


def _start(init: Path | None) -> OhMagnifier:
    if init is None:
        return OhMagnifier()
    module = build(read_checkpoint(init, "magnifier"), ARCHITECTURES)
    if not isinstance(module, OhMagnifier):
        raise FlowmagError(f"setting init: {init} does not hold the network of Oh et al.")
    return module


def oh_loss(
    module: OhMagnifier, batch: dict[str, Tensor], weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean absolute error, and what keeps texture and shape apart (Oh et al., Sec. 3.3).

    Frame and magnified frame get other colours, the same for both. Texture is to be that of the
    colours, whatever has moved; shape is to be what has moved, whatever the colours.

    Parameters
    ----------
    module : OhMagnifier
        What is trained.
    batch : dict of Tensor
        ``first``, ``second``, ``magnified`` (B, 3, H, W), ``alpha`` (B,), and ``draws`` (B, 6) in
        [0, 1), which the colours follow from.
    weight : float
        Of the second part.
    """
    first, plain_second = batch["first"], batch["second"]
    draws = 2 * batch["draws"].view(-1, 2, 3, 1, 1) - 1
    gain, offset = 1 + 0.2 * draws[:, 0], 0.1 * draws[:, 1]
    second, exact = (
        (gain * picture + offset).clamp(0, 1) for picture in (plain_second, batch["magnified"])
    )
    texture_a, shape_a = module.encode(first)
    texture_b, shape_b = module.encode(second)
    texture_c, shape_c = module.encode(plain_second)
    texture_m, _ = module.encode(exact)
    painted = module.decode(texture_b, shape_b, shape_a, batch["alpha"].view(-1, 1, 1, 1))
    error = F.l1_loss(painted, exact)
    apart = (
        F.l1_loss(texture_c, texture_a)
        + F.l1_loss(texture_b, texture_m)
        + F.l1_loss(shape_b, shape_c)
    )
    return error + weight * apart, {"error": error, "apart": apart}
