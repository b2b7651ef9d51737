"""What a dock scrolls in, how it fits on the screen, and that it was closed."""

from __future__ import annotations

from qtpy.QtCore import QChildEvent, QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QFrame,
    QScrollArea,
    QScrollBar,
    QWidget,
)


class Scrolled(QScrollArea):
    """Scrolls up and down, so that a low window cuts nothing off; as wide as its content needs.

    The mouse wheel scrolls, also over a choice or a number: these change by the wheel only where
    the user has begun to type a number or to move a slider.
    """

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(content)
        self._guard(content)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return the content's width, beside a scroll bar, and little height."""
        content, bar = self.widget(), self.verticalScrollBar()
        if content is None or bar is None:
            return super().minimumSizeHint()
        return QSize(content.minimumSizeHint().width() + bar.sizeHint().width(), 120)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Pass the wheel on to what scrolls, guard what comes later, and be as wide as needed."""
        if event is not None and isinstance(watched, QWidget):
            if event.type() == QEvent.Type.Wheel and not _takes_wheel(watched):
                event.ignore()
                return True
            if event.type() == QEvent.Type.LayoutRequest and watched is self.widget():
                self.updateGeometry()
            if event.type() == QEvent.Type.ChildPolished and isinstance(event, QChildEvent):
                child = event.child()
                if isinstance(child, QWidget):
                    self._guard(child)
        return super().eventFilter(watched, event)

    def _guard(self, widget: QWidget) -> None:
        for part in (widget, *widget.findChildren(QWidget)):
            part.installEventFilter(self)
            if part.focusPolicy() == Qt.FocusPolicy.WheelFocus:
                part.setFocusPolicy(Qt.FocusPolicy.StrongFocus)


def _takes_wheel(widget: QWidget) -> bool:
    if isinstance(widget, QComboBox):  # it keeps the focus long after something was chosen
        return False
    if isinstance(widget, QAbstractSpinBox | QAbstractSlider):
        return isinstance(widget, QScrollBar) or widget.hasFocus()
    return True


def was_closed(dock: QWidget, event: QEvent | None) -> bool:
    """Whether a change of a dock's content, told by an event, is that napari has closed it."""
    # All that napari's × does to what is in a dock is to take its parent away.
    parted = event is not None and event.type() == QEvent.Type.ParentChange
    return parted and dock.parent() is None


def fit_on_screen(widget: QWidget) -> None:
    """Make the window of a widget as small as its screen, where it is larger.

    napari gives its first window the size that all of it wants, however small the screen, and docks
    on the right are then the first that nobody sees.
    """
    window, screen = widget.window(), widget.screen()
    if window is None or screen is None or window.isMaximized() or window.isFullScreen():
        return
    room, frame = screen.availableGeometry(), window.frameGeometry()
    if frame.width() <= room.width() and frame.height() <= room.height():
        return
    border = frame.size() - window.size()
    window.resize(window.size().boundedTo(room.size() - border))
    window.move(room.topLeft())
