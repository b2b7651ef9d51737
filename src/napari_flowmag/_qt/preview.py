"""The frame in view, magnified as soon as something changes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_flowmag._layers import (
    LOOKS,
    OWN,
    in_plane,
    in_view,
    is_clip_layer,
    lay_over,
    result_settings,
)
from napari_flowmag._live import LiveFrames
from napari_flowmag._origin import above_family, is_made_of, origin_of
from napari_flowmag._qt.job import Handle, Job, Outcome

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer
    from numpy.typing import NDArray

    from napari_flowmag._request import Request

DEBOUNCE = 80
"""Milliseconds that settings must rest before work begins."""
_TURNED = "No single frame is in view to preview: go back to 2D, with time on a slider"


class Preview(QObject):
    """Shows the frame in view magnified, in a layer over each layer of the clip.

    One thread works at a time, on the newest wish: an older one is told to stop. The thread ends
    when there is nothing to do.
    """

    shown = Signal(float, int)
    """Seconds from the wish to the layer, and the frame."""
    status = Signal(str)
    """What is going on, a few words; empty when nothing is."""
    failed = Signal(object)
    """An error, of each wish that ends in one; then there is no layer."""
    closed = Signal()
    """The user removed the layer."""

    def __init__(self, viewer: ViewerModel, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._request: Request | None = None
        self._version = 0
        self._layers: list[Image] = []
        self._frames = LiveFrames()
        self._job: Job | None = None
        self._pending = False
        self._paused = False
        self._working = 0
        self._shown: tuple[int, dict[str, int]] | None = None  # version and place of the layers
        self._wished = 0.0
        self._released = False
        self._stale = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(DEBOUNCE)
        self._timer.timeout.connect(self._begin)
        for event in (
            viewer.dims.events.point,
            viewer.dims.events.order,
            viewer.dims.events.ndisplay,
        ):
            event.connect(self._moved)
        viewer.layers.events.removing.connect(self._removing)
        viewer.layers.events.removed.connect(self._removed)

    @property
    def layers(self) -> list[Image]:
        """The layers that show the preview now."""
        return list(self._layers)

    def request(self, request: Request | None) -> None:
        """Show this from now on; None shows nothing any more and frees the model."""
        if request is None:
            self.clear()
            return
        self._request = request
        self._released = False
        self._version += 1
        self._wish()

    def pause(self) -> None:
        """Leave the machine to something else; layers stay while they are what is wished."""
        self._paused = True
        self._stop()
        self._remove_outdated()

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._paused = False
        if self._request is not None:
            self._wish()

    def withdraw(self) -> None:
        """Remove the layers until there is another request; the model stays loaded."""
        self._request = None
        self._timer.stop()
        self._stop()
        self._remove_layers()
        self.status.emit("")

    def clear(self) -> None:
        """Remove the layers and free the model."""
        self.withdraw()
        self._released = True
        if self._job is None:
            self._frames.close()

    def _moved(self, event: Any = None) -> None:
        if self._request is not None:
            self._wish()

    def _wish(self) -> None:
        self._wished = time.monotonic()
        self._pending = True
        if self._paused:
            self._remove_outdated()
        else:
            self._timer.start()

    def _stop(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def _begin(self) -> None:
        request = self._request
        if request is None or self._paused or not self._pending:
            return
        if not self._frames_in_view:
            self._pending = False
            self._stop()
            self._remove_layers()  # they would cover a clip of which there is no frame to be seen
            self.status.emit(_TURNED)
            return
        if self._job is not None:  # the newest wins: it begins when the older one has stopped
            # A frame that only the slider has left behind is finished: else a slider that plays
            # would never show any.
            if self._working != self._version and not self._frames.preparing:
                self._job.cancel()
            return
        self._pending = False
        there = self._viewer.layers
        if not all(layer in there and is_clip_layer(layer) for layer in request.layers):
            self.clear()
            return
        view = self._view(request)
        frame = view["T"]
        depth = view.get("Z") if request.settings.z is None else None
        self._working = self._version
        if self._stale:
            self._frames.close()  # all that it has kept is of other pixels
            self._stale = False
        self.status.emit("Magnifying…")
        frames, version, wished = self._frames, self._version, self._wished

        def work(handle: Handle) -> NDArray[Any]:
            return frames.frame(request, frame, depth, version, handle.cancelled, handle.progress)

        self._job = Job(work, "preview", self, activity=False)
        self._job.progressed.connect(self._reading)
        self._job.finished.connect(lambda outcome: self._end(request, view, wished, outcome))
        self._job.start()

    @property
    def _frames_in_view(self) -> bool:
        """Whether the last two axes are what is displayed, in whatever order."""
        dims = self._viewer.dims
        return sorted(dims.displayed) == [dims.ndim - 2, dims.ndim - 1]

    def _view(self, request: Request) -> dict[str, int]:
        dims = self._viewer.dims
        view = in_view(dims.point, request.layers[0], dims.units)
        if request.settings.z is not None:
            view["Z"] = request.settings.z
        return view

    def _remove_outdated(self) -> None:
        """Remove layers in place of which nothing newer comes for now."""
        request = self._request
        if not (
            request is not None
            and self._frames_in_view
            and all(map(is_clip_layer, request.layers))
            and self._shown == (self._version, self._view(request))
        ):
            self._remove_layers()

    def _reading(self, done: int, total: int) -> None:
        self.status.emit(f"Reading the clip… {100 * done // max(total, 1)} %")

    def _end(self, request: Request, view: dict[str, int], wished: float, outcome: Outcome) -> None:
        self._job = None
        if self._released:
            self._frames.close()
        if self._request is None:
            return
        # What is not asked for any more may be of layers that have other axes by now.
        asked = self._working == self._version and self._frames_in_view
        if asked and outcome.error is not None:
            self.status.emit("")
            self._remove_layers()  # what they show is not what was asked for
            self.failed.emit(outcome.error)
        elif (
            asked
            and not outcome.cancelled
            and all(layer in self._viewer.layers for layer in request.layers)
        ):
            self._show(request, outcome.value, view)
            self.status.emit("")
            self.shown.emit(time.monotonic() - wished, view["T"])
        if self._paused:
            self._remove_outdated()
        elif self._pending:
            self._begin()

    def _show(self, request: Request, frame: NDArray[Any], view: dict[str, int]) -> None:
        self._shown = (self._working, view)
        moved, pictures = request.moved, _pictures(request, frame, view)
        if not _are_made_of(self._layers, moved):
            self._remove_layers()
            lowest = above_family(request.layers, self._viewer.layers)
            for channel, (source, picture) in enumerate(zip(moved, pictures, strict=True)):
                settings = in_plane(result_settings(source, covers=channel == 0))
                settings |= {"name": f"{source.name} preview", "metadata": _metadata(source, view)}
                self._layers.append(self._add(picture, settings, lowest + channel))
                for name in LOOKS:  # of a layer that is followed already, this changes nothing
                    getattr(source.events, name).connect(self._follow)
            for source in request.layers:
                source.events.data.connect(self._renew)
            return
        for layer, source, picture in zip(self._layers, moved, pictures, strict=True):
            lay_over(layer, source)
            layer.metadata = _metadata(source, view)  # before the data, which others wait for
            layer.data = picture

    def _add(self, picture: NDArray[Any], settings: dict[str, Any], place: int) -> Image:
        from napari.layers import Image

        layer = Image(picture, **settings)
        selection = set(self._viewer.layers.selection)
        self._viewer.layers.insert(place, layer)
        self._viewer.layers.selection = selection  # the user did not choose the preview
        return layer

    def _follow(self, event: Any) -> None:
        """Look as the clip does, when that changes: what the user changes here stays till then."""
        for channel, layer in enumerate(self._layers):
            if is_made_of(layer, event.source):
                settings = result_settings(event.source, covers=channel == 0)
                if event.type in settings:
                    setattr(layer, event.type, settings[event.type])

    def _renew(self, event: Any) -> None:
        """Begin anew with other pixels; they may be in the same array, changed in place."""
        if self._request is not None and event.source in self._request.layers:
            self._stale = True
            self.request(self._request)

    def _removing(self, event: Any) -> None:
        # Software OpenGL ends napari when a picture that lay over a layer is drawn once more after
        # that layer has gone.
        if self._request is not None and self._viewer.layers[event.index] in self._request.layers:
            for layer in self._layers:
                layer.visible = False

    def _removed(self, event: Any) -> None:
        layer: Layer = event.value
        mine = layer in self._layers
        if mine or (self._request is not None and layer in self._request.layers):
            # Not at once: the others may be among those that napari is about to remove.
            left, self._layers = self._layers, []
            QTimer.singleShot(0, lambda: self._take_out(left))
            self.clear()
        if mine:
            self.closed.emit()

    def _remove_layers(self) -> None:
        layers, self._layers = self._layers, []
        self._take_out(layers)

    def _take_out(self, layers: list[Image]) -> None:
        for layer in layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)


def _pictures(request: Request, frame: NDArray[Any], view: dict[str, int]) -> list[NDArray[Any]]:
    """Return the picture of each layer that is moved, with its sliders where they are."""
    pictures = []
    for axes, data in zip(request.moved_axes, request.split(frame[None]), strict=True):
        place = dict.fromkeys("TZC", 0)
        place["C"] = view.get("C", 0)
        if request.settings.z is None:
            place["Z"] = view.get("Z", 0)
        index = tuple(place[a] if a in "TZC" else slice(None) for a in axes)
        pictures.append(np.ascontiguousarray(data[index]))
    return pictures


def _metadata(source: Image, view: dict[str, int]) -> dict[str, Any]:
    """Say what a preview is of: the clip, and the place in it."""
    known = origin_of(source)
    del known["source"]  # the name is for results, which can be saved
    return {OWN: known | {"role": "preview", "place": dict(view)}}


def _are_made_of(layers: list[Image], sources: tuple[Image, ...]) -> bool:
    return len(layers) == len(sources) and all(map(is_made_of, layers, sources))
