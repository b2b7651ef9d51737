from __future__ import annotations

import pickle

import dask.array as da
import numpy as np
import pytest

from napari_flowmag import Clip, FlowmagError
from napari_flowmag.clip import finite_range


def clip_of(axes="TYX", dtype="uint8", **facts):
    sizes = {"T": 3, "Z": 2, "C": 2, "Y": 5, "X": 7, "S": 3}
    shape = [sizes[a] for a in axes]
    return Clip.from_array(np.arange(np.prod(shape)).reshape(shape).astype(dtype), axes, **facts)


def test_a_clip_tells_its_shape_by_axis():
    clip = clip_of("TZCYX", "uint16", fps=10, pixel_size=(2, 0.5, 0.5), unit="um")
    assert clip.sizes == {"T": 3, "Z": 2, "C": 2, "Y": 5, "X": 7}
    assert (len(clip), clip.dtype, clip.spatial_axes) == (3, np.uint16, "ZYX")
    assert (clip.fps, clip.unit) == (10.0, "µm")


@pytest.mark.parametrize("axes", ["TYX", "TZYX", "TCYX", "TZCYXS"])
def test_one_chunk_is_one_plane_with_its_channels(axes):
    clip = clip_of(axes)
    for axis, chunks in zip(axes, clip.frames.chunks, strict=True):
        assert len(chunks) == (clip.sizes[axis] if axis in "TZ" else 1)


def test_frames_come_in_order_and_without_the_time_axis():
    clip = clip_of("TCYX")
    for t, frame in enumerate(clip):
        np.testing.assert_array_equal(frame, np.asarray(clip.frames)[t])
        np.testing.assert_array_equal(frame, clip.frame(t))


def test_arrays_in_memory_and_dask_arrays_make_the_same_clip():
    values = np.random.default_rng(0).random((4, 5, 6))
    lazy = Clip.from_array(da.from_array(values, chunks=(2, 5, 3)), "TYX")
    assert lazy.frames.chunks == Clip.from_array(values, "TYX").frames.chunks
    np.testing.assert_array_equal(np.asarray(lazy.frames), values)
    assert Clip.from_array([[[1, 2], [3, 4]]], "TYX").shape == (1, 2, 2)


def test_a_clip_survives_a_pickle():
    clip = clip_of("TCYX", channel_names=("a", "b"))
    again = pickle.loads(pickle.dumps(clip))
    np.testing.assert_array_equal(np.asarray(again.frames), np.asarray(clip.frames))
    assert again.channel_names == ("a", "b")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Clip.from_array(np.zeros((2, 3)), "YX"), "in the order TZCYXS"),
        (lambda: Clip.from_array(np.zeros((2, 3, 4)), "YXT"), "in the order TZCYXS"),
        (lambda: Clip.from_array(np.zeros((2, 3, 4)), "TYXS"), "do not fit"),
        (lambda: Clip.from_array(np.zeros((2, 3, 4, 2)), "TYXS"), "neither RGB nor RGBA"),
        (lambda: Clip.from_array(np.zeros((2, 3, 4), complex), "TYX"), "whole or real numbers"),
        (lambda: Clip.from_array(np.zeros((2, 3, 4), "U1"), "TYX"), "whole or real numbers"),
        (lambda: Clip.from_array(np.zeros((0, 3, 4)), "TYX"), "is empty"),
        (lambda: clip_of(fps=0), "above 0"),
        (lambda: clip_of(fps=float("nan")), "above 0"),
        (lambda: clip_of(pixel_size=(1, 1)), "both or neither"),
        (lambda: clip_of(unit="µm"), "both or neither"),
        (lambda: clip_of(pixel_size=(1, 1), unit="furlong"), "no unit of length"),
        (lambda: clip_of(pixel_size=(1,), unit="µm"), "for each of Y, X"),
        (lambda: clip_of(pixel_size=(1, -1), unit="µm"), "above 0"),
        (lambda: clip_of("TCYX", channel_names=("one",)), "1 names for 2 channels"),
    ],
)
def test_contradictions_are_refused_in_one_line(make, message):
    with pytest.raises(FlowmagError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("um", "µm"),
        ("μm", "µm"),  # the Greek letter
        ("micron", "µm"),
        ("\\u00B5m", "µm"),  # as ImageJ writes it
        ("micrometer", "µm"),
        ("nanometer", "nm"),
        ("inch", "in"),
        ("picometer", "pm"),
    ],
)
def test_units_have_one_name_in_a_clip(name, symbol):
    assert clip_of(pixel_size=(1, 1), unit=name).unit == symbol


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "bool"])
def test_the_range_is_that_of_all_frames(dtype):
    values = np.random.default_rng(0).integers(0, 100, (5, 4, 3)).astype(dtype)
    assert finite_range(Clip.from_array(values, "TYX")) == (values.min(), values.max())


def test_the_range_passes_over_what_is_not_finite():
    values = np.array([[[np.nan, 1]], [[np.inf, 3]], [[-np.inf, -2]], [[np.nan, np.nan]]])
    assert finite_range(Clip.from_array(values, "TYX")) == (-2, 3)
    with pytest.raises(FlowmagError, match="no finite value"):
        finite_range(Clip.from_array(np.full((2, 3, 4), np.nan), "TYX"))
