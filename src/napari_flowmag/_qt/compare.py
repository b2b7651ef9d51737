"""A clip and its magnified version: beside each other, in turn, or their difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_flowmag._layers import OWN, axes_of, data_of, own, result_settings
from napari_flowmag._origin import is_made_of
from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Image, Layer

MODES = ("off", "side by side", "blink", "difference")

_BLINK = 500  # ms

_LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in the brightness (ITU-R BT.601)."""

_BLUE_TO_RED = [[0.13, 0.4, 0.67], [0.97, 0.97, 0.97], [0.7, 0.09, 0.17]]
"""Darker, the same, brighter."""


class Compare(QObject):
    """Shows layers and what became of them side by side, and puts everything back afterwards."""

    ended = Signal(bool)
    """The comparison is over, because of a layer that was added, removed or moved: whether one of
    the two compared is gone, not just their difference."""

    def __init__(self, viewer: ViewerModel, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._sources: tuple[Image, ...] = ()
        self._results: tuple[Image, ...] = ()
        self._visible: dict[Layer, bool] = {}
        self._grid: tuple[bool, int, tuple[int, int]] | None = None
        self._differences: list[Image] = []
        self._crowded = False
        self.mode = "off"
        self._timer = QTimer(self)
        self._timer.setInterval(_BLINK)
        self._timer.timeout.connect(self._blink)
        # What is left is put back a moment later: it may be about to be removed as well.
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self._end)
        viewer.layers.events.removed.connect(self._removed)
        viewer.layers.events.inserted.connect(self._inserted)
        viewer.layers.events.reordered.connect(self._keep_sides)

    @property
    def layers(self) -> tuple[Image, ...]:
        """Clip and result that are compared now."""
        return (*self._sources, *self._results)

    @property
    def blink_time(self) -> int:
        """Milliseconds that each of the two is seen when they blink."""
        return int(self._timer.interval())

    @blink_time.setter
    def blink_time(self, value: int) -> None:
        self._timer.setInterval(value)

    def set_mode(
        self, mode: str, sources: Sequence[Image] = (), results: Sequence[Image] = ()
    ) -> None:
        """Compare the channels of a clip with those of its magnified version.

        Parameters
        ----------
        mode : str
            One of :data:`MODES`.
        sources, results : sequence of Image
            Original and magnified, one for each channel; needed for all modes but "off".

        Raises
        ------
        FlowmagError
            If there is nothing to compare.
        """
        self._restore()
        if mode == "off":
            return
        if not sources or len(sources) != len(results):
            raise FlowmagError(
                "nothing to compare yet: run a magnification, or turn on the preview"
            )
        stride = _stride(self._viewer.layers, sources, results) if mode == "side by side" else 0
        self._sources, self._results, self.mode = tuple(sources), tuple(results), mode
        self._visible = {layer: layer.visible for layer in self._viewer.layers}
        for layer in self._viewer.layers:
            layer.visible = layer in self.layers
        if mode == "side by side":
            self._show_grid(stride)
        elif mode == "blink":
            self._blink()
            self._timer.start()
        else:
            for source, result in zip(sources, results, strict=True):
                self._show_difference(source, result)

    def _show_grid(self, stride: int) -> None:
        grid = self._viewer.canvas.grid
        self._grid = (grid.enabled, grid.stride, grid.shape)
        grid.stride = stride
        grid.shape = (1, -1)
        grid.enabled = True
        self._viewer.reset_view()

    def _blink(self) -> None:
        original = not self._sources[0].visible or self._results[0].visible
        for source, result in zip(self._sources, self._results, strict=True):
            source.visible, result.visible = original, not original

    def _show_difference(self, source: Image, result: Image) -> None:
        from napari.layers import Image
        from napari.utils import Colormap

        data, limit = _difference(source, result)
        settings = result_settings(result)
        settings.pop("gamma", None)
        settings |= {
            "rgb": False,
            "colormap": Colormap(_BLUE_TO_RED, name="difference"),
            "contrast_limits": (-limit, limit),
            "blending": "translucent",
            "name": f"{result.name} − {source.name}",
            "metadata": {OWN: {"role": "preview"}},
        }
        # Of several channels each difference is seen through the others.
        settings["opacity"] = 1.0 / (len(self._differences) + 1)
        difference = Image(data, **settings)
        source.visible = result.visible = False
        self._differences.append(difference)
        selection = set(self._viewer.layers.selection)
        self._viewer.layers.append(difference)
        self._viewer.layers.selection = selection  # the user did not choose the difference
        result.events.data.connect(self._refresh)  # a preview shows other frames and factors

    def _refresh(self, event: Any) -> None:
        for source, result, shown in zip(
            self._sources, self._results, self._differences, strict=True
        ):
            if result is event.source:
                shown.data, _ = _difference(source, result)

    def _removed(self, event: Any) -> None:
        self._visible.pop(event.value, None)
        if event.value in (*self.layers, *self._differences):
            self._later.start()
        else:
            self._keep_sides()

    def _keep_sides(self, event: Any = None) -> None:
        """Keep the clip on the left where layers change places, or end where no grid does."""
        if self._grid is None:
            return
        try:
            self._viewer.canvas.grid.stride = _stride(
                self._viewer.layers, self._sources, self._results
            )
        except FlowmagError:
            self._crowded = True
            self._later.start()

    def _inserted(self, event: Any) -> None:
        # What is drawn belongs on the clip, and would get a cell of its own; a result or preview of
        # the clip is about to be compared with it.
        if self._grid is not None and not any(is_made_of(event.value, s) for s in self._sources):
            self._crowded = True
            self._later.start()

    def _end(self) -> None:
        """Put everything back once a layer that takes part has gone, or there is no place."""
        there = self._viewer.layers
        gone = any(layer not in there for layer in self.layers)
        if gone or self._crowded or any(layer not in there for layer in self._differences):
            self._restore()
            self.ended.emit(gone)

    def _restore(self) -> None:
        self._timer.stop()
        for result in self._results:
            result.events.data.disconnect(self._refresh)
        self._sources, self._results, self.mode = (), (), "off"
        self._crowded = False
        differences, self._differences = self._differences, []
        for difference in differences:
            if difference in self._viewer.layers:
                self._viewer.layers.remove(difference)
        visible, self._visible = self._visible, {}
        for layer, was in visible.items():
            layer.visible = was
        if self._grid is not None:
            grid = self._viewer.canvas.grid
            grid.enabled, grid.stride, grid.shape = self._grid
            self._grid = None
            self._viewer.reset_view()


def _stride(layers: Sequence[Layer], sources: Sequence[Image], results: Sequence[Image]) -> int:
    """Return the stride of a grid with all sources on the left and all results on the right.

    napari gives each cell that many layers, hidden ones too: from the bottom of the list up, or
    from its top down if the stride is negative.
    """
    rising = {layer: place for place, layer in enumerate(layers)}
    falling = {layer: place for place, layer in enumerate(reversed(layers))}
    for places, sign in ((rising, 1), (falling, -1)):
        for stride in range(1, len(layers)):
            left, right = ({places[layer] // stride for layer in of} for of in (sources, results))
            if len(left) == len(right) == 1 and max(left) < min(right):
                return sign * stride
    raise FlowmagError(
        "the channels of clip and result lie among each other: move the result above the clip"
    )


def _difference(source: Image, result: Image) -> tuple[Any, float]:
    """Return magnified minus original, a lazy array, and the largest value worth showing."""
    before, after = _original(source, result), _lazy(result)
    if before.shape != after.shape:
        raise FlowmagError(
            f"{source.name!r} and {result.name!r} do not fit: their shapes are "
            f"{data_of(source).shape} and {after.shape}"
        )
    difference = after.astype("float32") - before.astype("float32")
    if source.rgb:
        difference = difference[..., :3] @ np.array(_LUMA, np.float32)
    one = difference
    if "place" not in own(result):
        time = axes_of(source).index("T")
        one = difference[(slice(None),) * time + (after.shape[time] // 2,)]
    return difference, float(np.percentile(np.abs(np.asarray(one)), 99.5)) or 1.0


def _original(source: Image, result: Image) -> Any:
    """Return what a result, or the preview of one frame, was made of: a part of its source."""
    axes, data = axes_of(source), _lazy(source)
    place = own(result).get("place")
    if place is not None:
        return data[tuple(place[a] if a in "TZC" else slice(None) for a in axes)]
    shape = data_of(result).shape
    origin = np.rint(source.world_to_data(result.data_to_world((0,) * result.ndim))).astype(int)
    # The frames that were chosen, and the only slice if there was one.
    parts = [
        slice(origin[i], origin[i] + shape[i]) if a in "TZ" else slice(None)
        for i, a in enumerate(axes)
    ]
    return data[tuple(parts)]


def _lazy(layer: Image) -> Any:
    import dask.array as da

    data = data_of(layer)
    if isinstance(data, da.Array):
        return data
    keep = 3 if layer.rgb else 2
    return da.from_array(data, chunks=(1,) * (data.ndim - keep) + (-1,) * keep, name=False)
