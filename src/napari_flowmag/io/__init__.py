"""Read and write clips.

A format is a row of `_FORMATS` and a module with ``read(path) -> Clip``, or with ``check(path,
like)`` and ``sink(temporary, path, like, provenance)``, or with all three.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_flowmag.atomic import replacing
from napari_flowmag.clip import Clip
from napari_flowmag.errors import FlowmagError
from napari_flowmag.io._photometric import palette_numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "LOSSY",
    "Writer",
    "check_beside",
    "is_clip",
    "open_writer",
    "palette_numbers",
    "read_clip",
    "readable_suffixes",
    "writable_suffixes",
    "write_clip",
]


@dataclass(frozen=True)
class _Format:
    name: str
    suffixes: tuple[str, ...]
    reader: str
    writer: str | None


_FOLDER = _Format("folder of pictures", (), "images", "images")
_ZARR = _Format("OME-Zarr", (".zarr",), "ome_zarr", "ome_zarr")
_FORMATS = (
    _Format("TIFF", (".tif", ".tiff"), "tiff", "tiff_writer"),
    _Format("BigTIFF", (".btf", ".tf2", ".tf8"), "tiff", None),
    _ZARR,
    _Format("MP4", (".mp4",), "video", "mp4"),
    _Format("video", (".m4v", ".mov", ".avi", ".mkv", ".gif"), "video", None),
    _Format("picture", (".png", ".jpg", ".jpeg", ".bmp"), "images", None),
    _FOLDER,
)

LOSSY = (".jpg", ".jpeg", ".mp4", ".m4v")
"""Files whose values are not quite those that were saved: no place for labels."""


def readable_suffixes() -> tuple[str, ...]:
    """Return the suffixes of the files that :func:`read_clip` reads."""
    return tuple(suffix for f in _FORMATS for suffix in f.suffixes)


def writable_suffixes() -> tuple[str, ...]:
    """Return the suffixes of the files that :func:`open_writer` writes."""
    return tuple(suffix for f in _FORMATS if f.writer for suffix in f.suffixes)


def is_clip(path: str | PathLike[str]) -> bool:
    """Whether a path is of a kind that :func:`read_clip` reads; a folder of clips is none.

    The name decides for a file; for a folder, what is in it.
    """
    path = Path(path)
    try:
        if path.is_dir():
            is_zarr = _module("ome_zarr").is_zarr(path)
            return bool(is_zarr or _module("images").is_folder_of_frames(path))
    except PermissionError:
        return False
    return path.suffix.lower() in readable_suffixes()


def _module(name: str | None) -> Any:
    return importlib.import_module(f"{__name__}.{name}")


def read_clip(path: str | PathLike[str], *, fps: float | None = None) -> Clip:
    """Read a clip lazily: its frames are read when they are asked for.

    Parameters
    ----------
    path
        A TIFF stack (plain, ImageJ, OME-TIFF), an OME-Zarr image, a video (MP4, MOV, AVI, MKV,
        GIF), a folder of pictures (PNG, JPEG, BMP, TIFF; in natural order), or one picture.
    fps
        Frames a second at which the clip was recorded, where the file does not know it: high-speed
        footage is often stored at 30.

    Returns
    -------
    Clip
        With the file's pixel size, frame rate, channel names and, if flowmag wrote it, provenance.

    Raises
    ------
    FlowmagError
        If the file is missing, of an unknown kind, empty, cut off or damaged, or holds no clip.
    """
    source = Path(path)
    form = _format_to_read(source)
    try:
        clip: Clip = _module(form.reader).read(source)
    except (FlowmagError, MemoryError):
        raise
    except Exception as error:  # whatever the libraries below make of a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FlowmagError(f"{source} is damaged, or no {form.name} file: {reason}") from error
    facts = {"path": str(source.resolve()), "format": form.name, **clip.metadata}
    if fps is not None:  # of all frames alike
        facts.pop("frame_durations_ms", None)
    return clip.replace(metadata=facts, fps=clip.fps if fps is None else fps)


def _format_to_read(path: Path) -> _Format:
    try:
        if path.is_dir():
            is_zarr = _module("ome_zarr").is_zarr(path) or path.suffix.lower() == ".zarr"
            return _ZARR if is_zarr else _FOLDER
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise FlowmagError(f"{path}: there is no such file or folder") from None
    except OSError as error:
        raise FlowmagError(f"{path} cannot be read: {error.strerror or error}") from error
    suffix = path.suffix.lower()
    if suffix not in readable_suffixes():
        what = f"the suffix {suffix} is unknown" if suffix else "it has no suffix"
        raise FlowmagError(
            f"{path}: {what}: use one of {', '.join(readable_suffixes())}, or a folder of pictures"
        )
    if empty:
        raise FlowmagError(f"{path} is empty: it has 0 bytes")
    return next(f for f in _FORMATS if suffix in f.suffixes)


class Writer:
    """Takes the frames of a clip in order; made by :func:`open_writer`."""

    def __init__(
        self, write: Callable[[NDArray[Any]], None], path: Path, like: Clip, left: Clip | None
    ) -> None:
        self._write = write
        self._path = path
        self._like = like
        self._left = left
        self._count = 0

    def write(self, frame: NDArray[Any]) -> None:
        """Write the next time point.

        Parameters
        ----------
        frame
            Array of the axes after T of the clip that the writer was made for, of its dtype.

        Raises
        ------
        FlowmagError
            If the disk is full or the file cannot be written for another reason.
        ValueError
            If the frame is not like those of the clip.
        """
        if frame.shape != self._like.shape[1:] or frame.dtype != self._like.dtype:
            raise ValueError(
                f"frame {self._count} has shape {frame.shape} and type {frame.dtype}, the clip "
                f"{self._like.shape[1:]} and {self._like.dtype}"
            )
        if self._left is not None:
            width = self._like.axes.index("X") - 1
            frame = np.concatenate([self._left.frame(self._count), frame], axis=width)
        frame = frame.astype(frame.dtype.newbyteorder("="), copy=False)
        with _disk_errors(self._path):
            self._write(frame)
        self._count += 1

    def check_complete(self) -> None:
        """Raise ValueError if fewer or more frames were written than the clip has."""
        if self._count != len(self._like):
            raise ValueError(f"{self._count} of {len(self._like)} frames were written")


@contextmanager
def open_writer(
    path: str | PathLike[str],
    like: Clip,
    *,
    side_by_side: Clip | None = None,
    provenance: dict[str, Any] | None = None,
) -> Iterator[Writer]:
    """Open a file for frames that are given one after the other.

    The file appears under its name, whole, when the block ends; if that ends with an error or an
    interrupt, nothing is left behind and an older file of that name is as it was.

    Parameters
    ----------
    path
        Where to write: ``.tif`` (ImageJ where it can hold the clip, else OME-TIFF; ``.ome.tif``
        always OME), ``.ome.zarr``, ``.mp4``, or a name without suffix for a folder of PNG files.
    like
        A clip of the shape, dtype, axes and physical scale of what will be written.
    side_by_side
        A clip of the same kind to show left of what is written, usually the original.
    provenance
        How the frames came to be, stored in the file's metadata: values that JSON can hold.

    Raises
    ------
    FlowmagError
        If the format is unknown or would lose data, the place cannot be written, or is the input.
    """
    target = Path(path)
    whole = like if side_by_side is None else _beside(side_by_side, like)
    with _disk_errors(target):
        module = _module(_format_to_write(target, like).writer)
        module.check(target, whole)
    with ExitStack() as stack:
        with _disk_errors(target):
            temporary = stack.enter_context(replacing(target))
            write = stack.enter_context(module.sink(temporary, target, whole, provenance))
        writer = Writer(write, target, like, side_by_side)
        yield writer
        writer.check_complete()
        with _disk_errors(target):
            stack.close()


def _beside(left: Clip, right: Clip) -> Clip:
    import dask.array as da

    if (left.axes, left.shape, left.dtype) != (right.axes, right.shape, right.dtype):
        raise FlowmagError(
            f"side by side needs two clips of one kind, not {left.shape} {left.dtype} and "
            f"{right.shape} {right.dtype}"
        )
    axis = right.axes.index("X")
    return right.replace(frames=da.concatenate([left.frames, right.frames], axis=axis))


def _format_to_write(path: Path, like: Clip) -> _Format:
    """Return the format that a name asks for, if something of that name may be made."""
    folder = path.resolve().parent
    if not folder.is_dir():
        raise FlowmagError(f"{path}: the folder {folder} does not exist: make it first")
    source = like.metadata.get("path")
    if source is not None and path.exists() and Path(source).exists() and path.samefile(source):
        raise FlowmagError(f"{path} is the input itself: give the output another name")
    if source is not None:
        check_beside(path, Path(source))
    suffix = path.suffix.lower()
    if suffix in writable_suffixes():
        form = next(f for f in _FORMATS if suffix in f.suffixes)
        is_like = _module("ome_zarr").is_zarr(path) if form is _ZARR else path.is_file()
    elif not suffix or path.is_dir():
        form, is_like = _FOLDER, path.is_dir()
    else:
        raise FlowmagError(
            f"{path}: flowmag does not write {suffix}: use {', '.join(writable_suffixes())}, or a "
            f"name without suffix for a folder of PNG files"
        )
    if path.exists() and not is_like:  # only what is replaced by its like is replaced at all
        raise FlowmagError(f"{path} is there and is no {form.name}: give another name")
    return form


def check_beside(path: Path, source: Path) -> None:
    """Refuse to write among what makes up a folder that is read.

    Parameters
    ----------
    path
        Where to write.
    source
        What is read.

    Raises
    ------
    FlowmagError
        If the path lies in an OME-Zarr image, or would be one of the pictures in a folder.
    """
    if not source.is_dir():
        return
    place, folder = path.resolve(), source.resolve()
    if _module("ome_zarr").is_zarr(folder):
        joins = folder in place.parents
    else:
        joins = folder == place.parent and _module("images").is_picture_name(place)
    if joins:
        raise FlowmagError(
            f"{path} lies in the input {source} and would be taken for a part of it: "
            f"write to another folder"
        )


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn what the system says about a file being written into one line."""
    try:
        yield
    except OSError as error:
        raise FlowmagError(f"{path} cannot be written: {error.strerror or error}") from error


def write_clip(
    clip: Clip,
    path: str | PathLike[str],
    *,
    side_by_side: Clip | None = None,
    provenance: dict[str, Any] | None = None,
) -> Path:
    """Write a clip, one frame after the other; see :func:`open_writer`.

    Parameters
    ----------
    clip
        The clip. Unless `provenance` is given, that of its metadata is kept.
    path, side_by_side, provenance
        As for :func:`open_writer`.

    Returns
    -------
    Path
        Where the clip is now.
    """
    provenance = provenance or clip.metadata.get("provenance")
    with open_writer(path, clip, side_by_side=side_by_side, provenance=provenance) as writer:
        for frame in clip:
            writer.write(frame)
    return Path(path)
