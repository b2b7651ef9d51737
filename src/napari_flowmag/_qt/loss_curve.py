"""The loss of an adaptation while it goes on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

if TYPE_CHECKING:
    from napari_flowmag.adapt.outcome import Report

_HEIGHT = 160
_BLUE = "#0099cc"


class LossCurve(QWidget):
    """Draws the loss of every step, and of the frames that are held back where they are judged.

    The losses of steps jump about, because every step sees other pairs: they are smoothed, and
    drawn faintly. What counts is the line of the held-back frames, and whether it gets below where
    it began.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setToolTip(
            "Thin: loss of the frames that are learnt from; thick: of those that are held back; "
            "dashed: where these began"
        )
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._plot: Any = None
        self._start: Any = None
        self._lines: dict[str, Any] = {}
        self.learnt: list[tuple[int, float]] = []
        self.held_back: list[tuple[int, float]] = []

    def clear(self) -> None:
        """Begin a new curve."""
        self.learnt, self.held_back = [], []
        if self._plot is None:
            self._make()
        for line in self._lines.values():
            line.setData([], [])
        self._start.hide()

    def add(self, report: Report) -> None:
        """Add a step."""
        if math.isfinite(report.loss):
            before = self.learnt[-1][1] if self.learnt else report.loss
            self.learnt.append((report.step, before + 0.15 * (report.loss - before)))
            self._lines["learnt"].setData(*zip(*self.learnt, strict=True))
        if report.held_back is not None:
            self.held_back.append((report.step, report.held_back))
            self._lines["held back"].setData(*zip(*self.held_back, strict=True))
            self._start.setValue(report.before)
            self._start.show()

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802 - Qt's name
        """Take the colours of another theme."""
        super().changeEvent(event)
        changes = (QEvent.Type.PaletteChange, QEvent.Type.StyleChange)
        if event is not None and event.type() in changes and self._lines:
            self._colour()

    def _colour(self) -> None:
        text, faint = self.palette().text().color(), self.palette().text().color()
        faint.setAlpha(110)
        for side in ("bottom", "left"):
            self._plot.getAxis(side).setTextPen(text)
            self._plot.getAxis(side).setPen(faint)
        self._lines["learnt"].setPen(faint)
        self._plot.resetCachedContent()  # the ground below the lines
        self._plot.setTitle(
            f'<span style="color:{faint.name()}">learnt</span> &nbsp; '
            f'<span style="color:{_BLUE}">held back</span>',
            size="9pt",
        )

    def _make(self) -> None:
        import pyqtgraph as pg

        self._plot = pg.PlotWidget(background=None)
        self._plot.setFixedHeight(_HEIGHT)
        self._plot.setMouseEnabled(x=False, y=False)
        self._plot.hideButtons()
        self._plot.setMenuEnabled(False)
        for side, label in (("bottom", "step"), ("left", "loss")):
            axis = self._plot.getAxis(side)
            axis.enableAutoSIPrefix(False)
            axis.setLabel(label)
        self._lines = {
            "learnt": self._plot.plot(antialias=True),
            "held back": self._plot.plot(
                pen=pg.mkPen(_BLUE, width=2), symbol="o", symbolSize=5,
                symbolBrush=_BLUE, symbolPen=None, antialias=True,
            ),
        }  # fmt: skip
        dashes = pg.mkPen(_BLUE, style=pg.QtCore.Qt.PenStyle.DashLine)
        self._start = pg.InfiniteLine(angle=0, pen=dashes)
        self._plot.addItem(self._start)
        self._colour()
        self._layout.addWidget(self._plot)
