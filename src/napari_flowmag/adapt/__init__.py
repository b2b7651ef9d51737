"""Test-time adaptation: fine-tuning a magnifier on the user's own clip (paper, Section 3.4).

The paper's loss needs no labels, so that the clip itself can be learnt from. Some of its frame
pairs are held back; what comes out is never worse on them than what went in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_flowmag.adapt.settings import PRESETS, AdaptSettings

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from napari_flowmag.adapt.outcome import Report
    from napari_flowmag.models.base import Magnifier

__all__ = ["PRESETS", "AdaptSettings", "adapt"]


def adapt(
    magnifier: Magnifier | str | Path,
    frames: Any,
    alpha: float = 8.0,
    *,
    preset: str = "default",
    mask: ArrayLike | None = None,
    axes: str | None = None,
    report: Callable[[Report], None] | None = None,
    cancel: threading.Event | None = None,
    **changes: Any,
) -> Magnifier:
    """Return a copy of a magnifier, fine-tuned on a clip.

    Parameters
    ----------
    magnifier : Magnifier, str or Path
        What to start from: a loaded magnifier, a bundled model's name or a checkpoint.
    frames : array-like
        (T, H, W) or (T, H, W, C) of any real type; read a frame at a time.
    alpha : float
        Magnification that the clip will be shown with.
    preset : str
        ``default``, or ``paper`` for the published recipe.
    mask : array-like, optional
        (H, W) or (T, H, W): what moves there is learnt first.
    axes : str, optional
        A letter of ``TZCYXS`` for each axis of the frames, where they are other than ``TYX`` or
        ``TYXC``.
    report : callable, optional
        Gets a :class:`~napari_flowmag.adapt.outcome.Report` after each step.
    cancel : threading.Event, optional
        Once set, the best so far is returned.
    **changes
        Other fields of :class:`AdaptSettings`: ``minutes``, ``steps``, ``seed``, ….

    Returns
    -------
    Magnifier
        In evaluation mode. The weights are those it began with if nothing was better; use
        :class:`~napari_flowmag.adapt.adaptation.Adaptation` to learn about it.

    Raises
    ------
    FlowmagError
        If frames, settings or model cannot be used.
    """
    from napari_flowmag.adapt.adaptation import Adaptation

    settings = AdaptSettings.of(preset, alpha=alpha, **changes)
    job = Adaptation(frames, settings, magnifier=magnifier, axes=axes, mask=mask)
    return job.run(report, cancel).magnifier
