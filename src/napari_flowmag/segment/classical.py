"""Segmentation without learned weights: places that look like the clicks, and hang together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_flowmag.segment import Prompt, to_rgb

_SIDE = 384  # px of the reduced picture on which everything is computed
_PATCH = 9  # px within which an object shows all that it is made of
_SEED = 4.0  # px around a click whose looks are taken
_ROUNDS = 3


@dataclass(frozen=True, eq=False)
class _Prepared:
    features: NDArray[np.float64]
    size: tuple[int, int]
    scale: float


class AppearanceSegmenter:
    """Finds the places that look more like the clicks inside than like those outside.

    Looks are colour, and how bright and how dark it is nearby, so that a speckled object is one
    thing. What was found first tells better how object and surroundings look, and is looked for
    again with that, as in GrabCut (Rother et al. 2004). Where the user made no click outside, the
    picture's rim or what is outside of the boxes is taken for it.
    """

    def prepare(self, image: NDArray[Any], check: Callable[[], None]) -> _Prepared:
        """Reduce the picture and compute how each place looks; see the protocol."""
        from scipy.ndimage import gaussian_filter, grey_closing, grey_opening
        from skimage.transform import resize

        rgb = to_rgb(image).astype(np.float64) / 255
        size = rgb.shape[:2]
        scale = min(_SIDE / max(size), 1.0)
        small = (max(round(size[0] * scale), 2), max(round(size[1] * scale), 2))
        reduced = resize(rgb, (*small, 3), anti_aliasing=scale < 1)
        check()
        grey = reduced.mean(axis=-1)
        bright = gaussian_filter(grey_closing(grey, (_PATCH, _PATCH)), 1)
        dark = gaussian_filter(grey_opening(grey, (_PATCH, _PATCH)), 1)
        check()
        colour = gaussian_filter(reduced - grey[..., None], (2, 2, 0))[..., :2]
        features = np.dstack([gaussian_filter(grey, 2), bright, dark, colour])
        spread = features.reshape(-1, features.shape[-1]).std(axis=0)
        return _Prepared(features / np.maximum(spread, 0.02), size, scale)

    def segment(self, prepared: _Prepared, prompt: Prompt) -> NDArray[np.bool_]:
        """Compare looks; see the protocol."""
        from skimage.transform import resize

        prompt = prompt.within(*prepared.size)
        inside, outside, allowed = _seeds(prepared, prompt)
        if not (inside.any() and outside.any()):  # points inside and outside take each other back
            return np.zeros(prepared.size, bool)
        looks = prepared.features.reshape(-1, prepared.features.shape[-1])
        share = _nearer(looks, looks[inside.ravel()], looks[outside.ravel()])
        found = inside
        for _ in range(_ROUNDS):
            share = share.reshape(inside.shape)
            found = _whole(share, inside, outside, allowed)
            if not found.any() or found[allowed].all():
                break
            share = _likelier(looks, found.ravel(), (allowed & ~found | outside).ravel())
        return np.asarray(resize(found.astype(np.float32), prepared.size, order=1) > 0.5)


def _seeds(prepared: _Prepared, prompt: Prompt) -> tuple[NDArray[np.bool_], ...]:
    """Where the picture is surely inside, surely outside, and where the object may be."""
    size = prepared.features.shape[:2]
    rows, columns = np.mgrid[: size[0], : size[1]]

    def near(points: tuple[tuple[float, float], ...]) -> NDArray[np.bool_]:
        there = np.zeros(size, bool)
        for row, column in points:
            away = np.hypot(rows - row * prepared.scale, columns - column * prepared.scale)
            there |= away <= max(_SEED, float(away.min()))
        return there

    inside, outside = near(prompt.inside), near(prompt.outside)
    allowed = np.ones(size, bool)
    if prompt.boxes:
        allowed[:] = False
        for top, left, bottom, right in np.array(prompt.boxes) * prepared.scale:
            allowed |= (rows >= top) & (rows <= bottom) & (columns >= left) & (columns <= right)
            if not prompt.inside:  # the middle of a box is the object's
                middle = np.hypot(
                    (rows - (top + bottom) / 2) / max(bottom - top, 1),
                    (columns - (left + right) / 2) / max(right - left, 1),
                )
                inside |= middle < 0.2
        outside |= ~allowed
    if not outside.any():
        rim = np.minimum.reduce([rows, columns, size[0] - 1 - rows, size[1] - 1 - columns])
        outside = (rim < 2) & ~inside
    return inside & ~near(prompt.outside), outside & ~near(prompt.inside), allowed


def _nearer(
    looks: NDArray[np.float64], inside: NDArray[np.float64], outside: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How much more each place looks like the nearest of one kind than of the other, in [-1, 1]."""
    from scipy.spatial import cKDTree

    near, far = (cKDTree(kind).query(looks, k=1)[0] for kind in (inside, outside))
    return np.asarray((far - near) / np.maximum(far + near, 1e-9))


def _likelier(
    looks: NDArray[np.float64], inside: NDArray[np.bool_], outside: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Difference of log likelihood under a Gaussian for each kind, in [-1, 1]."""
    scores = []
    for kind in (inside, outside):
        sample = looks[kind]
        covariance = np.cov(sample.T) + 0.02 * np.eye(looks.shape[1])
        away = looks - sample.mean(axis=0)
        distance = np.einsum("ij,ij->i", away @ np.linalg.inv(covariance), away)
        scores.append(-0.5 * (distance + np.linalg.slogdet(covariance)[1]))
    return np.asarray(np.tanh((scores[0] - scores[1]) / 4))


def _whole(
    share: NDArray[np.float64],
    inside: NDArray[np.bool_],
    outside: NDArray[np.bool_],
    allowed: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Smooth a vote and keep the pieces that hang together with a click inside, holes filled."""
    from scipy.ndimage import binary_fill_holes, gaussian_filter, label

    vote = np.where(inside, 1.0, np.where(outside, -1.0, share))
    mask = (gaussian_filter(vote, 1.5) > 0) & allowed
    pieces, _ = label(mask)
    kept = np.unique(pieces[inside])
    found = np.isin(pieces, kept[kept > 0])
    return np.asarray(binary_fill_holes(found) & allowed)
