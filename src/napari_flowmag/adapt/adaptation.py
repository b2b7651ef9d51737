"""Fine-tuning a magnifier on one clip, so that it never comes out worse than it went in."""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from napari_flowmag.adapt.objective import Objective
from napari_flowmag.adapt.outcome import Adapted, Report, Stop, describe, fingerprint
from napari_flowmag.adapt.pairs import Pairs, PairSource
from napari_flowmag.adapt.parts import trained_parameters
from napari_flowmag.adapt.settings import AdaptSettings
from napari_flowmag.adapt.state import read_state, write_state
from napari_flowmag.atomic import discard_parts
from napari_flowmag.device import is_out_of_memory, release_memory, resolve_device
from napari_flowmag.errors import Cancelled, FlowmagError
from napari_flowmag.flow import load_flow
from napari_flowmag.frames import as_frames
from napari_flowmag.interruptible import interruptible
from napari_flowmag.models import load_magnifier
from napari_flowmag.models.base import Magnifier
from napari_flowmag.provenance import model_sha256
from napari_flowmag.strength import Strength, check_mask, read_mask
from napari_flowmag.values import ValueRange, check_channels

Weights = dict[str, Tensor]

_SAVED_SECONDS = 30
"""Most that a killed run loses, but for the step at hand."""


class Adaptation:
    """The adaptation of a magnifier to one clip.

    Making one checks the settings and reads no pixel.

    Parameters
    ----------
    frames : array-like
        See :func:`~napari_flowmag.frames.as_frames`.
    settings : AdaptSettings
        What was chosen.
    magnifier : Magnifier, str or Path
        What to start from; a model in memory is left as it is.
    axes : str, optional
        Of the frames, letters of ``TZCYXS``.
    mask : array-like, optional
        (H, W) or (T, H, W): what moves there is learnt first.
    limits : ValueRange, optional
        Of the clip's values, if it is known already.
    name : str
        What the clip is called in the record.

    Raises
    ------
    FlowmagError
        If settings, clip and model do not fit together.
    """

    def __init__(
        self,
        frames: Any,
        settings: AdaptSettings,
        *,
        magnifier: Magnifier | str | Path = "default",
        axes: str | None = None,
        mask: ArrayLike | None = None,
        limits: ValueRange | None = None,
        name: str = "clip",
    ) -> None:
        self.settings, self.name = settings, name
        self._frames = as_frames(frames, axes)
        if settings.z is not None:
            self._frames = self._frames.at_depth(settings.z)
        if mask is None and settings.mask is not None:
            mask = read_mask(settings.mask)
        size, count = self._frames.size, len(self._frames)
        self._mask = None if mask is None else check_mask(np.asarray(mask), size, count)
        self._limits, self._magnifier = limits, magnifier

    def run(
        self,
        report: Callable[[Report], None] | None = None,
        cancel: threading.Event | None = None,
        state: Path | None = None,
    ) -> Adapted:
        """Adapt until the budget is spent.

        On the CPU the result is a function of settings, clip and model alone, whether or not
        the run was ended and resumed, unless `minutes` decides.

        Parameters
        ----------
        report : callable, optional
            Gets a :class:`~napari_flowmag.adapt.outcome.Report` before the first step and after
            each.
        cancel : threading.Event, optional
            Once set, the work ends within a layer of a network, and the best so far is returned.
        state : Path, optional
            File to go on from if it is there (and is of the same run), and to keep what is needed
            to go on in. Call :func:`~napari_flowmag.adapt.state.discard_state` once the outcome
            is saved: until then, an adaptation with this file ends where this one did.

        Raises
        ------
        FlowmagError
            If the clip cannot be learnt from, or the state is of another run.
        """
        run = _Run(self, report or (lambda _: None), cancel or threading.Event(), state)
        try:
            return run.adapted(run.go())
        finally:
            device = run.device
            del run
            release_memory(device)


@dataclass
class _Progress:
    """What a resumed run must find as it was left."""

    step: int = 0
    seconds: float = 0.0
    before: float = math.nan
    best: float = math.inf
    best_step: int = 0


class _Run:
    def __init__(
        self,
        job: Adaptation,
        report: Callable[[Report], None],
        cancel: threading.Event,
        state: Path | None,
    ) -> None:
        self.settings, self.name = job.settings, job.name
        self.report, self.cancel, self.path = report, cancel, state
        given = job._magnifier
        self.original = load_magnifier(given, "cpu") if not isinstance(given, nn.Module) else given
        if not self.original.trainable:
            raise FlowmagError(f"{self.original.architecture} has no weights to adapt")
        self.device = resolve_device(self.settings.device)
        self.magnifier = copy.deepcopy(self.original).to(self.device).eval()
        frames, settings = job._frames, self.settings
        check_channels(self.magnifier.channels, frames, settings.motion_channels, settings.channels)
        self.alphas = learnt_alphas(settings, self.magnifier)
        self.parameters = trained_parameters(self.magnifier, settings.what)
        flows = [
            load_flow(name, self.device, **settings.flow_options.get(name, {}))
            for name in settings.flows
        ]
        self.objective = Objective.of(settings, flows)
        self.optimiser = torch.optim.Adam(self.parameters, lr=settings.lr)
        self.place, self.pieces = _Progress(), 1
        self.weights = self._weights()
        self._started = time.monotonic()
        self._frames, self._mask, self._limits = frames, job._mask, job._limits
        self.print: dict[str, Any] = {}

    def go(self) -> Stop:
        """Learn; what ended it is returned, the best weights are in `weights`."""
        try:
            with interruptible(self._check), torch.enable_grad():
                return self._learn()
        except Cancelled:
            return "cancelled"

    def _learn(self) -> Stop:
        source = PairSource(
            self._frames,
            self.settings,
            self.magnifier.channels,
            self.alphas,
            self._mask,
            self._limits,
            self._check,
        )
        self.print = fingerprint(self._frames, source.selected, self._check)
        held_back = [pairs.to(self.device) for pairs in source.held_back_pairs()]
        steps = self.settings.total_steps(len(source.learnt))
        place = self.place
        if not self._resume():
            place.before = place.best = self._judge(held_back)
            self._tell(0.0, math.nan, place.before)
        while (done := self._done(steps)) < 1:
            loss = self._step(source.draw(place.step).to(self.device), done)
            if not math.isfinite(loss):
                return "diverged"
            place.step += 1
            done = self._done(steps)
            judged = None
            if place.step % self.settings.check_every == 0 or done >= 1:
                judged = self._judge(held_back)
                self._keep(judged)
            self._tell(done, loss, judged)
            if judged is not None or self._seconds() - place.seconds > _SAVED_SECONDS:
                self._save()
        return "minutes" if steps is None or place.step < steps else "steps"

    def _step(self, pairs: Pairs, done: float) -> float:
        """Move the weights by one step and return the loss before it; NaN moves nothing."""
        settings = self.settings
        rate = settings.lr * min(1.0, (self.place.step + 1) / max(1, settings.warmup))
        if settings.schedule == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * done))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.magnifier.train(settings.update_norm)
        loss = self._gradients(pairs)
        if not math.isfinite(loss):
            return math.nan
        norm = nn.utils.clip_grad_norm_(self.parameters, settings.clip_gradient or math.inf)
        if not bool(torch.isfinite(norm)):
            return math.nan
        self.optimiser.step()
        return loss

    def _gradients(self, pairs: Pairs) -> float:
        """Add up the gradients of a batch, in smaller pieces once memory was full.

        A loss that is not finite is returned at once: nothing is to be learnt from it.
        """
        while True:
            try:
                self.optimiser.zero_grad()
                total = 0.0
                for piece in pairs.pieces(self.pieces):
                    loss = self.objective(self.magnifier, piece) * (len(piece) / len(pairs))
                    total += float(loss.detach())
                    if not math.isfinite(total):
                        return total
                    loss.backward()  # type: ignore[no-untyped-call]
                return total
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Out of the except clause: the error holds on to the memory that is to be freed.
            if self.pieces >= len(pairs):
                raise FlowmagError(
                    f"memory is full: give a crop smaller than {self.settings.crop} px"
                )
            self.pieces *= 2
            release_memory(self.device)

    @torch.no_grad()
    def _judge(self, held_back: list[Pairs]) -> float:
        """Mean loss over the pairs that are never learnt from."""
        self.magnifier.eval()
        total = 0.0
        for pairs in held_back:
            total += float(self.objective(self.magnifier, pairs)) / len(held_back)
        return total

    def _keep(self, judged: float) -> None:
        """Keep the weights if they are the best so far, and better than the first by enough."""
        place = self.place
        enough = judged < place.before * (1 - self.settings.tolerance)
        if enough and judged < place.best:
            place.best, place.best_step = judged, place.step
            self.weights = self._weights()

    def _weights(self) -> Weights:
        return {k: v.detach().cpu().clone() for k, v in self.magnifier.state_dict().items()}

    def _tell(self, done: float, loss: float, judged: float | None) -> None:
        place = self.place
        self.report(
            Report(place.step, done, loss, judged, place.before, place.best, self._seconds())
        )

    def _seconds(self) -> float:
        return self.place.seconds + time.monotonic() - self._started

    def _done(self, steps: int | None) -> float:
        """Share of the budget that is spent."""
        done = self.place.step / steps if steps is not None else 0.0
        if self.settings.minutes is not None:
            done = max(done, self._seconds() / (60 * self.settings.minutes))
        return min(done, 1.0)

    def _check(self) -> None:
        if self.cancel.is_set():
            raise Cancelled

    def _key(self) -> dict[str, Any]:
        """Return what two runs must share for one to go on where the other ended."""
        return {
            "settings": self.settings.to_dict(),
            "clip": self.print,
            "model": model_sha256(self.original),
        }

    def _resume(self) -> bool:
        if self.path is None:
            return False
        discard_parts(self.path)
        if not self.path.exists():
            return False
        saved = read_state(self.path, self._key())
        self.magnifier.load_state_dict(saved["module"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.weights = saved["weights"]
        for name, value in saved["place"].items():
            setattr(self.place, name, value)
        return True

    def _save(self) -> None:
        if self.path is None:
            return
        self.place.seconds, self._started = self._seconds(), time.monotonic()
        write_state(
            self.path,
            self._key(),
            {
                "module": self.magnifier.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "weights": self.weights,
                "place": vars(self.place),
            },
        )

    def adapted(self, stop: Stop) -> Adapted:
        """Return the best there was."""
        place = self.place
        self.magnifier.load_state_dict(self.weights)
        self.magnifier.eval().requires_grad_(True)
        self.magnifier.zero_grad()
        adapted = Adapted(
            magnifier=self.magnifier,
            stopped=stop,
            steps=place.step,
            best_step=place.best_step,
            before=None if math.isnan(place.before) else place.before,
            after=None if math.isinf(place.best) else place.best,
            seconds=round(self._seconds(), 1),
            record={},
        )
        adapted.record.update(describe(self.name, self._key(), adapted))
        return adapted


def learnt_alphas(settings: AdaptSettings, magnifier: Magnifier) -> tuple[float, float, float]:
    """Return the smallest magnification to learn, the one a pass is asked for, and the largest.

    What takes the magnifier several passes is learnt as the magnification of one.

    Raises
    ------
    FlowmagError
        If the magnifier cannot do what is asked.
    """
    floor, ceiling = magnifier.alpha_range
    passes = Strength(settings.alpha).passes(magnifier.alpha_range)
    asked = settings.alpha ** (1 / passes)
    low, high = settings.alpha_range or (asked / settings.spread, asked * settings.spread)
    low, high = max(low, floor), min(high, ceiling)
    if low > high:
        raise FlowmagError(
            f"alpha range {settings.alpha_range}: {magnifier.architecture} covers "
            f"{floor:g} to {ceiling:g}"
        )
    return low, min(max(asked, low), high), high
