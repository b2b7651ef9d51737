"""Small widgets that several docks share."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from qtpy.QtGui import QPaintEvent

    from napari_flowmag._qt.job import Job, Outcome


class ElidedCombo(QComboBox):
    """A choice among names, of which a long one does not make the dock wide."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        view = self.view()
        if view is not None:  # names often differ at their ends only
            view.setTextElideMode(Qt.TextElideMode.ElideMiddle)

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw as Qt does, but leave out the middle of a name that is too long, not its end."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        option.currentText = self._elided(option)
        painter = QStylePainter(self)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def _elided(self, option: QStyleOptionComboBox) -> str:
        style, part = self.style(), QStyle.SubControl.SC_ComboBoxEditField
        if style is None:
            return str(option.currentText)
        room = style.subControlRect(QStyle.ComplexControl.CC_ComboBox, option, part, self)
        middle = Qt.TextElideMode.ElideMiddle
        return str(self.fontMetrics().elidedText(option.currentText, middle, room.width()))


class LayerCombo(ElidedCombo):
    """A choice among the layers of a viewer, which follows them as they come, go and change.

    Parameters
    ----------
    viewer
        Whose layers.
    accept : callable
        Whether a layer may be chosen.
    none : str, optional
        Text of a first entry that stands for no layer; without it there is no such entry.
    parent : QWidget, optional
        Owner.
    """

    layer_changed = Signal(object)
    """The layer chosen now, or None."""

    def __init__(
        self,
        viewer: ViewerModel,
        accept: Callable[[Layer], bool],
        none: str | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._accept, self._none = viewer, accept, none
        self._layers: list[Layer | None] = []
        self._last: Layer | None = None
        self.currentIndexChanged.connect(self._tell)
        for event in (
            viewer.layers.events.inserted,
            viewer.layers.events.removed,
            viewer.layers.events.reordered,
        ):
            event.connect(self._fill)
        viewer.layers.events.inserted.connect(self._inserted)
        for layer in viewer.layers:
            self._watch(layer)
        self._fill()

    def value(self) -> Layer | None:
        """Return the layer chosen, None if there is none."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def set_value(self, layer: Layer | None) -> None:
        """Choose a layer; one that is not among the choices is passed over."""
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))

    def _inserted(self, event: Any) -> None:
        self._watch(event.value)

    def _watch(self, layer: Layer) -> None:
        for event in (layer.events.name, layer.events.axis_labels, layer.events.data):
            event.connect(self._fill)

    def _fill(self, event: Any = None) -> None:
        chosen = self.value()
        layers: list[Layer | None] = [None] if self._none is not None else []
        layers += [layer for layer in self._viewer.layers if self._accept(layer)]
        names = [str(self._none) if layer is None else layer.name for layer in layers]
        if layers == self._layers and names == [self.itemText(i) for i in range(self.count())]:
            return  # pixels change often, and a list that is open must not be made anew for that
        self._layers = layers
        with QSignalBlocker(self):
            self.clear()
            for place, name in enumerate(names):
                self.addItem(name)
                self.setItemData(place, name, Qt.ItemDataRole.ToolTipRole)
            if chosen in self._layers:
                self.setCurrentIndex(self._layers.index(chosen))
        self._tell()

    def _tell(self, index: int = -1) -> None:
        chosen = self.value()
        self.setToolTip(chosen.name if chosen is not None else "")
        if chosen is not self._last:
            self._last = chosen
            self.layer_changed.emit(chosen)


class Line(QLabel):
    """A line for the user, which takes as many rows as it needs and never makes a dock wide."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(True)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def say(self, line: str) -> None:
        """Show a line; all of it is also the tooltip, where paths are as they are written."""
        # Qt breaks rows at blanks only, and paths have none.
        broken = re.sub(r"\S{21,}", lambda word: "\u200b".join(word[0]), line)
        self.setText(broken)
        self.setToolTip(line)


class JobBar(QWidget):
    """Progress of one job: a bar, how fast and how long still, and a button to cancel.

    Parameters
    ----------
    unit : str
        What the job counts: ``%``, ``bytes``, or things by their name.
    parent : QWidget, optional
        Owner.
    """

    def __init__(self, unit: str = "frames", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._unit, self._since = unit, (0.0, 0)
        self._job: Job | None = None
        self.bar = QProgressBar()
        self.bar.setToolTip("How much of the work is done")
        self.bar.setTextVisible(True)
        self.cancel_button = QToolButton()
        self.cancel_button.setText("Cancel")
        self.cancel_button.setToolTip("Stop the work; what was there before stays as it was")
        self.cancel_button.clicked.connect(self._cancel)
        self.label = Line()
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.label)
        self._show_idle()

    def watch(self, job: Job) -> None:
        """Show a job until it has finished; to be called before it starts."""
        self._job, self._since = job, (0.0, 0)
        job.progressed.connect(self._progress)
        job.finished.connect(self._finish)
        self.bar.setRange(0, 0)
        self.label.say(f"{job.description}…")
        self.bar.show()
        self.cancel_button.setEnabled(True)
        self.cancel_button.show()
        self.label.show()

    def say(self, text: str) -> None:
        """Show a line where the rate is shown during the work."""
        self.label.say(text)
        self.label.setVisible(bool(text))

    def _progress(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._since[0] == 0.0 or done < self._since[1]:
            self._since = (now, done)  # the first step is slow: the model is loaded in it
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        seconds, steps = now - self._since[0], done - self._since[1]
        text = _amount(done, total, self._unit)
        if steps > 0 and seconds > 0:
            rate = steps / seconds
            text += f"{_rate(rate, self._unit)}, {_duration((total - done) / rate)} left"
        self.label.say(text)

    def _cancel(self) -> None:
        if self._job is not None:
            self.cancel_button.setEnabled(False)
            self.label.say("Stopping…")
            self._job.cancel()

    def _finish(self, outcome: Outcome) -> None:
        self._job = None
        self._show_idle()
        self.say("Cancelled" if outcome.cancelled else "")

    def _show_idle(self) -> None:
        self.bar.hide()
        self.cancel_button.hide()
        self.label.hide()


class Elided(QElidingLabel):
    """One line of text that needs no room of its own: the middle of a long one is left out.

    All of it is in the tool tip; without a text there is no line.
    """

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setElideMode(Qt.TextElideMode.ElideMiddle)  # names often differ at their ends only
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setText(text)
        if not text:
            self.hide()

    def setText(self, text: str | None) -> None:  # noqa: N802 - Qt's name
        """Show a text."""
        super().setText(text or "")
        self.setToolTip(text or "")
        if self.parent() is not None:  # by itself it would be a window
            self.setVisible(bool(text))


class PathBox(QWidget):
    """A path that is typed, or chosen in a dialog."""

    path_changed = Signal(str)

    def __init__(self, title: str, pattern: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title, self._pattern = title, pattern
        self.edit = QLineEdit()
        self.edit.setPlaceholderText(title)
        self.edit.editingFinished.connect(lambda: self.path_changed.emit(self.value()))
        button = QToolButton()
        button.setText("…")
        button.setToolTip(title)
        button.clicked.connect(self._ask)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.edit, 1)
        layout.addWidget(button)

    def value(self) -> str:
        """Return the path, empty if there is none."""
        return str(self.edit.text()).strip()

    def set_value(self, path: str) -> None:
        """Put a path in."""
        if path != self.value():
            self.edit.setText(path)
            self.path_changed.emit(path)

    def _ask(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, self._title, self.value(), self._pattern)
        if path:
            self.set_value(path)


def _amount(done: int, total: int, unit: str) -> str:
    if unit == "%":
        return f"{done} %"
    if unit == "bytes":
        return f"{done / 1e6:.0f} of {total / 1e6:.0f} MB"
    return f"{done} of {total} {unit}"


def _rate(rate: float, unit: str) -> str:
    if unit == "%":
        return ""
    return f", {rate / 1e6:.3g} MB/s" if unit == "bytes" else f", {rate:.3g}/s"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
