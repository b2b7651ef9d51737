"""The frames of the clip that is chosen, kept while its layers hold the same: no Qt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari_flowmag._layers import axes_of, frames_of

if TYPE_CHECKING:
    from napari.layers import Image


class KeptFrames:
    """The frames of layers, stacked anew only when other layers, data or axes are asked for."""

    def __init__(self) -> None:
        self._data: tuple[Any, ...] = ()
        self._axes: tuple[str, ...] = ()
        self._frames: Any = None

    def of(self, layers: Sequence[Image]) -> Any:
        """Return what :func:`~napari_flowmag._layers.frames_of` does.

        Raises
        ------
        FlowmagError
            If a layer is no clip, or the layers do not fit together.
        """
        data, axes = tuple(layer.data for layer in layers), tuple(map(axes_of, layers))
        same = axes == self._axes and all(a is b for a, b in zip(data, self._data, strict=True))
        if not same:
            self._frames = frames_of(layers)
            self._data, self._axes = data, axes
        return self._frames

    def forget(self) -> None:
        """Let go of everything."""
        self._data, self._axes, self._frames = (), (), None
