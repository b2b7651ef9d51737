"""Files that come into being whole or not at all."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from napari_flowmag.errors import FlowmagError

_FORGOTTEN = 24 * 3600
"""Seconds without a change after which nobody is taken to be writing a file any more."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; what lies there is renamed to `path` at the end.

    On an error, an interrupt included, what was written is removed and `path` is as it was. Both a
    file and a folder can be written. Where `path` is a link, what it leads to is replaced.
    """
    path = _behind_links(path)
    _discard_forgotten(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    _remove(temporary)
    try:
        yield temporary
        if path.is_dir():
            # No folder is replaced in one step: set the old one aside until the new one is in.
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            path.rename(old)
            try:
                temporary.rename(path)
            except BaseException:
                old.rename(path)
                raise
            _remove(old)
        else:
            temporary.replace(path)
    except BaseException:
        _remove(temporary)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that its name never holds a part of it.

    Raises
    ------
    FlowmagError
        If the folder is missing or cannot be written to.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise FlowmagError(f"cannot write {path}: {error.strerror}") from error


def discard_parts(*paths: Path) -> None:
    """Remove what writers of some files left that were killed; nobody may be writing them now."""
    for path in map(_behind_links, paths):
        for part in path.parent.glob(f".{escape(path.name)}.*.part"):
            _remove(part)


def _discard_forgotten(path: Path) -> None:
    """Remove parts whose writers were killed long ago: on large clips they are gigabytes."""
    for part in path.parent.glob(f".{escape(path.name)}.*.part"):
        with suppress(OSError):
            # A folder is as old as what was written last anywhere in it.
            written = (path.stat().st_mtime for path in (part, *part.rglob("*")))
            if time.time() - max(written) > _FORGOTTEN:
                _remove(part)


def _behind_links(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
