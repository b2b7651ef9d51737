"""What a dock scrolls in: the mouse wheel moves the dock, not the settings below the pointer."""

from __future__ import annotations

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QComboBox, QSlider, QSpinBox, QVBoxLayout, QWidget

from napari_flowmag._qt.scrolled import Scrolled


def turn_wheel(widget):
    """Turn the wheel over a widget; what it does not want goes on to its parent, as Qt does."""
    while widget is not None:
        place = QPointF(widget.rect().center())
        event = QWheelEvent(
            place, QPointF(widget.mapToGlobal(place.toPoint())), QPoint(), QPoint(0, -120),
            Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        QApplication.sendEvent(widget, event)
        widget = None if event.isAccepted() else widget.parentWidget()


@pytest.fixture
def area(qtbot):
    content = QWidget()
    layout = QVBoxLayout(content)
    combo = QComboBox()
    combo.addItems(["a", "b"])
    for widget in (combo, QSpinBox(), QSlider()):
        layout.addWidget(widget)
    layout.addSpacing(2000)
    made = Scrolled(content)
    qtbot.addWidget(made)
    made.resize(200, 200)
    made.show()
    late = QWidget()  # channels and labels get their rows when they are there
    QVBoxLayout(late).addWidget(QSpinBox())
    layout.addWidget(late)
    late.show()
    qtbot.waitUntil(lambda: made.verticalScrollBar().maximum() > 1000, timeout=5000)
    return made


def test_the_wheel_scrolls_and_changes_nothing(area, qtbot):
    combo, slider = area.findChild(QComboBox), area.findChild(QSlider)
    chosen = []
    combo.activated.connect(chosen.append)
    bar = area.verticalScrollBar()
    for widget in (combo, slider, *area.findChildren(QSpinBox)):
        before = bar.value()
        turn_wheel(widget)
        assert bar.value() > before, widget
    assert not chosen
    assert not any(w.value() for w in (slider, *area.findChildren(QSpinBox)))
    assert combo.currentIndex() == 0


def test_a_number_that_is_typed_in_takes_the_wheel(area, qtbot):
    spin = area.findChild(QSpinBox)
    spin.setValue(5)
    area.activateWindow()
    spin.setFocus()
    qtbot.waitUntil(spin.hasFocus, timeout=5000)
    turn_wheel(spin)
    assert spin.value() == 4
