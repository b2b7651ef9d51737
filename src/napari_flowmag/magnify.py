"""Magnify arrays of frames, at once or as a stream.

The work is done by :class:`~napari_flowmag.magnification.Magnification`, which faces use
directly.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_flowmag.errors import FlowmagError
from napari_flowmag.magnification import Magnification, Progress
from napari_flowmag.settings import MagnifySettings

if TYPE_CHECKING:
    from napari_flowmag.clip import Clip
    from napari_flowmag.models.base import Magnifier

__all__ = ["Magnification", "Options", "Progress", "magnify", "magnify_clip", "magnify_frames"]


class Options(TypedDict, total=False):
    """Settings that are seldom needed: see :class:`~napari_flowmag.settings.MagnifySettings`."""

    label_alphas: tuple[tuple[int, float], ...]
    outside: float
    soft: float
    feather: float
    motion_channels: tuple[int, ...] | None
    channels: tuple[int, ...] | None
    z: int | None
    start: int | None
    stop: int | None
    value_range: tuple[float, float] | None
    precision: str
    tile: int | None
    batch: int | None


def magnify(
    frames: Any,
    alpha: float | ArrayLike,
    *,
    model: str | Path | Magnifier = "default",
    mask: ArrayLike | None = None,
    reference: int | str = 0,
    device: str = "auto",
    progress: Progress | None = None,
    axes: str | None = None,
    cancel: threading.Event | None = None,
    notify: Callable[[str], None] | None = None,
    **options: Unpack[Options],
) -> NDArray[Any]:
    """Make motion ``alpha`` times as large (Pan, Geng, Owens, NeurIPS 2023).

    Parameters
    ----------
    frames : array-like
        (T, H, W) or (T, H, W, C) of any real type: numpy, dask, zarr, h5py, …; read a frame at
        a time.
    alpha : float or array-like
        Magnification, 0 or more, a number or a map (H, W). 1 leaves the clip as it is, 0 holds
        it still. Beyond what the model was trained for, the model is applied several times.
    model : str, Path or Magnifier
        A bundled model's name, the path of a checkpoint, or a loaded magnifier.
    mask : array-like, optional
        (H, W), or (T, H, W) with one for each frame; motion is magnified where it is not 0
        (floats: weights in [0, 1]).
    reference : int or str
        Frame from which motion is measured: an index, or ``first``, ``mean``, ``median`` or
        ``previous``.
    device : str
        ``auto``, ``cpu``, ``cuda``, …. A loaded magnifier stays where it is with ``auto``.
    progress : callable, optional
        Called with (frames done, frames in all) after each frame.
    axes : str, optional
        A letter of ``TZCYXS`` for each axis of the frames, T first, where they are other than
        ``TYX`` or ``TYXC``. Each Z is magnified by itself; S are the samples of RGB or RGBA
        pictures, whose opacity stays as it is.
    cancel : threading.Event, optional
        Once set, the work ends within a tile.
    notify : callable, optional
        Gets a line when memory is full and the work goes on in smaller pieces; without it the
        line is logged.
    **options
        See :class:`Options`.

    Returns
    -------
    ndarray
        Shape and dtype of ``frames``; of the frames from ``start`` to ``stop`` if these are
        given. A frame that does not differ from the reference comes out unchanged to the bit.

    Raises
    ------
    FlowmagError
        If frames, settings or model cannot be used; the message says what to do.
    Cancelled
        If ``cancel`` was set.
    """
    job = _job(frames, alpha, model, mask, reference, device, axes, notify, options)
    magnified = np.empty(job.shape, job.dtype)
    for place, frame in enumerate(_frames_of(job, progress, cancel)):
        magnified[place] = frame
    return magnified


def magnify_frames(
    frames: Any,
    alpha: float | ArrayLike,
    *,
    model: str | Path | Magnifier = "default",
    mask: ArrayLike | None = None,
    reference: int | str = 0,
    device: str = "auto",
    progress: Progress | None = None,
    axes: str | None = None,
    cancel: threading.Event | None = None,
    notify: Callable[[str], None] | None = None,
    **options: Unpack[Options],
) -> Iterator[NDArray[Any]]:
    """Yield the frames of :func:`magnify` in order; memory does not grow with their number.

    Arguments are checked at once, the model and the pixels with the first frame.
    """
    job = _job(frames, alpha, model, mask, reference, device, axes, notify, options)
    return _frames_of(job, progress, cancel)


def _frames_of(
    job: Magnification, progress: Progress | None, cancel: threading.Event | None
) -> Iterator[NDArray[Any]]:
    """Yield the frames of a job of one's own, which lets go of everything at the end."""
    try:
        yield from job.frames(progress, cancel)
    finally:
        job.forget()


def magnify_clip(clip: Clip, settings: MagnifySettings, **extra: Any) -> Magnification:
    """Prepare the magnification of a clip, whose axes are known.

    Parameters
    ----------
    clip : Clip
        What to magnify.
    settings : MagnifySettings
        How.
    **extra
        ``mask``, ``alpha_map``, ``magnifier`` and ``notify`` of :class:`Magnification`.
    """
    return Magnification(clip.frames, settings, axes=clip.axes, **extra)


def _job(
    frames: Any,
    alpha: float | ArrayLike,
    model: str | Path | Magnifier,
    mask: ArrayLike | None,
    reference: int | str,
    device: str,
    axes: str | None,
    notify: Callable[[str], None] | None,
    options: Options,
) -> Magnification:
    amount = np.asarray(alpha)
    if amount.dtype.kind not in "buif" or amount.size == 0:
        raise FlowmagError(f"alpha of type {amount.dtype}: give a number or an (H, W) map")
    loaded = None if isinstance(model, str | Path) else model
    settings = MagnifySettings(
        alpha=float(amount.max()),
        model=str(model) if loaded is None else "in memory",
        reference=reference,
        device=device,
        **options,
    )
    return Magnification(
        frames,
        settings,
        axes=axes,
        mask=mask,
        alpha_map=amount if amount.ndim else None,
        magnifier=loaded,
        notify=notify,
    )
