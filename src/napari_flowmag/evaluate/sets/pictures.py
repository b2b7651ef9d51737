"""Pictures to cut objects out of and to put behind them: scikit-image's, or a folder's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_flowmag.errors import FlowmagError
from napari_flowmag.evaluate.sets.request import listing
from napari_flowmag.synthetic.clips import texture

FloatArray = NDArray[np.float32]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
_PHOTOS = (
    "coffee.png",
    "chelsea.png",
    "motorcycle_left.png",
    "rocket.jpg",
    "hubble_deep_field.jpg",
    "ihc.png",
    "coins.png",
    "brick.png",
    "grass.png",
    "gravel.png",
)  # in scikit-image's own folder, so nothing is downloaded
STRUCTURE = 0.02
"""A picture whose `structure` is this has enough of it to see motion of a hundredth of a px by."""

_PROCEDURAL = 0.15  # share of pictures that are random textures


class Pictures(Protocol):
    """A source of pictures."""

    @property
    def identity(self) -> Any:
        """What a fingerprint should know of the source."""

    def draw(self, rng: np.random.Generator, least: int) -> FloatArray:
        """Return a picture (H, W, 3) in [0, 1]; the shorter side has `least` px or more."""


@dataclass(frozen=True)
class BuiltIn:
    """scikit-image's photographs and micrographs, and random textures."""

    @property
    def identity(self) -> Any:
        """Names and sizes of the files."""
        return listing([_photo_path(name) for name in _PHOTOS], _photo_path(""))

    def draw(self, rng: np.random.Generator, least: int) -> FloatArray:
        """See `Pictures`."""
        if rng.random() < _PROCEDURAL:
            scales = tuple(rng.uniform((1.5, 4, 10), (3, 8, 30)))
            side = max(2 * least, 256)
            return np.moveaxis(texture((side, side), rng, scales=scales), 0, 2)
        photos = [photo for photo in map(_photo, _PHOTOS) if min(photo.shape[:2]) >= least]
        return photos[rng.integers(len(photos))]


@dataclass(frozen=True)
class PictureFolder:
    """PNG and JPEG pictures in a folder and the folders in it."""

    root: Path
    paths: tuple[Path, ...]

    @classmethod
    def open(cls, root: Path) -> PictureFolder:
        """List the pictures.

        Raises
        ------
        FlowmagError
            If there is no such folder, or no picture in it.
        """
        return cls(root, picture_paths(root))

    @property
    def identity(self) -> Any:
        """Names and sizes of the files."""
        return listing(self.paths, self.root)

    def draw(self, rng: np.random.Generator, least: int) -> FloatArray:
        """See `Pictures`; smaller pictures are enlarged.

        Raises
        ------
        FlowmagError
            If the picture cannot be read.
        """
        picture = read_rgb(self.paths[rng.integers(len(self.paths))])
        enlarge = least / min(picture.shape[:2])
        if enlarge <= 1:
            return picture
        height, width = (int(np.ceil(enlarge * n)) for n in picture.shape[:2])
        return _sampled(picture, 1 / enlarge, (height, width))


def picture_paths(root: Path) -> tuple[Path, ...]:
    """Return all PNG and JPEG files in a folder and the folders in it, in order.

    Raises
    ------
    FlowmagError
        If there is none.
    """
    if not root.is_dir():
        raise FlowmagError(f"{root}: no such folder")
    paths = tuple(sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES))
    if not paths:
        raise FlowmagError(f"{root}: no PNG or JPEG pictures in this folder")
    return paths


def read_rgb(path: Path) -> FloatArray:
    """Read a PNG or JPEG as (H, W, 3) in [0, 1].

    Raises
    ------
    FlowmagError
        If it is missing or damaged.
    """
    return read_rgba(path)[..., :3]


def read_rgba(path: Path) -> FloatArray:
    """Read a PNG or JPEG as (H, W, 4) in [0, 1]; opaque where it says nothing else.

    Raises
    ------
    FlowmagError
        If it is missing or damaged.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            pixels = image.convert("RGBA")
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow's decoders raise
        raise FlowmagError(f"{path}: missing, damaged, or no PNG or JPEG picture") from error
    return np.asarray(pixels, dtype=np.float32) / np.float32(255)


def structure(picture: FloatArray, inside: NDArray[np.bool_]) -> float:
    """Return the root mean square slope of (3, H, W) inside of a mask, a px, of 1 for white."""
    slope = np.hypot(*np.gradient(picture.mean(axis=0)))
    return float(np.sqrt((slope[inside] ** 2).mean()))


def shrink(picture: FloatArray, scale: float, shape: tuple[int, int]) -> FloatArray:
    """Make a picture smaller, blurred by 1 px of the result as Oh et al. do.

    Parameters
    ----------
    picture
        (H, W, C).
    scale
        Px of the picture to a px of the result, 1 or more.
    shape
        (H, W) of the result; it begins at the picture's upper left corner.
    """
    blurred = ndimage.gaussian_filter(picture, (scale, scale, 0), mode="nearest", truncate=5)
    return _sampled(np.asarray(blurred, dtype=np.float32), scale, shape)


def _sampled(picture: FloatArray, step: float, shape: tuple[int, int]) -> FloatArray:
    """Sample (H, W, C) in steps of so many px, by cubic splines."""
    first = (step - 1) / 2
    planes = [
        ndimage.affine_transform(
            picture[..., c], [step, step], first, output_shape=shape, order=3, mode="nearest"
        )
        for c in range(picture.shape[2])
    ]
    return np.asarray(np.stack(planes, axis=-1), dtype=np.float32)


def background(source: Pictures, size: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Draw what lies behind everything, (3, H, W) in [0, 1], from a random part of a picture."""
    height, width = size
    picture = source.draw(rng, max(size))
    scale = float(rng.uniform(1, min(picture.shape[0] / height, picture.shape[1] / width, 2)))
    top = int(rng.integers(picture.shape[0] - scale * height + 1))
    left = int(rng.integers(picture.shape[1] - scale * width + 1))
    reduced = shrink(picture[top:, left:], scale, size)
    return np.asarray(np.moveaxis(np.clip(reduced, 0, 1), -1, 0), dtype=np.float32)


def _photo_path(name: str) -> Path:
    import skimage.data

    path = Path(skimage.data.__file__).parent / name
    if not path.exists():
        raise FlowmagError(f"{path}: missing from this installation of scikit-image")
    return path


@lru_cache(maxsize=len(_PHOTOS))
def _photo(name: str) -> FloatArray:
    return read_rgb(_photo_path(name))
