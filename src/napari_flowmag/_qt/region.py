"""Where to magnify: everywhere, or in the labels of a layer, each with a magnification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSignalBlocker, QTimer, Signal
from qtpy.QtGui import QColor, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFormLayout,
    QGridLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from napari_flowmag._labels import labels_in
from napari_flowmag._layers import data_of, own
from napari_flowmag._qt.job import Job, Outcome, show_error
from napari_flowmag._qt.widgets import LayerCombo

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer

_MOST_ROWS = 12
_MOST_PIXELS = 2**24
"""As many are looked at without a thread."""


class RegionBox(QWidget):
    """A Labels layer or the whole frame, the magnification of each label, and its edge."""

    changed = Signal()

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._main_alpha = 1.0
        self._rows: dict[int, QDoubleSpinBox] = {}
        self._found: list[int] = []
        self._point, self._sliding = viewer.dims.point, False
        viewer.dims.events.point.connect(self._slid)
        self._watched: Labels | None = None
        self._job: Job | None = None
        self.labels = LayerCombo(viewer, _is_region, none="Whole frame")
        self.labels.setToolTip("Where motion is magnified: everywhere, or where a layer has labels")
        self.soft = _px_box("The region grows by this much, to take the edge of the object along")
        self.feather = _px_box("Over this much beyond the region the magnification fades out")
        self.still = QCheckBox("Hold the surroundings still")
        self.still.setToolTip("Outside the region show the reference frame, without any motion")
        self._table = QGridLayout()
        self._table.setContentsMargins(0, 0, 0, 0)
        self._details = QWidget()
        form = QFormLayout(self._details)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow(self._table)
        form.addRow("Grow", self.soft)
        form.addRow("Soft edge", self.feather)
        form.addRow(self.still)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.labels)
        layout.addWidget(self._details)
        # Painting changes labels many times a second; the table need not keep up with it.
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(200)
        self._later.timeout.connect(self._look)
        self.labels.layer_changed.connect(self._choose)
        for box in (self.soft, self.feather):
            box.valueChanged.connect(self.changed)
        self.still.toggled.connect(self.changed)
        self._choose(self.labels.value())

    def value(self) -> Labels | None:
        """Return the chosen Labels layer; None for the whole frame."""
        return self.labels.value()

    def settings(self) -> dict[str, Any]:
        """Return what the region contributes to the settings of a magnification."""
        if self.value() is None:
            return {}
        alphas = {label: box.value() for label, box in self._rows.items()}
        own_alphas = any(alpha != self._main_alpha for alpha in alphas.values())
        return {
            "soft": self.soft.value(),
            "feather": self.feather.value(),
            "outside": 0.0 if self.still.isChecked() else 1.0,
            "label_alphas": tuple(alphas.items()) if own_alphas else (),
        }

    def set_main_alpha(self, alpha: float) -> None:
        """Tell which magnification labels have that the user has not given one of their own."""
        for box in self._rows.values():
            if box.value() == self._main_alpha:
                with QSignalBlocker(box):
                    box.setValue(alpha)
        self._main_alpha = alpha

    def set_alpha(self, label: int, alpha: float) -> None:
        """Give a label a magnification of its own."""
        self._rows[label].setValue(alpha)

    def _choose(self, layer: Labels | None) -> None:
        if self._watched is not None:
            for event in _edits(self._watched):
                event.disconnect(self._edited)
        if layer is not self._watched:
            self._fill(None, [])  # factors belong to the labels of one layer
        self._watched = layer
        if layer is not None:
            for event in _edits(layer):
                event.connect(self._edited)
        self._details.setVisible(layer is not None)
        self._look()

    def _slid(self, event: Any = None) -> None:
        self._point, self._sliding = self._viewer.dims.point, True
        QTimer.singleShot(0, self._stand)  # once all layers have drawn what is in view now

    def _stand(self) -> None:
        self._sliding = False

    def _edited(self, event: Any) -> None:
        # The layer may come to draw itself anew before this is told that a slider has moved.
        moved = self._sliding or self._viewer.dims.point != self._point
        if not (moved and event.type == "set_data"):  # a slider has moved, and nothing else
            self._later.start()

    def _look(self) -> None:
        """Give each label that is there a row, and tell that the region may have changed."""
        layer = self._watched
        if self._job is not None:
            self._job.cancel()
            self._job = None
        data = None if layer is None else data_of(layer)
        if isinstance(data, np.ndarray) and data.size <= _MOST_PIXELS:
            self._fill(layer, labels_in(data))
        elif data is not None:
            job = Job(lambda handle: labels_in(data, handle.check), "labels", self, activity=False)
            job.finished.connect(lambda outcome: self._looked(job, outcome))
            self._job = job
            job.start()
        self.changed.emit()

    def _looked(self, job: Job, outcome: Outcome) -> None:
        if job is not self._job:
            return  # another look has begun since
        self._job = None
        if outcome.error is not None:
            show_error(outcome.error)
        elif not outcome.cancelled:
            self._fill(self._watched, outcome.value)
            self.changed.emit()

    def _fill(self, layer: Labels | None, found: list[int]) -> None:
        if found == self._found:
            return
        self._found = found
        before = {label: box.value() for label, box in self._rows.items()}
        while (item := self._table.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.deleteLater()
        self._rows = {}
        if layer is None:
            return
        for row, label in enumerate(found[:_MOST_ROWS]):
            swatch = QLabel()
            swatch.setPixmap(_swatch(layer, label))
            box = QDoubleSpinBox()
            box.setRange(0, 100_000)
            box.setPrefix("×")
            box.setKeyboardTracking(False)
            box.setValue(before.get(label, self._main_alpha))
            box.setToolTip(f"Magnification where the label is {label}")
            box.valueChanged.connect(self.changed)
            self._rows[label] = box
            self._table.addWidget(swatch, row, 0)
            self._table.addWidget(QLabel(f"Label {label}"), row, 1)
            self._table.addWidget(box, row, 2)
        more = len(found) - _MOST_ROWS
        if more > 0:
            rest = QLabel(f"and {more} more, with the main factor")
            rest.setToolTip("Labels that have no row magnify by the factor of the whole region")
            self._table.addWidget(rest, _MOST_ROWS, 0, 1, 3)
        self._table.setColumnStretch(1, 1)


def _is_region(layer: Layer) -> bool:
    return type(layer).__name__ == "Labels" and own(layer).get("role") != "preview"


def _edits(layer: Labels) -> tuple[Any, ...]:
    return layer.events.data, layer.events.labels_update, layer.events.paint, layer.events.set_data


def _swatch(layer: Labels, label: int) -> QPixmap:
    pixmap = QPixmap(12, 12)
    colour = layer.get_color(label)
    pixmap.fill(QColor.fromRgbF(*(float(c) for c in colour[:3])))
    return pixmap


def _px_box(tip: str) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(0, 500)
    box.setDecimals(0)
    box.setSuffix(" px")
    box.setKeyboardTracking(False)
    box.setToolTip(tip)
    return box
