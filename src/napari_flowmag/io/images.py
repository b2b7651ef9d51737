"""Read pictures and folders of pictures in natural order; write folders of PNG files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_flowmag.clip import Clip
from napari_flowmag.errors import FlowmagError
from napari_flowmag.io import tiff
from napari_flowmag.io._facts import clip_name, dump_facts, load_facts, picture_facts
from napari_flowmag.io._lazy import lazy_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TIFF = (".tif", ".tiff")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
_FACTS = "flowmag.json"  # beside the PNG files: what they cannot say of a clip
_PNG_TYPES = ("uint8", "uint16")

_PNG = b"\x89PNG\r\n\x1a\n"


def natural_key(name: str) -> list[str | int]:
    """Return a key that sorts ``frame2`` before ``frame10``, and letters whatever their case."""
    # The pieces alternate between text and digits, so that like is compared with like.
    pieces = re.split(r"(\d+)", name.lower())
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)]


def read(path: Path) -> Clip:
    """Read a folder of pictures, each a frame, or one picture as a clip of one frame.

    Parameters
    ----------
    path
        A PNG, JPEG, BMP or TIFF file, or a folder of such, which are taken in natural order.

    Raises
    ------
    FlowmagError
        If there is no picture, one of them is no picture, or they are not all of one size.
    """
    files = files_of(path) if path.is_dir() else [path]
    if not files:
        raise FlowmagError(f"{path} holds no pictures: give a folder of PNG, JPEG, BMP or TIFF")
    axes, first = _read_picture(files[0])
    _check_sizes(files)
    note = path / _FACTS
    ours = load_facts(note.read_text("utf-8")) if note.is_file() else {}
    facts = _facts_of_picture(files[0]) | {k: v for k, v in ours.items() if v is not None}
    shape = (len(files), *first.shape)
    channels = first.shape[axes.index("C")] if "C" in axes else 1
    return Clip(
        lazy_frames(_Pictures(files).read, f"T{axes}", shape, first.dtype, path.name),
        f"T{axes}",
        name=clip_name(path),
        **picture_facts(facts, channels),
    )


def _facts_of_picture(file: Path) -> dict[str, Any]:
    """Return what a picture tells of the clip that it is a frame of: something only if a TIFF."""
    if file.suffix.lower() not in _TIFF:
        return {}
    clip = tiff.read(file)
    return {key: getattr(clip, key) for key in ("fps", "pixel_size", "unit", "channel_names")}


@dataclass(frozen=True)
class _Pictures:
    files: list[Path]

    def read(self, t: int, z: int) -> NDArray[Any]:
        return _read_picture(self.files[t])[1]


def files_of(folder: Path) -> list[Path]:
    """Return the pictures in a folder in natural order."""
    files = [file for file in folder.iterdir() if is_picture_name(file)]
    return sorted(files, key=lambda file: natural_key(file.name))


def is_picture_name(file: Path) -> bool:
    """Whether a file in a folder counts as one of its pictures."""
    # A leading dot marks what the Finder and network drives leave beside each file.
    return file.suffix.lower() in PICTURES + _TIFF and not file.name.startswith(".")


def is_folder_of_frames(folder: Path) -> bool:
    """Whether a folder holds pictures, and no stacks, as its first file tells."""
    import tifffile

    files = files_of(folder)
    if not files or files[0].suffix.lower() not in _TIFF:
        return bool(files)
    try:
        with tifffile.TiffFile(files[0]) as tif:
            series = tif.series[0]
            return all(a in "CYXS" for a, n in zip(series.axes, series.shape, strict=True) if n > 1)
    except (OSError, ValueError, tifffile.TiffFileError):
        return True  # which picture is damaged is said when it is read


def _check_sizes(files: list[Path]) -> None:
    """Raise FlowmagError unless all files are of one size, as their headers tell."""
    sizes: dict[tuple[int, int], Path] = {}
    for file in files:
        sizes.setdefault(_size(file), file)
    if len(sizes) > 1:
        ((w1, h1), one), ((w2, h2), two) = list(sizes.items())[:2]
        raise FlowmagError(
            f"{one.parent} holds pictures of different sizes ({one.name}: {w1}×{h1}, "
            f"{two.name}: {w2}×{h2}): a clip needs frames of one size"
        )


def _size(file: Path) -> tuple[int, int]:
    """Return width and height."""
    import PIL.Image
    import tifffile

    try:
        if file.suffix.lower() in _TIFF:
            with tifffile.TiffFile(file) as tif:
                return tif.pages.first.imagewidth, tif.pages.first.imagelength
        with PIL.Image.open(file) as picture:
            return picture.size
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise FlowmagError(f"{file} is not a picture, or damaged: {error}") from error


def _read_picture(file: Path) -> tuple[str, NDArray[Any]]:
    """Return the axes of a picture, such as ``"YXS"``, and its values as they are stored."""
    suffix = file.suffix.lower()
    try:
        if suffix in _TIFF:
            return tiff.read_picture(file)
        picture = decode(file)
    except FlowmagError:
        raise
    except Exception as error:  # each decoder has errors of its own for damaged files
        raise FlowmagError(f"{file} is not a picture, or damaged: {error}") from error
    return "YXS"[: picture.ndim], picture


def decode(file: Path) -> NDArray[Any]:
    """Read a picture that is no TIFF as (H, W) or (H, W, C), in its own data type.

    Raises
    ------
    Exception
        Whatever the decoder raises, if it is damaged.
    """
    with file.open("rb") as stored:
        is_png = stored.read(len(_PNG)) == _PNG  # names are not always right
    return _decode_png(file) if is_png else _decode_other(file)


def _decode_png(file: Path) -> NDArray[Any]:
    import imagecodecs  # unlike Pillow it keeps the 16 bits of colour pictures

    picture = np.asarray(imagecodecs.png_decode(file.read_bytes()))
    has_opacity = picture.ndim == 3 and picture.shape[-1] == 2  # beside a single grey
    return picture[..., 0] if has_opacity else picture


def _decode_other(file: Path) -> NDArray[Any]:
    import PIL.Image
    import PIL.ImageOps

    with PIL.Image.open(file) as stored:
        picture = PIL.ImageOps.exif_transpose(stored)  # cameras store portraits lying down
        return np.asarray(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))


def check(path: Path, like: Clip) -> None:
    """Raise FlowmagError if a folder of PNG files at `path` cannot hold such a clip."""
    many = [a for a in "ZC" if like.sizes.get(a, 1) > 1]
    if many:
        what = {"Z": "planes in depth", "C": "channels"}
        raise FlowmagError(
            f"{path.name}: a PNG file holds one picture, and this clip has {like.sizes[many[0]]} "
            f"{what[many[0]]} a frame: write .tif or .ome.zarr"
        )
    if like.dtype.name not in _PNG_TYPES:
        raise FlowmagError(
            f"{path.name}: PNG files would lose the values of a {like.dtype} clip: "
            f"write .tif or .ome.zarr"
        )
    if path.is_dir() and any(path.iterdir()):
        raise FlowmagError(f"{path} is a folder with something in it: give a new folder")


@contextmanager
def sink(
    temporary: Path, path: Path, like: Clip, provenance: dict[str, Any] | None
) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Open a folder for the frames of a clip, given one after the other."""
    import imagecodecs

    temporary.mkdir()
    (temporary / _FACTS).write_text(dump_facts(like, provenance, indent=2) + "\n", "utf-8")
    digits = max(5, len(str(len(like) - 1)))
    picture_shape = [n for a, n in like.sizes.items() if a in "YXS"]
    count = 0

    def write(frame: NDArray[Any]) -> None:
        nonlocal count
        picture = np.ascontiguousarray(frame.reshape(picture_shape))
        file = temporary / f"frame_{count:0{digits}d}.png"
        file.write_bytes(imagecodecs.png_encode(picture))
        count += 1

    yield write
