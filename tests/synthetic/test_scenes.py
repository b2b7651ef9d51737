from __future__ import annotations

import numpy as np
import pytest

from napari_flowmag.errors import FlowmagError
from napari_flowmag.measure import displacement
from napari_flowmag.synthetic.clips import KnownClip
from napari_flowmag.synthetic.scenes import demo_clip, demo_kinds


def _strongest(clip: KnownClip) -> np.ndarray:
    amplitude = np.abs(clip.displacement).max(axis=(0, 1))
    return amplitude > 0.8 * amplitude.max()


@pytest.mark.parametrize("kind", demo_kinds())
def test_a_scene_moves_by_less_than_half_a_pixel_and_as_it_says(kind: str) -> None:
    clip = demo_clip(kind, length=12)
    assert 0.25 < np.abs(clip.displacement).max() < 0.5
    region = _strongest(clip)
    for t in (3, 9):
        wanted = clip.displacement[t][:, region].mean(axis=1)
        found = displacement(clip.frames[0], clip.frames[t], region)
        np.testing.assert_allclose(found, wanted, atol=0.01)


@pytest.mark.parametrize("kind", demo_kinds())
def test_the_ideal_result_moves_by_the_factor(kind: str) -> None:
    clip, ideal = (demo_clip(kind, length=12, factor=factor) for factor in (1.0, 8.0))
    np.testing.assert_allclose(ideal.displacement, 8 * clip.displacement, atol=1e-5)
    region = _strongest(clip)
    wanted = ideal.displacement[9][:, region].mean(axis=1)
    found = displacement(ideal.frames[0], ideal.frames[9], region)
    # The region does not move quite as one piece: its parts differ by a fifth.
    np.testing.assert_allclose(found, wanted, atol=0.03 * np.abs(wanted).max())


@pytest.mark.parametrize("kind", demo_kinds())
def test_what_is_said_to_be_still_is_still(kind: str) -> None:
    ideal = demo_clip(kind, length=12, factor=2.0)  # free of camera noise
    reach = np.zeros_like(ideal.moving)
    rows, columns = np.nonzero(ideal.moving)
    reach[rows.min() - 8 if rows.min() > 8 else 0 : rows.max() + 8, : columns.max() + 8] = True
    assert not reach.all()
    # One count of rounding: the haze around the cells fades out gradually.
    before, after = (ideal.frames[t][~reach].astype(int) for t in (0, 9))
    np.testing.assert_allclose(after, before, atol=1 if kind == "cells" else 0)
    assert (ideal.displacement[:, :, ~ideal.moving] == 0).all()


def test_formats_are_those_of_the_cameras() -> None:
    beam, cells = demo_clip("beam", length=2), demo_clip("cells", length=2)
    assert (beam.frames.shape, beam.frames.dtype) == ((2, 240, 320, 3), np.uint8)
    assert (cells.frames.shape, cells.frames.dtype) == ((2, 256, 256), np.uint16)
    assert cells.frames.max() > 2000
    assert (beam.unit, cells.unit) == ("mm", "µm")


def test_scenes_repeat_with_their_seed() -> None:
    first, again, other = (demo_clip("cells", length=2, seed=s).frames for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5


def test_unknown_scenes_are_named() -> None:
    with pytest.raises(FlowmagError, match="beam, cells"):
        demo_clip("drum")
