from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.registration import phase_cross_correlation

from napari_flowmag.errors import FlowmagError
from napari_flowmag.measure import displacement
from napari_flowmag.synthetic.clips import (
    disk_coverage,
    disk_on_still_ground,
    known_motion,
    known_motions,
    ramp_and_hold,
    shift_periodic,
    sinusoid,
    texture,
    translating_texture,
)

SMALL = (96, 96)


@settings(deadline=None, max_examples=20)
@given(dx=st.floats(-4, 4), dy=st.floats(-4, 4), seed=st.integers(0, 100))
def test_a_shifted_texture_has_moved_by_exactly_that_much(dx: float, dy: float, seed: int) -> None:
    still = texture((64, 80), np.random.default_rng(seed), channels=1)[0]
    moved = shift_periodic(still, dx, dy)
    (down, right), _, _ = phase_cross_correlation(moved, still, upsample_factor=1000)
    assert right == pytest.approx(dx, abs=0.005)
    assert down == pytest.approx(dy, abs=0.005)


def test_whole_pixel_shifts_copy_pixels() -> None:
    still = texture((32, 40), np.random.default_rng(0))
    moved = shift_periodic(still, 3, -2)
    np.testing.assert_allclose(moved, np.roll(still, (3, -2), axis=(-1, -2)), atol=1e-5)


def test_shifts_add_up_and_undo_each_other() -> None:
    still = texture((48, 48), np.random.default_rng(1))
    back = shift_periodic(shift_periodic(still, 0.37, -1.2), -0.37, 1.2)
    np.testing.assert_allclose(back, still, atol=1e-5)


def test_texture_values_and_band_limit() -> None:
    pattern = texture((64, 64), np.random.default_rng(2))
    assert pattern.shape == (3, 64, 64)
    assert pattern.dtype == np.float32
    assert 0.04 < pattern.min() < 0.2
    assert 0.8 < pattern.max() < 0.96
    spectrum = np.abs(np.fft.fft2(pattern[0]))
    assert spectrum[32, :].max() < 1e-4 * spectrum.max()


def test_a_translating_texture_moves_by_the_factor_times_its_motion() -> None:
    motion = [(0.0, 0.0), (0.3, -0.1), (-0.2, 0.25)]
    for factor in (1.0, 10.0):
        frames = translating_texture(motion, factor=factor, size=SMALL)
        assert frames.shape == (3, *SMALL, 3)
        for frame, wanted in zip(frames, motion, strict=True):
            found = displacement(frames[0], frame)
            np.testing.assert_allclose(found, factor * np.array(wanted), atol=0.005)


def test_new_texture_comes_into_view_instead_of_what_left_on_the_other_side() -> None:
    frames = translating_texture([(0.0, 0.0), (8.0, 0.0)], size=SMALL, channels=1)
    np.testing.assert_allclose(frames[1][:, 8:], frames[0][:, :-8], atol=1e-5)
    assert np.abs(frames[1][:, :8] - frames[0][:, -8:]).mean() > 0.02


def test_the_disk_moves_and_the_ground_stays() -> None:
    motion = [(0.0, 0.0), (0.3, 0.0), (3.0, -2.0)]
    frames = disk_on_still_ground(motion, size=SMALL, radius=30, channels=1)
    inside = disk_coverage(SMALL, 30) > 0.999
    outside = disk_coverage(SMALL, 36) < 0.001
    for frame, wanted in zip(frames, motion, strict=True):
        np.testing.assert_allclose(displacement(frames[0], frame, inside), wanted, atol=0.005)
        np.testing.assert_array_equal(frame[outside], frames[0][outside])


def test_the_disk_covers_its_area_wherever_it_is() -> None:
    for shift in (0.0, 0.25, 0.5):
        area = disk_coverage((160, 160), 60, shift, -shift).sum()
        assert area == pytest.approx(np.pi * (60**2 + 0.7**2), rel=1e-3)


def test_motions_start_at_rest_and_reach_their_amplitude() -> None:
    for motion in (sinusoid(), ramp_and_hold()):
        np.testing.assert_array_equal(motion[0], 0)
        assert np.abs(motion).max() == pytest.approx(0.3, abs=0.003)
    np.testing.assert_allclose(sinusoid()[16:32], sinusoid()[:16], atol=1e-12)
    ramp = ramp_and_hold()[:, 0]
    assert (ramp[:17] == 0).all()
    np.testing.assert_allclose(np.diff(ramp[16:33]), 0.3 / 16)
    assert (ramp[32:] == 0.3).all()


@pytest.mark.parametrize("name", known_motions())
def test_the_magnified_clip_is_the_clip_with_its_motion_magnified(name: str) -> None:
    clip = known_motion(name, length=8, size=(160, 160))
    ideal = known_motion(name, length=8, size=(160, 160), factor=10)
    np.testing.assert_allclose(ideal.displacement, 10 * clip.displacement, atol=1e-5)
    inside = disk_coverage((160, 160), 55) > 0.999
    if name == "ground":
        inside = disk_coverage((160, 160), 65) < 0.001
        assert clip.moving[inside].all()
        assert not clip.moving[80, 80]
    for t in (3, 7):
        wanted = ideal.displacement[t][:, inside].mean(axis=1)
        found = displacement(ideal.frames[0], ideal.frames[t], inside)
        np.testing.assert_allclose(found, wanted, atol=0.005)


def test_noise_has_the_promised_strength_and_the_ideal_result_has_none() -> None:
    noisy, clean = known_motion("noise", length=2), known_motion("disk", length=2)
    assert (noisy.frames - clean.frames).std() == pytest.approx(4 / 255, rel=0.02)
    np.testing.assert_array_equal(
        known_motion("noise", length=2, factor=10).frames,
        known_motion("disk", length=2, factor=10).frames,
    )


def test_clips_repeat_with_their_seed() -> None:
    first, again, other = (known_motion("noise", length=2, seed=s).frames for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 0.02


def test_every_nth_frame_is_one_of_the_whole_clip() -> None:
    whole = known_motion("ramp", length=12, size=SMALL)
    some = known_motion("ramp", length=12, size=SMALL, every=5)
    np.testing.assert_array_equal(some.frames, whole.frames[::5])
    np.testing.assert_array_equal(some.displacement, whole.displacement[::5])
    assert some.fps == pytest.approx(whole.fps / 5)


def test_bad_requests_are_named() -> None:
    with pytest.raises(FlowmagError, match="whole, disk, noise, ramp, ground"):
        known_motion("spiral")
    with pytest.raises(FlowmagError, match=r"\(T, 2\)"):
        translating_texture([0.1, 0.2, 0.3])
