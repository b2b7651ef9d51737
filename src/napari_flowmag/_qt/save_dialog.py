"""Where to save something, and as what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget


def ask_where(parent: QWidget, title: str, name: str, formats: Mapping[str, str]) -> str:
    """Ask for the file to write; its name ends with the suffix of one of the formats.

    No file is replaced that the user was not asked about.

    Parameters
    ----------
    parent
        Above which the dialog opens.
    title, name
        Of the dialog, and of the file unless the user gives it another.
    formats
        Names of the formats and their suffixes; the first is chosen to begin with.

    Returns
    -------
    str
        The path; empty if the user changed their mind.
    """
    patterns = {f"{format_} (*{suffix})": suffix for format_, suffix in formats.items()}
    path, pattern = QFileDialog.getSaveFileName(parent, title, name, ";;".join(patterns))
    if not path:
        return ""
    suffixes = list(patterns.values())
    target = _named(Path(path), patterns.get(pattern, suffixes[0]), suffixes)
    if target != Path(path) and target.exists():  # the dialog asked about another name
        answer = QMessageBox.question(parent, title, f"{target.name} exists. Replace it?")
        if answer != QMessageBox.StandardButton.Yes:
            return ""
    return str(target)


def _named(path: Path, chosen: str, suffixes: list[str]) -> Path:
    """Return a path with the suffix of the format chosen, or of another that was typed instead."""
    given = path.suffix.lower()
    if given == chosen or (given in suffixes and chosen == suffixes[0]):
        return path
    if given in suffixes:
        return path.with_suffix(chosen)
    return path.with_name(path.name + chosen)  # what follows a dot may be a date
