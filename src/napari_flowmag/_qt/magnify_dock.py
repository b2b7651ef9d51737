"""The Magnify dock: settings, live preview, run, compare, and the same as a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_flowmag._origin import above_family, newest_pair
from napari_flowmag._qt.adapt_box import AdaptBox
from napari_flowmag._qt.compare import MODES, Compare
from napari_flowmag._qt.job import Job, Outcome, line_of, show_error
from napari_flowmag._qt.magnify_form import MagnifyForm
from napari_flowmag._qt.preview import Preview
from napari_flowmag._qt.scrolled import Scrolled, fit_on_screen, was_closed
from napari_flowmag._qt.section import Section
from napari_flowmag._qt.widgets import JobBar, Line
from napari_flowmag._run import run_request
from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    import napari
    from qtpy.QtGui import QShowEvent

    from napari_flowmag._request import Request
    from napari_flowmag.adapt.outcome import Adapted


class MagnifyDock(QWidget):
    """Magnifies the motion in a layer of the viewer."""

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._job: Job | None = None
        self._failure = ""  # of the preview
        self.form = MagnifyForm(viewer)
        self.preview = Preview(viewer, self)
        self.compare = Compare(viewer, self)
        self.problem = Line()
        self.problem.setStyleSheet("color: #d9534f")
        self.problem.hide()
        self.bar = JobBar("frames")
        self.adapt = AdaptBox()
        self._make_buttons()
        self._lay_out()
        # Several changes come at once when a layer does: they are one.
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self._update)
        self.form.changed.connect(self._later.start)
        self.preview.shown.connect(self._shown)
        self.preview.status.connect(self._say)
        self.preview.failed.connect(self._fail)
        self.adapt.button.clicked.connect(self._adapt)
        self.adapt.started.connect(self._adapting)
        self.adapt.ended.connect(self._adapted)
        self.adapt.saved.connect(self.form.model.put_into_file)
        self.preview.closed.connect(lambda: self.live.setChecked(False))
        self.compare.ended.connect(self._compare_again)
        self._update()

    def _make_buttons(self) -> None:
        self.live = QCheckBox("Pr&eview")
        self.live.setToolTip("Magnify the frame in view after every change")
        self.live.toggled.connect(self._toggle_preview)
        self.run_button = QPushButton("&Run")
        self.run_button.setToolTip("Magnify all frames, in the background, into a new layer")
        self.run_button.clicked.connect(self.run)
        self.copy_button = QPushButton("Copy as command")
        self.copy_button.setToolTip("Copy the flowmag magnify line that gives the same result")
        self.copy_button.clicked.connect(self._copy)
        self.unload_button = QPushButton("Unload model")
        self.unload_button.setToolTip("Turn the preview off and give the model's memory back")
        self.unload_button.clicked.connect(self._unload)
        self.mode = QComboBox()
        self.mode.addItems([mode.capitalize() for mode in MODES])
        self.mode.setToolTip("Show clip and result beside each other, in turn, or their difference")
        self.mode.currentIndexChanged.connect(self._compare)
        self.status = Line()

    def _lay_out(self) -> None:
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.addWidget(self.form)
        layout.addWidget(self.problem)
        row = QHBoxLayout()
        row.addWidget(self.live)
        row.addWidget(self.run_button, 1)
        layout.addLayout(row)
        layout.addWidget(self.bar)
        layout.addWidget(self.status)
        compare = QFormLayout()
        compare.addRow("C&ompare", self.mode)
        layout.addLayout(compare)
        layout.addWidget(Section("Adapt the model to this clip", self.adapt))
        last = QHBoxLayout()
        last.addWidget(self.copy_button)
        last.addWidget(self.unload_button)
        layout.addLayout(last)
        layout.addStretch(1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Scrolled(content))

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 - Qt's name
        """Keep the window on its screen when the dock makes it wider."""
        super().showEvent(event)
        # Only after this event does the window know its size.
        QTimer.singleShot(0, lambda: fit_on_screen(self))

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802 - Qt's name
        """Leave nothing behind in the viewer, and nothing at work, when napari closes the dock."""
        super().changeEvent(event)
        if was_closed(self, event):
            self.live.setChecked(False)
            self.mode.setCurrentIndex(0)
            self.cancel()  # nobody could see it go on, or stop it
            self.adapt.cancel()

    @property
    def running(self) -> bool:
        """Whether a run or an adaptation goes on."""
        return self._job is not None or self.adapt.running

    def run(self) -> None:
        """Magnify all frames in the background; the result comes as a new layer."""
        request = self._request()
        if request is None or self.running:
            return
        self.preview.pause()
        job = Job(lambda handle: run_request(request, handle), "Magnify", self, activity=False)
        job.produced.connect(self._say)
        job.finished.connect(lambda outcome: self._finish(request, outcome))
        self.bar.watch(job)
        self._job = job
        self._enable()
        job.start()

    def cancel(self) -> None:
        """Stop a run; nothing is added."""
        if self._job is not None:
            self._job.cancel()

    def _finish(self, request: Request, outcome: Outcome) -> None:
        self._job = None
        self._say("")
        if outcome.error is not None:
            show_error(outcome.error)
        elif not outcome.cancelled:
            self._add(request, outcome.value)
            self.form.device.learn()
        self._enable()
        self.preview.resume()

    def _adapt(self) -> None:
        request = self._request()
        if request is not None and not self.running:
            self.adapt.start(request)

    def _adapting(self) -> None:
        self.preview.pause()
        self._enable()

    def _adapted(self, adapted: Adapted | None) -> None:
        if adapted is not None:
            self.form.device.learn()
        if adapted is not None and adapted.improved:
            clip, alpha = adapted.record["adapted_to"], adapted.record["settings"]["alpha"]
            name = f"adapted to {clip} ×{alpha:g}"
            self.form.model.add_model(name, adapted.magnifier, adapted.record)
        self._enable()
        self.preview.resume()

    def _add(self, request: Request, layers: list[tuple[Any, dict[str, Any]]]) -> None:
        from napari.layers import Image

        place = above_family(request.layers, self._viewer.layers)
        for channel, (data, settings) in enumerate(layers):
            self._viewer.layers.insert(place + channel, Image(data, **settings))
        if self.live.isChecked():
            self.live.setChecked(False)  # the result is what is to be seen now
        self._compare(self.mode.currentIndex())

    def _request(self) -> Request | None:
        try:
            return self.form.value()
        except FlowmagError as error:
            # In an empty viewer nothing is wrong yet.
            self._complain(str(error) if len(self._viewer.layers) else "")
            return None

    def _update(self) -> None:
        if self.compare.mode != "off" and self.form.clip.value() not in self.compare.layers:
            self._compare(self.mode.currentIndex())  # it is another clip now
        request = self._enable()
        if self.live.isChecked():
            if request is None:
                self.preview.withdraw()
            else:
                self.preview.request(request)

    def _enable(self) -> Request | None:
        """Enable what can be done now, and return what the form asks for."""
        self._complain("")
        request = self._request()
        self.run_button.setEnabled(request is not None and not self.running)
        self.adapt.button.setEnabled(request is not None and not self.running)
        self.copy_button.setEnabled(request is not None)
        self.unload_button.setEnabled(not self.running)  # what works needs its model
        return request

    def _complain(self, line: str) -> None:
        self.problem.say(line)
        self.problem.setVisible(bool(line))

    def _toggle_preview(self, on: bool) -> None:
        if on:
            self._update()
        else:
            self.preview.request(None)

    def _shown(self, seconds: float, frame: int) -> None:
        if self._failure:
            self._failure = ""
            self._complain("")
        if self.compare.mode != "off" and not set(self.preview.layers) <= set(self.compare.layers):
            self._compare(self.mode.currentIndex())  # no result before is what is asked for now
        self.form.device.learn()

    def _say(self, line: str) -> None:
        self.status.say(line)

    def _fail(self, error: BaseException) -> None:
        line = line_of(error)
        self._complain(line)
        # Each step of a slider may fail in the same way.
        if not isinstance(error, FlowmagError) and line != self._failure:
            show_error(error)
        self._failure = line

    def _compare(self, index: int) -> None:
        pair = newest_pair(self.form.clip.value(), self._viewer.layers, self.preview.layers)
        try:
            self.compare.set_mode(MODES[index], *pair)
        except FlowmagError as error:
            self._complain(str(error))
            self.mode.setCurrentIndex(0)

    def _compare_again(self, gone: bool) -> None:
        """Go on with the preview that took the place of another; else say that nothing does."""
        if gone and self.preview.layers:
            self._compare(self.mode.currentIndex())
        else:
            self.mode.setCurrentIndex(0)

    def _copy(self) -> None:
        from napari_flowmag._command import command_for, needs_folder

        request = self._request()
        if request is None:
            return
        folder = None
        if needs_folder(request):
            title = "Folder for the files that the command needs"
            folder = QFileDialog.getExistingDirectory(self, title)
            if not folder:
                return
        job = Job(lambda handle: command_for(request, folder), "Copy as command", self)
        job.finished.connect(self._copied)
        job.start()

    def _copied(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            show_error(outcome.error)
        elif not outcome.cancelled:
            clipboard = QApplication.clipboard()
            if clipboard is not None:
                clipboard.setText(outcome.value)
            self._say(f"Copied: {outcome.value}")

    def _unload(self) -> None:
        self.live.setChecked(False)
        self.preview.clear()
        self._say("The model's memory is free again")
