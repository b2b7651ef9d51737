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
from superqt import QCollapsible

from napari_flowmag._layers import axes_of, clip_of, data_of, in_view, is_clip_layer
from napari_flowmag._qt.alpha import AlphaBox
from napari_flowmag._qt.channels import ChannelBox
from napari_flowmag._qt.model_box import DeviceBox, ModelBox
from napari_flowmag._qt.region import RegionBox
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


class MagnifyForm(QWidget):
    """Everything that can be chosen for a magnification."""

    changed = Signal()
    """Something was chosen; :meth:`value` has it."""

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
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
        return Request(
            layers=layers,
            clip=clip_of(*layers),
            settings=MagnifySettings(
                alpha=self.alpha.value(),
                reference=self._reference_value(),
                device=self.device.value(),
                tile=self._tile(),
                z=in_view(self._viewer.dims.point, layers[0])["Z"] if self._one_slice() else None,
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
        form.addRow("&Factor", self.alpha)
        form.addRow("Re&gion", self.region)
        form.addRow("Re&ference", self.reference)
        form.addRow("&Model", self.model)
        more = QWidget()
        rest = QFormLayout(more)
        rest.setContentsMargins(0, 0, 0, 0)
        rest.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        rest.addRow("Frames", self.range)
        rest.addRow(self.slice_only)
        rest.addRow("&Device", self.device)
        rest.addRow("&Tile", self.tile)
        self.more = QCollapsible("Frames, device, tiles")
        self.more.addWidget(more)
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

    def _tell(self, *_: Any) -> None:
        self.changed.emit()

    def _choose_clip(self, layer: Image | None) -> None:
        axes = "" if layer is None else axes_of(layer)
        count = 1 if layer is None else data_of(layer).shape[axes.index("T")]
        for box, value in ((self.first, 0), (self.last, count - 1)):
            with QSignalBlocker(box):
                box.setRange(0, count - 1)
                box.setValue(value)
        self.slice_only.setVisible("Z" in axes)
        with QSignalBlocker(self.reference):
            self.reference.setCurrentIndex(0)
        self.channels.set_clip(layer)
        self.changed.emit()

    def _pick_reference(self, index: int) -> None:
        layer = self.clip.value()
        names = list(_REFERENCES)
        place = names.index("Frame in view")
        if index == place and layer is not None:
            self._picked = in_view(self._viewer.dims.point, layer)["T"]
            self.reference.setItemText(place, f"Frame {self._picked} (was in view)")
        else:
            self.reference.setItemText(place, names[place])
        self.changed.emit()

    def _reference_value(self) -> int | str:
        named = list(_REFERENCES.values())[self.reference.currentIndex()]
        return self._picked if named is None else named

    def _one_slice(self) -> bool:
        return self.slice_only.isVisibleTo(self) and self.slice_only.isChecked()

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
