"""Clips of a texture that moves by 0.3 px: as a whole, as a disk, in noise, and as a ramp.

See `napari_flowmag.synthetic.clips.known_motion`.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from napari_flowmag.evaluate.case import Case, CaseSet, Sample, band_around
from napari_flowmag.evaluate.sets.request import Request, fingerprint
from napari_flowmag.evaluate.sets.scene import still_pixels
from napari_flowmag.synthetic.clips import (
    AMPLITUDE,
    DISK_RADIUS,
    FREQUENCY,
    disk_coverage,
    known_motion,
)

ALPHAS = (5.0, 10.0, 20.0)
# Those whose figures are known of all methods (`docs/results.md`).
_CLIPS = ("whole", "disk", "noise", "ramp")
_EVERY_QUICK = 21  # frames: 0, 21, 42 and 63
_VERSION = 1


def make_set(request: Request) -> CaseSet:
    """Make the set: 64 frames of 256 × 256 px each, or four of them."""
    every = _EVERY_QUICK if request.quick else 1
    return CaseSet(
        name="known",
        title="Known motion",
        description=(
            "A texture moves by 0.3 px: as a whole, as a disk on still ground, that with noise of "
            "4 grey levels, and as a disk that rests, drifts and stays."
        ),
        fingerprint=fingerprint("known", _VERSION, request.seed, every),
        cases=tuple(
            Case(
                f"{name}-a{alpha:g}",
                alpha,
                partial(_sample, name, alpha, every, request.seed),
                group=f"{name} ×{alpha:g}",
            )
            for name in _CLIPS
            for alpha in ALPHAS
        ),
    )


def _sample(name: str, alpha: float, every: int, seed: int) -> Sample:
    clip, ideal = (
        known_motion(name, factor=factor, seed=seed, every=every) for factor in (1, alpha)
    )
    return Sample(
        frames=clip.frames,
        truth=ideal.frames,
        motion=clip.displacement,
        moving=clip.moving,
        still=None if clip.moving.all() else _around_the_disk(alpha, clip.moving.shape),
        fps=clip.fps,
        band=None if name == "ramp" else band_around(FREQUENCY),
    )


def _around_the_disk(alpha: float, size: tuple[int, ...]) -> NDArray[np.bool_] | None:
    return still_pixels(disk_coverage((size[0], size[1]), DISK_RADIUS + alpha * AMPLITUDE))
