"""What the bundled magnifier promises, on clips whose motion is known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from napari_flowmag import magnify
from napari_flowmag.masks import dilate
from napari_flowmag.measure import achieved_factor, displacement
from napari_flowmag.synthetic.clips import (
    disk_coverage,
    disk_on_still_ground,
    sinusoid,
    translating_texture,
)

SIZE = (128, 128)
RADIUS = 40
INSIDE = disk_coverage(SIZE, RADIUS - 6) > 0.999
OUTSIDE = disk_coverage(SIZE, RADIUS + 16) < 0.001


def _grey_levels(frames: np.ndarray) -> np.ndarray:
    return np.round(255 * frames).astype(np.uint8)


@pytest.mark.parametrize("alpha", [4, 10])
@pytest.mark.parametrize("shift", [0.1, 0.3, 1.0])
def test_a_translating_texture_moves_alpha_times_as_far(shift: float, alpha: float) -> None:
    motion = shift * np.array([(0, 0), (0.8, 0.6), (-0.6, 0.8)])
    clip = _grey_levels(translating_texture(motion, size=SIZE))
    magnified = magnify(clip, alpha, device="cpu")
    for frame, wanted in zip(magnified[1:], alpha * motion[1:], strict=True):
        # New texture comes into view at the edges, which the clip does not show.
        error = displacement(clip[0], frame, INSIDE) - wanted
        assert np.hypot(*error) < 0.15 * alpha * shift


def test_a_disk_moves_and_still_ground_stays_still() -> None:
    clip = _grey_levels(disk_on_still_ground(sinusoid(6), size=SIZE, radius=RADIUS))
    magnified = magnify(clip, 10, device="cpu")
    assert achieved_factor(clip[0], clip, magnified, INSIDE).value == pytest.approx(10, rel=0.15)
    assert np.abs(magnified.astype(float) - clip)[:, OUTSIDE].mean() < 1


def test_outside_of_a_mask_nothing_changes() -> None:
    clip = _grey_levels(translating_texture(sinusoid(4), size=SIZE))
    magnified = magnify(clip, 10, mask=INSIDE, soft=10, device="cpu")
    core = disk_coverage(SIZE, RADIUS - 14) > 0.999
    assert achieved_factor(clip[0], clip, magnified, core).value == pytest.approx(10, rel=0.15)
    outside = dilate(INSIDE, 10 + 5) == 0  # what moves by 3 px covers a little of its surroundings
    assert np.abs(magnified.astype(float) - clip)[:, outside].mean() < 1


def test_sixteen_bit_grey_keeps_its_values() -> None:
    frames = translating_texture(sinusoid(4), size=SIZE, channels=1)
    clip = (200 + 1300 * frames).astype(np.uint16)
    magnified = magnify(clip, 8, device="cpu")
    assert magnified.dtype == np.uint16
    assert achieved_factor(clip[0], clip, magnified, INSIDE).value == pytest.approx(8, rel=0.15)
    assert magnified.min() >= clip.min()
    assert magnified.max() <= clip.max()


@pytest.mark.parametrize("alpha", [0, 0.5, 1, 64])
def test_from_holding_still_to_very_large_factors(alpha: float) -> None:
    motion = np.array([(0, 0), (0.1, 0.0), (0.0, -0.1)])
    clip = _grey_levels(translating_texture(motion, size=SIZE))
    magnified = magnify(clip, alpha, device="cpu")
    for frame, wanted in zip(magnified, alpha * motion, strict=True):
        found = displacement(clip[0], frame, INSIDE)
        np.testing.assert_allclose(found, wanted, atol=0.01 + 0.15 * alpha * 0.1)
