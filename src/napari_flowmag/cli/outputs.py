"""Checks of where a command is to write, made before it reads and computes anything."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from napari_flowmag.clip import Clip


def check_output(output: Path, *inputs: str | Path | None) -> None:
    """Refuse a place where nothing can be written, and one where something is that is read.

    Parameters
    ----------
    output
        Where to write.
    *inputs
        Files and folders that the command reads; None for those that were not named.

    Raises
    ------
    FlowmagError
        If there is no folder for the output, or an input would be lost: the output is the input, a
        folder around it, or one of its pictures, or would become one.
    """
    from napari_flowmag.io import check_beside

    if output.name == "":
        raise FlowmagError(f"output '{output}': give it a name")
    folder = output.absolute().parent
    if not folder.is_dir():
        raise FlowmagError(f"{output}: there is no folder {folder}: make it first")
    for source in (Path(given) for given in inputs if given is not None):
        if output.exists() and source.exists() and _is_of(output, source):
            raise FlowmagError(f"{output} is the input itself: give the output another name")
        check_beside(output, source)


def try_to_write(output: Path, like: Clip, left: Clip | None = None) -> None:
    """Find out whether a clip can be written, before the minutes that lie between.

    Nothing is left behind, and an older output stays as it was.

    Parameters
    ----------
    output
        Where to write.
    like
        A clip of the kind that will be written.
    left
        What will be shown beside it.

    Raises
    ------
    FlowmagError
        If the format is unknown or would lose data, or the place cannot be written.
    """
    from napari_flowmag.io import open_writer

    # A writer complains when it is closed without its frames, and takes back what it has begun.
    with contextlib.suppress(ValueError), open_writer(output, like, side_by_side=left):
        pass


def _is_of(path: Path, source: Path) -> bool:
    """Whether a path is a source by whatever name, a folder around it, or a picture of it."""
    if path.samefile(source) or path.resolve() in source.resolve().parents:
        return True
    if not (source.is_dir() and path.resolve().parent.samefile(source)):
        return False
    from napari_flowmag.io.images import files_of

    return path.resolve().name in {file.name for file in files_of(source)}
