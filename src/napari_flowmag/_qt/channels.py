"""Which layers are channels of the clip: which show the motion, and which are moved by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_flowmag._layers import axes_of, data_of, is_clip_layer, own, why_no_clip
from napari_flowmag._qt.widgets import Elided
from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

CARRIES, FOLLOWS, SHOWS, LEFT = "shows and follows", "follows", "shows only", "left alone"
_WIDTH = 130  # px
_ROLES = {
    CARRIES: "The motion is seen in this channel, and the channel is moved by it",
    FOLLOWS: "This channel is moved by the motion that others show",
    SHOWS: "The motion is seen in this channel, which itself stays as it is",
    LEFT: "This channel takes no part",
}


class ChannelBox(QWidget):
    """A role for each channel of the chosen clip; hidden where there is only one."""

    changed = Signal()

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._clip: Image | None = None
        self._roles: list[tuple[Image | int, QComboBox]] = []
        self._labels: dict[Image, _Name] = {}
        self._grid = QGridLayout()
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setColumnStretch(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(QLabel("Channels"))
        layout.addLayout(self._grid)
        events = viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.connect(self._fill)
        events.inserted.connect(self._inserted)
        for layer in viewer.layers:
            self._watch(layer)
        self.hide()

    def set_clip(self, layer: Image | None) -> None:
        """Tell which layer is the clip."""
        if layer is not self._clip:
            self._roles = []
        self._clip = layer
        self._fill()

    def layers(self) -> tuple[Image, ...]:
        """Return the layers that take part: the clip alone, or its channels.

        Raises
        ------
        FlowmagError
            If there is no clip, with the reason of the layer that the user means.
        """
        if self._clip is None:
            images = [layer for layer in self._viewer.layers if type(layer).__name__ == "Image"]
            chosen = self._viewer.layers.selection.active
            # A dock knows a proxy of the viewer, whose active layer is a proxy as well.
            topmost = images[-1] if images else None
            meant = next((layer for layer in images if layer == chosen), topmost)
            raise FlowmagError(why_no_clip(meant))
        taking = [k for k, box in self._roles if box.currentText() != LEFT and not _is_index(k)]
        return tuple(taking) if taking else (self._clip,)

    def settings(self) -> dict[str, Any]:
        """Return what the channels contribute to the settings of a magnification.

        Raises
        ------
        FlowmagError
            If no channel shows the motion, or none is moved.
        """
        if len(self._roles) < 2:
            return {}
        roles = [
            box.currentText()
            for key, box in self._roles
            if _is_index(key) or box.currentText() != LEFT
        ]
        shows = tuple(i for i, role in enumerate(roles) if role in (CARRIES, SHOWS))
        moves = tuple(i for i, role in enumerate(roles) if role in (CARRIES, FOLLOWS))
        if not shows:
            raise FlowmagError("no channel shows the motion: choose one that does")
        if not moves:
            raise FlowmagError("no channel is moved: let one follow")
        settings: dict[str, Any] = {}
        if len(shows) < len(roles):
            settings["motion_channels"] = shows
        if len(moves) < len(roles):
            settings["channels"] = moves
        return settings

    def set_role(self, channel: Image | int, role: str) -> None:
        """Choose the role of a channel: a layer, or the index of a channel inside the clip."""
        dict(self._roles)[channel].setCurrentText(role)

    def _inserted(self, event: Any) -> None:
        self._watch(event.value)

    def _watch(self, layer: Layer) -> None:
        layer.events.data.connect(self._edited)

    def _edited(self, event: Any) -> None:
        """Follow the pixels of all channels but the clip, for which there is :meth:`set_clip`."""
        if event.source is not self._clip:
            self._fill()
            if event.source in dict(self._roles):
                self.changed.emit()

    def _fill(self, event: Any = None) -> None:
        before = {key: box.currentText() for key, box in self._roles}
        keys = self._channels()
        if self._roles and [key for key, _ in self._roles] == keys:
            return
        while (item := self._grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.deleteLater()
        for layer in self._labels:
            layer.events.name.disconnect(self._rename)
        self._roles, self._labels = [], {}
        together = self._together(keys)
        for row, key in enumerate(keys):
            box = QComboBox()
            for role, tip in _ROLES.items():
                box.addItem(role)
                box.setItemData(box.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
            # Else a box may become narrower than what it says, which does not tell roles apart.
            box.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
            box.setToolTip("What part this channel takes in the magnification")
            # A file's channels belong together; a look-alike layer joins only when asked to.
            box.setCurrentText(before.get(key, CARRIES if key in together else LEFT))
            box.currentIndexChanged.connect(self.changed)
            self._roles.append((key, box))
            self._grid.addWidget(self._label(key), row, 0)
            self._grid.addWidget(box, row, 1)
        self.setVisible(len(keys) > 1)
        self.changed.emit()

    def _label(self, key: Image | int) -> _Name:
        if isinstance(key, int):
            return _Name(f"Channel {key}")
        self._labels[key] = label = _Name(key.name)
        key.events.name.connect(self._rename)
        return label

    def _rename(self, event: Any) -> None:
        self._labels[event.source].setText(event.source.name)

    def _channels(self) -> list[Image | int]:
        clip = self._clip
        if clip is None:
            return []
        axes = axes_of(clip)
        if "C" in axes:
            return list(range(data_of(clip).shape[axes.index("C")]))
        if "S" in axes:
            return []
        alike = [
            layer
            for layer in self._viewer.layers
            if is_clip_layer(layer)
            and own(layer).get("role") != "result"
            and data_of(layer).shape == data_of(clip).shape
            and data_of(layer).dtype == data_of(clip).dtype
            and axes_of(layer) == axes
        ]
        return sorted(alike, key=lambda layer: own(layer).get("channel", 0))

    def _together(self, keys: list[Image | int]) -> list[Image | int]:
        """Return the channels of one file, each once: a copy is no other channel."""
        clip = self._clip
        if clip is None or "C" in axes_of(clip):
            return keys
        path, found = own(clip).get("path"), {own(clip).get("channel"): clip}
        for layer in keys:
            if path is not None and own(layer).get("path") == path:
                found.setdefault(own(layer).get("channel"), layer)
        return list(found.values())


class _Name(Elided):
    """The name of a channel, whole where there is room."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return room for the name, but not for so long a one that it would make the dock wide."""
        width = self.fontMetrics().horizontalAdvance(self.text()) + 8
        return QSize(min(width, _WIDTH), super().minimumSizeHint().height())

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return the same: what is shown now says nothing about what there is to show."""
        return self.minimumSizeHint()


def _is_index(key: Image | int) -> bool:
    return isinstance(key, int)
