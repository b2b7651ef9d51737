"""A part of a dock that is folded away until it is wanted."""

from __future__ import annotations

from qtpy.QtCore import QSize
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import QWidget
from superqt import QCollapsible

_FOLDED, _OPEN = "▸", "▾"


class Section(QCollapsible):
    """A heading that shows or hides a widget, also from the keyboard.

    The arrow is text, which follows the theme; superqt's own keeps the colour of a window without
    one.
    """

    def __init__(self, title: str, widget: QWidget) -> None:
        super().__init__(title, expandedIcon=QIcon(), collapsedIcon=QIcon())
        self._title = title
        self.addWidget(widget)
        self.toggled.connect(self._show)
        self._show(False)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return a size as wide as when it is open, so that the dock need not grow then."""
        layout, size = self.layout(), super().minimumSizeHint()
        if layout is None:
            return size
        margins = layout.contentsMargins()
        width = self.content().minimumSizeHint().width() + margins.left() + margins.right()
        return QSize(max(size.width(), width), size.height())

    def _show(self, open_: bool) -> None:
        # In what is only folded to no height, Tab would go through all that is unseen.
        self.content().setVisible(open_)
        self.setText(f"{_OPEN if open_ else _FOLDED} {self._title}")
