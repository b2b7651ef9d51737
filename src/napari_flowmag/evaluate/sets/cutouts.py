"""Objects cut out of pictures: with random outlines, or from a folder that knows their masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_flowmag.errors import FlowmagError
from napari_flowmag.evaluate.sets.masked import MaskedFolder
from napari_flowmag.evaluate.sets.pictures import (
    STRUCTURE,
    BuiltIn,
    FloatArray,
    shrink,
    structure,
)

_TRIES = 20
_WAVES = np.array([0.0, 0.12, 0.08, 0.06, 0.04])[:, None]  # of outlines; the first would shift them


class Objects(Protocol):
    """A source of objects."""

    @property
    def identity(self) -> Any:
        """What a fingerprint should know of the source."""

    def draw(self, rng: np.random.Generator, radius: float) -> FloatArray:
        """Return an object (4, h, w): RGB times cover, and cover, both in [0, 1].

        It is about twice `radius` px across, blurred by 1 px, and clear at its margin.
        """


@dataclass(frozen=True)
class RandomOutlines:
    """Parts of built-in pictures with smooth random outlines."""

    @property
    def identity(self) -> Any:
        """Names and sizes of the pictures."""
        return BuiltIn().identity

    def draw(self, rng: np.random.Generator, radius: float) -> FloatArray:
        """See `Objects`."""
        return _with_contrast(lambda: self._one(rng, radius))

    def _one(self, rng: np.random.Generator, radius: float) -> FloatArray:
        reach = 1.5 * radius  # outlines stay within
        picture = BuiltIn().draw(rng, int(np.ceil(2 * reach)))
        scale = float(rng.uniform(1, min(2.0, min(picture.shape[:2]) / (2 * reach))))
        side = int(2 * reach * scale)
        top, left = (int(rng.integers(n - side + 1)) for n in picture.shape[:2])
        patch = picture[top : top + side, left : left + side]
        return cut(patch, random_outline(side, scale * radius, rng), scale)


@dataclass(frozen=True)
class ObjectFolder:
    """Objects of a folder: PNG with transparency, Pascal VOC or COCO."""

    folder: MaskedFolder

    @classmethod
    def open(cls, root: Path) -> ObjectFolder:
        """List the objects.

        Raises
        ------
        FlowmagError
            If there is no such folder, or no object in it.
        """
        return cls(MaskedFolder.open(root))

    @property
    def identity(self) -> Any:
        """Names and sizes of the files."""
        return self.folder.identity

    def draw(self, rng: np.random.Generator, radius: float) -> FloatArray:
        """See `Objects`; smaller objects keep their size.

        Raises
        ------
        FlowmagError
            If a picture cannot be read, or no object found is large enough.
        """

        def one() -> FloatArray:
            picture, mask = self.folder.draw(rng)
            return cut(picture, mask, max(1.0, max(mask.shape) / (2.4 * radius)))

        return _with_contrast(one)


def _with_contrast(draw: Any) -> FloatArray:
    """Draw until there is enough structure to see motion by; at last the best one is taken."""
    best, most = None, -1.0
    for _ in range(_TRIES):
        rgba: FloatArray = draw()
        inside = rgba[3] > 0.99
        contrast = structure(rgba[:3], inside) if inside.any() else 0.0
        if contrast > most:
            best, most = rgba, contrast
        if most >= STRUCTURE:
            break
    if best is None:
        raise FlowmagError("no object could be cut out")
    return best


def cut(picture: FloatArray, mask: NDArray[Any], scale: float) -> FloatArray:
    """Cut an object out.

    Parameters
    ----------
    picture
        (H, W, 3) in [0, 1].
    mask
        (H, W), from 0 outside the object to 1 inside.
    scale
        Px of the picture to a px of the object, 1 or more.

    Returns
    -------
    ndarray
        (4, h, w) float32: RGB times cover, and cover. The margin is wide enough for the blur of
        1 px, which leaves 0.7 % of the amplitude at the Nyquist frequency: shifting the object in
        Fourier space neither rings nor aliases.
    """
    cover = np.asarray(mask, dtype=np.float32)[..., None]
    rgba = np.concatenate([picture * cover, cover], axis=2)
    margin = int(np.ceil(5 * scale))
    rgba = np.pad(rgba, ((margin, margin), (margin, margin), (0, 0)))
    shape = tuple(int(n / scale) for n in rgba.shape[:2])
    return np.moveaxis(shrink(rgba, scale, (shape[0], shape[1])), -1, 0)


def random_outline(side: int, radius: float, rng: np.random.Generator) -> FloatArray:
    """Draw a smooth blob, (side, side), from 0 outside to 1 inside, `radius` px in the mean."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    angle, distance = np.arctan2(y, x), np.hypot(x, y)
    waves = rng.normal(size=(len(_WAVES), 2)) * _WAVES
    outline = np.ones_like(angle)
    for k, (cosine, sine) in enumerate(waves, start=1):
        outline += cosine * np.cos(k * angle) + sine * np.sin(k * angle)
    outline = radius * np.clip(outline, 0.55, 1.42)
    return np.asarray(np.clip(0.5 + outline - distance, 0, 1), dtype=np.float32)
