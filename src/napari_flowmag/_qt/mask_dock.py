"""The Mask dock: draw what is to move, or click on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_flowmag._clicks import (
    frame_in_view,
    new_boxes,
    new_clicks,
    new_labels,
    preview_labels,
    prompt_of,
)
from napari_flowmag._layers import is_clip_layer, own
from napari_flowmag._preload import preload_torch
from napari_flowmag._qt.job import Handle, Job, Outcome, show_error
from napari_flowmag._qt.widgets import JobBar, LayerCombo, PathBox, Scrolled
from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    import napari
    from napari.layers import Labels, Layer, Points, Shapes
    from numpy.typing import NDArray

    from napari_flowmag.segment.sam import Prepared

_NO_WEIGHTS, _SAM = "By colour and texture", "Segment Anything"


class MaskDock(QWidget):
    """Makes Labels layers that say where motion is magnified."""

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._job: Job | None = None
        self._pending = False
        self._points: Points | None = None
        self._boxes: Shapes | None = None
        self._preview: Labels | None = None
        self._found: NDArray[np.bool_] | None = None
        self._frame: dict[str, int] = {}
        self._segmenter: Any = None
        self._segmenter_of = ""
        self._known: Prepared | None = None
        self.clip = LayerCombo(viewer, is_clip_layer)
        self.labels = LayerCombo(viewer, _is_labels, none="A new layer")
        self.labels.setToolTip("The layer that gets the mask")
        self.object = QSpinBox()
        self.object.setRange(1, 65535)
        self.object.setToolTip("Number of the object; each may have a factor of its own")
        self.grow = QSpinBox()
        self.grow.setRange(-200, 200)
        self.grow.setSuffix(" px")
        self.grow.setToolTip("Grow the mask by this much, or shrink it if negative")
        self.method = QComboBox()
        self.method.addItems([_NO_WEIGHTS, _SAM])
        self.method.setToolTip("How clicks become a mask; the first needs no download")
        self.checkpoint = PathBox("Checkpoint of Segment Anything", "Checkpoints (*.pth)")
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.bar = JobBar("bytes")
        self._make_buttons()
        self._lay_out()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(60)
        self._timer.timeout.connect(self._begin)
        self.grow.valueChanged.connect(self._show)
        self.method.currentIndexChanged.connect(self._choose_method)
        self.checkpoint.path_changed.connect(self.update_soon)
        viewer.layers.events.removed.connect(self._removed)
        self._choose_method()

    def _make_buttons(self) -> None:
        def button(text: str, tip: str, act: Any) -> QPushButton:
            made = QPushButton(text)
            made.setToolTip(tip)
            made.clicked.connect(act)
            return made

        self.paint = button("&Draw", "Paint labels with napari's own tools", self.draw)
        self.add_inside = button("Click &on it", "Each click says: this is it", self.click_inside)
        self.add_outside = button("Click &off it", "Each click says: not this", self.click_outside)
        self.add_box = button("&Box around it", "Drag a box around the object", self.box)
        self.accept_button = button("&Accept", "Write the mask into the layer", self.accept)
        self.clear_button = button("Clea&r", "Forget clicks and boxes", self.clear)
        self.fetch = button(
            "Download vit_b (375 MB)", "Fetch the smallest published checkpoint", self.download
        )

    def _lay_out(self) -> None:
        content = QWidget()
        layout = QVBoxLayout(content)
        form = QFormLayout()
        form.addRow("&Clip", self.clip)
        form.addRow("&Mask layer", self.labels)
        form.addRow("Ob&ject", self.object)
        form.addRow(self.paint)
        form.addRow("Me&thod", self.method)
        layout.addLayout(form)
        layout.addWidget(self.checkpoint)
        layout.addWidget(self.fetch)
        for row in (
            (self.add_inside, self.add_outside, self.add_box),
            (self.accept_button, self.clear_button),
        ):
            line = QHBoxLayout()
            for widget in row:
                line.addWidget(widget)
            layout.addLayout(line)
        edge = QFormLayout()
        edge.addRow("&Grow", self.grow)
        layout.addLayout(edge)
        layout.addWidget(self.status)
        layout.addWidget(self.bar)
        layout.addStretch(1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Scrolled(content))

    def draw(self) -> None:
        """Choose or make the mask layer, and take up the brush."""
        layer = self._target()
        if layer is not None:
            self._viewer.layers.selection = {layer}
            layer.selected_label = self.object.value()
            layer.mode = "paint"

    def click_inside(self) -> None:
        """Take up the tool that says what the object is."""
        self._click("#2dd36f", True)

    def click_outside(self) -> None:
        """Take up the tool that says what the object is not."""
        self._click("#eb445a", False)

    def box(self) -> None:
        """Take up the tool that draws boxes."""
        clip = self.clip.value()
        if clip is None:
            self._say("Open a clip first")
            return
        if self._boxes is None:
            self._boxes = new_boxes(clip)
            self._boxes.events.data.connect(self.update_soon)
            self._viewer.layers.append(self._boxes)
        self._viewer.layers.selection = {self._boxes}
        self._boxes.mode = "add_rectangle"

    def update_soon(self, *_: Any) -> None:
        """Look for the object again in a moment; many calls are one."""
        self._pending = True
        self._timer.start()

    def accept(self) -> None:
        """Write the mask that is shown into the mask layer, under the object's number."""
        found = self._mask()
        if found is None:
            self._say("Click on the object first")
            return
        layer = self._target()
        if layer is None:
            return
        data = np.asarray(layer.data)
        place: tuple[Any, ...] = (...,) if data.ndim == 2 else (self._frame["T"],)
        if data.ndim == 4:
            place = (self._frame["T"], self._frame.get("Z", 0))
        plane = data[place]
        inside = np.nonzero(found | (plane == self.object.value()))
        lead = tuple(np.full(len(inside[0]), p) for p in place if p is not ...)
        value = np.where(found[inside], self.object.value(), 0)
        layer.data_setitem((*lead, *inside), value)  # can be undone, as painting can
        self.object.setValue(self.object.value() + 1)
        self.clear()

    def clear(self) -> None:
        """Forget clicks, boxes and what was found."""
        self._found, self._pending = None, False
        if self._job is not None:
            self._job.cancel()
        if self._points is not None:
            self._points.data = np.zeros((0, 2))
        if self._boxes is not None:
            self._boxes.data = []
        self._timer.stop()
        self._pending = False
        self._show()

    def download(self) -> None:
        """Fetch the smallest published checkpoint of Segment Anything."""
        from napari_flowmag.segment.checkpoints import fetch_checkpoint

        job = Job(
            lambda handle: fetch_checkpoint("vit_b", progress=handle.progress, check=handle.check),
            "Download",
            self,
        )
        self.bar.watch(job)
        job.finished.connect(self._fetched)
        self.fetch.setEnabled(False)
        job.start()

    def _fetched(self, outcome: Outcome) -> None:
        self.fetch.setEnabled(True)
        if outcome.error is not None:
            show_error(outcome.error)
        elif not outcome.cancelled:
            self.checkpoint.set_value(str(outcome.value))

    def _click(self, colour: str, inside: bool) -> None:
        clip = self.clip.value()
        if clip is None:
            self._say("Open a clip first")
            return
        if self._points is None:
            self._points = new_clicks(clip)
            self._points.events.data.connect(self.update_soon)
            self._viewer.layers.append(self._points)
        self._viewer.layers.selection = {self._points}
        self._points.selected_data = set()
        self._points.feature_defaults = {"inside": inside}
        self._points.current_face_color = colour
        self._points.mode = "add"

    def _target(self) -> Labels | None:
        layer = self.labels.value()
        if layer is not None:
            return layer
        clip = self.clip.value()
        if clip is None:
            self._say("Open a clip first")
            return None
        layer = new_labels(clip)
        self._viewer.layers.append(layer)
        self.labels.set_value(layer)
        return layer

    def _begin(self) -> None:
        clip = self.clip.value()
        if self._job is not None or not self._pending or clip is None:
            return
        self._pending = False
        try:
            prompt = prompt_of(self._points, self._boxes, clip)
        except FlowmagError:
            self._found = None  # nothing is clicked any more
            self._show()
            return
        picture, key, self._frame = frame_in_view(self._viewer.dims.point, clip)
        checkpoint = self.checkpoint.value() if self.method.currentText() == _SAM else ""
        if self.method.currentText() == _SAM and not checkpoint:
            self._say("Choose a checkpoint, or download one")
            return

        def work(handle: Handle) -> NDArray[np.bool_]:
            segmenter, known = self._loaded(checkpoint)
            prepared = known.get(key, lambda: segmenter.prepare(picture(), handle.check))
            return np.asarray(segmenter.segment(prepared, prompt))

        self._say("Reading the frame…")
        self._job = Job(work, "mask", self, activity=False)
        self._job.finished.connect(self._end)
        self._job.start()

    def _loaded(self, checkpoint: str) -> tuple[Any, Prepared]:
        """Return the segmenter of a checkpoint, and what it knows; in the job's thread."""
        from napari_flowmag.segment.classical import AppearanceSegmenter
        from napari_flowmag.segment.sam import Prepared, SamSegmenter

        if self._segmenter is None or self._known is None or self._segmenter_of != checkpoint:
            if checkpoint:
                preload_torch()
            self._segmenter = SamSegmenter(checkpoint) if checkpoint else AppearanceSegmenter()
            self._segmenter_of, self._known = checkpoint, Prepared()
        return self._segmenter, self._known

    def _end(self, outcome: Outcome) -> None:
        self._job = None
        self._say("")
        if outcome.error is not None:
            show_error(outcome.error)
        elif not outcome.cancelled:
            self._found = outcome.value
            self._show()
        self._begin()

    def _mask(self) -> NDArray[np.bool_] | None:
        from napari_flowmag.segment import change_size

        return None if self._found is None else change_size(self._found, self.grow.value())

    def _show(self, *_: Any) -> None:
        found, clip = self._mask(), self.clip.value()
        self.accept_button.setEnabled(found is not None)
        if found is None or clip is None:
            if self._preview is not None and self._preview in self._viewer.layers:
                self._viewer.layers.remove(self._preview)
            return
        if self._preview is None:
            selection = set(self._viewer.layers.selection)
            self._preview = preview_labels(clip, found)
            # Below the clicks, which are to be seen and moved.
            prompts = (self._points, self._boxes)
            places = [i for i, layer in enumerate(self._viewer.layers) if layer in prompts]
            self._viewer.layers.insert(min(places, default=len(self._viewer.layers)), self._preview)
            self._viewer.layers.selection = selection
        else:
            self._preview.data = found.astype(np.uint8)
        self._say(f"{int(found.sum())} px; accept it, or correct it with more clicks")

    def _removed(self, event: Any) -> None:
        if event.value is self._preview:
            self._preview = None
        elif event.value is self._points:
            self._points = None
            self.update_soon()
        elif event.value is self._boxes:
            self._boxes = None
            self.update_soon()

    def _choose_method(self, *_: Any) -> None:
        sam = self.method.currentText() == _SAM
        self.checkpoint.setVisible(sam)
        self.fetch.setVisible(sam)
        self.accept_button.setEnabled(self._found is not None)
        self.update_soon()

    def _say(self, line: str) -> None:
        self.status.setText(line)


def _is_labels(layer: Layer) -> bool:
    return type(layer).__name__ == "Labels" and own(layer).get("role") != "preview"
