"""Which model magnifies, and where it computes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_flowmag._preload import preload_torch
from napari_flowmag._qt.job import Handle, Job, Outcome
from napari_flowmag._qt.widgets import Elided, ElidedCombo
from napari_flowmag.baselines import BASELINES

if TYPE_CHECKING:
    from napari_flowmag.models.base import Magnifier

_FILE = "From file…"
_TIP = (
    "What magnifies: a bundled model, a checkpoint of flowmag or of the paper's authors, one "
    "adapted to this clip, or another method to compare with (baseline)"
)
_PATTERN = "Models (*.safetensors *.pth *.tar)"


class ModelBox(ElidedCombo):
    """The bundled models, baselines, those of files, and those adapted since the dock opened."""

    model_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._last = 0
        for path in sorted((Path(__file__).parents[1] / "weights").glob("magnifier_*.safetensors")):
            name = path.stem.removeprefix("magnifier_")
            self.addItem(f"{name} (bundled)", {"model": name})
        for baseline in BASELINES.values():
            if baseline.ready:
                self.addItem(f"{baseline.name} (baseline)", {"model": baseline.name})
        self.addItem(_FILE)
        self._say_name()
        self.activated.connect(self._activate)
        self.currentIndexChanged.connect(self._change)

    def settings(self) -> dict[str, Any]:
        """Return ``model`` for the settings."""
        return {"model": self._data()["model"]}

    def magnifier(self) -> tuple[Magnifier | None, dict[str, Any]]:
        """Return the model if it is in memory alone, and how it came about."""
        data = self._data()
        return data.get("magnifier"), data.get("training", {})

    def add_file(self, path: str) -> None:
        """Add the model of a file, and choose it."""
        self._add(Path(path).name, {"model": path})

    def add_model(self, name: str, magnifier: Magnifier, training: dict[str, Any]) -> None:
        """Add a model in memory, and choose it."""
        self._add(name, {"model": name, "magnifier": magnifier, "training": training})

    def put_into_file(self, magnifier: Magnifier, path: str) -> None:
        """Remember that a model in memory is in a file now, under the file's name."""
        for index in range(self.count()):
            data = self.itemData(index)
            if data is not None and data.get("magnifier") is magnifier:
                self.setItemText(index, Path(path).name)
                self.setItemData(index, {"model": path})
                if index == self.currentIndex():
                    self._say_name()
                    self.model_changed.emit()

    def _data(self) -> dict[str, Any]:
        data: dict[str, Any] | None = self.currentData()
        return {"model": "default"} if data is None else data

    def _add(self, text: str, data: dict[str, Any]) -> None:
        self.insertItem(self.count() - 1, text, data)
        self.setCurrentIndex(self.count() - 2)

    def _activate(self, index: int) -> None:
        if self.itemText(index) != _FILE:
            return
        path, _ = QFileDialog.getOpenFileName(self, "Open a model", "", _PATTERN)
        if path:
            self.add_file(path)
        else:
            self.setCurrentIndex(self._last)

    def _change(self, index: int) -> None:
        if self.itemText(index) != _FILE:
            self._last = index
            self._say_name()
            self.model_changed.emit()

    def _say_name(self) -> None:
        """Show the whole name in the tooltip: here there may be no room for it."""
        self.setToolTip(f"{self.currentText()}\n{_TIP}")


class DeviceBox(QWidget):
    """Where to compute, and what that comes to on this machine.

    Torch is what knows; it is loaded in the background when :meth:`learn` is first called.
    """

    device_changed = Signal()

    def __init__(self, device: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._job: Job | None = None
        self._device = device
        self.choice = QComboBox()
        self.choice.addItems(["auto", "cpu", "cuda"])
        self.choice.setEditable(True)  # for cuda:1
        self.choice.setCurrentText(device)
        self.choice.setToolTip("auto takes a graphics card if there is one; cuda:1 is the second")
        # One line, whatever a card is called: the section that this is in does not grow.
        self.used = Elided("known once something was computed")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.choice)
        layout.addWidget(self.used)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        # Not currentTextChanged: that comes with every letter that is typed.
        self.choice.currentIndexChanged.connect(self._change)
        edit = self.choice.lineEdit()
        if edit is not None:
            edit.editingFinished.connect(self._change)

    def value(self) -> str:
        """Return the device asked for."""
        return str(self.choice.currentText()).strip() or "auto"

    def learn(self) -> None:
        """Find out in the background what the device asked for is, unless that is known."""
        if self._job is None:
            self._look()

    def _look(self) -> None:
        device = self.value()
        self._job = Job(lambda handle: _describe(device, handle), "device", self, activity=False)
        self._job.finished.connect(lambda outcome: self._show(device, outcome))
        self._job.start()

    def _change(self, *_: Any) -> None:
        if self.value() == self._device:
            return
        self._device = self.value()
        if self._job is not None:
            self._look()
        self.device_changed.emit()

    def _show(self, device: str, outcome: Outcome) -> None:
        if device == self.value():
            text = outcome.value if outcome.error is None else str(outcome.error)
            self.used.setText(text)


def _describe(device: str, handle: Handle) -> str:
    preload_torch()
    import torch

    from napari_flowmag.device import resolve_device

    found = resolve_device(device)
    if found.type == "cuda":
        name = torch.cuda.get_device_name(found)
        return f"computes on {found}: {name}"
    count = torch.get_num_threads()
    return f"computes on the CPU, {count} thread{'s' * (count != 1)}"
