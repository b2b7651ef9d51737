"""The magnification: a slider on a logarithmic scale beside a box for any number."""

from __future__ import annotations

import math

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QSlider, QWidget

HIGHEST = 200.0
"""Right end of the slider; the box takes more."""

_STEPS = 1000


class AlphaBox(QWidget):
    """How many times as large motion comes out.

    The slider goes from 1 to 200; the box takes 0 to 100 000.
    """

    value_changed = Signal(float)

    def __init__(self, value: float, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _STEPS)
        self.slider.setMinimumWidth(60)
        self.slider.setToolTip("How many times as large the motion comes out")
        self.spin = QDoubleSpinBox()
        self.spin.setRange(0, 100_000)
        self.spin.setDecimals(2)
        self.spin.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        self.spin.setPrefix("×")
        self.spin.setKeyboardTracking(False)
        self.spin.setToolTip(
            "How many times as large the motion comes out: 1 changes nothing, less than 1 calms "
            "it, 0 holds still"
        )
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.slider, 1)
        layout.addWidget(self.spin)
        self.slider.valueChanged.connect(self._slid)
        self.spin.valueChanged.connect(self._typed)
        self.set_value(value)

    def value(self) -> float:
        """Return the magnification."""
        return float(self.spin.value())

    def set_value(self, value: float) -> None:
        """Choose a magnification."""
        self.spin.setValue(value)
        self._follow(value)

    def _slid(self, place: int) -> None:
        value = HIGHEST ** (place / _STEPS)
        # To two digits below 10, to whole numbers above: what a hand can aim at.
        self.spin.setValue(round(value, 1) if value < 10 else round(value))

    def _typed(self, value: float) -> None:
        self._follow(value)
        self.value_changed.emit(value)

    def _follow(self, value: float) -> None:
        if self.slider.isSliderDown():
            return
        with QSignalBlocker(self.slider):
            place = math.log(max(value, 1)) / math.log(HIGHEST)
            self.slider.setValue(round(_STEPS * min(place, 1)))
