"""How far thin lines really move: by where their brightness lies, not by optical flow.

    python benchmarks/thin_lines.py [--models default lucas-kanade] [--alphas 10 20] [--scenes 3]

A bright, upright line, 1 to 3 px wide, sways by 0.3 px in front of a still, textured wall. Its
place in a row is the centre of the squared difference from the wall, whose picture is known; the
factor is that place's change over its change in the exact magnified picture, median over rows.
The change of the wall is the mean absolute difference more than 3 px away from where the line is
before or after magnification, in grey levels of 255. Flow estimators, which judge in
`flowmag evaluate --sets lines`, hardly follow such lines over 10 px: they measure the exact picture
itself at 0 to 0.95 of the factor.
"""

from __future__ import annotations

import argparse

import numpy as np

from napari_flowmag import magnify
from napari_flowmag.evaluate.sets.lines import Line, draw_lines
from napari_flowmag.synthetic.clips import texture

SIZE, ROWS, COLUMNS = 160, slice(45, 115), slice(55, 106)
SWINGS = (0, 1, -1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["default", "lucas-kanade"])
    parser.add_argument("--alphas", type=float, nargs="+", default=[10, 20])
    parser.add_argument("--scenes", type=int, default=3)
    options = parser.parse_args()
    for model in options.models:
        for width in (1.0, 1.5, 2.0, 3.0):
            for alpha in options.alphas:
                found = [measure(model, width, alpha, seed) for seed in range(options.scenes)]
                factor, change = np.mean(found, axis=0)
                print(f"{model:14s} {width:g} px ×{alpha:<4g}", end="")
                print(f"achieved / asked {factor:.2f}  change of the wall {change:.2f}")


def measure(model: str, width: float, alpha: float, seed: int) -> tuple[float, float]:
    """Achieved over asked factor, and the wall's change in grey levels."""
    wall = 0.35 + 0.4 * (texture((SIZE, SIZE), np.random.default_rng(seed)) - 0.5)
    line = Line((80.3, 80.0), np.pi / 2, 110.0, width, 0.3, (0.95, 0.93, 0.9))
    clip = np.round(255 * np.stack([draw_lines(wall, [line], s) for s in SWINGS]))
    clip = clip.astype(np.uint8)
    exact = 255 * np.stack([draw_lines(wall, [line], alpha * s) for s in SWINGS])
    magnified = magnify(clip, alpha, model=model, device="cpu").astype(np.float64)
    still = 255 * np.moveaxis(wall, 0, -1)
    rest = _centre(clip[0] - still)
    factors = [
        np.median((_centre(magnified[k] - still) - rest) / (_centre(exact[k] - still) - rest))
        for k in (1, 2)
    ]
    reach = width / 2 + 2 + 3 + 0.3 * alpha
    far = np.abs(np.arange(SIZE) - 80.3) > reach
    change = np.abs(magnified[1:] - clip[0])[:, ROWS][:, :, far].mean()
    return float(np.mean(factors)), float(change)


def _centre(difference: np.ndarray) -> np.ndarray:
    weight = difference.mean(axis=-1)[ROWS, COLUMNS].clip(0) ** 2
    return (weight * np.arange(COLUMNS.start, COLUMNS.stop)).sum(1) / weight.sum(1)


if __name__ == "__main__":
    main()
