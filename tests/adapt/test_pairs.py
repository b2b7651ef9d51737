from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_flowmag.adapt import AdaptSettings
from napari_flowmag.adapt.geometry import blocks, draw_cut, fixed_cut
from napari_flowmag.adapt.pairs import PairSource, hold_back
from napari_flowmag.errors import FlowmagError
from napari_flowmag.frames import as_frames

ALPHAS = (4.0, 8.0, 12.0)
sizes = st.tuples(st.integers(20, 150), st.integers(20, 150))


def source(frames, axes=None, mask=None, channels=None, **changes):
    settings = AdaptSettings.of(**{"crop": 32, "steps": 1, **changes})
    return PairSource(as_frames(frames, axes), settings, channels, ALPHAS, mask)


@given(sizes, st.integers(32, 96), st.booleans(), st.integers(0, 2**20))
def test_a_plain_crop_is_a_part_of_the_picture(size, side, focus, seed):
    rng = np.random.default_rng(seed)
    picture = torch.from_numpy(rng.random((1, 1, *size)))
    places = blocks(rng.random(size)) if focus else None
    settings = AdaptSettings.of(crop=side, flip=0.0)
    cut = draw_cut(size, settings, rng, places)
    part = cut.take(picture[..., cut.rows, cut.columns])
    assert part.shape[-2:] == (min(side, size[0]), min(side, size[1]))
    assert torch.equal(part, picture[..., cut.rows, cut.columns])


@given(sizes, st.integers(0, 2**20), st.floats(0, 5), st.floats(1, 1.1))
def test_a_turned_crop_reads_the_picture_along_its_own_axes(size, seed, rotation, stretch):
    rng = np.random.default_rng(seed)
    settings = AdaptSettings.of(crop=48, pad=True, rotation=rotation, stretch=stretch, flip=0.0)
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in size), indexing="ij")
    picture = torch.stack([y, x, torch.ones_like(y)])[None]
    cut = draw_cut(size, settings, rng)
    part = cut.take(picture[..., cut.rows, cut.columns])[0]
    assert part.shape == (3, 48, 48)
    whole = part[2] > 1 - 1e-6  # no blank beyond the picture mixed in
    if whole[1:, 1:].sum() < 30:
        return
    down = torch.diff(part[:2], dim=1)[:, whole[1:] & whole[:-1]]
    right = torch.diff(part[:2], dim=2)[:, whole[:, 1:] & whole[:, :-1]]
    # Both steps are the same everywhere, at most `stretch` shorter or longer than a px, turned
    # by no more than `rotation`.
    for steps, along in ((down, 0), (right, 1)):
        step = steps.mean(1)
        assert torch.allclose(steps, step[:, None].expand_as(steps), atol=1e-4)
        assert 1 / stretch - 1e-6 <= step.norm() <= stretch + 1e-6
        angle = torch.rad2deg(torch.atan2(step[1 - along].abs(), step[along]))
        assert angle <= rotation + 0.5


@given(sizes, st.integers(32, 64), st.floats(-50, 200), st.floats(-50, 200))
def test_a_fixed_crop_lies_in_the_picture(size, side, row, column):
    cut = fixed_cut(size, side, (row, column))
    for part, length in ((cut.rows, size[0]), (cut.columns, size[1])):
        assert 0 <= part.start < part.stop <= length
        assert part.stop - part.start == min(side, length)


@given(st.integers(2, 300), st.integers(1, 12), st.integers(0, 9))
def test_pairs_held_back_are_few_and_never_learnt_from(count, most, seed):
    learnt, held = hold_back(range(count), most, seed)
    assert set(learnt) | set(held) == set(range(count))
    assert not set(learnt) & set(held)
    assert 1 <= len(held) <= max(1, min(most, count // 4))


def test_a_reference_that_is_not_there_is_refused_before_the_clip_is_read():
    class Unreadable:
        shape, dtype = (4, 40, 40), np.dtype("u2")

        def __getitem__(self, index):
            raise AssertionError

    with pytest.raises(FlowmagError, match="reference frame -5: the clip has 4"):
        source(Unreadable(), "TYX", reference=-5)


def test_frames_that_are_not_learnt_from_need_not_be_readable(clip):
    frames = np.concatenate([np.full_like(clip[:1], np.nan), clip])
    assert source(frames, start=1).held_back
    with pytest.raises(FlowmagError, match="frame 0 has"):
        source(frames, start=1, reference=-len(frames))


def test_one_pair_is_too_few():
    with pytest.raises(FlowmagError, match="needs 2 frames"):
        source(np.zeros((2, 40, 40), np.uint8))


def test_draws_depend_on_seed_and_step_alone(clip):
    first, second = source(clip), source(clip)
    later = second.draw(3)
    assert torch.equal(first.draw(3).frame, later.frame)
    assert torch.equal(first.draw(3).alpha, later.alpha)
    assert not torch.equal(first.draw(4).frame, later.frame)
    assert not torch.equal(source(clip, seed=1).draw(3).frame, later.frame)


def test_every_learnt_frame_comes_and_none_that_is_held_back():
    frames = np.zeros((12, 32, 32), np.uint8)
    frames += np.arange(12, dtype=np.uint8)[:, None, None]
    pairs = source(frames, batch=3, value_range=(0, 11))
    seen = [
        round(11 * float(v)) for step in range(4) for v in pairs.draw(step).frame.mean((1, 2, 3))
    ]
    assert set(seen) == set(pairs.learnt)
    held = [round(11 * float(p.frame.mean())) for p in pairs.held_back_pairs()]
    assert set(held) == set(pairs.held_back)
    assert float(pairs.draw(0).reference.max()) == 0


@pytest.mark.parametrize(("reference", "value"), [(5, 5), (-7, 5), ("mean", 5.5), ("median", 5.5)])
def test_pairs_are_against_the_chosen_reference(reference, value):
    frames = np.zeros((12, 32, 32), np.uint8) + np.arange(12, dtype=np.uint8)[:, None, None]
    pairs = source(frames, reference=reference, value_range=(0, 11))
    assert float(pairs.draw(0).reference.mean()) * 11 == pytest.approx(value, abs=1e-4)
    # A frame against itself teaches nothing.
    own = set() if isinstance(reference, str) else {value}
    assert {*pairs.learnt, *pairs.held_back} == set(range(12)) - own


def test_pairs_against_the_frame_before():
    frames = np.zeros((12, 32, 32), np.uint8) + np.arange(12, dtype=np.uint8)[:, None, None]
    pairs = source(frames, reference="previous", value_range=(0, 11)).draw(0)
    steps = 11 * (pairs.frame - pairs.reference).mean((1, 2, 3))
    torch.testing.assert_close(steps, torch.ones_like(steps), atol=1e-4, rtol=0)


def test_crops_are_laid_where_the_mask_is():
    frames = np.zeros((4, 256, 256), np.uint8)
    frames[:, 200:216, 40:56] = 255
    mask = np.zeros((256, 256), np.uint8)
    mask[200:216, 40:56] = 3
    pairs = source(frames, mask=mask, focus=1.0, batch=8)
    assert all(float(p.max()) == 1 for p in pairs.draw(0).frame)


def test_crops_are_laid_where_the_clip_moves():
    rng = np.random.default_rng(0)
    frames = np.tile(rng.integers(0, 50, (256, 256), np.uint8), (6, 1, 1))
    for t in range(6):
        frames[t, 200:216, 40 + 2 * t : 56 + 2 * t] = 255
    pairs = source(frames, focus=1.0, batch=8)
    assert sum(float(p.max()) == 1 for step in range(3) for p in pairs.draw(step).frame) > 20


def test_a_painting_model_gets_each_channel_three_times():
    frames = np.random.default_rng(0).integers(0, 60000, (5, 2, 40, 40)).astype(np.uint16)
    pairs = source(frames, "TCYX", channels=3, batch=2).draw(0)
    assert pairs.merge
    assert pairs.frame.shape == (2, 3, 32, 32)
    assert torch.equal(pairs.frame[:, 0], pairs.frame[:, 2])


def test_small_frames_are_taken_whole_or_padded():
    frames = np.full((5, 20, 200), 255, np.uint8)
    assert source(frames, crop=64).draw(0).frame.shape[-2:] == (32, 64)
    padded = source(frames, crop=64, pad=True, focus=0.0).draw(0).frame
    assert padded.shape[-2:] == (64, 64)
    assert float(padded.mean()) == pytest.approx(20 / 64, abs=0.03)
