"""Objects that translate on a still background, drawn exactly at any displacement.

An object is a band-limited picture of four channels, RGB times cover and cover, which a phase ramp
in Fourier space moves by any distance without error. Over the background it is laid as
``object + (1 - cover) background``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from napari_flowmag.evaluate.case import Sample
from napari_flowmag.evaluate.sets.cutouts import ObjectFolder, Objects, RandomOutlines
from napari_flowmag.evaluate.sets.pictures import (
    BuiltIn,
    FloatArray,
    PictureFolder,
    Pictures,
    background,
)
from napari_flowmag.evaluate.sets.request import Request
from napari_flowmag.synthetic.clips import shift_periodic

SIZE = (256, 256)
REACH = 10.0  # px: how far objects move in the magnified frame
CLEARANCE = 8.0  # px between what may change and what is called still

_RADII = ((50.0, 80.0), (34.0, 48.0), (28.0, 38.0))  # px, by the number of objects
_GAP = 12  # px around an object: its own way, and its blurred outline
_TRIES = 40
_FAINTEST = 0.5 / 255  # of cover: less does not change a grey level


@dataclass(frozen=True)
class Sources:
    """What scenes are made of."""

    objects: Objects
    backgrounds: Pictures

    @classmethod
    def of(cls, request: Request) -> Sources:
        """Open the folders that the user named; the built-in pictures otherwise.

        Raises
        ------
        FlowmagError
            If a folder is missing or holds nothing fit.
        """
        objects, backgrounds = request.objects, request.backgrounds
        return cls(
            ObjectFolder.open(objects) if objects else RandomOutlines(),
            PictureFolder.open(backgrounds) if backgrounds else BuiltIn(),
        )

    @property
    def identity(self) -> Any:
        """What a fingerprint should know of both."""
        return [self.objects.identity, self.backgrounds.identity]


@dataclass(frozen=True)
class Scene:
    """A background and the objects on it.

    Attributes
    ----------
    ground
        (3, H, W) in [0, 1].
    objects
        (N, 4, H, W): RGB times cover, and cover. They do not touch.
    """

    ground: FloatArray
    objects: FloatArray

    def draw(self, moves: ArrayLike) -> FloatArray:
        """Draw it with each object moved by (dx, dy) px, (N, 2); (H, W, 3) in [0, 1]."""
        picture = self.ground
        for moved in self._moved(moves):
            picture = moved[:3] + (1 - moved[3]) * picture
        return np.moveaxis(np.clip(picture, 0, 1), 0, -1)

    def covers(self, moves: ArrayLike) -> FloatArray:
        """Return how much of each pixel each moved object covers, (N, H, W)."""
        return np.stack([moved[3] for moved in self._moved(moves)])

    def _moved(self, moves: ArrayLike) -> list[FloatArray]:
        pairs = zip(self.objects, np.asarray(moves, dtype=np.float64), strict=True)
        return [shift_periodic(layer, dx, dy) for layer, (dx, dy) in pairs]


def random_scene(sources: Sources, rng: np.random.Generator) -> Scene:
    """Put one to three objects on a background, apart from each other and from the edge."""
    count = 1 + int(rng.integers(3))
    objects: list[FloatArray] = []
    taken = np.zeros(SIZE, dtype=bool)
    for _ in range(count):
        rgba = sources.objects.draw(rng, float(rng.uniform(*_RADII[count - 1])))
        box = _free_place(taken, rgba[3], rng)
        if box is None and objects:
            continue  # no room left
        layer = np.zeros((4, *SIZE), dtype=np.float32)
        layer[(slice(None), *(box or _middle(rgba[3])))] = rgba
        taken |= layer[3] > _FAINTEST
        objects.append(layer)
    return Scene(background(sources.backgrounds, SIZE, rng), np.stack(objects))


def _free_place(
    taken: NDArray[np.bool_], cover: FloatArray, rng: np.random.Generator
) -> tuple[slice, slice] | None:
    """Find a box where an object stays clear of the others and of the edge, if it is moved."""
    near = np.ones_like(taken)
    near[_GAP:-_GAP, _GAP:-_GAP] = False
    if taken.any():
        near |= ndimage.distance_transform_edt(~taken) <= 2 * _GAP
    visible = cover > _FAINTEST
    for _ in range(_TRIES):
        top, left = (int(rng.integers(n - m + 1)) for n, m in zip(SIZE, cover.shape, strict=True))
        box = slice(top, top + cover.shape[0]), slice(left, left + cover.shape[1])
        if not (near[box] & visible).any():
            return box
    return None


def _middle(cover: FloatArray) -> tuple[slice, slice]:
    top, left = ((n - m) // 2 for n, m in zip(SIZE, cover.shape, strict=True))
    return slice(top, top + cover.shape[0]), slice(left, left + cover.shape[1])


def random_moves(count: int, length: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (count, 2) displacements of one length in random directions."""
    angle = rng.uniform(0, 2 * np.pi, count)
    return length * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def sample_of(
    scene: Scene,
    moves: NDArray[np.float64],
    alpha: float,
    camera: Callable[[FloatArray], NDArray[np.uint8]],
) -> Sample:
    """Make a pair of frames, in grey levels of 255, and what is known about it.

    Parameters
    ----------
    scene
        What is shown.
    moves
        (N, 2) px: how far each object moves from the first frame to the second.
    alpha
        Magnification.
    camera
        Makes grey levels, with the camera's noise, of a picture in [0, 1].
    """
    places = [factor * moves for factor in (0.0, 1.0, alpha)]
    rest, moved, magnified = (scene.draw(place) for place in places)
    covers = [scene.covers(place) for place in places]
    inside = covers[0] > 0.5
    motion = np.zeros((2, 2, *SIZE), dtype=np.float32)
    motion[1] = np.einsum("nc,nhw->chw", moves, inside)
    return Sample(
        frames=np.stack([camera(rest), camera(moved)]),
        value_range=(0.0, 255.0),
        truth=255 * np.stack([rest, magnified]),
        motion=motion,
        moving=covers[0].max(0) > 0.5,
        still=still_pixels(np.max(covers, axis=(0, 1))),
    )


def still_pixels(cover: FloatArray) -> NDArray[np.bool_] | None:
    """Return what is well clear of anything that moves, (H, W); None if nothing is.

    Parameters
    ----------
    cover
        (H, W): how much of each pixel is ever covered.
    """
    still = ndimage.distance_transform_edt(cover <= _FAINTEST) > CLEARANCE
    return still if still.any() else None


def dithered(picture: FloatArray, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Round to grey levels of 255 so that the mean is kept, as Oh et al. do.

    A value of 102.3 becomes 103 in three cases of ten: otherwise motion too small to change the
    rounded value would not be there at all.
    """
    return grey_levels(np.floor(255 * picture + rng.random(picture.shape)))


def photon_noise(picture: FloatArray, factor: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Add photon noise, and round to grey levels of 255.

    Its variance is `factor` times the value, both in grey levels: each photon makes so many.
    """
    photons = rng.poisson(255 * picture.astype(np.float64) / factor)
    return grey_levels(np.round(factor * photons))


def grey_levels(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Cut off what 8 bits do not hold."""
    return np.asarray(np.clip(values, 0, 255), dtype=np.uint8)
