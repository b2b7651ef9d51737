from __future__ import annotations

import av
import numpy as np
import pytest

from napari_flowmag import Clip, FlowmagError, read_clip, write_clip
from napari_flowmag.io.mp4 import playback_rate


def gradient(dtype=np.uint8, height=32, width=48, count=3):
    ramp = np.linspace(0, 255, width)
    return np.broadcast_to(ramp, (count, height, width)).astype(dtype)


def test_it_plays_everywhere(tmp_path):
    path = write_clip(Clip.from_array(gradient(), "TYX", fps=24), tmp_path / "a.mp4")
    with av.open(str(path)) as container:
        (stream,) = container.streams
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.profile) == ("h264", "yuv420p", "High")
        assert (context.colorspace, context.color_primaries, context.color_range) == (1, 1, 1)
        assert (stream.frames, stream.average_rate) == (3, 24)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # plays while it downloads


@pytest.mark.parametrize(
    ("fps", "played"), [(None, 30), (24, 24), (60, 60), (1000, 30), (1 / 60, 10)]
)
def test_rates_that_nobody_can_watch_are_played_at_others(tmp_path, fps, played):
    assert playback_rate(fps) == played
    path = write_clip(Clip.from_array(gradient(), "TYX", fps=fps), tmp_path / "a.mp4")
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == played
    assert read_clip(path).fps == fps


def test_odd_sides_are_made_even_with_the_edge(tmp_path):
    values = gradient(height=31, width=45)
    path = write_clip(Clip.from_array(values, "TYX"), tmp_path / "a.mp4")
    with av.open(str(path)) as video:
        stored = next(video.decode(video=0)).to_ndarray(format="rgb24")
    assert stored.shape == (32, 46, 3)
    np.testing.assert_allclose(stored[31, 45], 255, atol=4)
    shown = read_clip(path).frame(0)  # what was added is left out again
    assert shown.shape == (31, 45, 3)
    np.testing.assert_allclose(shown[..., 0], values[0], atol=4)


@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_other_values_are_scaled_alike_in_every_frame(tmp_path, kind):
    low, high = 200, 1500
    values = np.full((3, 32, 32), low, kind)
    values[1], values[2] = (low + high) / 2, high
    shown = read_clip(write_clip(Clip.from_array(values, "TYX"), tmp_path / "a.mp4"))
    np.testing.assert_allclose(shown.frames[:, 8, 8, 0], [0, 127.5, 255], atol=3)


def test_the_range_that_is_known_is_the_one_that_is_shown(tmp_path):
    clip = Clip.from_array(np.full((2, 32, 32), 500, np.uint16), "TYX", value_range=(0, 1000))
    shown = read_clip(write_clip(clip, tmp_path / "a.mp4"))
    np.testing.assert_allclose(np.asarray(shown.frames), 127.5, atol=3)


def test_what_is_not_finite_is_black_or_white(tmp_path):
    values = np.zeros((1, 32, 48), np.float32)
    values[0, :, :16], values[0, :, 16:32], values[0, :, 32:] = np.nan, np.inf, 2
    values[0, 0, 0] = 1
    shown = read_clip(write_clip(Clip.from_array(values, "TYX"), tmp_path / "a.mp4")).frame(0)
    np.testing.assert_allclose(shown[16, [4, 24, 40], 0], [0, 255, 255], atol=4)


def test_opacity_is_left_out(tmp_path):
    values = np.full((2, 32, 32, 4), 100, np.uint8)
    shown = read_clip(write_clip(Clip.from_array(values, "TYXS"), tmp_path / "a.mp4"))
    np.testing.assert_allclose(np.asarray(shown.frames), 100, atol=3)


@pytest.mark.parametrize("name", ["a.mp4", "a.tif", "a.ome.zarr", "a"])
def test_the_original_is_shown_on_the_left(tmp_path, name):
    left = Clip.from_array(np.full((3, 32, 48), 40, np.uint8), "TYX", fps=20)
    right = Clip.from_array(np.full((3, 32, 48), 200, np.uint8), "TYX", fps=20)
    shown = read_clip(write_clip(right, tmp_path / name, side_by_side=left))
    assert shown.shape[:3] == (3, 32, 96)
    np.testing.assert_allclose(shown.frames[:, :, :40], 40, atol=3)
    np.testing.assert_allclose(shown.frames[:, :, 56:], 200, atol=3)


def test_clips_of_two_kinds_are_not_put_side_by_side(tmp_path):
    one, two = (Clip.from_array(np.zeros((n, 32, 48), np.uint8), "TYX") for n in (3, 4))
    with pytest.raises(FlowmagError, match="two clips of one kind"):
        write_clip(one, tmp_path / "a.mp4", side_by_side=two)


@pytest.mark.parametrize(
    ("axes", "shape", "message"),
    [
        ("TZYX", (2, 3, 32, 32), "3 planes in depth"),
        ("TCYX", (2, 2, 32, 32), "2 channels"),
        ("TYX", (1, 16, 9000), "larger than MP4 players show"),
    ],
)
def test_what_a_video_cannot_show_is_refused(tmp_path, axes, shape, message):
    with pytest.raises(FlowmagError, match=message):
        write_clip(Clip.from_array(np.zeros(shape, np.uint8), axes), tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())
