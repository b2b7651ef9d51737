"""Videos as others write them: every frame counts, in any order."""

from __future__ import annotations

import pickle
import struct

import av
import numpy as np
import pytest

from napari_flowmag import FlowmagError, read_clip
from napari_flowmag.io._video_index import scan
from napari_flowmag.io.video import _KEPT_FRAMES, _Decoder

VIDEOS = [
    ("a.mp4", "libx264", "yuv420p"),
    ("a.mov", "libx264", "yuv420p"),
    ("a.mkv", "libx264", "yuv420p"),
    ("a.mov", "prores_ks", "yuv422p10le"),
    ("a.avi", "mjpeg", "yuvj420p"),
    ("a.avi", "mpeg4", "yuv420p"),
    ("a.avi", "rawvideo", "bgr24"),
    ("a.avi", "rawvideo", "gray"),
    ("a.mkv", "libvpx", "yuv420p"),
    ("a.mkv", "ffv1", "gray16le"),
    ("a.mkv", "ffv1", "gray10le"),
    ("a.gif", "gif", "rgb8"),
]


@pytest.mark.parametrize(("name", "codec", "pixels"), VIDEOS, ids=lambda value: value)
def test_every_frame_comes_in_order_and_out_of_order(tmp_path, encode, levels, name, codec, pixels):
    if codec not in av.codecs_available:
        pytest.skip(f"this build of PyAV cannot write {codec}")
    path = encode(tmp_path / name, codec, pixels)
    clip = read_clip(path)
    grey = pixels.startswith("gray")
    assert clip.axes == ("TYX" if grey else "TYXS")
    assert clip.shape[:3] == (len(levels), 48, 64)
    assert clip.fps == pytest.approx(25, rel=2e-3)  # GIF counts hundredths of a second
    deep = pixels.endswith("le")
    assert clip.dtype == (np.uint16 if deep else np.uint8)

    frames = np.asarray(clip.frames)
    means = frames.reshape(len(frames), -1).mean(1)
    scale = {"gray10le": 4, "gray16le": 257, "yuv422p10le": 257}.get(pixels, 1)
    np.testing.assert_allclose(means / scale, levels, atol=4)
    if grey:
        np.testing.assert_array_equal(means / scale, levels)  # lossless, and grey as stored

    again = read_clip(path)
    for t in np.random.default_rng(0).permutation(len(levels)):
        np.testing.assert_array_equal(again.frame(int(t)), frames[t])


def test_frames_of_varying_length_are_all_there_at_the_mean_rate(tmp_path, encode, levels):
    times = np.cumsum(np.random.default_rng(0).integers(10, 200, len(levels))).tolist()
    for name in ("a.mp4", "a.mkv"):
        clip = read_clip(encode(tmp_path / name, "libx264", "yuv420p", times=times))
        assert len(clip) == len(levels)
        mean = (len(levels) - 1) / (times[-1] - times[0]) * 1000
        assert clip.fps == pytest.approx(mean, rel=1e-6)


def test_frames_without_time_stamps_are_found_by_counting(tmp_path, encode, levels):
    # With B-frames, AVI stores no time at which a frame is shown.
    options = {"bf": "2", "b": "4M"}
    clip = read_clip(encode(tmp_path / "a.avi", "mpeg4", "yuv420p", options=options))
    assert len(clip) == len(levels)
    for t in (20, 3, 35, 0):
        assert clip.frame(t).mean() == pytest.approx(levels[t], abs=4)


def test_the_true_rate_can_be_given(tmp_path, encode):
    path = encode(tmp_path / "a.mp4", "libx264", "yuv420p")
    assert read_clip(path, fps=1000).fps == 1000
    with pytest.raises(FlowmagError, match="above 0"):
        read_clip(path, fps=-1)


def test_colours_are_those_that_were_stored(tmp_path, encode):
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 100, 50]], np.uint8)
    frames = [np.broadcast_to(colour, (16, 16, 3)).copy() for colour in colours]
    clip = read_clip(encode(tmp_path / "a.mp4", "libx264", "yuv420p", frames=frames))
    np.testing.assert_allclose(clip.frames[:, 8, 8], colours, atol=4)


def test_a_table_of_greys_is_grey(tmp_path, levels):
    table = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 4, axis=1)
    table[:, 0] = 255
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "pal8"
        for level in levels:
            picture = np.full((48, 64), level)
            frame = av.VideoFrame.from_ndarray((picture, table), format="pal8")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    clip = read_clip(tmp_path / "a.avi")
    assert clip.axes == "TYX"
    np.testing.assert_array_equal(np.asarray(clip.frames)[:, 0, 0], levels)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_phone_held_upright_gives_an_upright_clip(tmp_path, encode, quarters):
    picture = np.zeros((48, 64), np.uint8)
    picture[:24, :32] = 200  # top left
    path = encode(tmp_path / "a.mp4", "libx264", "yuv420p", frames=[picture] * 2)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 4 + 20 + 16  # ISO 14496-12, 8.3.2, version 0
    cos, sin = [(0, 1), (-1, 0), (0, -1)][quarters - 1]
    turned = [cos, sin, 0, -sin, cos, 0, 0, 0]
    content[matrix : matrix + 36] = struct.pack(">9i", *(v << 16 for v in turned), 1 << 30)
    path.write_bytes(content)
    shown = read_clip(path).frame(0)[..., 0]
    # The matrix turns clockwise.
    np.testing.assert_allclose(shown, np.rot90(picture, -quarters), atol=40)


def test_what_was_decoded_is_kept_but_not_all_of_it(tmp_path, encode, levels):
    path = encode(tmp_path / "a.mp4", "libx264", "yuv420p")
    decoder = _Decoder(path, scan(path))
    for t in range(len(levels)):
        decoder.frame(t)
    assert len(decoder._kept) == _KEPT_FRAMES < len(levels)
    assert decoder.frame(len(levels) - 5) is decoder.frame(len(levels) - 5)


def test_a_video_survives_a_pickle(tmp_path, encode):
    clip = read_clip(encode(tmp_path / "a.mp4", "libx264", "yuv420p"))
    frame = clip.frame(5)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clip)).frame(5), frame)


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [v for v in VIDEOS if v[1] in ("libx264", "mjpeg", "ffv1", "gif", "rawvideo")],
    ids=lambda value: value,
)
@pytest.mark.parametrize("part", [0.0005, 0.3, 0.9])
def test_a_video_that_was_cut_off_is_refused(tmp_path, encode, name, codec, pixels, part):
    path = encode(tmp_path / name, codec, pixels)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(1, int(len(whole) * part))])
    with pytest.raises(FlowmagError, match="cut off"):
        read_clip(path)


def test_a_video_with_its_index_in_front_tells_how_many_frames_are_missing(tmp_path, encode):
    path = encode(tmp_path / "a.mp4", "libx264", "yuv420p", options={"movflags": "+faststart"})
    with av.open(str(path)) as stored, av.open(str(tmp_path / "b.mp4"), "w") as copy:
        copy.options["movflags"] = "+faststart"
        source = stored.streams.video[0]
        target = copy.add_stream_from_template(source)
        for packet in stored.demux(source):
            if packet.dts is not None:
                packet.stream = target
                copy.mux(packet)
    path = tmp_path / "b.mp4"
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + 60])
    with pytest.raises(FlowmagError, match="cut off"):
        read_clip(path)


def test_sound_alone_is_no_clip(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        for i in range(8):
            silence = np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, 1024 * i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(FlowmagError, match="no video in it"):
        read_clip(tmp_path / "a.mp4")
