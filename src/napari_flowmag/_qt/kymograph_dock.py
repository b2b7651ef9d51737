"""The Kymograph dock: what lies along a line over time, in the clip and its magnified version."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_flowmag._layers import PLACE, axes_of, data_of, in_view, is_clip_layer, unit_factors
from napari_flowmag._lines import line_on, new_lines, set_ends
from napari_flowmag._origin import is_made_of
from napari_flowmag._qt.job import Job, Outcome, show_error
from napari_flowmag._qt.kymograph_output import KymographOutput
from napari_flowmag._qt.kymograph_view import KymographView
from napari_flowmag._qt.scrolled import Scrolled, was_closed
from napari_flowmag._qt.widgets import LayerCombo, Line
from napari_flowmag._tracks import Sampling, lay_line, sample_layers
from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Layer, Shapes

    from napari_flowmag.kymograph_files import Kymograph

_EDITS = ("data", *PLACE, "name")
"""Events of a layer after which a kymograph is another one; names are in the titles."""
_PATIENCE = 0.2  # s


class KymographDock(QWidget):
    """Follows a line in a Shapes layer, and shows what lies along it over time."""

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._job: Job | None = None
        self._pending = False
        self._closed = False
        self._followed: list[Any] = []
        self._slices: list[dict[str, int]] = []
        self.clip = LayerCombo(viewer, is_clip_layer)
        self.other = LayerCombo(viewer, is_clip_layer, none="None")
        self.lines = LayerCombo(viewer, _is_shapes, none="Draw or type a line")
        self.view = KymographView()
        self.output = KymographOutput()
        self.output.missing.connect(self._miss)
        self.problem = Line()
        self._make_boxes()
        self._lay_out()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(30)
        self._timer.timeout.connect(self._begin)
        self.clip.layer_changed.connect(self._choose_clip)
        self.other.layer_changed.connect(self._follow)
        self.lines.layer_changed.connect(self._follow)
        self.width_box.valueChanged.connect(self.update_soon)
        self.view.picked.connect(self._go_to)
        viewer.dims.events.point.connect(self._moved)
        viewer.events.theme.connect(self._theme)
        viewer.layers.events.inserted.connect(self._inserted)
        self._theme()
        self._choose_clip(self.clip.value())

    def _make_boxes(self) -> None:
        self.ends = [QDoubleSpinBox() for _ in range(4)]
        for box, name in zip(self.ends, ("x0", "y0", "x1", "y1"), strict=True):
            box.setRange(0, 100_000)
            box.setDecimals(1)
            box.setPrefix(f"{name} ")
            box.setKeyboardTracking(False)
            box.setToolTip(f"{name} of the line, px of the clip")
            box.valueChanged.connect(self._typed)
        self.width_box = QSpinBox()
        self.width_box.setRange(1, 200)
        self.width_box.setSuffix(" px")
        self.width_box.setToolTip("Average across the line over this much")
        self.draw = QPushButton("Draw a l&ine")
        self.draw.setToolTip("Make a layer for lines, and take up the tool that draws them")
        self.draw.clicked.connect(self.draw_line)

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.addRow("Clip", self.clip)
        form.addRow("Be&side it", self.other)
        form.addRow("Line", self.lines)
        row = QHBoxLayout()
        row.addWidget(self.draw)
        row.addWidget(QLabel("Width"))
        row.addWidget(self.width_box)
        for pair in (self.ends[:2], self.ends[2:]):
            boxes = QHBoxLayout()
            for box in pair:
                boxes.addWidget(box)
            form.addRow("From" if pair[0] is self.ends[0] else "To", boxes)
        form.addRow(row)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.addLayout(form)
        layout.addWidget(self.problem)
        layout.addWidget(self.view, 1)
        layout.addWidget(self.output)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Scrolled(content))

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802 - Qt's name
        """Leave nothing at work when napari closes the dock."""
        super().changeEvent(event)
        if was_closed(self, event):
            self._closed, self._pending = True, False
            self._timer.stop()
            if self._job is not None:
                self._job.cancel()

    @property
    def kymograph(self) -> Kymograph | None:
        """What is on view, None if there is none."""
        return self.output.kymograph

    def draw_line(self) -> None:
        """Make a layer for lines on the clip, and take up napari's tool for them."""
        clip = self.clip.value()
        if clip is None:
            self._say("open a clip first")
            return
        layer = self._line_layer(clip)
        self._viewer.layers.selection = {layer}
        layer.mode = "add_line"

    def _line_layer(self, clip: Image) -> Shapes:
        layer = self.lines.value()
        if layer is None:
            layer = new_lines(clip)
            self._viewer.layers.append(layer)
            self.lines.set_value(layer)
        return layer

    def update_soon(self, *_: Any) -> None:
        """Sample again in a moment; many calls are one."""
        if self._closed:
            return
        self._pending = True
        self._show_state()
        if not self._timer.isActive():
            self._timer.start()

    def sampling(self) -> Sampling | None:
        """Return what is to be sampled, None if no line is there yet."""
        layers, shapes = self._layers(), self.lines.value()
        if not layers or shapes is None or not len(shapes.data):
            return None
        line = line_on(shapes, layers[0])
        return lay_line(layers, line, self.width_box.value(), self._views())

    def _layers(self) -> list[Image]:
        """Return the clip, and the one beside it."""
        clip, other = self.clip.value(), self.other.value()
        beside = [other] if other is not None and other is not clip else []
        return [] if clip is None else [clip, *beside]

    def _views(self) -> list[dict[str, int]]:
        dims = self._viewer.dims
        return [in_view(dims.point, layer, dims.units) for layer in self._layers()]

    def _begin(self) -> None:
        if not self._pending:
            return
        if self._job is not None:
            # One that is nearly there is waited for: something is to be seen while a line is drawn.
            if time.monotonic() - self._job.started_at > _PATIENCE:
                self._job.cancel()
            else:
                self._timer.start()
            return
        self._pending = False
        self._sample()
        self._show_state()

    def _sample(self) -> None:
        try:
            self._slices = self._slices_in_view()
            sampling = self.sampling()
        except FlowmagError as error:
            self._show_none(str(error))
            return
        if sampling is None:
            self._show_none()
            return
        self._show_ends(sampling.line)
        self._job = Job(
            lambda handle: sample_layers(sampling, handle.check), "kymograph", self, activity=False
        )
        self._job.finished.connect(self._end)
        self._job.start()

    def _end(self, outcome: Outcome) -> None:
        self._job = None
        if isinstance(outcome.error, FlowmagError):
            self._show_none(str(outcome.error))  # a line dragged out of the picture is no accident
        elif outcome.error is not None:
            self._show_none()
            show_error(outcome.error)
        elif not outcome.cancelled:
            self._say("")
            self.output.kymograph = outcome.value
            self.view.show_kymograph(outcome.value)
            self._moved()
        self._begin()
        self._show_state()

    def _show_state(self) -> None:
        self.output.set_busy(self._pending or self._job is not None)

    def _show_none(self, reason: str = "") -> None:
        """Show no kymograph, and have none to export, rather than one of another line or clip."""
        self._say(reason)
        self.output.kymograph = None
        self.view.clear()

    def _say(self, line: str) -> None:
        self.problem.say(line)
        self.problem.setVisible(bool(line))

    def _choose_clip(self, layer: Layer | None) -> None:
        if layer is not None:
            others = [
                other
                for other in self._viewer.layers
                if is_clip_layer(other) and (is_made_of(layer, other) or is_made_of(other, layer))
            ]
            if others:
                self.other.set_value(others[-1])
        self._follow()

    def _inserted(self, event: Any) -> None:
        clip = self.clip.value()
        if clip is not None and is_clip_layer(event.value) and is_made_of(event.value, clip):
            self.other.set_value(event.value)

    def _follow(self, *_: Any) -> None:
        """Sample again whenever one of the layers chosen changes, and now."""
        for event in self._followed:
            event.disconnect(self.update_soon)
        clip, other, lines = self.clip.value(), self.other.value(), self.lines.value()
        layers = {id(layer): layer for layer in (clip, other, lines) if layer is not None}
        self._followed = [
            getattr(layer.events, name) for layer in layers.values() for name in _EDITS
        ]
        if lines is not None:  # of an image, set_data comes with each step of a slider
            self._followed += [lines.events.set_data, lines.selected_data.events.items_changed]
        for event in self._followed:
            event.connect(self.update_soon)
        self.update_soon()

    def _show_ends(self, line: list[tuple[float, float]]) -> None:
        (y0, x0), (y1, x1) = line[0], line[-1]
        for box, value in zip(self.ends, (x0, y0, x1, y1), strict=True):
            box.blockSignals(True)
            box.setValue(value)
            box.blockSignals(False)

    def _typed(self, value: float) -> None:
        clip = self.clip.value()
        x0, y0, x1, y1 = (box.value() for box in self.ends)
        if clip is None or (x0, y0) == (x1, y1):
            return
        try:
            set_ends(self._line_layer(clip), clip, [(y0, x0), (y1, x1)])
        except FlowmagError as error:
            self._say(str(error))

    def _moved(self, event: Any = None) -> None:
        try:
            if self._slices_in_view() != self._slices:
                self.update_soon()
            self._mark_time()
        except FlowmagError:  # a layer is no clip any more, which is told where it is sampled
            self.update_soon()

    def _slices_in_view(self) -> list[dict[str, int]]:
        return [{a: i for a, i in view.items() if a != "T"} for view in self._views()]

    def _mark_time(self) -> None:
        made, views = self.kymograph, self._views()
        if made is not None and views:
            self.view.set_time((made.start + views[0]["T"]) / (made.fps or 1.0))

    def _go_to(self, time: float) -> None:
        clip = self.clip.value()
        if clip is None or self.kymograph is None:
            return
        place = np.zeros(len(axes_of(clip).rstrip("S")))
        axis = axes_of(clip).index("T")
        count = data_of(clip).shape[axis]
        frame = round(time * (self.kymograph.fps or 1.0) - self.kymograph.start)
        place[axis] = np.clip(frame, 0, count - 1)
        dims = self._viewer.dims
        shift = dims.ndim - len(place)
        point = clip.data_to_world(place)[axis]
        if dims.units is not None:  # those of the smallest layer, not always the clip's
            point *= unit_factors([clip.units[axis]], [dims.units[axis + shift]])[0]
        dims.set_point(axis + shift, point)

    def _theme(self, event: Any = None) -> None:
        from napari.utils.theme import get_theme

        background = get_theme(self._viewer.theme).background
        self.view.set_dark(sum(background.as_rgb_tuple()[:3]) < 384)

    def _miss(self) -> None:
        if self.problem.isHidden():
            self._say("draw a line first")


def _is_shapes(layer: Layer) -> bool:
    return type(layer).__name__ == "Shapes"
