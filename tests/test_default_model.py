"""What the bundled magnifier promises, on clips whose motion is known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_flowmag import load_magnifier, magnify
from napari_flowmag.masks import dilate
from napari_flowmag.measure import achieved_factor, displacement
from napari_flowmag.synthetic.clips import (
    disk_coverage,
    disk_on_still_ground,
    edge,
    sinusoid,
    texture,
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


def test_a_passing_cloud_is_no_motion() -> None:
    size = (192, 192)
    frames = translating_texture([(0, 0), (0.1, 0)], size=size, channels=1)
    # A sixth more light at one side, a sixth less at the other.
    light = np.linspace(0.16, -0.16, size[1], dtype=np.float32).reshape(1, -1)
    for frame, moved in ((frames[0], 0.0), (frames[1], 0.1)):
        lit = np.stack([frames[0], frame + light.reshape((1, -1) + (1,) * (frame.ndim - 2))])
        magnifier = load_magnifier("default", "cpu")
        first, second = torch.from_numpy(lit).reshape(2, 1, 1, *size).unbind(0)
        with torch.inference_mode():
            found = magnifier.predict(magnifier.prepare(first), second, torch.ones(1))[0, :2]
        error = torch.hypot(found[0] - moved, found[1])
        assert float(error.mean()) < 0.06


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


def test_a_channel_without_structure_follows_the_one_with_it() -> None:
    """Motion is seen in channel 0 alone; another one keeps its values and moves along."""
    motion = sinusoid(4)
    seen = translating_texture(motion, size=SIZE, channels=1)
    faint = translating_texture(motion, size=SIZE, channels=1, seed=1)
    clip = np.stack([100 + 900 * seen, 3000 + 500 * faint], -1).astype(np.uint16)
    magnified = magnify(clip, 8, axes="TYXC", motion_channels=(0,), device="cpu")
    assert magnified.dtype == np.uint16
    moved = [
        achieved_factor(clip[0, ..., c], clip[..., c], magnified[..., c], INSIDE) for c in (0, 1)
    ]
    assert moved[0].value == pytest.approx(8, rel=0.05)
    assert moved[1].value == pytest.approx(moved[0].value, rel=0.02)
    for c in (0, 1):
        assert magnified[..., c].min() >= clip[..., c].min()
        assert magnified[..., c].max() <= clip[..., c].max()


def test_a_thin_line_moves_and_the_ground_behind_it_does_not() -> None:
    """A wire of 3 px sways by 0.3 px in front of a still, textured wall."""
    ground = 0.35 + 0.4 * (texture(SIZE, np.random.default_rng(4)) - 0.5)
    x = np.arange(SIZE[1])

    def frame(shift: float) -> np.ndarray:
        wire = np.minimum(edge(x - 62.5 - shift), edge(65.5 + shift - x))
        return _grey_levels(np.moveaxis(ground + (0.95 - ground) * wire, 0, -1))

    clip = np.stack([frame(shift) for shift in (0, 0.3, -0.3)])
    magnified = magnify(clip, 10, device="cpu")
    rows = slice(16, -16)

    def centre(picture: np.ndarray) -> np.ndarray:
        above = (picture.mean(-1) - clip[0].mean(-1).min(1, keepdims=True))[rows, 54:75].clip(
            0
        ) ** 4
        return (above * np.arange(54, 75)).sum(1) / above.sum(1)

    for picture, wanted in zip(magnified[1:], (3, -3), strict=True):
        found = np.median(centre(picture) - centre(clip[0]))
        assert found == pytest.approx(wanted, rel=0.15)
        change = np.abs(picture.astype(float) - clip[0])[rows]
        assert change[:, 16:50].mean() < 1
        assert change[:, 78:112].mean() < 1
