"""A file is there whole or not at all, and never in place of the wrong one."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from napari_flowmag import Clip, FlowmagError, read_clip, write_clip
from napari_flowmag.io import open_writer, writable_suffixes

VALUES = np.random.default_rng(0).integers(0, 255, (4, 16, 20), np.uint8)
CLIP = Clip.from_array(VALUES, "TYX")
NAMES = ["clip.tif", "clip.ome.tif", "clip.ome.zarr", "clip.mp4", "clip"]


def write_and_stop(path, error):
    with open_writer(path, CLIP) as writer:
        writer.write(255 - VALUES[0])
        raise error


def test_each_format_is_tried_here():
    tried = {os.path.splitext(name)[1] for name in NAMES}
    assert {*writable_suffixes()} - tried == {".tiff"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_what_ends_early_leaves_nothing_behind(tmp_path, name, error):
    with pytest.raises(error, match="stopped"):
        write_and_stop(tmp_path / name, error("stopped"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["clip.tif", "clip.ome.zarr", "clip.mp4"])
def test_what_ends_early_leaves_the_older_file(tmp_path, name):
    write_clip(CLIP, tmp_path / name)
    before = np.asarray(read_clip(tmp_path / name).frames)
    with pytest.raises(RuntimeError):
        write_and_stop(tmp_path / name, RuntimeError())
    np.testing.assert_array_equal(np.asarray(read_clip(tmp_path / name).frames), before)
    assert [f.name for f in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_missing_frames_are_an_error(tmp_path, name):
    with pytest.raises(ValueError, match="1 of 4 frames"), open_writer(tmp_path / name, CLIP) as w:
        w.write(VALUES[0])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("frame", [VALUES[0, :5], VALUES[0].astype(np.uint16), VALUES])
def test_frames_of_another_kind_are_an_error(tmp_path, frame):
    with (
        pytest.raises(ValueError, match="frame 0 has shape"),
        open_writer(tmp_path / "clip.tif", CLIP) as writer,
    ):
        writer.write(frame)


@pytest.mark.parametrize("name", NAMES)
def test_the_input_is_never_written_over(tmp_path, name):
    path = write_clip(CLIP, tmp_path / name)
    clip = read_clip(path)
    (tmp_path / "sub").mkdir()
    with pytest.raises(FlowmagError, match="is the input itself"):
        write_clip(clip, tmp_path / "sub" / ".." / name)
    (tmp_path / f"link{path.suffix}").symlink_to(path)
    with pytest.raises(FlowmagError, match="is the input itself"):
        write_clip(clip, tmp_path / f"link{path.suffix}")


@pytest.mark.parametrize("source", ["frames", "a.ome.zarr"])
@pytest.mark.parametrize("name", ["out.tif", "0/out.ome.zarr", "out"])
def test_nothing_is_written_among_what_is_read(tmp_path, source, name):
    clip = read_clip(write_clip(CLIP, tmp_path / source))
    if name != "out.tif" and source == "frames":  # what is no picture does no harm there
        (tmp_path / source / "0").mkdir()
        write_clip(clip, tmp_path / source / name)
    else:
        with pytest.raises(FlowmagError, match="lies in the input"):
            write_clip(clip, tmp_path / source / name)
    np.testing.assert_array_equal(np.asarray(read_clip(clip.metadata["path"]).frames), VALUES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_there", [True, False])
def test_what_a_link_leads_to_is_written(tmp_path, name, is_there):
    for folder in ("disk", "here"):
        (tmp_path / folder).mkdir()
    target, link = tmp_path / "disk" / f"real-{name}", tmp_path / "here" / name
    if is_there and target.suffix:
        write_clip(CLIP, target)
    elif is_there:
        target.mkdir()
    link.symlink_to(os.path.relpath(target, link.parent))
    other = Clip.from_array(np.zeros((2, 16, 20), np.uint8), "TYX")
    write_clip(other, link)
    assert link.is_symlink()
    assert len(read_clip(target)) == len(read_clip(link)) == 2
    assert {f.name for f in tmp_path.glob("*/*")} == {f"real-{name}", name}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere/clip.tif", "does not exist: make it first"),
        ("clip.avi", r"does not write \.avi: use \.tif"),
        ("clip.png", r"does not write \.png: use \.tif"),
        ("clip.xyz", r"does not write \.xyz"),
        ("folder.tif", "is there and is no TIFF"),
        ("folder.mp4", "is there and is no MP4"),
        ("file.zarr", "is there and is no OME-Zarr"),
        ("file", "is there and is no folder of pictures"),
        ("x" * 300 + ".tif", "cannot be written: File name too long"),
    ],
)
def test_places_that_cannot_be_written(tmp_path, name, message):
    for folder in ("folder.tif", "folder.mp4"):
        (tmp_path / folder).mkdir()
    for file in ("file.zarr", "file"):
        (tmp_path / file).write_text("precious")
    before = {f.name for f in tmp_path.iterdir()}
    with pytest.raises(FlowmagError, match=message) as caught:
        write_clip(CLIP, tmp_path / name)
    assert "\n" not in str(caught.value)
    assert {f.name for f in tmp_path.iterdir()} == before
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_may_not_be_written(tmp_path, name):
    tmp_path.chmod(0o500)
    with pytest.raises(FlowmagError, match="cannot be written: Permission denied"):
        write_clip(CLIP, tmp_path / name)
    tmp_path.chmod(0o700)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize("name", ["clip.tif", "clip.ome.zarr", "clip"])
def test_a_full_disk_is_one_line_and_no_file(tmp_path, name):
    code = f"""
import resource, signal
import numpy as np
from napari_flowmag import Clip, FlowmagError, write_clip
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
values = np.random.default_rng(0).integers(0, 255, (4, 256, 256), np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    write_clip(Clip.from_array(values, "TYX"), {str(tmp_path / name)!r})
except FlowmagError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "cannot be written" in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_killed_writer_leaves_no_file_under_the_name(tmp_path):
    code = f"""
import numpy as np
from napari_flowmag import Clip
from napari_flowmag.io import open_writer
values = np.zeros((4, 16, 16), np.uint8)
with open_writer({str(tmp_path / "clip.tif")!r}, Clip.from_array(values, "TYX")) as writer:
    writer.write(values[0])
    print("writing", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        process.kill()
    assert not (tmp_path / "clip.tif").exists()
    assert write_clip(CLIP, tmp_path / "clip.tif").exists()


def test_frames_are_read_one_at_a_time_while_they_are_written(tmp_path):
    write_clip(CLIP, tmp_path / "in.tif")
    clip = read_clip(tmp_path / "in.tif")
    with open_writer(tmp_path / "out.tif", clip) as writer:
        for frame in clip:
            writer.write(255 - frame)
    np.testing.assert_array_equal(np.asarray(read_clip(tmp_path / "out.tif").frames), 255 - VALUES)
