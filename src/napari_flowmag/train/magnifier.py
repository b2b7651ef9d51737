"""Training a magnifier: real and synthetic pairs, the paper's loss, a frozen flow (Section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from napari_flowmag.checkpoint import import_from, read_checkpoint
from napari_flowmag.errors import FlowmagError
from napari_flowmag.flow import load_flow
from napari_flowmag.loss import MagnificationLoss
from napari_flowmag.models import ARCHITECTURES, load_magnifier
from napari_flowmag.models.base import Magnifier
from napari_flowmag.models.field import FieldMagnifier
from napari_flowmag.synthetic.pairs import load_textures
from napari_flowmag.train.config import AugmentConfig, MagnifierConfig, plain, without_places
from napari_flowmag.train.data import PairBatches, PairFolder, hold_out
from napari_flowmag.train.feed import Batch
from napari_flowmag.train.mixed import MixedBatches, difference, factor_error
from napari_flowmag.train.pictures import before_and_after, slices

KINDS = {"field": "sampling field", "unet": "the paper's U-Net"}
"""What architectures are called in a list of models."""

SHOWN = 4
"""Held-out pairs in the pictures for TensorBoard."""

SLICED_ALPHA = 8.0
"""Magnification of the x-t slices, where the run covers it."""


class MagnifierTask:
    """Trains a magnifier; a task of :func:`napari_flowmag.train.loop.fit`.

    Parameters
    ----------
    pairs
        Real pairs.
    config
        What to train and what its loss asks.
    augment
        How pairs are varied.
    seed
        Seed of weights, order and variation.

    Raises
    ------
    FlowmagError
        If settings do not fit the architecture, a model cannot be loaded, the flow passes no
        gradients, or too few pairs are left to train on.
    """

    def __init__(
        self, pairs: PairFolder, config: MagnifierConfig, augment: AugmentConfig, seed: int = 0
    ) -> None:
        self.config, self.augment = config, augment
        torch.manual_seed(seed)
        self.module: Magnifier = build_magnifier(config)
        self.objective = MagnificationLoss(
            load_flow(config.flow, **config.flow_options),
            config.magnification_weight,
            config.colour_weight,
            config.normalise,
        )
        seen, self.held_out = hold_out(pairs, config.held_out)
        self.count = len(seen)
        real = PairBatches(seen, config.batch, augment, seed)
        self.dataset: Dataset[Batch] = real
        if config.synthetic:
            textures = load_textures(config.textures) if config.textures else []
            self.dataset = MixedBatches(real, config, augment.crop, textures, seed)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Judge the module on a batch of :class:`PairBatches` or :class:`MixedBatches`."""
        reference, frame, motion, alpha = self._asked(batch)
        seen = batch.get("noisy_reference", reference), batch.get("noisy_frame", frame)
        prediction = self.module.predict(self.module.prepare(seen[0]), seen[1], alpha)
        magnified = self.module.render(prediction, self.module.show(seen[0]), seen[1], alpha)
        # Sub-pixel motion needs full precision, whatever the module computes in.
        with torch.autocast(frame.device.type, enabled=False):
            terms = self.objective(magnified.float(), reference, frame, alpha, motion)
            total, shown = terms.total, {}
            if "exact" in batch:
                error = difference(magnified.float(), batch["exact"], reference)
                shown["exact"] = (batch["known"] * error).mean()
                total = total + self.config.exact_weight * shown["exact"]
            if self.config.factor_weight and "known" in batch:
                error = factor_error(prediction[:, :2].float(), motion)
                if self.config.factor_noise:
                    error = error * (batch["hiding"] / self.config.factor_noise).clamp_max(1)
                shown["factor"] = (batch["known"] * error).mean()
                total = total + self.config.factor_weight * shown["factor"]
        asked = alpha.view(-1, 1, 1, 1) * terms.input_flow
        with torch.no_grad():
            achieved = (terms.output_flow * asked).sum() / asked.square().sum().clamp_min(1e-6)
        return total, {
            "magnification": terms.magnification,
            "colour": terms.colour,
            "achieved": achieved,
            **shown,
        }

    def _asked(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return reference, frame, the motion between them and the magnification to ask for."""
        reference, frame = batch["reference"], batch["frame"]
        flow = self.objective.flow.to(reference.device)
        with torch.no_grad(), torch.autocast(frame.device.type, enabled=False):
            motion: Tensor = flow(reference, frame)
            if "flow" in batch:
                motion = torch.where(batch["known"].view(-1, 1, 1, 1), batch["flow"], motion)
        alpha = draw_alpha(batch["draw"], motion, self.config)
        if "asked" in batch:
            alpha = torch.where(batch["known"], batch["asked"], alpha)
        return reference, frame, motion, alpha

    def validate(self) -> dict[str, float]:
        """Return the means of the loss and its terms over the held-out pairs, not varied."""
        sums: dict[str, float] = {}
        for batch in self._held_out_batches():
            total, terms = self.loss(batch)
            weight = len(batch["frame"]) / len(self.held_out)
            for name, value in {"loss": total, **terms}.items():
                sums[name] = sums.get(name, 0.0) + weight * float(value)
        return sums

    def pictures(self) -> dict[str, np.ndarray]:
        """Return a few held-out pairs before and after, and x-t slices of them as they sway."""
        batches = self._held_out_batches()
        if not batches:
            return {}
        reference, frame, _, alpha = self._asked(
            {name: value[:SHOWN] for name, value in batches[0].items()}
        )
        magnified = self.module(reference, frame, alpha)
        asked = min(max(SLICED_ALPHA, self.config.alpha_min), self.config.alpha_max)
        return {
            "reference, frame, magnified": before_and_after(reference, frame, magnified),
            f"x-t slices before, after ×{asked:g}, exact": slices(self.module, reference, asked),
        }

    def _held_out_batches(self) -> list[Batch]:
        unvaried = AugmentConfig(
            crop=self.augment.crop,
            window="crop",
            area=(1.0, 1.0),
            flip=0.0,
            rotation=0.0,
            jitter=(0.0, 0.0, 0.0, 0.0),
        )
        device = next(self.module.parameters()).device
        dataset, places = PairBatches(self.held_out, 1, unvaried, seed=0), range(len(self.held_out))
        parts = [places[i : i + self.config.batch] for i in places[:: self.config.batch]]
        return [
            {name: value.to(device) for name, value in dataset.rows(part).items()} for part in parts
        ]

    def checkpoint(self) -> dict[str, Any]:
        """Return what is saved beside the weights."""
        files = ("init", "init_flow", "flow", "textures")
        settings = without_places(plain(self.config, self.augment), *files)
        return {
            "kind": "magnifier",
            "architecture": self.module.architecture,
            "config": self.module.config,
            "training": {
                "description": f"{KINDS[self.module.architecture]}, {self.count} real pairs",
                "pairs": self.count,
                "settings": settings,
            },
        }


def build_magnifier(config: MagnifierConfig) -> Magnifier:
    """Make the magnifier to train, from scratch or from a checkpoint.

    Raises
    ------
    FlowmagError
        If settings or weights do not fit the architecture.
    """
    module: Magnifier
    if config.init:
        if config.model:
            raise FlowmagError("setting model: leave it out with init, which brings its own")
        module = load_magnifier(config.init, "cpu")
        if not (module.trainable and any(True for _ in module.parameters())):
            raise FlowmagError(f"setting init: {config.init} has no weights to train")
    else:
        try:
            module = import_from(ARCHITECTURES[config.architecture])(**config.model)
        except (TypeError, ValueError, RuntimeError) as error:  # torch's own are of the last kind
            raise FlowmagError(f"setting model = {config.model}: {error}") from error
    if config.init_flow:
        _load_flow_part(module, config.init_flow)
    if config.factor_weight and not isinstance(module, FieldMagnifier):
        raise FlowmagError(
            f"setting factor_weight: {module.architecture} says of no motion how large it is"
        )
    _freeze(module, config.frozen)
    low, high = module.alpha_range
    if not low <= config.alpha_min <= config.alpha_max <= high:
        raise FlowmagError(
            f"settings alpha_min, alpha_max = {config.alpha_min:g}, {config.alpha_max:g}: "
            f"architecture {module.architecture} covers {low:g} to {high:g}"
        )
    return module


def _load_flow_part(module: Magnifier, path: str) -> None:
    part = getattr(module, "flow", None)
    if not isinstance(part, nn.Module):
        raise FlowmagError(f"setting init_flow: {module.architecture} has no flow part")
    try:
        part.load_state_dict(read_checkpoint(path, "flow").state)
    except RuntimeError as error:
        raise FlowmagError(
            f"setting init_flow: {path} does not fit the flow part of {module.architecture}"
        ) from error


def _freeze(module: Magnifier, parts: Sequence[str]) -> None:
    for name in parts:
        try:
            module.get_submodule(name).requires_grad_(False)
        except AttributeError as error:
            raise FlowmagError(
                f"setting frozen: {module.architecture} has no part '{name}'"
            ) from error
    if not any(p.requires_grad for p in module.parameters()):
        raise FlowmagError(f"setting frozen = {list(parts)}: nothing is left to train")


def draw_alpha(draw: Tensor, motion: Tensor, config: MagnifierConfig) -> Tensor:
    """Turn even draws into magnifications, even in their logarithm (the paper's 2^U).

    Parameters
    ----------
    draw
        (B,) in [0, 1).
    motion
        (B, 2, H, W) px: with `config.max_motion`, the largest α of a pair keeps α times its 95th
        percentile at or below that, as far as `config.alpha_min` lets it.
    config
        Range of α.

    Returns
    -------
    Tensor
        (B,).
    """
    low = torch.full_like(draw, config.alpha_min)
    high = torch.full_like(draw, config.alpha_max)
    if config.max_motion is not None:
        magnitude = torch.hypot(motion[:, 0], motion[:, 1]).flatten(1)
        # kthvalue rather than quantile, which refuses large pictures
        most = magnitude.kthvalue(max(1, round(0.95 * magnitude.shape[1])), 1).values
        high = (config.max_motion / most.clamp_min(1e-6)).clamp(low, high)
    return low * (high / low) ** draw
