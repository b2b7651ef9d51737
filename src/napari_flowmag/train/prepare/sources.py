"""The clips of some files and folders, what to call them, and how to know them again."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_flowmag.errors import FlowmagError

_BLOCKS, _BLOCK = 16, 65_536
"""How much of a file is read to know it again: evenly spread blocks, and their size in bytes."""


@dataclass(frozen=True)
class Source:
    """A clip to take pairs from.

    Attributes
    ----------
    path : Path
        Where it lies.
    label : str
        What it is called: its path from the folder that was named, that one included. The same
        wherever that folder lies.
    """

    path: Path
    label: str

    @property
    def name(self) -> str:
        """A file name for what is made of it: readable, and of no other label."""
        digest = hashlib.sha256(self.label.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        readable = re.sub(r"[^A-Za-z0-9.]+", "-", self.path.stem)[:40].strip("-.")
        return f"{readable or 'clip'}_{digest}"


def find_sources(paths: Sequence[Path], besides: Path | None = None) -> list[Source]:
    """List the clips of some files and folders and their subfolders, in order.

    Parameters
    ----------
    paths
        Files and folders.
    besides
        A folder that is left out, for it holds what is made of the clips.

    Raises
    ------
    FlowmagError
        If one does not exist, or there is no clip in any of them.
    """
    found: dict[Path, str] = {}
    labels: set[str] = set()
    hidden = {Path(os.path.abspath(besides))} if besides else set()
    for root in (Path(os.path.abspath(path)) for path in paths):
        if not root.exists():
            raise FlowmagError(f"{root}: no such file or folder")
        for path in _walk(root, hidden):
            if path not in found:
                label = _unused((root.name / path.relative_to(root)).as_posix(), labels)
                labels.add(label)
                found[path] = label
    if not found:
        names = ", ".join(str(path) for path in paths)
        raise FlowmagError(f"{names}: holds neither frame pairs (train/frameA …) nor clips")
    return [Source(path, label) for path, label in found.items()]


def _unused(label: str, labels: set[str]) -> str:
    """Return the label, with a number where two folders of one name hold the same file name."""
    numbered, count = label, 1
    while numbered in labels:
        count += 1
        numbered = f"{label} ({count})"
    return numbered


def _walk(path: Path, besides: set[Path], above: tuple[Path, ...] = ()) -> Iterator[Path]:
    from napari_flowmag.io import is_clip

    if path in besides:
        return
    if not path.is_dir():
        if is_clip(path) and (path.is_file() or path.is_symlink()):  # no pipe
            yield path
        return
    real = path.resolve()
    if is_clip(path) and not _holds_clips(path):
        yield path
    elif real not in above:  # a link to a folder around it has no end
        for child in sorted(path.iterdir()):
            # A leading dot marks what the Finder and network drives leave beside each file.
            if not child.name.startswith("."):
                yield from _walk(child, besides, (*above, real))


def _holds_clips(folder: Path) -> bool:
    """Tell a folder of clips from a clip that is a folder of single pictures."""
    from napari_flowmag.io import is_clip, read_clip
    from napari_flowmag.io.images import PICTURES

    kinds = {p.suffix.lower(): p for p in sorted(folder.iterdir()) if p.is_file() and is_clip(p)}
    several = (path for suffix, path in kinds.items() if suffix not in PICTURES)
    try:
        return any(len(read_clip(path)) > 1 for path in several)
    except FlowmagError:
        return True  # a damaged file is reported when its turn comes


def fingerprint(path: Path) -> str:
    """Return a hash by which a clip is known again: names and sizes of files, samples of them.

    Of long files and folders of many files only evenly spread parts are read, so that finished
    clips of a large set are passed by quickly. Empty for what cannot be read, which is said when
    its turn comes.
    """
    from napari_flowmag.train.data import spread

    try:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        digest = hashlib.sha256()
        for file in files:
            name = file.relative_to(path).as_posix().encode("utf-8", "surrogatepass")
            digest.update(b"%b\0%d\0" % (name, file.stat().st_size))
        for index in spread(len(files), _BLOCKS) if files else ():
            _add_samples(files[index], digest.update)
    except OSError:
        return ""
    return digest.hexdigest()


def _add_samples(file: Path, add: Callable[[bytes], object]) -> None:
    size = file.stat().st_size
    last = max(size - _BLOCK, 0)
    with file.open("rb") as content:
        for i in range(_BLOCKS if last else 1):
            content.seek(last * i // (_BLOCKS - 1))
            add(content.read(_BLOCK))
