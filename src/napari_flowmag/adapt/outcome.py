"""What an adaptation tells while it goes on, and what it leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_flowmag.frames import Frames

if TYPE_CHECKING:
    from napari_flowmag.models.base import Magnifier

Stop = Literal["steps", "minutes", "cancelled", "diverged"]
"""What ended an adaptation."""

_LOOKED_AT = 16  # frames that make a clip's fingerprint


@dataclass(frozen=True)
class Report:
    """How far an adaptation is.

    Attributes
    ----------
    step : int
        Steps done.
    done : float
        Share of the budget that is spent, 0 to 1.
    loss : float
        Of the latest step's pairs; NaN before the first.
    held_back : float or None
        Loss over the pairs that are never learnt from, when they were looked at after this step.
    before, best : float
        The same before the first step, and the least that was kept (`before` if nothing was).
    seconds : float
        Time so far.
    """

    step: int
    done: float
    loss: float
    held_back: float | None
    before: float
    best: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Adapted:
    """The outcome of an adaptation.

    Attributes
    ----------
    magnifier : Magnifier
        The best there was by the held-back pairs, in evaluation mode; the weights it began with
        if nothing was better.
    stopped : str
        ``steps`` or ``minutes``: the budget that was spent; ``cancelled``; ``diverged``: a loss
        was not finite.
    steps, best_step : int
        Steps done, and the step that the weights are of (0: those it began with).
    before, after : float or None
        Loss over the held-back pairs with the first and the best weights; None if it ended before
        they were looked at.
    seconds : float
        Time it took.
    record : dict
        Everything about it, fit for JSON.
    """

    magnifier: Magnifier
    stopped: Stop
    steps: int
    best_step: int
    before: float | None
    after: float | None
    seconds: float
    record: dict[str, Any]

    @property
    def improved(self) -> bool:
        """Whether the weights differ from those it began with."""
        return self.best_step > 0

    def summary(self) -> str:
        """Return the outcome as a sentence."""
        if self.before is None or self.after is None:
            return f"{self.stopped} before the first look at the clip: the model is as it was"
        if not self.improved:
            return (
                f"{self.steps} steps, nothing better than the model as it was: it is left alone "
                f"(held-back loss {self.before:.4g})"
            )
        gain = 100 * (1 - self.after / self.before)
        return (
            f"held-back loss {self.before:.4g} → {self.after:.4g} ({gain:.1f} % less) after "
            f"{self.best_step} of {self.steps} steps, {self.seconds:.0f} s"
            + ("" if self.stopped in ("steps", "minutes") else f"; {self.stopped}")
        )

    def save(self, path: str | Path) -> Path:
        """Write the model and its record as a checkpoint that every face opens.

        Raises
        ------
        FlowmagError
            If the file cannot be written.
        """
        from napari_flowmag.checkpoint import save_checkpoint

        save_checkpoint(
            path,
            self.magnifier,
            kind="magnifier",
            architecture=self.magnifier.architecture,
            config=self.magnifier.config,
            training=self.record,
        )
        return Path(path)


def describe(name: str, key: dict[str, Any], adapted: Adapted) -> dict[str, Any]:
    """Return the record of an adaptation, fit for JSON.

    Parameters
    ----------
    name : str
        Of the clip.
    key : dict
        Settings, fingerprint of the clip, hash of the model.
    adapted : Adapted
        How it went.
    """
    # Where files lay on this machine is nobody's business.
    settings = dict(key["settings"])
    settings["flows"] = [Path(name).name for name in settings["flows"]]
    settings["mask"] = settings["mask"] and Path(settings["mask"]).name
    return {
        "description": f"adapted to {name}, ×{settings['alpha']:g}",
        "adapted_to": name,
        "clip": key["clip"],
        "from": key["model"],
        "settings": settings,
        "stopped": adapted.stopped,
        "steps": adapted.steps,
        "best_step": adapted.best_step,
        "before": adapted.before,
        "after": adapted.after,
        "seconds": adapted.seconds,
    }


def fingerprint(
    frames: Frames, selected: range, check: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Return what tells a clip from others: its shape and type, and a hash of some frames.

    Parameters
    ----------
    frames : Frames
        The clip.
    selected : range
        The part of it that is used.
    check : callable
        Called before each frame; may raise to stop.
    """
    digest = hashlib.sha256()
    for place in np.unique(np.linspace(0, len(selected) - 1, _LOOKED_AT).round().astype(int)):
        check()
        digest.update(frames.planes(selected[int(place)]).tobytes())
    return {
        "shape": list(frames.shape),
        "axes": frames.axes,
        "dtype": str(frames.dtype),
        "frames": [selected.start, selected.stop],
        "sha256": digest.hexdigest(),
    }
