"""The Mask dock: draw what is to move, or click on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
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
from napari_flowmag._finder import Finder
from napari_flowmag._labels import check_takes, mask_on
from napari_flowmag._layers import PLACE, is_clip_layer, lay_over, own
from napari_flowmag._qt.checkpoint_box import CheckpointBox
from napari_flowmag._qt.job import Handle, Job, Outcome, show_error
from napari_flowmag._qt.scrolled import Scrolled, was_closed
from napari_flowmag._qt.widgets import LayerCombo, Line
from napari_flowmag.errors import FlowmagError
from napari_flowmag.segment import Outline

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Labels, Layer, Points, Shapes
    from numpy.typing import NDArray

_NO_WEIGHTS, _SAM = "By colour and texture", "Segment Anything"


@dataclass(frozen=True, eq=False)
class _Found:
    """An object, and the frame of the clip in which it was found."""

    outline: Outline
    clip: Image
    frame: dict[str, int]


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
        self._found: _Found | None = None
        self._search = 0  # which one it is: what an older one finds is not wanted any more
        self._finder = Finder()
        self._followed: list[tuple[Any, Any]] = []
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
        self.checkpoint = CheckpointBox()
        self.status = Line()
        self._make_buttons()
        self._lay_out()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(60)
        self._timer.timeout.connect(self._begin)
        self.clip.layer_changed.connect(self._choose_clip)
        self.grow.valueChanged.connect(self._show)
        self.method.currentIndexChanged.connect(self._choose_method)
        self.checkpoint.path_changed.connect(self.update_soon)
        viewer.layers.events.removed.connect(self._removed)
        self._choose_clip(self.clip.value())
        self._choose_method()

    def _make_buttons(self) -> None:
        def button(text: str, tip: str, act: Any) -> QPushButton:
            made = QPushButton(text)
            made.setToolTip(tip)
            made.clicked.connect(act)
            return made

        self.paint = button("&Draw", "Paint labels with napari's own tools", self.draw)
        self.add_inside = button("Clic&k on it", "Each click says: this is it", self.click_inside)
        self.add_outside = button("Click off it", "Each click says: not this", self.click_outside)
        self.add_box = button("&Box around it", "Drag a box around the object", self.box)
        self.accept_button = button("&Accept", "Write the mask into the layer", self.accept)
        self.clear_button = button("Clear", "Forget clicks and boxes", self.clear)

    def _lay_out(self) -> None:
        content = QWidget()
        layout = QVBoxLayout(content)
        form = QFormLayout()
        form.addRow("Clip", self.clip)
        form.addRow("Mask la&yer", self.labels)
        form.addRow("Ob&ject", self.object)
        form.addRow(self.paint)
        form.addRow("Method", self.method)
        layout.addLayout(form)
        layout.addWidget(self.checkpoint)
        for row in (
            (self.add_inside, self.add_outside, self.add_box),
            (self.accept_button, self.clear_button),
        ):
            line = QHBoxLayout()
            for widget in row:
                line.addWidget(widget)
            layout.addLayout(line)
        edge = QFormLayout()
        edge.addRow("Grow", self.grow)
        layout.addLayout(edge)
        layout.addWidget(self.status)
        layout.addStretch(1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Scrolled(content))

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802 - Qt's name
        """Leave no clicks and no preview behind in the viewer when napari closes the dock."""
        super().changeEvent(event)
        if was_closed(self, event):
            self._begin_anew()

    def draw(self) -> None:
        """Choose or make the mask layer, and take up the brush."""
        clip = self.clip.value()
        if clip is None:
            self._say("Open a clip first")
            return
        layer, number = self._target(clip), self.object.value()
        try:
            check_takes(layer, number)
        except FlowmagError as error:
            self._say(str(error))
            return
        self._say("")
        self._viewer.layers.selection = {layer}
        layer.selected_label = number
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
        self._enable_accept()

    def accept(self) -> None:
        """Write the mask that is shown into the mask layer, under the object's number."""
        found, mask = self._found, self._mask()
        if found is None or mask is None:
            self._say("Click on the object first")
            return
        if self._looking:
            self._say("Still looking for the object")
            return
        layer, number = self._target(found.clip), self.object.value()
        try:
            check_takes(layer, number)
            place, inside = mask_on(layer, found.clip, mask, found.frame)
        except FlowmagError as error:
            self._say(str(error))
            return
        changed = np.nonzero(inside | (np.asarray(layer.data[place]) == number))
        lead = tuple(np.full(len(changed[0]), p) for p in place)
        value = np.where(inside[changed], number, 0)
        layer.data_setitem((*lead, *changed), value)  # can be undone, as painting can
        self.object.setValue(number + 1)
        self.clear()

    def clear(self) -> None:
        """Forget clicks, boxes and what was found."""
        self._found = None
        self._search += 1
        if self._job is not None:
            self._job.cancel()
        if self._points is not None:
            self._points.data = np.zeros((0, 2))
        if self._boxes is not None:
            self._boxes.data = []
        self._timer.stop()
        self._pending = False
        self._show()

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

    def _target(self, clip: Image) -> Labels:
        """Return the layer that gets the mask of a clip, made now if there is none."""
        layer: Labels | None = self.labels.value()
        if layer is None:
            layer = new_labels(clip)
            self._viewer.layers.append(layer)
            self.labels.set_value(layer)
        return layer

    def _choose_clip(self, clip: Image | None) -> None:
        """Begin anew on another clip, and follow its pixels and where it lies."""
        for event, act in self._followed:
            event.disconnect(act)
        self._followed = []
        if clip is not None:
            for name in ("data", *PLACE):
                act = self._forget if name in ("data", "axis_labels") else self._lay_over
                event = getattr(clip.events, name)
                event.connect(act)
                self._followed.append((event, act))
        self._begin_anew()

    def _forget(self, *_: Any) -> None:
        """Forget what was said and found on other pixels.

        The layers for that stay: software OpenGL ends napari when such a layer is made once more.
        """
        self._finder.forget()
        self.clear()

    def _lay_over(self, event: Any) -> None:
        for layer in (self._points, self._boxes, self._preview):
            if layer is not None:
                lay_over(layer, event.source)

    def _begin_anew(self, *_: Any) -> None:
        """Forget what was said and found on a clip, with the layers that lie on that."""
        self._forget()
        left = [layer for layer in (self._points, self._boxes) if layer is not None]
        self._points = self._boxes = None
        self._take_out(left)

    def _take_out(self, layers: list[Any]) -> None:
        """Remove layers in a moment: napari may be about to remove them itself."""

        def remove() -> None:
            for layer in layers:
                if layer in self._viewer.layers:
                    self._viewer.layers.remove(layer)

        QTimer.singleShot(0, remove)

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
        checkpoint = self.checkpoint.value() if self.method.currentText() == _SAM else ""
        if self.method.currentText() == _SAM and not checkpoint:
            self._enable_accept()
            self._say("Choose a checkpoint, or download one")
            return
        dims = self._viewer.dims
        picture, key, frame = frame_in_view(dims.point, clip, dims.units)

        def work(handle: Handle) -> _Found:
            mask = self._finder.find(checkpoint, picture, key, prompt, handle.check)
            return _Found(Outline(mask), clip, frame)

        self._say("Reading the frame…")
        search = self._search
        self._job = Job(work, "mask", self, activity=False)
        self._job.finished.connect(lambda outcome: self._end(search, outcome))
        self._job.start()
        self._enable_accept()

    def _end(self, search: int, outcome: Outcome) -> None:
        self._job = None
        self._say("")
        if search == self._search and not outcome.cancelled:
            if outcome.error is not None:
                show_error(outcome.error)
            else:
                self._found = outcome.value
        self._show()
        self._begin()

    @property
    def _looking(self) -> bool:
        """Whether what is shown is about to be replaced."""
        return self._pending or self._job is not None

    def _enable_accept(self) -> None:
        self.accept_button.setEnabled(self._found is not None and not self._looking)

    def _mask(self) -> NDArray[np.bool_] | None:
        return None if self._found is None else self._found.outline.moved(self.grow.value())

    def _show(self, *_: Any) -> None:
        found, mask = self._found, self._mask()
        self._enable_accept()
        if found is None or mask is None:
            if self._preview is not None:
                self._take_out([self._preview])
            self._preview = None
            self._say("")
            return
        if self._preview is None:
            self._add_preview(preview_labels(found.clip, mask))
        else:
            self._preview.data = mask.astype(np.uint8)
        self._say(f"{int(mask.sum())} px; accept it, or correct it with more clicks")

    def _add_preview(self, layer: Labels) -> None:
        self._preview = layer
        selection = set(self._viewer.layers.selection)
        # Below the clicks, which are to be seen and moved.
        prompts = (self._points, self._boxes)
        places = [i for i, other in enumerate(self._viewer.layers) if other in prompts]
        self._viewer.layers.insert(min(places, default=len(self._viewer.layers)), layer)
        self._viewer.layers.selection = selection

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
        self.update_soon()

    def _say(self, line: str) -> None:
        self.status.say(line)


def _is_labels(layer: Layer) -> bool:
    return type(layer).__name__ == "Labels" and own(layer).get("role") != "preview"
