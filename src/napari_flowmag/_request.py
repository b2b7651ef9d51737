"""What a user asks of the Magnify dock, resolved against the layers: no Qt, no pixel read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_flowmag._labels import key_frames, labels_on
from napari_flowmag._layers import (
    OWN,
    PLACE,
    axes_of,
    channel_name,
    is_clip_layer,
    own,
    result_settings,
    to_layer_order,
)
from napari_flowmag._origin import origin_of
from napari_flowmag.clip import Clip
from napari_flowmag.settings import MagnifySettings

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from numpy.typing import NDArray

    from napari_flowmag.magnification import Magnification
    from napari_flowmag.models.base import Magnifier
    from napari_flowmag.values import ValueRange


@dataclass(frozen=True, eq=False)
class Request:
    """A magnification of layers.

    Attributes
    ----------
    layers : tuple of Image
        The clip, or its channels.
    clip : Clip
        The same as a clip.
    settings : MagnifySettings
        Without a mask: that is in `labels`.
    labels : Labels, optional
        Where to magnify.
    magnifier : Magnifier, optional
        A model in memory, in place of the one that the settings name.
    training : dict
        How that model came about.
    layer_data : tuple
        What the layers hold. They may get other data before the result is there, which then is
        still of these.
    layer_axes : tuple of str
        The axes of those.
    """

    layers: tuple[Image, ...]
    clip: Clip
    settings: MagnifySettings
    labels: Labels | None = None
    magnifier: Magnifier | None = None
    training: dict[str, Any] = field(default_factory=dict)
    layer_data: tuple[Any, ...] = field(init=False, repr=False)
    layer_axes: tuple[str, ...] = field(init=False)
    _places: tuple[dict[str, Any], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer_data", tuple(layer.data for layer in self.layers))
        object.__setattr__(self, "layer_axes", tuple(map(axes_of, self.layers)))
        object.__setattr__(self, "_places", tuple(map(self._place, self.layers)))

    def _place(self, layer: Image) -> dict[str, Any]:
        settings = result_settings(layer, self.settings.start or 0, self.settings.z)
        return {name: settings[name] for name in PLACE}

    def mask(self) -> NDArray[Any] | None:
        """Return the labels on the clip's grid, (H, W) or (T, H, W); a copy.

        Takes as long as it takes to read the labels: not for the GUI thread.

        Raises
        ------
        FlowmagError
            If the labels do not fit the clip; see :func:`~napari_flowmag._labels.labels_on`.
        """
        if self.labels is None:
            return None
        return np.array(key_frames(labels_on(self.labels, self.layers[0], self.settings.z)))

    def region(self) -> tuple[NDArray[Any] | None, MagnifySettings]:
        """Return the mask as :meth:`mask` does, and settings that fit it.

        The window knows a factor for each label of the layer; those that lie beside the clip, in
        another slice, or were just erased, are not in the mask.
        """
        from napari_flowmag.strength import labels_there

        mask, settings = self.mask(), self.settings
        if mask is None or not settings.label_alphas:
            return mask, settings
        there = labels_there(mask, dict(settings.label_alphas))
        kept = tuple((label, alpha) for label, alpha in settings.label_alphas if label in there)
        return mask, settings.replace(label_alphas=kept)

    def magnification(
        self,
        *,
        limits: ValueRange | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> Magnification:
        """Return the magnification, checked but not begun.

        Raises
        ------
        FlowmagError
            If settings and clip do not fit together.
        """
        from napari_flowmag.magnify import magnify_clip

        mask, settings = self.region()
        return magnify_clip(
            self.clip,
            settings,
            mask=mask,
            magnifier=self.magnifier,
            limits=limits,
            notify=notify,
        )

    @property
    def moved(self) -> tuple[Image, ...]:
        """The layers that a result is made of."""
        return tuple(self.layers[c] for c in self._moved)

    @property
    def moved_axes(self) -> tuple[str, ...]:
        """Axes of the layers that a result is made of, as they were when it was asked for."""
        return tuple(self.layer_axes[c] for c in self._moved)

    @property
    def _moved(self) -> tuple[int, ...]:
        if len(self.layers) == 1 or self.settings.channels is None:
            return tuple(range(len(self.layers)))
        return tuple(self.settings.channels)

    @property
    def axes(self) -> str:
        """Axes of the magnified frames."""
        return self.clip.axes if self.settings.z is None else self.clip.axes.replace("Z", "")

    def split(self, frames: NDArray[Any], axes: str | None = None) -> list[NDArray[Any]]:
        """Return the magnified frames of each layer that is moved, in the order of its axes.

        Parameters
        ----------
        frames : ndarray
            In the clip's axes, without Z if the settings choose a slice.
        """
        axes = self.axes if axes is None else axes
        if len(self.layers) == 1:
            return [to_layer_order(frames, axes, self.layer_axes[0])]
        place = axes.index("C")
        rest = axes.replace("C", "")
        return [
            to_layer_order(frames[(slice(None),) * place + (c,)], rest, self.layer_axes[c])
            for c in self._moved
        ]

    def result_layers(
        self, frames: NDArray[Any], record: dict[str, Any]
    ) -> list[tuple[NDArray[Any], dict[str, Any]]]:
        """Return data and keyword arguments of the layers that show a result.

        Parameters
        ----------
        frames : ndarray
            All magnified frames, as :meth:`split` takes them.
        record : dict
            Provenance.
        """
        layers = []
        pairs = zip(self._moved, self.split(frames), strict=True)
        for channel, (place, data) in enumerate(pairs):
            layer = self.layers[place]
            known = {
                "role": "result",
                **origin_of(layer),
                "settings": self.settings.to_dict(),
                "provenance": record,
                "fps": own(layer).get("fps"),
            }
            settings = result_settings(layer, covers=channel == 0) | self._place_now(place)
            settings["name"] = name = f"{layer.name} ×{self.settings.alpha:g}"
            known |= {"channel_name": channel_name(layer), "layer_name": name}
            settings["metadata"] = {OWN: known}
            layers.append((data, settings))
        return layers

    def _place_now(self, place: int) -> dict[str, Any]:
        """Return where a layer lies: of other axes than it had, where it lay when it had those."""
        layer = self.layers[place]
        same = is_clip_layer(layer) and axes_of(layer) == self.layer_axes[place]
        return self._place(layer) if same else self._places[place]
