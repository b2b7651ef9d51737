"""Generated pictures move by what they say: within 0.005 px, measured independently."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from napari_flowmag.evaluate.sets import case_sets
from napari_flowmag.evaluate.sets.lines import Line, draw_lines
from napari_flowmag.evaluate.sets.microscopy import AMPLITUDE, SIZE, specimen
from napari_flowmag.evaluate.sets.request import Request
from napari_flowmag.evaluate.sets.scene import Scene, Sources, random_moves, random_scene
from napari_flowmag.measure import displacement
from napari_flowmag.synthetic.beam import beam_motion, beam_pixels, draw_beam

TOLERANCE = 0.005  # px


def _correlated(still: np.ndarray, moved: np.ndarray) -> tuple[float, float]:
    """(dx, dy) px by an independent measurement; both pictures fade out towards their edges."""
    first, second = still.astype(float), moved.astype(float)
    shift, _, _ = phase_cross_correlation(second, first, upsample_factor=1000, normalization=None)
    return shift[1], shift[0]


def _bias(still: np.ndarray, moved: np.ndarray, motion: np.ndarray, region: np.ndarray) -> float:
    """By how many px pictures (H, W) miss a motion (2, H, W) that may differ from place to place.

    Pulled back along it, what remains is compared with the picture's slope along it.
    """
    y, x = np.mgrid[: still.shape[0], : still.shape[1]].astype(float)
    back = ndimage.map_coordinates(moved, (y + motion[1], x + motion[0]), order=5, mode="nearest")
    down, right = np.gradient(still)
    slope = (right * motion[0] + down * motion[1]) / np.hypot(*motion).clip(1e-9)
    weight = region & (np.hypot(*motion) > 0)
    return float((slope * (back - still))[weight].sum() / (slope**2)[weight].sum())


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("length", [0.04, 0.5, 10.0])
def test_objects_move_exactly(seed: int, length: float) -> None:
    rng = np.random.default_rng(seed)
    scene = random_scene(Sources.of(Request(quick=True)), rng)
    (move,) = random_moves(1, length, rng)
    alone = Scene(np.zeros_like(scene.ground), scene.objects[:1])
    still, moved = (alone.draw([m])[..., 1] for m in ((0, 0), move))
    np.testing.assert_allclose(_correlated(still, moved), move, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "number"), [("subpixel", 0), ("subpixel", 3), ("noise", 4)])
@pytest.mark.parametrize("seed", [0, 1])
def test_frames_and_truth_move_inside_of_objects(name: str, number: int, seed: int) -> None:
    case = case_sets([name], quick=True, seed=seed)[0].cases[number]
    sample = case.make()
    labels, count = ndimage.label(sample.moving)
    for label in range(1, count + 1):
        inside = ndimage.binary_erosion(labels == label, iterations=2)
        wanted = sample.motion[1][:, inside].mean(axis=1)
        if name == "subpixel":  # the other's frames are too noisy; its truth is not
            found = displacement(sample.frames[0], sample.frames[1], inside)
            np.testing.assert_allclose(found, wanted, atol=TOLERANCE)
        found = displacement(sample.truth[0], sample.truth[1], inside)
        np.testing.assert_allclose(found, case.alpha * wanted, atol=TOLERANCE)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("factor", [1.0, 10.0])
def test_a_drifting_cell_moves_exactly(seed: int, factor: float) -> None:
    shown = specimen("drifting", np.random.default_rng(seed))
    zero = np.zeros_like(shown.cell.x)
    dx, dy = shown.field(shown.cell.x, shown.cell.y)
    still, moved = (
        shown.cell.draw(zero, zero, *SIZE),
        shown.cell.draw(factor * dx, factor * dy, *SIZE),
    )
    wanted = factor * dx[0], factor * dy[0]
    assert np.hypot(*wanted) == pytest.approx(factor * AMPLITUDE)
    np.testing.assert_allclose(_correlated(still, moved), wanted, atol=TOLERANCE)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", ["beating", "drifting"])
def test_every_part_of_a_cell_moves_as_claimed(seed: int, kind: str) -> None:
    shown = specimen(kind, np.random.default_rng(seed))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    motion = np.stack(shown.field(x, y))
    for part in (x < 128) & (y < 128), (x < 128) & (y >= 128), x >= 128:
        region = shown.inside & part
        assert abs(_bias(shown.draw(0), shown.draw(1), motion, region)) < TOLERANCE


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_every_part_of_the_bar_moves_as_claimed(seed: int, order: int) -> None:
    swing = np.zeros((2, order))
    swing[1, -1] = 0.3
    frames = draw_beam(swing, seed=seed)[..., 1]
    motion = beam_motion(swing)[1]
    # Around the bar, the wall that comes into view has no place in the first frame.
    bar = ndimage.binary_erosion(beam_pixels(), iterations=3)
    for left in (60, 130, 200):
        piece = bar.copy()
        piece[:, :left], piece[:, left + 75 :] = False, False
        assert abs(_bias(frames[0], frames[1], motion, piece)) < TOLERANCE


@pytest.mark.parametrize("width", [1.0, 3.0])
@pytest.mark.parametrize("angle", [0.0, 0.4, 1.9])
@pytest.mark.parametrize("swing", [0.1, 1.0, 20.0])
def test_lines_move_exactly(width: float, angle: float, swing: float) -> None:
    line = Line((61.3, 58.8), angle, 60.0, width, 0.4, (1.0, 1.0, 1.0))
    ground = np.zeros((3, 120, 120), dtype=np.float32)
    still, moved = (draw_lines(ground, [line], s)[..., 0] for s in (0.0, swing))
    # Along itself a line looks the same everywhere but at its ends: that tells too little.
    across = np.array([-np.sin(angle), np.cos(angle)])
    assert _correlated(still, moved) @ across == pytest.approx(0.4 * swing, abs=TOLERANCE)
    np.testing.assert_allclose(line.move(swing), 0.4 * swing * across)


def test_a_line_covers_its_area_wherever_it_is() -> None:
    for x in (60.0, 60.3, 60.5):
        line = Line((x, 59.0), 0.7, 50.0, 1.5, 0.4, (1.0, 1.0, 1.0))
        assert line.cover((120, 120)).sum() == pytest.approx(50 * 1.5, rel=1e-3)
