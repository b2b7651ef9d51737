from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_flowmag.clip import Clip
from napari_flowmag.train.prepare.scenes import distance, find_cuts, scan

Moving = Callable[..., np.ndarray]


def scenes_of(frames: np.ndarray, axes: str = "TYX") -> list[tuple[int, int]]:
    return [(s.start, s.stop) for s in scan(Clip.from_array(frames, axes)).scenes]


def test_a_cut_parts_two_scenes(moving: Moving) -> None:
    parts = [moving(7, seed=1), moving(1, seed=2), moving(5, seed=3)]
    assert scenes_of(np.concatenate(parts)) == [(0, 7), (7, 8), (8, 13)]


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deep_clips_have_cuts_too(moving: Moving, dtype: type) -> None:
    frames = np.concatenate([moving(6, 1, dtype=dtype), moving(6, 2, dtype=dtype)])
    assert scenes_of(frames) == [(0, 6), (6, 12)]


def test_motion_noise_and_fading_light_are_no_cuts(moving: Moving) -> None:
    assert scenes_of(moving(20, px=3.0)) == [(0, 20)]
    assert scenes_of(moving(20, noise=0.2)) == [(0, 20)]
    assert scenes_of((moving(20) * np.linspace(1, 0.5, 20)[:, None, None]).astype(np.uint8)) == [
        (0, 20)
    ]
    noise = np.random.default_rng(0).integers(0, 256, (20, 40, 56), np.uint8)
    assert scenes_of(noise) == [(0, 20)]


def test_a_black_frame_is_a_scene_of_its_own(moving: Moving) -> None:
    frames = moving(11)
    frames[5] = 0
    assert scenes_of(frames) == [(0, 5), (5, 6), (6, 11)]


def test_all_planes_and_colours_are_seen(moving: Moving) -> None:
    still = np.repeat(moving(1), 8, 0)
    cut = np.concatenate([moving(4, 1, px=0), moving(4, 2, px=0)])
    assert scenes_of(np.stack([still // 8, cut], 1), "TCYX") == [(0, 4), (4, 8)]
    assert scenes_of(np.stack([still // 8, cut, cut], -1), "TYXS") == [(0, 4), (4, 8)]


def test_each_channel_has_its_values(moving: Moving) -> None:
    frames = np.stack([moving(3, dtype=np.uint16), 7 * np.ones((3, 40, 56), np.uint16)], 1)
    frames[2, 0, 3, 4] = 60_000
    assert scan(Clip.from_array(frames, "TCYX")).ranges == (
        (float(frames[:, 0].min()), 60_000.0),
        (7.0, 7.0),
    )
    holes = moving(3, dtype=np.float32)
    holes[1, 2, 3], holes[0, 0, 0] = np.nan, np.inf
    ((low, high),) = scan(Clip.from_array(holes, "TYX")).ranges
    assert 0 <= low < high <= 3000


def test_a_fast_scene_has_no_cuts_within() -> None:
    assert find_cuts([0.6, 0.5, 0.7, 0.6]) == []
    assert find_cuts([0.01, 0.02, 0.9, 0.02]) == [3]
    assert find_cuts([0.9]) == [1]
    assert find_cuts([]) == []


BARELY_THERE = np.zeros((2, 8, 8), np.float32)
BARELY_THERE[0, 0, 0] = np.finfo(np.float32).smallest_subnormal


@given(hnp.arrays(np.float32, (2, 8, 8), elements=st.floats(0, 255, width=32)))
@example(BARELY_THERE)
def test_distances_are_numbers(pictures: np.ndarray) -> None:
    found = distance(*pictures)
    assert 0 <= found <= 2 + 1e-6
    assert found == pytest.approx(distance(*pictures[::-1]), abs=1e-6)
    assert distance(pictures[0], pictures[0]) == pytest.approx(0, abs=1e-6)
