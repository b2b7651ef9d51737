"""A clip and its magnified version: beside each other, in turn, or their difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_flowmag._layers import OWN, axes_of, data_of, result_settings
from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

MODES = ("off", "side by side", "blink", "difference")

_BLINK = 500  # ms


class Compare(QObject):
    """Shows two layers so that they can be compared, and puts everything back afterwards."""

    def __init__(self, viewer: ViewerModel, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._pair: tuple[Image, Image] | None = None
        self._visible: dict[Layer, bool] = {}
        self._grid: tuple[bool, int, tuple[int, int]] | None = None
        self._difference: Image | None = None
        self.mode = "off"
        self._timer = QTimer(self)
        self._timer.setInterval(_BLINK)
        self._timer.timeout.connect(self._blink)
        viewer.layers.events.removed.connect(self._removed)

    def set_mode(self, mode: str, source: Image | None = None, result: Image | None = None) -> None:
        """Compare two layers.

        Parameters
        ----------
        mode : str
            One of :data:`MODES`.
        source, result : Image, optional
            Original and magnified; needed for all modes but "off".

        Raises
        ------
        FlowmagError
            If there is nothing to compare.
        """
        self._restore()
        if mode == "off":
            return
        if source is None or result is None:
            raise FlowmagError(
                "nothing to compare yet: run a magnification, or turn on the preview"
            )
        self._pair, self.mode = (source, result), mode
        self._visible = {layer: layer.visible for layer in self._viewer.layers}
        for layer in self._viewer.layers:
            layer.visible = layer in self._pair
        if mode == "side by side":
            self._show_grid()
        elif mode == "blink":
            result.visible = False
            self._timer.start()
        else:
            self._show_difference(source, result)

    def _show_grid(self) -> None:
        grid = self._viewer.canvas.grid
        self._grid = (grid.enabled, grid.stride, grid.shape)
        # Hidden layers keep their place in the grid, so each layer between the two widens it.
        places = [self._viewer.layers.index(layer) for layer in self._pair or ()]
        grid.stride = -max(abs(places[1] - places[0]), 1) if len(places) == 2 else 1
        grid.shape = (1, -1)
        grid.enabled = True
        self._viewer.reset_view()

    def _blink(self) -> None:
        if self._pair is not None:
            source, result = self._pair
            result.visible = not result.visible
            source.visible = not result.visible

    def _show_difference(self, source: Image, result: Image) -> None:
        from napari.layers import Image

        data, limit = _difference(source, result)
        settings = result_settings(result)
        settings.pop("gamma", None)
        settings |= {
            "rgb": False,
            "colormap": "twilight_shifted",
            "contrast_limits": (-limit, limit),
            "opacity": 1.0,
            "blending": "translucent",
            "name": f"{result.name} − {source.name}",
            "metadata": {OWN: {"role": "preview"}},
        }
        self._difference = Image(data, **settings)
        for layer in self._pair or ():
            layer.visible = False
        self._viewer.layers.append(self._difference)

    def _removed(self, event: Any) -> None:
        self._visible.pop(event.value, None)
        if event.value is self._difference:
            self._difference = None
            self._restore()
        elif self._pair is not None and event.value in self._pair:
            self._restore()

    def _restore(self) -> None:
        self._timer.stop()
        self._pair, self.mode = None, "off"
        difference, self._difference = self._difference, None
        if difference is not None and difference in self._viewer.layers:
            self._viewer.layers.remove(difference)
        visible, self._visible = self._visible, {}
        for layer, was in visible.items():
            layer.visible = was
        if self._grid is not None:
            grid = self._viewer.canvas.grid
            grid.enabled, grid.stride, grid.shape = self._grid
            self._grid = None
            self._viewer.reset_view()


def _difference(source: Image, result: Image) -> tuple[Any, float]:
    """Return magnified minus original, a lazy array, and the largest value worth showing."""
    before, after = (_lazy(layer) for layer in (source, result))
    axes = axes_of(source) if after.ndim > 2 else ""
    if axes:
        start = _start(source, result)
        before = before[start : start + len(after)]
        if before.shape != after.shape and "Z" in axes:  # of one slice there is a result
            z = int(np.rint(source.world_to_data(result.data_to_world((0,) * result.ndim))[1]))
            before = before[:, z : z + 1]
    if before.shape[-before.ndim :] != after.shape:
        raise FlowmagError(
            f"{source.name!r} and {result.name!r} do not fit: their shapes are "
            f"{before.shape} and {after.shape}"
        )
    difference = after.astype("float32") - before.astype("float32")
    if source.rgb:
        difference = difference.mean(axis=-1)
    first = np.asarray(difference[len(difference) // 2] if axes else difference)
    return difference, float(np.percentile(np.abs(first), 99.5)) or 1.0


def _lazy(layer: Image) -> Any:
    import dask.array as da

    data = data_of(layer)
    if isinstance(data, da.Array):
        return data
    keep = 3 if layer.rgb else 2
    return da.from_array(data, chunks=(1,) * (data.ndim - keep) + (-1,) * keep, name=False)


def _start(source: Image, result: Image) -> int:
    """Return the frame of the source that is the result's first."""
    place = axes_of(source).index("T")
    origin = source.world_to_data(result.data_to_world((0,) * result.ndim))
    return int(np.rint(origin[place]))
