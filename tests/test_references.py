from __future__ import annotations

import numpy as np
import pytest

from napari_flowmag import references
from napari_flowmag.errors import Cancelled, FlowmagError
from napari_flowmag.frames import as_frames
from napari_flowmag.references import fixed_reference


@pytest.fixture
def clip():
    return np.random.default_rng(0).integers(0, 255, (7, 12, 10), np.uint8)


def planes(clip, reference, selected=range(7)):
    result = fixed_reference(as_frames(clip), reference, selected)
    return None if result is None else result[0, :, :, 0]


@pytest.mark.parametrize("index", [0, 3, 6, -1, -7])
def test_index_is_that_frame(clip, index):
    np.testing.assert_array_equal(planes(clip, index), clip[index])
    assert planes(clip, index).dtype == clip.dtype


@pytest.mark.parametrize("index", [7, -8])
def test_index_beyond_the_clip(clip, index):
    with pytest.raises(FlowmagError, match="7 frames"):
        planes(clip, index)


def test_names_are_of_the_selected_frames(clip):
    part = range(2, 6)
    np.testing.assert_array_equal(planes(clip, "first", part), clip[2])
    np.testing.assert_allclose(planes(clip, "mean", part), clip[2:6].mean(0))
    np.testing.assert_allclose(planes(clip, "median", part), np.median(clip[2:6], axis=0))


def test_median_in_bands_is_the_median(clip, monkeypatch):
    monkeypatch.setattr(references, "_MEDIAN_BYTES", 7 * 10 * 5)  # five rows at a time
    np.testing.assert_allclose(planes(clip, "median"), np.median(clip, axis=0))


def test_previous_differs_for_each_frame(clip):
    assert planes(clip, "previous") is None


def test_can_be_stopped(clip):
    def stop():
        raise Cancelled

    for reference in ("mean", "median"):
        with pytest.raises(Cancelled):
            fixed_reference(as_frames(clip), reference, range(7), stop)
