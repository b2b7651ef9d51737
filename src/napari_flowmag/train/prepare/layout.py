"""Files of the set: the authors' layout, and where pictures lie that are in no list."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from napari_flowmag.atomic import write_atomically
from napari_flowmag.errors import FlowmagError

FOLDER = "clips"
"""Folder of the results, beside the splits."""

SIDES = ("frameA", "frameB")

SPLITS = ("train", "test", "set_aside")
"""Folders of pictures. What is set aside is in no list now, but may be later: duplicates, and pairs
of clips that were not among the sources the last time."""

_OURS = re.compile(r".+_[0-9a-f]{8}_p\d+_t\d{6,}_s\d+\.(png|tif)")
_PARTS = re.compile(r"\..+\.\d+\.(part|old)")


def list_path(out: Path, split: str) -> Path:
    """Return where the list of a split is; where there is one, the split is complete."""
    return out / f"{split}_fn.json"


def check_folder(out: Path) -> None:
    """Refuse a folder whose pairs come from elsewhere: their list would be lost.

    Raises
    ------
    FlowmagError
        If it has a list but no results.
    """
    if not (out / FOLDER).is_dir() and any(list_path(out, split).exists() for split in SPLITS):
        raise FlowmagError(
            f"{out}: holds frame pairs that flowmag-train prepare did not make; give a new folder"
        )


def remove_lists(out: Path) -> None:
    """Say that the splits are not complete."""
    for split in SPLITS[:2]:
        list_path(out, split).unlink(missing_ok=True)


def write_list(out: Path, split: str, names: list[str]) -> None:
    """Write the list of a split."""
    write_atomically(list_path(out, split), json.dumps(names, indent=0).encode())


def place_pictures(out: Path, splits: Mapping[str, str]) -> list[str]:
    """Move each pair to its split, and remove pictures that earlier runs left behind.

    Doing it again, or in two processes at once, comes to the same.

    Parameters
    ----------
    out
        Folder of the set.
    splits
        Split of each pair by its file name.

    Returns
    -------
    list of str
        Pairs whose pictures are missing.
    """
    missing: set[str] = set()
    for side in SIDES:
        there = {split: _names(out / split / side) for split in SPLITS}
        for name, split in splits.items():
            if name not in there[split] and not _move(out, side, name, split, there):
                missing.add(name)
        for split, names in there.items():
            for name in names:
                stale = _OURS.fullmatch(name) and splits.get(name) != split
                if stale or _PARTS.fullmatch(name):
                    (out / split / side / name).unlink(missing_ok=True)
            _remove_if_empty(out / split / side)
    _remove_if_empty(*(out / split for split in SPLITS))
    return sorted(missing)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _move(out: Path, side: str, name: str, split: str, there: Mapping[str, set[str]]) -> bool:
    target = out / split / side / name
    source = next((other for other, names in there.items() if name in names), None)
    if source is None:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        (out / source / side / name).replace(target)
    except FileNotFoundError:  # the run of another shard was faster
        return target.is_file()
    return True


def _remove_if_empty(*folders: Path) -> None:
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
