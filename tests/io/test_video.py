"""Videos as others write them: every frame counts, in any order."""

from __future__ import annotations

import pickle
import shutil
import struct
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from napari_flowmag import FlowmagError, read_clip, write_clip
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
        steps = np.diff(times)
        assert clip.metadata["frame_durations_ms"] == pytest.approx((steps.min(), steps.max()))


@pytest.mark.parametrize(("rate", "times"), [(25, [0, 1, 2, 4, 5]), (50, [0, 2, 5, 7, 11])])
def test_lost_frames_are_told_of_where_times_are_coarse(tmp_path, rate, times):
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as video:
        stream = video.add_stream("mjpeg", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * time, np.uint8))
            frame.pts, frame.time_base = time, Fraction(1, rate)
            video.mux(stream.encode(frame))
        video.mux(stream.encode())
    steps = 1000 / rate * np.diff(times)
    told = read_clip(path).metadata.get("frame_durations_ms")
    assert told == pytest.approx((steps.min(), steps.max()))
    assert "frame_durations_ms" not in read_clip(path, fps=50).metadata


@pytest.mark.parametrize("step", [40, 100 / 3])  # 33 and 34 ms, as whole milliseconds go
def test_frames_of_one_length_need_no_word(tmp_path, encode, levels, step):
    times = (np.arange(len(levels)) * step).round().astype(int).tolist()
    clip = read_clip(encode(tmp_path / "a.mkv", "libx264", "yuv420p", times=times))
    assert "frame_durations_ms" not in clip.metadata


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


def trim(path, start, count):
    """Hide all but some frames as editors do that encode nothing anew: by an edit list."""
    content = bytearray(path.read_bytes())
    movie, track = (
        struct.unpack_from(">I", content, content.index(box) + 16)[0] for box in (b"mvhd", b"mdhd")
    )
    place = content.index(b"elst") + 12  # ISO 14496-12, 8.6.6, version 0
    (first,) = struct.unpack_from(">i", content, place + 4)
    struct.pack_into(">Ii", content, place, count * movie // 25, first + start * track // 25)
    path.write_bytes(content)


@pytest.mark.parametrize(("start", "count"), [(0, 8), (25, 11), (23, 4)])
def test_frames_that_were_trimmed_away_are_left_out(tmp_path, encode, levels, start, count):
    path = encode(tmp_path / "a.mp4", "libx264", "yuv420p")
    trim(path, start, count)
    clip = read_clip(path)
    shown = levels[start : start + count]
    assert len(clip) == count
    for t in np.random.default_rng(0).permutation(count):
        assert clip.frame(int(t)).mean() == pytest.approx(shown[t], abs=4)


def test_a_trimmed_video_that_was_cut_off_is_refused(tmp_path, encode):
    path = encode(tmp_path / "a.mp4", "libx264", "yuv420p", options={"g": "1"})
    fast = tmp_path / "b.mp4"
    index_in_front(path, fast)
    trim(fast, 0, 8)
    content = fast.read_bytes()
    fast.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(FlowmagError, match=r"cut off: it announces 36 frames and holds \d+$"):
        read_clip(fast)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_opening_a_video_does_not_take_the_whole_file_into_memory(tmp_path, encode):
    frames = [np.zeros((1024, 1024), np.uint8)] * 60
    path = encode(tmp_path / "a.avi", "rawvideo", "gray", frames=frames)
    code = f"""
import re
from pathlib import Path
import av
from napari_flowmag.io._video_index import scan
def peak():
    return int(re.search("VmHWM:\\s*([0-9]+) kB", Path("/proc/self/status").read_text())[1])
before = peak()
assert scan(Path({str(path)!r})).count == 60
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 30_000  # kB, of the 60,000 that the file has


@pytest.mark.skipif(sys.platform == "win32", reason="no colons in names")
def test_a_colon_in_the_name_makes_no_protocol_of_it(tmp_path, encode, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encode(tmp_path / "a.mp4", "libx264", "yuv420p")
    shutil.copy("a.mp4", "12:30:00.mp4")
    clip = read_clip("12:30:00.mp4")
    assert (len(clip), clip.name) == (36, "12:30:00")
    assert len(read_clip(write_clip(clip, "12:31:00.mp4"))) == 36


def turn(path, quarters):
    """Turn a video as the phone does that was held upright; the matrix turns clockwise."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 4 + 20 + 16  # ISO 14496-12, 8.3.2, version 0
    cos, sin = [(0, 1), (-1, 0), (0, -1)][quarters - 1]
    turned = [cos, sin, 0, -sin, cos, 0, 0, 0]
    content[matrix : matrix + 36] = struct.pack(">9i", *(v << 16 for v in turned), 1 << 30)
    path.write_bytes(content)


def test_pixels_that_are_no_squares_stay_so(tmp_path, encode):
    clip = read_clip(encode(tmp_path / "a.mp4", "libx264", "yuv420p"))
    assert "pixel_aspect" not in clip.metadata
    wide = clip.replace(metadata={"pixel_aspect": "4/3"})
    path = write_clip(wide, tmp_path / "b.mp4")
    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
    assert read_clip(path).metadata["pixel_aspect"] == "4/3"
    turn(path, 1)
    assert read_clip(path).metadata["pixel_aspect"] == "3/4"


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_phone_held_upright_gives_an_upright_clip(tmp_path, encode, quarters):
    picture = np.zeros((48, 64), np.uint8)
    picture[:24, :32] = 200  # top left
    path = encode(tmp_path / "a.mp4", "libx264", "yuv420p", frames=[picture] * 2)
    turn(path, quarters)
    shown = read_clip(path).frame(0)[..., 0]
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


def test_an_avi_file_that_was_piped_or_not_finished_is_read(tmp_path, encode, levels):
    path = encode(tmp_path / "a.avi", "mjpeg", "yuvj420p")
    content = bytearray(path.read_bytes())
    content[4:8] = b"\xff" * 4
    path.write_bytes(content)
    assert len(read_clip(path)) == len(levels)


@pytest.mark.parametrize("behind", [b"\n", b"\0\0", b"some comment"])
def test_what_follows_the_end_of_a_gif_does_not_matter(tmp_path, encode, levels, behind):
    path = encode(tmp_path / "a.gif", "gif", "rgb8")
    whole = path.read_bytes()
    path.write_bytes(whole + behind)
    assert len(read_clip(path)) == len(levels)
    path.write_bytes(whole[: len(whole) // 2] + b";")  # the byte that ends a GIF, inside a picture
    with pytest.raises(FlowmagError, match="cut off"):
        read_clip(path)


def index_in_front(path, copied):
    """Copy an MP4 file into one that plays while it downloads."""
    with av.open(str(path)) as stored, av.open(str(copied), "w") as copy:
        copy.options["movflags"] = "+faststart"
        source = stored.streams.video[0]
        target = copy.add_stream_from_template(source)
        for packet in stored.demux(source):
            if packet.dts is not None:
                packet.stream = target
                copy.mux(packet)


def test_a_video_with_its_index_in_front_tells_how_many_frames_are_missing(tmp_path, encode):
    path = tmp_path / "b.mp4"
    index_in_front(encode(tmp_path / "a.mp4", "libx264", "yuv420p"), path)
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
