"""Make the contact sheets of `docs/model.md`: `python docs/make_comparison.py`.

The bundled model beside a warp, Lucas-Kanade and phase-based magnification, at α = 8 and 20: a
frame of largest motion, and what a line across the motion shows over time. All clips are generated,
and the exact answer is shown, too. Needs OpenCV, which fills the warp's holes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from napari_flowmag import magnify
from napari_flowmag.evaluate.sets.lines import Line, draw_lines
from napari_flowmag.kymograph import kymograph
from napari_flowmag.synthetic.clips import known_motion, texture
from napari_flowmag.synthetic.scenes import demo_clip

ALPHAS = 8.0, 20.0
METHODS = "default", "warp-bilinear", "lucas-kanade", "phase"
TILE, MARGIN, LEFT, TOP = 176, 8, 110, 30
FRAMES = 32
Frames = NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """A clip for any factor, the cut-out (row, column) px that is shown, and the line over time."""

    make: Callable[[float], Frames]
    corner: tuple[int, int]
    side: int
    line: tuple[tuple[float, float], tuple[float, float]]
    largest: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=METHODS[0], help="name or path of the magnifier")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    arguments = parser.parse_args()
    for name, scene in scenes().items():
        path = arguments.out / f"compare-{name}.jpg"
        sheet(scene, (arguments.model, *METHODS[1:])).save(path, quality=90)
        print(path)


def scenes() -> dict[str, Scene]:
    return {
        "disk": Scene(
            lambda factor: known_motion("noise", factor=factor, length=FRAMES).frames,
            (70, 120),
            112,
            ((128.0, 160.0), (128.0, 210.0)),
            FRAMES // 4,
        ),
        "beam": Scene(_beam, (60, 190), 120, ((95.0, 272.0), (145.0, 272.0)), 3),
        "lines": Scene(_lines, (40, 40), 112, ((96.0, 66.0), (96.0, 126.0)), FRAMES // 4),
    }


def _beam(factor: float) -> Frames:
    return demo_clip("beam", factor=factor, length=FRAMES).frames.astype(np.float32) / 255


def _lines(factor: float) -> Frames:
    """Two wires of 1.5 and 3 px sway by 0.3 px in front of a still, textured wall."""
    ground = 0.35 + 0.5 * (texture((192, 192), np.random.default_rng(4)) - 0.5)
    wires = [
        Line((96.0, 96.0), 1.35, 170.0, 3.0, 0.3, (0.95, 0.93, 0.9)),
        Line((120.0, 96.0), 1.75, 170.0, 1.5, 0.3, (0.95, 0.93, 0.9)),
    ]
    swings = np.sin(2 * np.pi * np.arange(FRAMES) / FRAMES)
    return np.stack([draw_lines(ground, wires, factor * swing) for swing in swings])


def sheet(scene: Scene, methods: tuple[str, ...]) -> Image.Image:
    """One row a method; a frame and a line over time for each magnification."""
    clip = scene.make(1.0)
    rows = [("input", [clip for _ in ALPHAS]), ("exact", [scene.make(a) for a in ALPHAS])]
    rows += [(Path(m).stem, [magnify(clip, a, model=m) for a in ALPHAS]) for m in methods]
    step = TILE + MARGIN
    size = LEFT + 2 * len(ALPHAS) * step, TOP + len(rows) * step
    picture = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    for place, alpha in enumerate(ALPHAS):
        for k, title in enumerate((f"x{alpha:g}", f"x{alpha:g}, over time")):
            centre = LEFT + (2 * place + k) * step + TILE / 2
            draw.text((centre, TOP / 2), title, "black", font, anchor="mm")
    for row, (name, clips) in enumerate(rows):
        top = TOP + row * step
        draw.text((LEFT - 8, top + TILE / 2), name, "black", font, anchor="rm")
        for place, frames in enumerate(clips):
            for k, tile in enumerate((cut_out(frames, scene), over_time(frames, scene))):
                picture.paste(tile, (LEFT + (2 * place + k) * step, top))
    return picture


def cut_out(frames: Frames, scene: Scene) -> Image.Image:
    top, left = scene.corner
    shown = frames[scene.largest, top : top + scene.side, left : left + scene.side]
    return _tile(shown)


def over_time(frames: Frames, scene: Scene) -> Image.Image:
    return _tile(np.repeat(kymograph(frames, scene.line), 2, axis=0))


def _tile(picture: NDArray[np.floating]) -> Image.Image:
    grey_levels = np.round(picture.clip(0, 1) * 255).astype(np.uint8)
    return Image.fromarray(grey_levels).resize((TILE, TILE), Image.Resampling.BICUBIC)


if __name__ == "__main__":
    main()
