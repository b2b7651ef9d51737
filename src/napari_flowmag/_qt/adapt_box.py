"""The Adapt section of the Magnify dock: the model learns from the clip, and the curve shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_flowmag._adapt import adapt_request
from napari_flowmag._qt.job import Handle, Job, Outcome, show_error
from napari_flowmag._qt.loss_curve import LossCurve
from napari_flowmag._qt.save_dialog import ask_where
from napari_flowmag._qt.widgets import Elided, JobBar, Line
from napari_flowmag.adapt.settings import PRESETS

if TYPE_CHECKING:
    from napari_flowmag._request import Request
    from napari_flowmag.adapt.outcome import Adapted, Report

_SUFFIX = ".safetensors"
_BUDGETS = {"minutes": (0.1, 600.0, 2.0, 1), "steps": (1, 100_000, 200, 0)}
"""Unit of a budget → its least, most and usual number, and decimals."""


class AdaptBox(QWidget):
    """Fine-tunes the chosen model on the chosen clip, for as long as the user gives it."""

    started = Signal()
    """Learning begins."""
    ended = Signal(object)
    """It has ended: the :class:`~napari_flowmag.adapt.outcome.Adapted`, None after an error."""
    saved = Signal(object, str)
    """The adapted magnifier is now in this file."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._job: Job | None = None
        self._adapted: Adapted | None = None
        self.preset = QComboBox()
        self.preset.addItems(PRESETS)
        self.preset.setToolTip("How the model learns; paper is the recipe as it was published")
        self.amount = QDoubleSpinBox()
        self.amount.setToolTip("How long the model may learn")
        self.unit = QComboBox()
        self.unit.addItems(_BUDGETS)
        self.unit.setToolTip("Whether the budget is time or steps")
        self.unit.currentTextChanged.connect(self._set_unit)
        self._set_unit(self.unit.currentText())
        self.button = QPushButton("Adapt to this clip")
        self.button.setToolTip(
            "Fine-tune the model on this clip, at this factor and in this region; frames that are "
            "held back see to it that it never gets worse"
        )
        self.save_button = QPushButton("Save model…")
        self.save_button.setToolTip("Write the adapted model to a file")
        self.save_button.setEnabled(False)
        self.save_button.clicked.connect(self._ask_where)
        self.bar = JobBar("%")
        self.bar.cancel_button.setText("Stop")
        self.bar.cancel_button.setToolTip("Stop learning and keep the best model so far")
        self.curve = LossCurve()
        self.curve.hide()
        self.result = Line()
        self.result.hide()
        self.place = Elided()
        self._lay_out()

    def _lay_out(self) -> None:
        budget = QHBoxLayout()
        budget.addWidget(self.amount, 1)
        budget.addWidget(self.unit)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Budget", budget)
        form.addRow("Recipe", self.preset)
        buttons = QHBoxLayout()
        buttons.addWidget(self.button, 1)
        buttons.addWidget(self.save_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addLayout(buttons)
        layout.addWidget(self.bar)
        layout.addWidget(self.curve)
        layout.addWidget(self.result)
        layout.addWidget(self.place)

    @property
    def running(self) -> bool:
        """Whether the model learns now."""
        return self._job is not None

    def budget(self) -> dict[str, Any]:
        """Return ``minutes`` or ``steps``."""
        unit, amount = self.unit.currentText(), self.amount.value()
        return {unit: int(amount) if unit == "steps" else float(amount)}

    def start(self, request: Request) -> None:
        """Adapt the model of a request to its clip, in the background."""
        if self.running:
            return
        preset, budget = self.preset.currentText(), self.budget()

        def work(handle: Handle) -> Adapted:
            return adapt_request(request, preset, budget, handle)

        self._job = Job(work, "Adapt", self, activity=False)
        self._job.produced.connect(self._show)
        self._job.finished.connect(self._finish)
        self.curve.clear()
        self.curve.show()
        self.result.hide()
        self.place.setText("")
        self.bar.watch(self._job)
        self.started.emit()
        self._job.start()

    def cancel(self) -> None:
        """Stop learning; the best so far is kept."""
        if self._job is not None:
            self._job.cancel()

    def _set_unit(self, unit: str) -> None:
        low, high, usual, decimals = _BUDGETS[unit]
        self.amount.setDecimals(int(decimals))
        self.amount.setRange(low, high)
        self.amount.setValue(usual)

    def _show(self, report: Report) -> None:
        self.curve.add(report)

    def _finish(self, outcome: Outcome) -> None:
        self._job = None
        if outcome.error is not None:
            show_error(outcome.error)
        adapted: Adapted | None = outcome.value
        if adapted is not None:
            self.result.say(adapted.summary().capitalize())
            self.result.show()
            if adapted.improved:
                self._adapted = adapted
                self.save_button.setEnabled(True)
        self.ended.emit(adapted)

    def _ask_where(self) -> None:
        name, formats = f"adapted{_SUFFIX}", {"Models": _SUFFIX}
        path = ask_where(self, "Save the adapted model", name, formats)
        if path:
            self.save(path)

    def save(self, path: str) -> None:
        """Write the latest adapted model to a file, in the background."""
        adapted = self._adapted
        if adapted is None:
            return

        def finish(outcome: Outcome) -> None:
            if outcome.error is not None:
                show_error(outcome.error)
            else:
                self.place.setText(f"Saved {path}")
                self.saved.emit(adapted.magnifier, path)

        job = Job(lambda handle: adapted.save(path), "Save model", self)
        job.finished.connect(finish)
        job.start()
