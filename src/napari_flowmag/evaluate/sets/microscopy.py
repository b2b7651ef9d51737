"""Fluorescence microscopy: a cell that beats or drifts next to still specks, 16 bit.

Stained granules and filaments, as wide as the point-spread function, sit in a haze. A cell that
beats is pulled towards its middle, one that drifts moves as a whole; both move by up to 0.4 px. The
camera adds photon noise (Poisson) and read noise (Gaussian); tasks differ in how many photons it
counts where the picture is bright, at its 99.5th percentile. Spots are Gaussians drawn at their
exact places.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from napari_flowmag.evaluate.case import Case, CaseSet, Sample, band_around
from napari_flowmag.evaluate.sets.request import Request, fingerprint, generator
from napari_flowmag.evaluate.sets.scene import still_pixels
from napari_flowmag.synthetic.blobs import Blobs

PHOTONS = (100.0, 1000.0, 10000.0)
ALPHAS = (5.0, 10.0, 20.0)
KINDS = ("beating", "drifting")
AMPLITUDE = 0.4  # px
SIZE = (256, 256)
_FRAMES = 8  # one beat
_FPS = 30.0
_CELLS = 2  # of each kind and brightness
_RADIUS = 84.0  # px, of the cell in the mean
_PSF = 1.3  # px
_OFFSET, _GAIN, _READ = 100.0, 2.5, 1.6  # counts; counts a photon; photons
_BRIGHT = 99.5  # percentile of the picture
_BACKGROUND = 0.03  # of what is bright
_VERSION = 1

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Specimen:
    """A cell and what lies beside it.

    Attributes
    ----------
    cell
        Spots that move; brightness 1 where the picture is bright.
    specks
        Spots that stay.
    inside
        (H, W) bool: where the cell is.
    kind
        How it moves: one of `KINDS`.
    direction
        Of the drift, radians.
    """

    cell: Blobs
    specks: Blobs
    inside: NDArray[np.bool_]
    kind: str
    direction: float

    def field(self, x: Float64Array, y: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Return (dx, dy) px at the largest motion, for places in px."""
        if self.kind == "drifting":
            one = np.ones_like(x)
            return (
                AMPLITUDE * np.cos(self.direction) * one,
                AMPLITUDE * np.sin(self.direction) * one,
            )
        middle = (np.array(SIZE[::-1]) - 1) / 2
        return -AMPLITUDE * (x - middle[0]) / _RADIUS, -AMPLITUDE * (y - middle[1]) / _RADIUS

    def draw(self, strength: float) -> Float64Array:
        """Draw it with the motion at `strength` of its largest, (H, W), 1 where bright."""
        dx, dy = self.field(self.cell.x, self.cell.y)
        still = np.zeros_like(self.specks.x)
        moved = self.cell.draw(strength * dx, strength * dy, *SIZE)
        return _BACKGROUND + moved + self.specks.draw(still, still, *SIZE)


def make_set(request: Request) -> CaseSet:
    """Make the set. What is drawn for a task does not depend on how many there are."""
    photons, cells, alphas = (
        (PHOTONS[1:2], 1, (10.0,)) if request.quick else (PHOTONS, _CELLS, ALPHAS)
    )
    return CaseSet(
        name="microscopy",
        title="Microscopy",
        description="A fluorescent cell beats or drifts by up to 0.4 px, 16 bit with camera noise.",
        fingerprint=fingerprint("microscopy", _VERSION, request.seed),
        cases=tuple(
            Case(
                name=f"{kind}-{level:g}ph-{number}-a{alpha:g}",
                alpha=alpha,
                make=partial(_sample, kind, level, number, alpha, request.seed),
                level=level,
                group=f"{kind}, {level:g} photons, ×{alpha:g}",
            )
            for level in photons
            for kind in KINDS
            for number in range(cells)
            for alpha in alphas
        ),
        varies="photons a pixel where it is bright",
    )


def strengths(kind: str) -> Float64Array:
    """Return the motion of each frame as a share of the largest, 0 in the first."""
    time = np.arange(_FRAMES)
    return np.sin(np.pi * time / _FRAMES) ** 2 if kind == "beating" else time / (_FRAMES - 1)


def specimen(kind: str, rng: np.random.Generator) -> Specimen:
    """Draw a random cell and specks."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float64)
    waves = rng.normal(size=(4, 2)) * np.array([[0.0], [0.06], [0.04], [0.03]])
    inside = _depth(x, y, waves) > 0
    granules, filaments, haze = _granules(rng), _filaments(rng), _haze(rng)
    cell = Blobs(
        *(
            np.concatenate([getattr(part, name) for part in (granules, filaments, haze)])
            for name in ("x", "y", "sigma_x", "sigma_y", "brightness")
        )
    )
    cell = cell.keep(_depth(cell.x, cell.y, waves) > 1.5 * cell.sigma_x)
    specks = _spots(rng, 60, rng.uniform(_PSF, 2.4, 60), 0.05 + 0.4 * rng.random(60) ** 3)
    specks = specks.keep(_depth(specks.x, specks.y, waves) < -6)
    still = np.zeros_like(cell.x)
    top = np.percentile(cell.draw(still, still, *SIZE), _BRIGHT)
    cell = replace(cell, brightness=(1 - _BACKGROUND) / top * cell.brightness)
    return Specimen(cell, specks, inside, kind, float(rng.uniform(0, 2 * np.pi)))


def _sample(kind: str, photons: float, number: int, alpha: float, seed: int) -> Sample:
    place = "microscopy", kind, PHOTONS.index(photons), number
    rng = generator(seed, *place)
    shown, times = specimen(kind, rng), strengths(kind)
    truth = _OFFSET + _GAIN * photons * np.stack([shown.draw(alpha * s) for s in times])
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float64)
    field = np.stack(shown.field(x, y)) * shown.inside
    changes = np.ptp(truth, axis=0) > _GAIN * photons / 510  # half a grey level of 255
    return Sample(
        frames=np.stack([_recorded(shown.draw(s), photons, rng) for s in times]),
        value_range=(_OFFSET, _OFFSET + 1.25 * _GAIN * photons),
        truth=truth.astype(np.float32),
        motion=(times[:, None, None, None] * field).astype(np.float32),
        moving=np.asarray(np.hypot(*field) > 0.1 * AMPLITUDE),
        still=still_pixels(np.asarray(changes | shown.inside, dtype=np.float32)),
        fps=_FPS,
        band=band_around(_FPS / _FRAMES) if kind == "beating" else None,
    )


def _recorded(
    brightness: Float64Array, photons: float, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Return the counts of a camera with photon and read noise."""
    caught = rng.poisson(photons * brightness) + _READ * rng.standard_normal(SIZE)
    return np.asarray(np.clip(np.round(_OFFSET + _GAIN * caught), 0, 65535), dtype=np.uint16)


def _depth(x: Float64Array, y: Float64Array, waves: Float64Array) -> Float64Array:
    """Return how far places lie inside the cell's outline, px along the radius."""
    x, y = x - (SIZE[1] - 1) / 2, y - (SIZE[0] - 1) / 2
    angle, outline = np.arctan2(y, x), np.ones_like(x)
    for k, (cosine, sine) in enumerate(waves, start=1):
        outline += cosine * np.cos(k * angle) + sine * np.sin(k * angle)
    return np.asarray(_RADIUS * outline - np.hypot(x, y))


def _spots(
    rng: np.random.Generator, count: int, sigma: Float64Array, brightness: Float64Array
) -> Blobs:
    x, y = rng.uniform(0, SIZE[1], count), rng.uniform(0, SIZE[0], count)
    return Blobs(x, y, sigma, sigma, brightness)


def _granules(rng: np.random.Generator) -> Blobs:
    count = 700
    return _spots(rng, count, _PSF * rng.uniform(1, 1.6, count), 0.15 + rng.random(count))


def _haze(rng: np.random.Generator) -> Blobs:
    count = 160
    return _spots(rng, count, rng.uniform(7, 13, count), rng.uniform(0.04, 0.2, count))


def _filaments(rng: np.random.Generator) -> Blobs:
    """Draw gently bent threads, each a chain of spots so close that it looks continuous."""
    threads, spots, step = 70, 65, 1.6  # px; 1e-6 of it ripples
    bend = rng.normal(0, 0.012, (threads, 1)) + rng.normal(0, 0.02, (threads, spots))
    # Aligned within 30 degrees or so, as in a muscle cell.
    angle = rng.normal(rng.uniform(0, np.pi), 0.5, (threads, 1)) + np.cumsum(step * bend, axis=1)
    x = rng.uniform(0, SIZE[1], (threads, 1)) + np.cumsum(step * np.cos(angle), axis=1)
    y = rng.uniform(0, SIZE[0], (threads, 1)) + np.cumsum(step * np.sin(angle), axis=1)
    bright = np.broadcast_to(rng.uniform(0.06, 0.25, (threads, 1)), x.shape)
    sigma = np.full(x.size, _PSF)
    return Blobs(x.ravel(), y.ravel(), sigma, sigma, bright.ravel())
