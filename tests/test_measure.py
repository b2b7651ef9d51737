from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_flowmag.errors import FlowmagError
from napari_flowmag.measure import achieved_factor, displacement, displacements, factor_between
from napari_flowmag.synthetic.clips import (
    disk_coverage,
    disk_on_still_ground,
    sinusoid,
    translating_texture,
)

SIZE = (96, 96)
REGION = disk_coverage(SIZE, 30) > 0.999


@settings(deadline=None, max_examples=15)
@given(dx=st.floats(-2, 2), dy=st.floats(-2, 2))
def test_sub_pixel_displacements_of_the_whole_picture(dx: float, dy: float) -> None:
    frames = translating_texture([(0, 0), (dx, dy)], size=SIZE, channels=1)
    np.testing.assert_allclose(displacement(frames[0], frames[1]), (dx, dy), atol=0.002)


@pytest.mark.parametrize("shift", [(0.04, 0.0), (0.3, -0.3), (1.7, 2.2), (-9.4, 6.3)])
def test_a_region_is_not_pulled_towards_its_still_surroundings(shift: tuple[float, float]) -> None:
    frames = disk_on_still_ground([(0, 0), shift], size=SIZE, radius=30)
    np.testing.assert_allclose(displacement(frames[0], frames[1], REGION), shift, atol=0.002)
    ground = disk_coverage(SIZE, 44) < 0.001
    np.testing.assert_allclose(displacement(frames[0], frames[1], ground), 0, atol=0.002)


def test_noise_does_not_bias() -> None:
    frames = translating_texture([(0, 0), (0.3, -0.2)], size=SIZE)
    rng = np.random.default_rng(0)
    noisy = [frames + 4 / 255 * rng.standard_normal(frames.shape) for _ in range(6)]
    found = np.mean([displacement(a, b) for a, b in noisy], axis=0)
    np.testing.assert_allclose(found, (0.3, -0.2), atol=0.01)


def test_brightness_contrast_and_data_type_do_not_matter() -> None:
    frames = translating_texture([(0, 0), (0.3, -0.2)], size=SIZE, channels=1)
    counts = (200 + 1300 * frames).astype(np.uint16)
    np.testing.assert_allclose(
        displacement(counts[0], 3 * counts[1] + 500, REGION), (0.3, -0.2), atol=0.005
    )


def test_stripes_show_motion_across_them_only() -> None:
    x = np.arange(64)
    still, moved = (np.tile(np.sin((x - d) / 2.5), (64, 1)) for d in (0.0, 0.4))
    np.testing.assert_allclose(displacement(still, moved), (0.4, 0), atol=0.005)


def test_each_frame_is_measured_against_the_reference() -> None:
    motion = sinusoid(6)
    frames = translating_texture(motion, size=SIZE, channels=1)
    found = displacements(frames[0], iter(frames))
    np.testing.assert_allclose(found, motion, atol=0.002)


@pytest.mark.parametrize("factor", [0.0, 0.5, 4.0, 20.0])
def test_the_factor_of_an_exactly_magnified_clip(factor: float) -> None:
    motion = sinusoid(8)
    clip, ideal = (
        disk_on_still_ground(motion, factor=f, size=SIZE, radius=30, channels=1)
        for f in (1.0, factor)
    )
    result = achieved_factor(clip[0], clip, ideal, REGION)
    assert result.value == pytest.approx(factor, abs=0.01 + 0.005 * factor)
    assert result.low <= result.value <= result.high
    assert result.motion == pytest.approx(0.3, abs=0.01)


def test_a_few_failed_frames_do_not_spoil_the_factor() -> None:
    before = sinusoid(32)
    after = 7 * before
    after[[3, 12, 20]] = (40.0, -9.0)
    result = factor_between(before, after)
    assert result.value == pytest.approx(7)
    assert factor_between(before, -before).value == pytest.approx(-1)


def test_spread_shows_disagreement_between_frames() -> None:
    rng = np.random.default_rng(0)
    before = sinusoid(400)
    after = before * (5 + rng.standard_normal((400, 1)))
    result = factor_between(before, after)
    assert result.high - result.low == pytest.approx(2, rel=0.2)


def test_a_dark_frame_is_named() -> None:
    picture = np.random.default_rng(0).random((40, 40))
    with pytest.raises(FlowmagError, match=r"frame 12: .*one value"):
        displacements(picture, [picture, picture, np.zeros((40, 40))], start=10)


@pytest.mark.parametrize(
    ("reference", "frame", "mask", "message"),
    [
        (np.ones((32, 32)), np.ones((32, 32)), None, "one value"),
        (np.full((33, 31), 0.1), np.full((33, 31), 0.1), None, "one value"),
        (np.eye(32), np.eye(31), None, "another shape"),
        (np.eye(32), np.eye(32), np.zeros((32, 32)), "mask is empty"),
        (np.eye(32), np.eye(32), np.ones((16, 16)), "mask's shape"),
        (np.eye(32), np.where(np.eye(32) > 0, np.nan, 0), None, "NaN"),
        (np.ones(32), np.ones(32), None, r"\(H, W\)"),
        (np.eye(32), np.zeros((32, 32)), None, "it is of one value there"),
    ],
)
def test_what_cannot_be_measured_is_named(
    reference: np.ndarray, frame: np.ndarray, mask: np.ndarray | None, message: str
) -> None:
    with pytest.raises(FlowmagError, match=message):
        displacement(reference, frame, mask)


def test_a_region_that_does_not_move_has_no_factor() -> None:
    frames = translating_texture(np.zeros((3, 2)), size=(48, 48), channels=1)
    with pytest.raises(FlowmagError, match="choose a region that moves"):
        achieved_factor(frames[0], frames, frames)
    with pytest.raises(FlowmagError, match=r"\(T, 2\)"):
        factor_between(np.zeros((3, 2)), np.zeros((4, 2)))
