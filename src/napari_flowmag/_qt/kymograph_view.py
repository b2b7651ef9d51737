"""Two kymographs beside each other, drawn with axes, zoomed and moved together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QRectF, QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget
from superqt import QDoubleRangeSlider, QElidingLabel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_flowmag.kymograph_files import Kymograph

_DARK, _LIGHT = ("#262930", "#d0d2d6"), ("#ffffff", "#3b3a39")


class KymographView(QWidget):
    """Draws a kymograph: time to the right, position along the line downwards."""

    picked = Signal(float)
    """A time was clicked, in the units of the time axis."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        import pyqtgraph

        pyqtgraph.setConfigOptions(imageAxisOrder="row-major")
        self._graphics = pyqtgraph.GraphicsLayoutWidget()
        self._graphics.setMinimumSize(400, 160)
        # Not the plots' own titles: as wide as a long name, these push the next plot out of view.
        self._titles: list[QElidingLabel] = []
        self._heading = QHBoxLayout()
        self._plots: list[Any] = []
        self._images: list[Any] = []
        self._markers: list[Any] = []
        self._kymograph: Kymograph | None = None
        self._levels: tuple[float, float] | None = None
        self._colours = _DARK
        self.readout = QLabel(" ")
        self.readout.setToolTip("Time, position and value under the pointer")
        self.contrast = _contrast_slider()
        self.contrast.valueChanged.connect(self.set_levels)
        self.auto = QPushButton("Auto contrast")
        self.auto.setToolTip("Choose the contrast of both pictures anew")
        self.auto.clicked.connect(self._auto_contrast)
        row = QHBoxLayout()
        row.addWidget(self.readout, 1)
        row.addWidget(self.contrast, 1)
        row.addWidget(self.auto)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._heading)
        layout.addWidget(self._graphics, 1)
        layout.addLayout(row)
        self._graphics.scene().sigMouseMoved.connect(self._hover)
        self._graphics.scene().sigMouseClicked.connect(self._click)

    def show_kymograph(self, kymograph: Kymograph) -> None:
        """Draw; the zoom and the contrast stay as they are where sizes and units do."""
        before = self._kymograph
        self._kymograph = kymograph
        if before is None or list(before.slices) != list(kymograph.slices):
            self._rebuild(kymograph)
        self._label_axes(kymograph)
        self._set_visible(True)
        self._widen_contrast()
        if self._levels is None:
            self._auto_contrast()
        rectangle = _rectangle(kymograph)
        for image, values in zip(self._images, kymograph.slices.values(), strict=True):
            image.setImage(np.ascontiguousarray(values.T), levels=self._levels, autoLevels=False)
            image.setRect(rectangle)
        if before is None or not _alike(before, kymograph):
            self._plots[0].setRange(rectangle, padding=0)

    def clear(self) -> None:
        """Show nothing; zoom and contrast are kept for when the same comes back."""
        self._set_visible(False)
        self.readout.setText(" ")

    def _set_visible(self, visible: bool) -> None:
        for part in (*self._plots, *self._titles):
            part.setVisible(visible)

    def set_time(self, time: float) -> None:
        """Mark a time, in the units of the time axis."""
        for marker in self._markers:
            marker.setValue(time)

    def set_dark(self, dark: bool) -> None:
        """Take the colours of a dark or a light theme."""
        self._colours = _DARK if dark else _LIGHT
        self._graphics.setBackground(self._colours[0])
        for plot in self._plots:
            self._colour(plot)

    def _rebuild(self, kymograph: Kymograph) -> None:
        import pyqtgraph

        self._graphics.clear()
        for title in self._titles:
            self._heading.removeWidget(title)
            title.deleteLater()
        self._titles = [_title(text) for text in kymograph.slices]
        self._plots, self._images, self._markers, self._levels = [], [], [], None
        for column, title in enumerate(self._titles):
            self._heading.addWidget(title, 1)
            plot = self._graphics.addPlot(row=0, col=column)
            plot.setPreferredWidth(300)  # alike for all, so that each comes to lie below its title
            plot.invertY(True)
            if column > 0:
                plot.setXLink(self._plots[0])
                plot.setYLink(self._plots[0])
            for name in ("left", "bottom"):
                plot.getAxis(name).enableAutoSIPrefix(False)
            image = pyqtgraph.ImageItem()
            marker = pyqtgraph.InfiniteLine(angle=90, pen=pyqtgraph.mkPen("#ffb000", width=1))
            plot.addItem(image)
            plot.addItem(marker)
            self._colour(plot)
            self._plots.append(plot)
            self._images.append(image)
            self._markers.append(marker)

    def _label_axes(self, kymograph: Kymograph) -> None:
        labels = {"bottom": "time (s)" if kymograph.fps else "frame"}
        labels["left"] = f"position ({kymograph.unit})"
        for index, plot in enumerate(self._plots):
            for side in ("bottom", "left") if index == 0 else ("bottom",):
                if plot.getAxis(side).labelText != labels[side]:
                    plot.setLabel(side, labels[side])

    def _colour(self, plot: Any) -> None:
        ink = self._colours[1]
        for name in ("left", "bottom"):
            plot.getAxis(name).setPen(ink)
            plot.getAxis(name).setTextPen(ink)

    def _auto_contrast(self) -> None:
        if self._kymograph is None:
            return
        low, high = (float(v) for v in np.percentile(_values(self._kymograph), (0.5, 99.5)))
        high = high if high > low else low + 1
        self.contrast.setValue((low, high))
        self.set_levels((low, high))

    def _widen_contrast(self) -> None:
        """Let the slider reach all values that are shown, and those that are drawn black and white.

        What it is set to stays, though Qt would bring it inside a new range.
        """
        if self._kymograph is None:
            return
        values = _values(self._kymograph)
        low, high = float(values.min()), float(values.max())
        with QSignalBlocker(self.contrast):
            levels = self._levels or (low, high)
            self.contrast.setRange(min(low, levels[0]), max(high, levels[1], low + 1e-6))
            self.contrast.setValue(levels)

    def set_levels(self, levels: tuple[float, float]) -> None:
        """Draw these values black and white, in both pictures."""
        self._levels = (float(levels[0]), float(levels[1]))
        for image in self._images:
            image.setLevels(self._levels)

    def _place(self, position: Any) -> tuple[int, float, float] | None:
        for index, plot in enumerate(self._plots):
            if plot.isVisible() and plot.vb.sceneBoundingRect().contains(position):
                point = plot.vb.mapSceneToView(position)
                return index, point.x(), point.y()
        return None

    def _hover(self, position: Any) -> None:
        place, kymograph = self._place(position), self._kymograph
        if place is None or kymograph is None:
            return
        index, time, distance = place
        values = list(kymograph.slices.values())[index]
        row = round(time * (kymograph.fps or 1) - kymograph.start)
        column = round(distance / kymograph.distance)
        if 0 <= row < len(values) and 0 <= column < values.shape[1]:
            unit = "s" if kymograph.fps else "frames"
            self.readout.setText(
                f"{time:.4g} {unit}, {distance:.4g} {kymograph.unit}: {values[row, column]:.5g}"
            )

    def _click(self, event: Any) -> None:
        if event.button() != Qt.MouseButton.LeftButton:
            return  # another opens pyqtgraph's menu
        place = self._place(event.scenePos())
        if place is not None:
            self.picked.emit(place[1])


def _values(kymograph: Kymograph) -> NDArray[Any]:
    """Return the numbers that a kymograph shows; 0 where it has none."""
    values = np.concatenate([values.ravel() for values in kymograph.slices.values()])
    finite = values[np.isfinite(values)]
    return finite if len(finite) else np.zeros(1)


def _rectangle(kymograph: Kymograph) -> QRectF:
    """Where a kymograph is drawn: a sample's own place is the middle of what shows it."""
    times, positions = kymograph.times(), kymograph.positions()
    step, distance = 1 / (kymograph.fps or 1.0), kymograph.distance
    return QRectF(times[0] - step / 2, -distance / 2, step * len(times), positions[-1] + distance)


def _alike(before: Kymograph, now: Kymograph) -> bool:
    """Whether two kymographs are as long in time and, but for a sample, in space."""
    shapes = [[values.shape for values in made.slices.values()] for made in (before, now)]
    axes = [(made.fps, made.start, made.unit) for made in (before, now)]
    longer = abs(now.distance - before.distance) * shapes[1][0][1]
    return shapes[0] == shapes[1] and axes[0] == axes[1] and longer <= now.distance


def _title(text: str) -> QElidingLabel:
    """Return a title that needs no width of its own, and leaves the two ends of a long name."""
    label = QElidingLabel(text)
    label.setElideMode(Qt.TextElideMode.ElideMiddle)
    label.setAlignment(Qt.AlignmentFlag.AlignCenter)
    policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    policy.setRetainSizeWhenHidden(True)  # the plots below shall not jump
    label.setSizePolicy(policy)
    label.setToolTip(text)
    return label


def _contrast_slider() -> QDoubleRangeSlider:
    slider = QDoubleRangeSlider(Qt.Orientation.Horizontal)
    slider.setToolTip("Contrast: what is drawn black and white, in both pictures")
    slider.setMinimumWidth(120)
    return slider
