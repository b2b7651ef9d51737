"""The demonstration: a clip whose motion is known, magnified, shown and measured."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_flowmag.atomic import replacing
from napari_flowmag.errors import FlowmagError
from napari_flowmag.kymograph import Line, draw_kymographs, kymograph
from napari_flowmag.measure import Factor, achieved_factor
from napari_flowmag.settings import MagnifySettings
from napari_flowmag.synthetic.clips import KnownClip
from napari_flowmag.synthetic.scenes import demo_clip

if TYPE_CHECKING:
    from napari_flowmag.clip import Clip
    from napari_flowmag.magnification import Progress
    from napari_flowmag.models.base import Magnifier

FRAMES = 64
"""Frames of the clip."""

_NEAR = 8  # px around whatever moves that belong neither to it nor to the background
_NEAREST = 32  # px: how far to look for magnified motion at least
_FARTHEST = 0.25  # of the picture's shorter side: what is magnified by more bends, or leaves it
_TOO_FAR = 1.3  # times the motion asked for: a model that exaggerates is to be found out, too


@dataclass(frozen=True)
class View:
    """How a scene is best seen: its magnification, and the line for its x-t slice."""

    alpha: float
    line: Line
    width: int


VIEWS = {
    "beam": View(20.0, ((95.0, 272.0), (145.0, 272.0)), 1),
    "cells": View(10.0, ((92.0, 143.0), (92.0, 213.0)), 3),
}


@dataclass(frozen=True)
class DemoResult:
    """What a demonstration showed.

    Attributes
    ----------
    kind
        Scene.
    alpha
        Factor asked for.
    measured
        Factor measured where the scene moves most; None where that should move by more than a
        quarter of the picture: it bends, or leaves.
    background
        Mean absolute change of the still background against the reference frame after
        magnification, in grey levels of 255; None where what moves comes near to everything.
    background_before
        The same before magnification: camera noise.
    frames
        Number of frames.
    seconds
        Time that the magnification took, loading the model included.
    files
        What was written: the clip, the magnified clip, both as a video, and the x-t slices.
    """

    kind: str
    alpha: float
    measured: Factor | None
    background: float | None
    background_before: float | None
    frames: int
    seconds: float
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a dictionary that JSON can hold."""
        factor = self.measured
        return {
            "kind": self.kind,
            "alpha": self.alpha,
            "measured": None if factor is None else factor.value,
            "measured_low": None if factor is None else factor.low,
            "measured_high": None if factor is None else factor.high,
            "motion_px": None if factor is None else factor.motion,
            "background_change": self.background,
            "background_change_before": self.background_before,
            "frames": self.frames,
            "seconds": self.seconds,
            "files": [str(path) for path in self.files],
        }

    def to_text(self) -> str:
        """Return the result as lines for a reader."""
        original, magnified, video, slices = self.files
        return f"""\
factor asked:     {self.alpha:g}
factor measured:  {self._achieved()}
still background: {self._stillness()}
time:             {self.seconds:.1f} s for {self.frames} frames
clip:             {original}
magnified clip:   {magnified}
side by side:     {video}
x-t slices:       {slices}"""

    def _achieved(self) -> str:
        factor = self.measured
        if factor is None:
            return "none: what moves goes too far to be followed"
        return (
            f"{factor.value:.2f} ({factor.low:.2f} to {factor.high:.2f} over the frames; "
            f"motion of {factor.motion:.2f} px)"
        )

    def _stillness(self) -> str:
        if self.background is None:
            return "none: what moves comes near to everything"
        return (
            f"changes by {self.background:.2f} grey levels of 255 "
            f"(before: {self.background_before:.2f})"
        )


def run_demo(
    folder: Path,
    *,
    kind: str = "beam",
    alpha: float | None = None,
    model: str = "default",
    device: str = "auto",
    magnifier: Magnifier | None = None,
    progress: Progress | None = None,
) -> DemoResult:
    """Generate a clip, magnify it, and measure how well that went.

    Parameters
    ----------
    folder
        Where to write; made if it is not there. Files of an earlier run are replaced.
    kind
        A scene of `~napari_flowmag.synthetic.scenes.demo_clip`.
    alpha
        Magnification; by default 20 for "beam" and 10 for "cells".
    model, device
        As in `magnify`.
    magnifier
        A loaded model to use in place of `model`.
    progress
        Called with (frames done, frames in all).

    Raises
    ------
    FlowmagError
        If there is no such scene, or nothing can be written to `folder`.
    """
    from napari_flowmag.io import write_clip
    from napari_flowmag.magnification import Magnification

    known = demo_clip(kind, length=FRAMES)
    view = VIEWS[kind]
    settings = MagnifySettings(
        alpha=view.alpha if alpha is None else alpha, model=model, device=device
    )
    clip = _clip(known, known.frames, kind)
    start = time.perf_counter()
    job = Magnification(clip.frames, settings, axes=clip.axes, magnifier=magnifier)
    record = job.provenance()  # loads the model, before a folder is made for its results
    files = _Files.in_folder(folder, kind, settings.alpha)
    magnified = np.stack(list(job.frames(progress)))
    seconds = time.perf_counter() - start
    job.close()

    result = _clip(known, magnified, files.magnified.stem)
    write_clip(clip, files.original)
    write_clip(result, files.magnified, provenance=record)
    write_clip(result, files.video, side_by_side=clip, provenance=record)
    _draw(files.slices, known, magnified, view, settings.alpha)

    moving, still = _regions(known, settings.alpha)
    return DemoResult(
        kind=kind,
        alpha=settings.alpha,
        measured=_measured(known, magnified, moving, settings.alpha),
        background=_change(known, magnified, still),
        background_before=_change(known, known.frames, still),
        frames=len(magnified),
        seconds=seconds,
        files=(files.original, files.magnified, files.video, files.slices),
    )


@dataclass(frozen=True)
class _Files:
    original: Path
    magnified: Path
    video: Path
    slices: Path

    @classmethod
    def in_folder(cls, folder: Path, kind: str, alpha: float) -> _Files:
        """Name the files, and make the folder if it is not there."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FlowmagError(f"cannot write to folder {folder}: {error.strerror}") from error
        name = f"{kind}-x{alpha:g}"
        return cls(
            folder / f"{kind}.tif",
            folder / f"{name}.tif",
            folder / f"{name}-side-by-side.mp4",
            folder / f"{name}-xt.png",
        )


def _clip(known: KnownClip, frames: NDArray[Any], name: str) -> Clip:
    import dask.array as da

    from napari_flowmag.clip import Clip

    return Clip(
        da.from_array(frames, chunks=(1, *frames.shape[1:])),
        "TYXS" if frames.ndim == 4 else "TYX",
        fps=known.fps,
        pixel_size=known.pixel_size,
        unit=known.unit,
        name=name,
    )


def _draw(path: Path, known: KnownClip, magnified: NDArray[Any], view: View, alpha: float) -> None:
    slices = {
        "original": kymograph(known.frames, view.line, view.width),
        f"magnified ×{alpha:g}": kymograph(magnified, view.line, view.width),
    }
    picture = draw_kymographs(
        slices,
        fps=known.fps,
        pixel_size=known.pixel_size[0],
        unit=known.unit,
        value_range=(0, 255) if known.frames.dtype == np.uint8 else None,
    )
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


def _measured(
    known: KnownClip, magnified: NDArray[Any], moving: NDArray[np.bool_], alpha: float
) -> Factor | None:
    """Measure the factor, None where what moves is asked to go too far to be followed."""
    asked = alpha * float(np.abs(known.displacement).max())
    if asked > _FARTHEST * min(moving.shape):
        return None
    search = max(_NEAREST, math.ceil(_TOO_FAR * asked))
    return achieved_factor(known.frames[0], known.frames, magnified, moving, search=search)


def _regions(known: KnownClip, alpha: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return what moves most, nearly as one piece, and what nothing that moves ever comes near."""
    amplitude = np.abs(known.displacement).max(axis=(0, 1))
    moving = amplitude > 0.8 * amplitude.max()
    reach = _NEAR + max(alpha, 1.0) * float(amplitude.max())
    still = ndimage.distance_transform_edt(~known.moving) > reach
    return moving, still


def _change(known: KnownClip, frames: NDArray[Any], still: NDArray[np.bool_]) -> float | None:
    """Mean absolute difference from frame 0 within a region, in 255ths of the value range.

    None if the region is empty.
    """
    if not still.any():
        return None
    low, high = _range(known)
    difference = frames[1:, still].astype(np.float64) - known.frames[0][still]
    return float(np.abs(difference).mean() * 255 / (high - low))


def _range(known: KnownClip) -> tuple[float, float]:
    if known.frames.dtype == np.uint8:
        return 0.0, 255.0
    return float(known.frames.min()), float(known.frames.max())
