"""Single frames magnified one after the other, with all kept that the next one can use."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_flowmag._preload import preload_torch
from napari_flowmag.errors import Cancelled
from napari_flowmag.settings import MagnifySettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_flowmag._request import Request
    from napari_flowmag.magnification import Magnification, Progress
    from napari_flowmag.values import ValueRange

_CACHE_BYTES = 2**28


class LiveFrames:
    """Magnifies the frames that a preview asks for; for one thread at a time.

    Attributes
    ----------
    preparing : bool
        Whether the clip is being read and the model loaded, which a change of the magnification
        does not make worthless: it is not to be cancelled for one.
    """

    def __init__(self) -> None:
        self.preparing = False
        self._job: Magnification | None = None
        self._settings: MagnifySettings | None = None
        self._magnifier: Any = None
        self._data: tuple[Any, ...] = ()
        self._limits: ValueRange | None = None
        self._version = -1
        self._done: OrderedDict[tuple[int, int | None], NDArray[Any]] = OrderedDict()

    def frame(
        self,
        request: Request,
        index: int,
        depth: int | None,
        version: int,
        cancel: threading.Event,
        progress: Progress,
    ) -> NDArray[Any]:
        """Magnify one frame of a clip as a run does.

        A run takes several frames together, which may round a handful of pixels differently.

        Parameters
        ----------
        request : Request
            What is to be magnified.
        index : int
            Frame of the clip. One that the request leaves out is returned as it is.
        depth : int, optional
            The only slice that is needed of a clip with depth.
        version : int
            Another number whenever the request, or the pixels of its layers, have changed.
        cancel : threading.Event
            Stops the work once set.
        progress : callable
            Called with (frames read, frames in all) while the range of values is looked for.

        Raises
        ------
        FlowmagError
            If settings, clip and model do not fit together.
        Cancelled
            If `cancel` was set.
        """
        if version != self._version:
            self._done.clear()
            self._prepare(request, cancel, progress)
            self._version = version
        place = (index, depth)
        if place in self._done:
            self._done.move_to_end(place)
            return self._done[place]
        if self._job is None:  # closed meanwhile
            raise Cancelled
        if index not in self._job.selected:
            return self._job.original(index)
        picture = self._job.frame(index, cancel, depth)
        self._done[place] = picture
        while sum(p.nbytes for p in self._done.values()) > _CACHE_BYTES and len(self._done) > 1:
            self._done.popitem(last=False)
        return picture

    def close(self) -> None:
        """Let go of everything."""
        if self._job is not None:
            self._job.close()
        self._job = self._limits = self._magnifier = self._settings = None
        self._data = ()
        self._version = -1
        self._done.clear()

    def _prepare(self, request: Request, cancel: threading.Event, progress: Progress) -> None:
        preload_torch()
        data = request.layer_data
        same = len(data) == len(self._data) and all(map(_is, data, self._data))
        settings = _without_strength(request.settings)
        before = self._settings
        same_model = settings == before and request.magnifier is self._magnifier
        if self._job is not None and same and same_model:
            mask, wanted = request.region()
            self._job.strength = self._job.strength_of(wanted, mask)
            return
        if not same or before is None or before.z != settings.z:
            self._limits = None
        if self._job is not None:
            self._job.close()
            self._job = None
        self.preparing = True
        try:
            if self._limits is None:
                self._limits = _read_limits(request, cancel, progress)
            self._job = request.magnification(limits=self._limits)
        finally:
            self.preparing = False
        self._data, self._settings, self._magnifier = data, settings, request.magnifier


def _is(one: Any, other: Any) -> bool:
    return one is other


def _without_strength(settings: MagnifySettings) -> MagnifySettings:
    """Return the settings with all that decides about the strength alone as it is by default."""
    return settings.replace(
        alpha=1.0, mask=None, label_alphas=(), outside=1.0, soft=0.0, feather=0.0
    )


def _read_limits(request: Request, cancel: threading.Event, progress: Progress) -> ValueRange:
    from napari_flowmag.frames import as_frames
    from napari_flowmag.references import used_frames
    from napari_flowmag.values import value_range

    settings = request.settings
    frames = as_frames(request.clip.frames, request.clip.axes)
    if settings.z is not None:
        frames = frames.at_depth(settings.z)
    selected = range(*slice(settings.start, settings.stop).indices(len(frames)))
    used = used_frames(settings.reference, selected, len(frames))
    return value_range(frames, settings.value_range, _count(len(frames), cancel, progress), used)


def _count(total: int, cancel: threading.Event, progress: Progress) -> Callable[[], None]:
    done = 0

    def check() -> None:
        nonlocal done
        if cancel.is_set():
            raise Cancelled
        progress(done, total)
        done += 1

    return check
