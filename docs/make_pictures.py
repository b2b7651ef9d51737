"""Make the pictures of the documentation: `python docs/make_pictures.py`, after changing the model.

They show clips that flowmag generates itself, so that nobody can be recognised in them.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from napari_flowmag import read_clip
from napari_flowmag.demo import VIEWS, run_demo
from napari_flowmag.synthetic.scenes import demo_clip, demo_kinds

MARGIN, HEADING = 24, 44
ROWS = {"beam": slice(44, 196), "cells": slice(20, 172)}
"""The part of the frames that is shown."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default", help="name or path of the magnifier")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    arguments = parser.parse_args()
    arguments.out.mkdir(exist_ok=True)
    for kind in demo_kinds():
        path = arguments.out / f"{kind}.png"
        figure(kind, arguments.model).save(path, optimize=True)
        print(path)


def figure(kind: str, model: str) -> Image.Image:
    """Frames of largest motion before and after, with the line of the x-t slices, above these."""
    known = demo_clip(kind)
    largest = int(np.abs(known.displacement).max(axis=(1, 2, 3)).argmax())
    with tempfile.TemporaryDirectory() as folder:
        result = run_demo(Path(folder), kind=kind, model=model)
        before, after, _, slices_path = result.files
        frames = [read_clip(path).frame(largest) for path in (before, after)]
        slices = Image.open(slices_path)
        slices.load()
    print(f"{kind}: asked {result.alpha:g}, measured {result.measured.value:.2f}")
    titles = ("original", f"magnified x{result.alpha:g}")
    low, high = (0, 255) if known.frames.dtype == np.uint8 else np.percentile(frames, (0, 99.9))
    width = (slices.width - 3 * MARGIN) // 2
    pictures = [shown(frame[ROWS[kind]], low, high, width) for frame in frames]
    for picture in pictures:
        mark(picture, kind, picture.width / known.frames.shape[2])
    height = pictures[0].height
    sheet = Image.new("RGB", (slices.width, HEADING + height + MARGIN + slices.height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for place, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        left = MARGIN + place * (width + MARGIN)
        sheet.paste(picture, (left, HEADING))
        draw.text((left + width / 2, HEADING / 2), title, (32, 36, 40), font, anchor="mm")
    sheet.paste(slices, (0, HEADING + height + MARGIN))
    return sheet


def shown(frame: NDArray[np.generic], low: float, high: float, width: int) -> Image.Image:
    unit = ((frame.astype(np.float64) - low) / (high - low)).clip(0, 1)
    picture = Image.fromarray(np.round(unit * 255).astype(np.uint8)).convert("RGB")
    size = width, round(picture.height * width / picture.width)
    return picture.resize(size, Image.Resampling.BICUBIC)


def mark(picture: Image.Image, kind: str, scale: float) -> None:
    """Draw the line that the x-t slices lie on."""
    corner = np.array([ROWS[kind].start, 0])
    (y0, x0), (y1, x1) = ((np.array(end) - corner + 0.5) * scale for end in VIEWS[kind].line)
    ImageDraw.Draw(picture).line((x0, y0, x1, y1), (255, 200, 0), 2)


if __name__ == "__main__":
    main()
