from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_flowmag.errors import FlowmagError
from napari_flowmag.kymograph import draw_kymographs, kymograph, line_points, sample_distance

Y, X = np.meshgrid(np.arange(40.0), np.arange(50.0), indexing="ij")
inside = st.tuples(st.floats(2, 37), st.floats(2, 47))


def test_a_line_along_a_row_copies_its_pixels() -> None:
    frames = np.random.default_rng(0).integers(0, 60000, (5, 40, 50)).astype(np.uint16)
    found = kymograph(frames, ((7, 3), (7, 45)))
    np.testing.assert_allclose(found, frames[:, 7, 3:46], rtol=1e-5)
    np.testing.assert_allclose(kymograph(frames, ((7, 45), (7, 3))), found[:, ::-1], rtol=1e-5)


@given(start=inside, end=inside)
def test_a_plane_is_sampled_exactly_between_its_pixels(
    start: tuple[float, float], end: tuple[float, float]
) -> None:
    length = np.hypot(end[0] - start[0], end[1] - start[1])
    if length < 0.5:
        return
    found = kymograph([3 * Y - 2 * X + 1], (start, end))[0]
    rows, columns = (np.linspace(a, b, round(length) + 1) for a, b in zip(start, end, strict=True))
    # A mirrored plane has a kink at the picture's edge, which a cubic spline feels a little.
    np.testing.assert_allclose(found, 3 * rows - 2 * columns + 1, atol=0.1)


def test_a_smooth_wave_is_sampled_between_its_pixels() -> None:
    frames = [np.sin(X / 4 + Y / 6 + t) for t in range(3)]
    found = kymograph(frames, ((10.3, 12.8), (25.7, 33.1)))
    along = np.linspace((10.3, 12.8), (25.7, 33.1), found.shape[1])
    for t in range(3):
        wanted = np.sin(along[:, 1] / 4 + along[:, 0] / 6 + t)
        np.testing.assert_allclose(found[t], wanted, atol=2e-3)


def test_a_pixel_without_a_value_blanks_its_own_samples_only() -> None:
    y, x = np.mgrid[:40, :40]
    frame = np.sin(x / 5) + np.cos(y / 7)
    line = ((20.0, 5.0), (20.0, 35.0))
    whole = kymograph(frame[None], line)[0]
    frame[20, 15] = np.nan
    holed = kymograph(frame[None], line)[0]
    assert np.flatnonzero(np.isnan(holed)).tolist() == [10]
    np.testing.assert_allclose(np.delete(holed, 10), np.delete(whole, 10), atol=1e-6)
    assert np.isnan(kymograph(np.full((1, 40, 40), np.nan), line)).all()


def test_width_averages_across_the_line() -> None:
    frame = (Y - 20) ** 2
    found = kymograph([frame], ((20, 10), (20, 30)), width=5)
    np.testing.assert_allclose(found, np.mean([4, 1, 0, 1, 4]), atol=1e-3)
    even = kymograph([frame], ((20, 10), (20, 30)), width=2)
    np.testing.assert_allclose(even, 0.25, atol=2e-3)
    along_y = kymograph([frame], ((10, 20), (30, 20)), width=5)
    np.testing.assert_allclose(along_y[0], (np.arange(10, 31) - 20) ** 2, atol=1e-3)


def test_colour_and_lazy_clips() -> None:
    frames = np.random.default_rng(0).random((4, 40, 50, 3)).astype(np.float32)
    found = kymograph(da.from_array(frames, chunks=(1, -1, -1, -1)), ((3.5, 4), (30, 40.5)))
    assert found.shape[0] == 4
    assert found.shape[2] == 3
    for c in range(3):
        alone = kymograph(frames[..., c], ((3.5, 4), (30, 40.5)))
        np.testing.assert_array_equal(found[..., c], alone)


def test_only_the_surroundings_of_the_line_matter() -> None:
    frame = np.random.default_rng(0).random((200, 200)).astype(np.float32)
    other = frame.copy()
    other[:80], other[120:] = 7, -3
    line = ((95.2, 60.0), (104.9, 140.0))
    np.testing.assert_allclose(kymograph([frame], line), kymograph([other], line), atol=1e-5)


def test_samples_are_equally_far_apart_where_pixels_are_higher_than_wide() -> None:
    size = np.array((2.0, 0.5))
    line = ((5, 5), (15, 5), (15, 25))  # 20 µm down, then 10 µm along
    places = line_points(line, pixel_size=(2.0, 0.5))[:, 0].T * size
    assert len(places) == 31
    np.testing.assert_allclose(np.abs(np.diff(places, axis=0)).sum(axis=1), 1.0)
    assert sample_distance(line, (2.0, 0.5)) == pytest.approx(1.0)
    assert sample_distance(((5, 5), (15, 5)), (2.0, 0.5)) == pytest.approx(2.0)


def test_width_lies_across_the_line_where_pixels_are_higher_than_wide() -> None:
    size = np.array((2.0, 0.5))
    across = line_points(((10, 10), (20, 30)), 3, (2.0, 0.5))
    offset = (across[:, 2] - across[:, 0])[:, 0]
    assert np.hypot(*offset) == pytest.approx(2)  # px
    assert (offset * size) @ ((10, 20) * size) == pytest.approx(0)
    found = kymograph([Y], ((10, 10), (20, 30)), 3, pixel_size=(2.0, 0.5))
    np.testing.assert_allclose(found[0], np.linspace(10, 20, len(found[0])), atol=0.05)


@pytest.mark.parametrize(
    ("line", "width", "message"),
    [
        (((5, 5), (5, 5)), 1, "no length"),
        (((5, 5), (5, 60)), 1, "leaves the picture"),
        (((-1, 5), (5, 5)), 1, "leaves the picture"),
        (((1, 5), (1, 30)), 5, "leaves the picture"),
        (((5, 5), (5, 30)), 0, "at least 1 px"),
    ],
)
def test_lines_that_cannot_be_sampled_are_named(line: object, width: int, message: str) -> None:
    with pytest.raises(FlowmagError, match=message):
        kymograph([X], line, width)  # type: ignore[arg-type]


def test_frames_that_cannot_be_sampled_are_named() -> None:
    with pytest.raises(FlowmagError, match="pixel size"):
        kymograph([X], ((5, 5), (5, 30)), pixel_size=(0.0, 1.0))
    with pytest.raises(FlowmagError, match="at least one frame"):
        kymograph([], ((5, 5), (5, 30)))
    with pytest.raises(FlowmagError, match="must be"):
        kymograph([np.zeros(5)], ((5, 5), (5, 30)))


def test_the_picture_shows_time_to_the_right_on_one_common_scale() -> None:
    dark, bright = np.zeros((20, 10)), np.zeros((20, 10))
    bright[10:] = 1.0  # the second half of the time
    picture = np.asarray(draw_kymographs({"a": dark, "b": bright}, fps=30, value_range=(0, 1)))
    middle = picture[picture.shape[0] // 2]
    half = middle.shape[0] // 2
    left, right = middle[:half], middle[half:]
    assert (left[150:500] == 0).all()
    assert (right[100:280] == 0).all()
    assert (right[350:500] == 255).all()


def test_the_picture_leaves_blank_what_is_not_there() -> None:
    values = np.full((20, 10), np.nan)
    values[10:] = 0.0
    for slice_ in (values, values[..., None].repeat(3, axis=-1)):
        middle = np.asarray(draw_kymographs({"a": slice_}, value_range=(0, 1)))[200]
        assert (middle[100:300] == 255).all()
        assert (middle[350:500] == 0).all()


def test_the_time_axis_counts_from_the_first_frame() -> None:
    values = np.random.default_rng(0).random((20, 10))
    early, late = (np.asarray(draw_kymographs({"a": values}, start=start)) for start in (0, 500))
    assert late.shape == early.shape
    np.testing.assert_array_equal(late[40:360], early[40:360])
    assert (late[370:390] != early[370:390]).any()


def test_the_picture_copes_with_long_colour_and_single_frame_slices() -> None:
    long = draw_kymographs({"a": np.random.default_rng(0).random((3000, 700, 3))})
    assert long.size == (582, 422)
    assert draw_kymographs({"a": np.zeros((1, 9))}, pixel_size=0.3, unit="µm").width > 500
    with pytest.raises(FlowmagError, match="same shape"):
        draw_kymographs({"a": np.zeros((3, 4)), "b": np.zeros((3, 5))})
    with pytest.raises(FlowmagError, match="at least one"):
        draw_kymographs({})
