"""The paper's noise set, after Oh et al. (2018).

Object cut-outs translate on a still background by up to 2 px and are magnified to 10 px, under
photon noise of 21 strengths. The noise's variance is the factor times the value, both in grey
levels of 255. With factor 1 a grey level is one photon: a standard deviation of 11 at middle grey,
as in a dim room at a high gain. Noise is drawn for each frame by itself; the truth has none.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from napari_flowmag.evaluate.case import Case, CaseSet, Sample
from napari_flowmag.evaluate.sets.request import Request, fingerprint, generator
from napari_flowmag.evaluate.sets.scene import (
    REACH,
    Sources,
    photon_noise,
    random_moves,
    random_scene,
    sample_of,
)

FACTORS = tuple(float(f"{factor:.3g}") for factor in np.geomspace(0.01, 100, 21))
_QUICK = (0.01, 1.0, 100.0)
_PAIRS, _QUICK_PAIRS = 10, 2  # a factor
_MOTION = 0.25, 2.0  # px
_VERSION = 1


def make_set(request: Request) -> CaseSet:
    """Make the set. What is drawn for a task does not depend on how many there are.

    Raises
    ------
    FlowmagError
        If a folder of pictures is missing or holds nothing fit.
    """
    sources = Sources.of(request)
    factors, pairs = (_QUICK, _QUICK_PAIRS) if request.quick else (FACTORS, _PAIRS)
    return CaseSet(
        name="noise",
        title="Photon noise",
        description=(
            "Object cut-outs translate by up to 2 px on a still background, under photon noise, "
            "and are magnified to 10 px (after Oh et al. 2018)."
        ),
        fingerprint=fingerprint("noise", _VERSION, request.seed, sources.identity),
        cases=tuple(
            _case(sources, factor, number, request.seed)
            for factor in factors
            for number in range(pairs)
        ),
        varies="noise factor",
    )


def _case(sources: Sources, factor: float, number: int, seed: int) -> Case:
    place = FACTORS.index(factor), number
    motion = float(generator(seed, "noise", *place, "motion").uniform(*_MOTION))
    return Case(
        name=f"noise{factor:g}-{number:02d}",
        alpha=REACH / motion,
        make=partial(_sample, sources, factor, motion, place, seed),
        level=factor,
        group=f"noise {factor:.3g}",
    )


def _sample(
    sources: Sources, factor: float, motion: float, place: tuple[int, int], seed: int
) -> Sample:
    rng = generator(seed, "noise", *place)
    scene = random_scene(sources, rng)
    moves = random_moves(len(scene.objects), motion, rng)
    return sample_of(scene, moves, REACH / motion, partial(photon_noise, factor=factor, rng=rng))
