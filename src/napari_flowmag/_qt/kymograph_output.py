"""What becomes of a kymograph: a file, or layers of a viewer of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_flowmag._qt.job import Job, Outcome, show_error
from napari_flowmag._qt.save_dialog import ask_where
from napari_flowmag._qt.widgets import Elided

if TYPE_CHECKING:
    from napari_flowmag.kymograph_files import Kymograph

_FORMATS = {"Picture with axes": ".png", "Calibrated TIFF": ".tif", "Table": ".csv"}


class KymographOutput(QWidget):
    """Buttons for the kymograph on view, and a line about it."""

    missing = Signal()
    """A button was pressed, and there is no kymograph."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.kymograph: Kymograph | None = None
        self.export = QPushButton("E&xport…")
        self.export.setToolTip("Save as a picture with axes, a calibrated TIFF, or a table")
        self.export.clicked.connect(self._ask_export)
        self.open = QPushButton("Open in a new viewer")
        self.open.setToolTip("Show the x–t pictures as layers, with time and position as axes")
        self.open.clicked.connect(self.open_viewer)
        self.state = Elided()
        policy = self.state.sizePolicy()
        policy.setRetainSizeWhenHidden(True)  # the plots above shall not jump
        self.state.setSizePolicy(policy)
        buttons = QHBoxLayout()
        buttons.addWidget(self.export)
        buttons.addWidget(self.open)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(buttons)
        layout.addWidget(self.state)

    def set_busy(self, busy: bool) -> None:
        """Tell that another kymograph is on its way; until it is there, none can be had."""
        self.state.setText("Sampling…" if busy else "")
        self.export.setEnabled(not busy)
        self.open.setEnabled(not busy)

    def open_viewer(self) -> None:
        """Show the x–t pictures as layers of a viewer of their own."""
        import napari

        made = self.kymograph
        if made is None:
            self.missing.emit()
            return
        viewer = napari.Viewer(title="flowmag: kymograph")
        known = made.unit != "px"
        for title, values in made.slices.items():
            viewer.add_image(
                values,
                name=title,
                scale=(1 / made.fps if made.fps else 1, made.distance),
                translate=(made.times()[0], 0),
                units=("s" if made.fps else "pixel", made.unit if known else "pixel"),
                axis_labels=("time", "position"),
            )

    def save(self, path: str) -> None:
        """Write what is shown; see :func:`~napari_flowmag.kymograph_files.save_kymograph`."""
        from napari_flowmag.kymograph_files import save_kymograph

        made = self.kymograph
        if made is None:
            return
        job = Job(lambda handle: save_kymograph(path, made), "save kymograph", self)
        job.finished.connect(self._saved)
        job.start()

    def _ask_export(self) -> None:
        if self.kymograph is None:
            self.missing.emit()
            return
        path = ask_where(self, "Save the kymograph", "xt.png", _FORMATS)
        if path:
            self.save(path)

    def _saved(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            show_error(outcome.error)
        else:
            self.state.setText(f"Saved {outcome.value}")
