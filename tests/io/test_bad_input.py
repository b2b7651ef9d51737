"""Each way in which a file can be wrong has one line that says so."""

from __future__ import annotations

import os
import re

import numpy as np
import PIL.Image
import pytest
import tifffile

from napari_flowmag import Clip, FlowmagError, read_clip
from napari_flowmag.io import readable_suffixes

FILES = sorted(set(readable_suffixes()) - {".zarr"})

# Noise, and noise in which FFmpeg believes to find sound: one in 250 such files.
NOISE, SOUND = (np.random.default_rng(seed).bytes(300) for seed in (0, 289))


def line_of(path, **options) -> str:
    with pytest.raises(FlowmagError) as caught:
        read_clip(path, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert os.path.basename(path) in line
    return line


@pytest.mark.parametrize("suffix", FILES)
def test_an_empty_file(tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"
    path.touch()
    assert "is empty" in line_of(path)


@pytest.mark.parametrize("content", [b"hello\n" * 50, bytes(300), NOISE, SOUND])
@pytest.mark.parametrize("suffix", FILES)
def test_a_file_of_another_kind(tmp_path, suffix, content):
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(content)
    assert re.search(r"is not a|no \w+ file|damaged|has no video", line_of(path))


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".gif"])
@pytest.mark.parametrize("kind", ["tiff", "png", "jpeg"])
def test_pictures_that_are_named_a_video(tmp_path, suffix, kind):
    path = tmp_path / f"clip{suffix}"
    frames = [PIL.Image.fromarray(np.full((16, 16), level, np.uint8)) for level in range(3)]
    more = {"save_all": True, "append_images": frames[1:]} if kind == "tiff" else {}
    frames[0].save(path, format=kind, **more)
    assert f"is not a video but a {kind.upper()} file" in line_of(path)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("clip.tif", b"II*\0\x08\0\0\0"),
        ("clip.tif", b"MM\0+\0\x08\0\0" + bytes(8)),
        ("clip.png", b"\x89PNG\r\n\x1a\n"),
        ("clip.jpg", b"\xff\xd8\xff\xe0"),
        ("clip.gif", b"GIF89a"),
        ("clip.mp4", b"\0\0\0\x18ftypisom"),
        ("clip.mkv", b"\x1a\x45\xdf\xa3"),
        ("clip.avi", b"RIFF\0\0\0\0AVI "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_behind_the_header(tmp_path, name, header):
    path = tmp_path / name
    path.write_bytes(header)
    line_of(path)


@pytest.mark.parametrize("name", ["clip.tif", "clip.mp4", "folder", "clip.zarr", "a/b/clip.avi"])
def test_a_path_that_is_not_there(tmp_path, name):
    assert "there is no such file or folder" in line_of(tmp_path / name)


@pytest.mark.parametrize("name", ["notes.txt", "clip.czi", "clip"])
def test_a_suffix_that_is_unknown(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"something")
    assert "use one of .tif" in line_of(path)


def test_a_folder_without_pictures(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    assert "holds no pictures" in line_of(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "clip.tif"
    tifffile.imwrite(path, np.zeros((2, 8, 8), np.uint8))
    path.chmod(0)
    assert "Permission denied" in line_of(path)


def test_a_file_of_complex_numbers(tmp_path):
    tifffile.imwrite(tmp_path / "clip.tif", np.zeros((2, 8, 8), np.complex64))
    with pytest.raises(FlowmagError, match="complex64: give whole or real numbers"):
        read_clip(tmp_path / "clip.tif")


@pytest.mark.parametrize("fps", [0, -5, float("nan"), float("inf")])
def test_a_rate_that_is_none(tmp_path, fps):
    tifffile.imwrite(tmp_path / "clip.tif", np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(FlowmagError, match="give a number above 0"):
        read_clip(tmp_path / "clip.tif", fps=fps)


@pytest.mark.parametrize("value", [7, np.nan], ids=["constant", "nan"])
def test_constant_clips_and_clips_of_nan_are_clips(tmp_path, value):
    values = np.full((2, 8, 8), value, np.float32)
    tifffile.imwrite(tmp_path / "clip.tif", values)
    clip = read_clip(tmp_path / "clip.tif")
    assert isinstance(clip, Clip)
    np.testing.assert_array_equal(np.asarray(clip.frames), values)
