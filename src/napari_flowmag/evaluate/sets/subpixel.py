"""The paper's sub-pixel set, after Oh et al. (2018).

Object cut-outs translate on a still background by 0.04 to 1 px, in 15 levels, and are always
magnified to 10 px. Both the directions and the pictures are random. Oh et al.'s own data also
has backgrounds that move; here they are still, so that motion that leaks into them shows. As they
do, pictures are blurred by 1 px when they are made smaller, and dithered when they are rounded to
8 bits. Unlike theirs, the displacement is exact: objects are moved in Fourier space.
"""

from __future__ import annotations

from functools import partial

from napari_flowmag.evaluate.case import Case, CaseSet, Sample
from napari_flowmag.evaluate.sets.request import Request, fingerprint, generator
from napari_flowmag.evaluate.sets.scene import (
    REACH,
    Sources,
    dithered,
    random_moves,
    random_scene,
    sample_of,
)

LEVELS = (0.04, 0.05, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.32, 0.4, 0.5, 0.63, 0.79, 1.0)
_QUICK = (0.04, 0.2, 1.0)
_PAIRS, _QUICK_PAIRS = 10, 2  # a level
_VERSION = 1


def make_set(request: Request) -> CaseSet:
    """Make the set. What is drawn for a task does not depend on how many there are.

    Raises
    ------
    FlowmagError
        If a folder of pictures is missing or holds nothing fit.
    """
    sources = Sources.of(request)
    levels, pairs = (_QUICK, _QUICK_PAIRS) if request.quick else (LEVELS, _PAIRS)
    cases = tuple(
        Case(
            name=f"{level:.2f}px-{number:02d}",
            alpha=REACH / level,
            make=partial(_sample, sources, level, number, request.seed),
            level=level,
            group=f"{level:g} px",
        )
        for level in levels
        for number in range(pairs)
    )
    return CaseSet(
        name="subpixel",
        title="Sub-pixel motion",
        description=(
            "Object cut-outs translate on a still background and are magnified to 10 px "
            "(after Oh et al. 2018)."
        ),
        fingerprint=fingerprint("subpixel", _VERSION, request.seed, sources.identity),
        cases=cases,
        varies="displacement in px",
    )


def _sample(sources: Sources, level: float, number: int, seed: int) -> Sample:
    rng = generator(seed, "subpixel", LEVELS.index(level), number)
    scene = random_scene(sources, rng)
    moves = random_moves(len(scene.objects), level, rng)
    return sample_of(scene, moves, REACH / level, partial(dithered, rng=rng))
