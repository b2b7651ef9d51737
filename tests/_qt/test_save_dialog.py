"""Where something is saved: the format chosen counts, and no file is replaced unasked."""

from __future__ import annotations

from pathlib import Path

import pytest
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_flowmag._qt.save_dialog import ask_where

FORMATS = {"Picture": ".png", "TIFF": ".tif", "Table": ".csv"}


@pytest.mark.parametrize(
    ("typed", "pattern", "expected"),
    [
        ("xt.png", "Picture (*.png)", "xt.png"),
        ("xt.png", "Table (*.csv)", "xt.csv"),
        ("xt", "TIFF (*.tif)", "xt.tif"),
        ("xt.TIF", "Picture (*.png)", "xt.TIF"),
        ("heart.2024", "Picture (*.png)", "heart.2024.png"),
        ("heart.2024", "", "heart.2024.png"),
        ("", "", ""),
    ],
)
def test_the_name_ends_as_the_format_does(monkeypatch, typed, pattern, expected):
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (typed, pattern))
    assert ask_where(None, "Save", "xt.png", FORMATS) == expected


@pytest.mark.parametrize("answer", ["Yes", "No"])
def test_a_file_whose_name_was_not_typed_is_replaced_only_if_wanted(monkeypatch, tmp_path, answer):
    there = tmp_path / "heart.png"
    there.touch()
    asked = []
    monkeypatch.setattr(
        QMessageBox, "question", lambda *a: asked.append(a) or QMessageBox.StandardButton[answer]
    )
    for typed in ("heart", "heart.png"):  # about the second the file dialog itself has asked
        chosen = str(tmp_path / typed), "Picture (*.png)"
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, c=chosen: c)
        found = ask_where(None, "Save", "xt.png", FORMATS)
        wanted = typed == "heart.png" or answer == "Yes"
        assert found == (str(there) if wanted else "")
    assert len(asked) == 1
    assert Path(there).name in asked[0][2]
