"""The magnification of one clip: what all faces start, preview, stop and write down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_flowmag.errors import Cancelled, FlowmagError
from napari_flowmag.frames import as_frames
from napari_flowmag.references import fixed_reference, used_frames
from napari_flowmag.settings import MagnifySettings
from napari_flowmag.strength import Strength, Strengths, read_mask, strength

if TYPE_CHECKING:
    import torch

    from napari_flowmag.engine import Engine
    from napari_flowmag.models.base import Magnifier
    from napari_flowmag.values import ValueRange, View

Progress = Callable[[int, int], None]
"""Called with the number of frames done and the number of all frames."""


@dataclass(frozen=True, eq=False)
class _Work:
    """What is read and computed once, with the first frame."""

    limits: ValueRange
    views: list[View]
    reference: NDArray[Any] | None


class Magnification:
    """A clip with the settings of its magnification.

    Making one checks the settings and reads no pixel. The model is loaded, and the range of
    values and the reference are computed, with the first frame that is asked for; they are kept
    until :meth:`close`. Not to be used from two threads at once.

    Parameters
    ----------
    frames : array-like
        See :func:`~napari_flowmag.frames.as_frames`.
    settings : MagnifySettings
        What was chosen.
    axes : str, optional
        Of the frames, letters of ``TZCYXS``.
    mask : array-like, optional
        (H, W) or (T, H, W), in place of the file that the settings name.
    alpha_map : array-like, optional
        (H, W), in place of the settings' number.
    magnifier : Magnifier, optional
        A loaded model, in place of the one that the settings name.
    limits : ValueRange, optional
        What :attr:`limits` of an earlier magnification of the same frames was, so that they need
        not be read for it again.
    notify : callable, optional
        Gets a line when memory is full and the work goes on in smaller pieces; without it the
        line is logged.

    Attributes
    ----------
    strength : Strength or Strengths
        Magnification of every pixel. May be replaced between frames: nothing else is computed
        again, so that a preview follows a slider.
    selected : range
        The frames of the clip that are magnified.

    Raises
    ------
    FlowmagError
        If the settings do not fit the clip.
    """

    def __init__(
        self,
        frames: Any,
        settings: MagnifySettings,
        *,
        axes: str | None = None,
        mask: ArrayLike | None = None,
        alpha_map: ArrayLike | None = None,
        magnifier: Magnifier | None = None,
        limits: ValueRange | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self._frames = as_frames(frames, axes)
        if settings.z is not None:
            self._frames = self._frames.at_depth(settings.z)
        self._magnifier = magnifier
        self._limits = limits
        self._notify = notify
        self._cancel: threading.Event | None = None
        self._latest: tuple[int, NDArray[Any]] | None = None
        self.selected = self._select()
        if mask is None and settings.mask is not None:
            mask = read_mask(settings.mask)
        self.strength = self.strength_of(settings, mask, alpha_map)

    def __len__(self) -> int:
        return len(self.selected)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all magnified frames together."""
        return (len(self), *self._frames.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values, the clip's own."""
        return self._frames.dtype

    @property
    def limits(self) -> ValueRange:
        """Smallest and largest values, for which the whole clip may have to be read."""
        return self._work.limits

    def strength_of(
        self,
        settings: MagnifySettings,
        mask: ArrayLike | None = None,
        alpha_map: ArrayLike | None = None,
    ) -> Strength | Strengths:
        """Return what :attr:`strength` would be with other settings or another mask.

        Raises
        ------
        FlowmagError
            If they do not fit the clip.
        """
        return strength(
            settings.alpha if alpha_map is None else alpha_map,
            self._frames.size,
            mask,
            settings.soft,
            settings.feather,
            label_alphas=settings.label_alphas,
            outside=settings.outside,
            frames=len(self._frames),
        )

    def frames(
        self, progress: Progress | None = None, cancel: threading.Event | None = None
    ) -> Iterator[NDArray[Any]]:
        """Yield the magnified frames in order.

        Parameters
        ----------
        progress : callable, optional
            Called with (frames done, frames in all) after each frame.
        cancel : threading.Event, optional
            Once set, the work ends within a tile.

        Raises
        ------
        FlowmagError
            If the model cannot be loaded or cannot do what was asked, or a pixel is not finite.
        Cancelled
            If `cancel` was set.
        """
        done = 0
        with self._until(cancel):
            self._model[0].expect(len(self) * self._frames.sizes.get("Z", 1))
        while done < len(self):
            with self._until(cancel):
                # Where each frame has a strength of its own, each is a batch of its own.
                batch = self._model[0].batch if isinstance(self.strength, Strength) else 1
                magnified = self._magnified(self.selected[done : done + batch])
            for frame in magnified:
                done += 1
                if progress is not None:
                    progress(done, len(self))
                yield frame

    def frame(
        self, index: int, cancel: threading.Event | None = None, depth: int | None = None
    ) -> NDArray[Any]:
        """Magnify one frame of the clip, as :meth:`frames` does.

        On the CPU it is the same to the bit where :meth:`frames` takes one frame at a time; where
        it takes several together a handful of pixels may be rounded differently.

        Parameters
        ----------
        index : int
            One of :attr:`selected`.
        cancel : threading.Event, optional
            Once set, the work ends within a tile.
        depth : int, optional
            The only slice to magnify of a clip with depth; the others stay as they are.

        Raises
        ------
        FlowmagError, Cancelled
            As :meth:`frames`; also if the frame is not among those selected.
        """
        if index not in self.selected:
            raise FlowmagError(
                f"frame {index} is not magnified: "
                f"frames {self.selected.start} to {self.selected.stop - 1} are"
            )
        with self._until(cancel):
            return self._magnified([index], depth)[0]

    def original(self, index: int) -> NDArray[Any]:
        """Return one frame of the clip as it is, in the shape that :meth:`frame` has."""
        return self._frames.frame(self._frames.planes(index))

    def provenance(self) -> dict[str, Any]:
        """Return a record, fit for JSON, of everything that decides what the output looks like.

        Loads the model; reads no pixel.
        """
        from napari_flowmag.provenance import provenance

        return provenance(self.settings, *self._model, self.strength, self.selected)

    def close(self) -> None:
        """Let go of the model and of everything computed, and give the memory back to the system.

        On the GPU, too. It takes a tenth of a second.
        """
        from napari_flowmag.device import release_memory

        device = self.forget()
        if device is not None:
            release_memory(device)

    def forget(self) -> torch.device | None:
        """Let go of the model and of everything computed; return where it was, None if nowhere."""
        self._latest = None
        self.__dict__.pop("_work", None)
        engine, _ = self.__dict__.pop("_model", (None, None))
        if engine is None:
            return None
        engine.forget()
        device: torch.device = engine.device
        return device

    def _select(self) -> range:
        count, start = len(self._frames), self.settings.start or 0
        stop = count if self.settings.stop is None else self.settings.stop
        if start >= count or stop > count:
            raise FlowmagError(f"frames {start} to {stop}: the clip has {count}, counted from 0")
        return range(start, stop)

    @contextmanager
    def _until(self, cancel: threading.Event | None) -> Iterator[None]:
        """Let an event stop the work meanwhile, and nothing that is asked for later."""
        self._cancel = cancel
        try:
            yield
        finally:
            self._cancel = None

    def _check(self) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise Cancelled

    @cached_property
    def _model(self) -> tuple[Engine, str | None]:
        """The loaded model and its hash, None if it has no weights."""
        from napari_flowmag.batches import default_batch
        from napari_flowmag.device import resolve_device
        from napari_flowmag.engine import Engine
        from napari_flowmag.models import load_magnifier
        from napari_flowmag.provenance import model_sha256
        from napari_flowmag.values import check_channels

        settings, frames, magnifier = self.settings, self._frames, self._magnifier
        device = resolve_device(settings.device)
        if magnifier is None:
            magnifier = load_magnifier(settings.model, device)
        else:
            parameter = next(magnifier.parameters(), None)
            if settings.device == "auto" and parameter is not None:
                device = parameter.device
        sha256 = model_sha256(magnifier)
        check_channels(magnifier.channels, frames, settings.motion_channels, settings.channels)
        precision = "float32" if settings.precision == "auto" else settings.precision
        engine = Engine(
            magnifier,
            device,
            precision,
            frames.size,
            settings.tile,
            settings.batch or default_batch(magnifier, device, frames),
            self._check,
            self._notify,
        )
        # Refuses what the model cannot do before the clip is read.
        engine.passes(self.strength.typical(self.selected))
        return engine, sha256

    @cached_property
    def _work(self) -> _Work:
        from napari_flowmag.values import value_range, views

        engine, _ = self._model
        settings, frames = self.settings, self._frames
        limits = self._limits
        if limits is None:
            used = used_frames(settings.reference, self.selected, len(frames))
            limits = value_range(frames, settings.value_range, self._check, used)
        return _Work(
            limits=limits,
            views=views(
                engine.magnifier.channels,
                frames,
                limits,
                settings.motion_channels,
                settings.channels,
            ),
            reference=fixed_reference(frames, settings.reference, self.selected, self._check),
        )

    def _magnified(self, indices: Sequence[int], depth: int | None = None) -> list[NDArray[Any]]:
        """Magnify a batch of frames of one strength, given by their places in the clip."""
        self._check()
        engine, _ = self._model
        planes = np.stack([self._frames.planes(index) for index in indices])
        references = self._references(indices, planes)
        strength = self.strength.at(indices[0])
        engine.passes(strength)  # refuses what the model cannot do
        magnified = planes.copy()
        if strength.constant() != 1:
            for z in range(planes.shape[1]) if depth is None else (depth,):
                for view in self._work.views:
                    self._repaint(
                        magnified[:, z], planes[:, z], references[:, z], view, strength, z
                    )
        return [self._frames.frame(m) for m in magnified]

    def _repaint(
        self,
        magnified: NDArray[Any],
        planes: NDArray[Any],
        references: NDArray[Any],
        view: View,
        strength: Strength,
        z: int,
    ) -> None:
        """Magnify some channels of the planes at depth ``z``, into ``magnified``."""
        from napari_flowmag.pixels import as_type, differ, put, take

        seen, moved = list(view.motion_channels), list(view.moved_channels)
        if strength.constant() == 0:
            magnified[..., moved] = as_type(references[..., moved], planes.dtype)
            return
        own = np.broadcast_to(references, planes.shape)
        # What does not differ from its reference has no motion: it stays as it is, to the bit.
        moving = [
            row
            for row, plane in enumerate(planes)
            if differ(take(plane, seen), take(own[row], seen))
        ]
        if not moving:
            return
        engine, _ = self._model
        shared = self._work.reference is not None
        values = engine.magnify(
            view,
            references if shared else references[moving],
            planes if len(moving) == len(planes) else planes[moving],
            strength,
            self._work.limits,
            key=z if shared else None,
        )
        for row, value in zip(moving, values, strict=True):
            put(magnified[row], moved, value)

    def _references(self, indices: Sequence[int], planes: NDArray[Any]) -> NDArray[Any]:
        """Return the reference that all frames share, (1, Z, Y, X, channels), or each its own."""
        shared = self._work.reference
        if shared is not None:
            return shared[None]
        before = max(indices[0] - 1, self.selected.start)
        if self._latest is not None and self._latest[0] == before:
            first = self._latest[1]
        else:
            first = self._frames.planes(before)
        self._latest = (indices[-1], planes[-1])
        return np.concatenate([first[None], planes[:-1]])
