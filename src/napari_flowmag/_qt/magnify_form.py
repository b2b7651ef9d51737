"""The settings of a magnification as widgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_flowmag._kept import KeptFrames
from napari_flowmag._layers import PLACE, axes_of, clip_of, data_of, in_view, is_clip_layer
from napari_flowmag._qt.alpha import AlphaBox
from napari_flowmag._qt.channels import ChannelBox
from napari_flowmag._qt.model_box import DeviceBox, ModelBox
from napari_flowmag._qt.region import RegionBox
from napari_flowmag._qt.section import Section
from napari_flowmag._qt.widgets import LayerCombo
from napari_flowmag._request import Request
from napari_flowmag._settings import plugin_settings
from napari_flowmag.errors import FlowmagError
from napari_flowmag.settings import MagnifySettings
from napari_flowmag.tiles import MIN_TILE

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

_REFERENCES = {
    "First frame": "first",
    "Frame in view": None,
    "Mean of all frames": "mean",
    "Median of all frames": "median",
    "The frame before": "previous",
}
_IN_VIEW = list(_REFERENCES.values()).index(None)


class MagnifyForm(QWidget):
    """Everything that can be chosen for a magnification."""

    changed = Signal()
    """Something was chosen; :meth:`value` has it."""

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._watched: Image | None = None
        self._looked_like: tuple[str, tuple[int, ...]] = ("", ())
        self._slice: int | None = None
        self._kept = KeptFrames()
        defaults = plugin_settings()
        self.clip = LayerCombo(viewer, is_clip_layer)
        self.alpha = AlphaBox(defaults.alpha)
        self.region = RegionBox(viewer)
        self.region.set_main_alpha(defaults.alpha)
        self.channels = ChannelBox(viewer)
        self.model = ModelBox()
        self.device = DeviceBox(defaults.device)
        self._make_reference()
        self._make_range()
        self.slice_only = QCheckBox("Only the slice in view")
        self.slice_only.setToolTip(
            "Of a clip with depth, magnify one slice instead of each by itself"
        )
        self.tile = QSpinBox()
        self.tile.setRange(0, 8192)
        self.tile.setSingleStep(128)
        self.tile.setSpecialValueText("auto")
        self.tile.setSuffix(" px")
        self.tile.setValue(defaults.tile)
        self.tile.setKeyboardTracking(False)
        self.tile.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.tile.setToolTip(
            "Largest side that the model sees at once; smaller tiles take less memory"
        )
        self._lay_out()
        self._connect()
        self._choose_clip(self.clip.value())

    def value(self) -> Request:
        """Return what is chosen.

        Raises
        ------
        FlowmagError
            If it makes no sense.
        """
        layers = self.channels.layers()
        magnifier, training = self.model.magnifier()
        self._slice = self._in_view(layers[0])["Z"] if self._one_slice() else None
        return Request(
            layers=layers,
            clip=clip_of(*layers, frames=self._kept.of(layers)),
            settings=MagnifySettings(
                alpha=self.alpha.value(),
                reference=self._reference_value(),
                device=self.device.value(),
                tile=self._tile(),
                z=self._slice,
                **self.model.settings(),
                **self.region.settings(),
                **self.channels.settings(),
                **self._frames(),
            ),
            labels=self.region.value(),
            magnifier=magnifier,
            training=training,
        )

    def _make_reference(self) -> None:
        self._picked = 0
        self.reference = QComboBox()
        self.reference.addItems(_REFERENCES)
        self.reference.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.reference.setToolTip("The frame from which motion is measured")
        self.reference.activated.connect(self._pick_reference)

    def _make_range(self) -> None:
        self.first, self.last = QSpinBox(), QSpinBox()
        for box, tip in ((self.first, "First frame"), (self.last, "Last frame")):
            box.setToolTip(f"{tip} that is magnified")
            box.setKeyboardTracking(False)
        self.range = QWidget()
        row = QHBoxLayout(self.range)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.first, 1)
        row.addWidget(QLabel("to"))
        row.addWidget(self.last, 1)

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("&Clip", self.clip)
        form.addRow("Fac&tor", self.alpha)
        form.addRow("Re&gion", self.region)
        form.addRow("Refere&nce", self.reference)
        form.addRow("&Model", self.model)
        more = QWidget()
        rest = QFormLayout(more)
        rest.setContentsMargins(0, 0, 0, 0)
        rest.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        rest.addRow("Frames", self.range)
        rest.addRow(self.slice_only)
        rest.addRow("Device", self.device)
        rest.addRow("Tile", self.tile)
        self.more = Section("Frames, device, tiles", more)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self.channels)
        layout.addWidget(self.more)

    def _connect(self) -> None:
        self.clip.layer_changed.connect(self._choose_clip)
        self.alpha.value_changed.connect(self.region.set_main_alpha)
        for signal in (
            self.alpha.value_changed,
            self.region.changed,
            self.channels.changed,
            self.model.model_changed,
            self.device.device_changed,
            self.first.valueChanged,
            self.last.valueChanged,
            self.slice_only.toggled,
            self.tile.valueChanged,
        ):
            signal.connect(self._tell)
        self._viewer.dims.events.point.connect(self._moved)

    def _tell(self, *_: Any) -> None:
        self.changed.emit()

    def _moved(self, event: Any = None) -> None:
        """Tell of another slice in view where only that one is magnified."""
        layer = self.clip.value()
        if layer is not None and self._one_slice() and self._in_view(layer)["Z"] != self._slice:
            self.changed.emit()

    def _in_view(self, layer: Image) -> dict[str, int]:
        dims = self._viewer.dims
        return in_view(dims.point, layer, dims.units)

    def _choose_clip(self, layer: Image | None) -> None:
        self._watch(layer)
        self._kept.forget()
        axes, shape = self._looked_like
        count = shape[axes.index("T")] if axes else 1
        for box, value in ((self.first, 0), (self.last, count - 1)):
            with QSignalBlocker(box):
                box.setRange(0, count - 1)
                box.setValue(value)
        self.slice_only.setVisible("Z" in axes)
        with QSignalBlocker(self.reference):
            self.reference.setCurrentIndex(0)
            self.reference.setItemText(_IN_VIEW, list(_REFERENCES)[_IN_VIEW])
        self.channels.set_clip(layer)
        self.changed.emit()

    def _watch(self, layer: Image | None) -> None:
        """Follow the clip's pixels, and where they lie in the world."""
        if layer is not self._watched:
            for event in () if self._watched is None else _edits(self._watched):
                event.disconnect(self._clip_edited)
            for event in () if layer is None else _edits(layer):
                event.connect(self._clip_edited)
            self._watched = layer
        self._looked_like = ("", ()) if layer is None else (axes_of(layer), data_of(layer).shape)

    def _clip_edited(self, event: Any = None) -> None:
        layer = self._watched
        if layer is None or not is_clip_layer(layer):
            return  # no clip any more: the choice of clips goes on to another
        if self._looked_like != (axes_of(layer), data_of(layer).shape):
            self._choose_clip(layer)
        else:
            self.changed.emit()

    def _pick_reference(self, index: int) -> None:
        layer, name = self.clip.value(), list(_REFERENCES)[_IN_VIEW]
        if index == _IN_VIEW and layer is not None:
            self._picked = self._in_view(layer)["T"]
            name = f"Frame {self._picked} (was in view)"
        self.reference.setItemText(_IN_VIEW, name)
        self.changed.emit()

    def _reference_value(self) -> int | str:
        named = list(_REFERENCES.values())[self.reference.currentIndex()]
        return self._picked if named is None else named

    def _one_slice(self) -> bool:
        return not self.slice_only.isHidden() and self.slice_only.isChecked()

    def _frames(self) -> dict[str, Any]:
        first, last = self.first.value(), self.last.value()
        if last < first:
            raise FlowmagError(f"frames {first} to {last}: choose a last frame after the first")
        frames: dict[str, Any] = {}
        if first > 0:
            frames["start"] = first
        if last < self.last.maximum():
            frames["stop"] = last + 1
        return frames

    def _tile(self) -> int | None:
        size = int(self.tile.value())
        return None if size == 0 else max(size, MIN_TILE)


def _edits(layer: Image) -> list[Any]:
    """Return what tells of other pixels, and of another place in the world."""
    return [getattr(layer.events, name) for name in ("data", *PLACE)]
