"""Thin structures: straight lines, 1 to 3 px wide, that move in front of a still background.

Wires, cables and filaments are where the paper sees its own method bleed into the background.
Each line moves across its own direction, as a whole, by up to 0.5 px; along it no motion could be
seen. Its coverage is that of a rectangle seen through a Gaussian point-spread function, in closed
form, so the truth is exact at any displacement.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from napari_flowmag.evaluate.case import Case, CaseSet, Sample
from napari_flowmag.evaluate.sets.pictures import (
    STRUCTURE,
    BuiltIn,
    FloatArray,
    Pictures,
    background,
    structure,
)
from napari_flowmag.evaluate.sets.request import Request, fingerprint, generator
from napari_flowmag.evaluate.sets.scene import SIZE, dithered, still_pixels
from napari_flowmag.synthetic.clips import edge

WIDTHS = (1.0, 1.5, 2.0, 3.0)
ALPHAS = (10.0, 20.0)
_PSF = 0.85  # px: sharper lines would alias by more than a hundredth of a pixel
_SCENES = 4  # a width
_QUICK_WIDTHS, _QUICK_SCENES = (1.0, 3.0), 1
_PHASES = np.sin(2 * np.pi * np.arange(5) / 5)  # of the swing, frame by frame
_AMPLITUDES = 0.1, 0.5  # px
_LENGTHS = 80.0, 190.0  # px
_MARGIN = 18  # px from the edge of the picture to the middle line of a line
_APART = 34.0  # px between two lines, each of which may move by 10 px
_LINES, _TRIES = 5, 400
_VERSION = 1


@dataclass(frozen=True)
class Line:
    """A straight line that swings across its direction.

    Attributes
    ----------
    centre
        (x, y) px at rest.
    angle
        Its direction in radians.
    length, width
        In px, before the point-spread function blurs them.
    amplitude
        Of the swing, px.
    colour
        RGB in [0, 1].
    """

    centre: tuple[float, float]
    angle: float
    length: float
    width: float
    amplitude: float
    colour: tuple[float, float, float]

    def move(self, swing: float) -> tuple[float, float]:
        """Return (dx, dy) px where the swing has this share of its amplitude."""
        distance = swing * self.amplitude
        return -distance * float(np.sin(self.angle)), distance * float(np.cos(self.angle))

    def cover(self, size: tuple[int, int], swing: float = 0.0) -> FloatArray:
        """Return how much of each pixel it covers, (H, W)."""
        y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
        x, y = x - self.centre[0], y - self.centre[1]
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        along, across = cosine * x + sine * y, cosine * y - sine * x
        return _box(along, self.length) * _box(across - swing * self.amplitude, self.width)

    def points(self) -> NDArray[np.float64]:
        """Return places along it, (N, 2) px."""
        along = np.linspace(-self.length / 2, self.length / 2, 40)
        direction = np.array([np.cos(self.angle), np.sin(self.angle)])
        return np.asarray(self.centre + along[:, None] * direction)


def make_set(request: Request) -> CaseSet:
    """Make the set. What is drawn for a task does not depend on how many there are."""
    widths, scenes = (_QUICK_WIDTHS, _QUICK_SCENES) if request.quick else (WIDTHS, _SCENES)
    source = BuiltIn()
    return CaseSet(
        name="lines",
        title="Thin structures",
        description=(
            "Lines of 1 to 3 px move by up to 0.5 px across their direction, on a still background."
        ),
        fingerprint=fingerprint("lines", _VERSION, request.seed, source.identity),
        cases=tuple(
            Case(
                name=f"{width:g}px-{number}-a{alpha:g}",
                alpha=alpha,
                make=partial(_sample, source, width, number, alpha, request.seed),
                level=width,
                group=f"{width:g} px, ×{alpha:g}",
            )
            for width in widths
            for number in range(scenes)
            for alpha in ALPHAS
        ),
        varies="line width in px",
    )


def draw_lines(ground: FloatArray, lines: Iterable[Line], swing: float) -> FloatArray:
    """Draw lines on a background (3, H, W); (H, W, 3) in [0, 1]."""
    picture = ground
    for line in lines:
        cover = line.cover((ground.shape[1], ground.shape[2]), swing)
        picture = cover * np.reshape(line.colour, (3, 1, 1)) + (1 - cover) * picture
    return np.asarray(np.moveaxis(picture, 0, -1), dtype=np.float32)


def random_lines(ground: FloatArray, width: float, rng: np.random.Generator) -> list[Line]:
    """Draw up to five lines that stay apart and differ from the background behind them."""
    lines: list[Line] = []
    for _ in range(_TRIES):
        line = Line(
            centre=(float(rng.uniform(0, SIZE[1])), float(rng.uniform(0, SIZE[0]))),
            angle=float(rng.uniform(0, np.pi)),
            length=float(rng.uniform(*_LENGTHS)),
            width=width,
            amplitude=float(rng.uniform(*_AMPLITUDES)),
            colour=(0.0, 0.0, 0.0),
        )
        points = line.points()
        inside = (points > _MARGIN) & (points < np.array(SIZE[::-1]) - _MARGIN)
        if not inside.all() or any(_distance(line, other) < _APART for other in lines):
            continue
        behind = ground.mean(axis=0)[points[:, 1].astype(int), points[:, 0].astype(int)]
        tone = rng.uniform(0.8, 1, 3) if behind.mean() < 0.5 else rng.uniform(0, 0.2, 3)
        lines.append(Line(**{**vars(line), "colour": tuple(tone.tolist())}))
        if len(lines) == _LINES:
            break
    return lines


def _sample(source: Pictures, width: float, number: int, alpha: float, seed: int) -> Sample:
    rng = generator(seed, "lines", WIDTHS.index(width), number)
    ground = _textured(source, rng)
    lines = random_lines(ground, width, rng)
    frames = [dithered(draw_lines(ground, lines, swing), rng) for swing in _PHASES]
    rest = [line.cover(SIZE) for line in lines]
    # Half of what the middle of the line covers: thin lines cover no pixel completely.
    inside = np.stack([cover > 0.5 * cover.max() for cover in rest])
    moves = np.array([[line.move(swing) for line in lines] for swing in _PHASES])
    swings = np.concatenate([_PHASES, alpha * _PHASES])
    ways = [line.cover(SIZE, swing) for line in lines for swing in swings]
    return Sample(
        frames=np.stack(frames),
        value_range=(0.0, 255.0),
        truth=255 * np.stack([draw_lines(ground, lines, alpha * swing) for swing in _PHASES]),
        motion=np.einsum("tnc,nhw->tchw", moves, inside).astype(np.float32),
        moving=np.asarray(inside.any(axis=0)),
        still=still_pixels(np.max(ways, axis=0)),
    )


def _textured(source: Pictures, rng: np.random.Generator) -> FloatArray:
    """Draw backgrounds until one has structure: on a clear sky, nothing could bleed."""
    for _ in range(_TRIES):
        ground = background(source, SIZE, rng)
        if structure(ground, np.ones(SIZE, dtype=bool)) >= STRUCTURE:
            break
    return ground


def _distance(line: Line, other: Line) -> float:
    gaps = line.points()[:, None] - other.points()
    return float(np.hypot(gaps[..., 0], gaps[..., 1]).min())


def _box(position: NDArray[np.float64], width: float) -> FloatArray:
    """Return the brightness of a white stripe of some width, seen through the PSF."""
    return edge(width / 2 - position, _PSF) + edge(width / 2 + position, _PSF) - 1
