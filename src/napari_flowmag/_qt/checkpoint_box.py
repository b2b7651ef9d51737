"""A checkpoint of Segment Anything: a file, or one to download."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_flowmag._qt.job import Job, Outcome, show_error
from napari_flowmag._qt.widgets import JobBar, PathBox


class CheckpointBox(QWidget):
    """A file of weights, with a button that fetches the smallest published one."""

    path_changed = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.path = PathBox("Checkpoint of Segment Anything", "Checkpoints (*.pth)")
        self.fetch = QPushButton("Download vit_b (375 MB)")
        self.fetch.setToolTip("Fetch the smallest published checkpoint")
        self.bar = JobBar("bytes")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.path, self.fetch, self.bar):
            layout.addWidget(widget)
        self.fetch.clicked.connect(self.download)
        self.path.path_changed.connect(self.path_changed)

    def value(self) -> str:
        """Return the path, empty if there is none."""
        return self.path.value()

    def set_value(self, path: str) -> None:
        """Put a path in."""
        self.path.set_value(path)

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
            self.set_value(str(outcome.value))
