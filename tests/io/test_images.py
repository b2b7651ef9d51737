from __future__ import annotations

import json

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_flowmag import Clip, FlowmagError, read_clip, write_clip
from napari_flowmag.io import is_clip
from napari_flowmag.io.images import natural_key

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 255, (11, 24, 32), np.uint8)
COLOUR = RNG.integers(0, 255, (3, 24, 32, 3), np.uint8)


def save(path, picture):
    if path.suffix in (".tif", ".TIFF"):
        tifffile.imwrite(path, picture)
    elif path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(picture))
    else:
        PIL.Image.fromarray(picture).save(path)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF"])
@pytest.mark.parametrize("frames", [GREY, COLOUR], ids=["grey", "colour"])
def test_a_folder_is_read_in_natural_order(tmp_path, suffix, frames):
    for t, frame in enumerate(frames):
        save(tmp_path / f"img{t}{suffix}", frame)
    clip = read_clip(tmp_path)
    assert clip.axes == ("TYX" if frames is GREY else "TYXS")
    np.testing.assert_array_equal(np.asarray(clip.frames), frames)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("shape", [(3, 24, 32), (3, 24, 32, 3)], ids=["grey", "colour"])
def test_sixteen_bits_are_kept(tmp_path, suffix, shape):
    frames = RNG.integers(0, 65535, shape, np.uint16)
    for t, frame in enumerate(frames):
        save(tmp_path / f"{t}{suffix}", frame)
    clip = read_clip(tmp_path)
    assert clip.dtype == np.uint16
    np.testing.assert_array_equal(np.asarray(clip.frames), frames)


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("kind", ["samples", "pages"])
def test_channels_of_a_picture_are_all_read(tmp_path, count, kind):
    values = RNG.integers(0, 4000, (3, count, 24, 32), np.uint16)
    for t, frame in enumerate(values):
        path = tmp_path / f"{t}.tif"
        if kind == "pages":
            tifffile.imwrite(path, frame, imagej=True, metadata={"axes": "CYX"})
        else:
            stored = np.moveaxis(frame, 0, -1)
            tifffile.imwrite(path, stored, photometric="minisblack", planarconfig="contig")
    assert is_clip(tmp_path)
    clip = read_clip(tmp_path)
    assert clip.axes == "TCYX"
    np.testing.assert_array_equal(np.asarray(clip.frames), values)


def test_opacity_beside_a_single_grey_is_no_channel(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.stack([GREY[0], GREY[1]], -1),
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"],
    )
    clip = read_clip(tmp_path)
    assert clip.axes == "TYX"
    np.testing.assert_array_equal(clip.frame(0), GREY[0])


def test_a_folder_of_tiffs_has_the_scale_of_its_first(tmp_path):
    for t in range(3):
        tifffile.imwrite(
            tmp_path / f"{t}.tif",
            GREY[t],
            imagej=True,
            resolution=(4, 2),
            metadata={"axes": "YX", "unit": "um", "finterval": 0.5},
        )
    clip = read_clip(tmp_path)
    assert (clip.pixel_size, clip.unit, clip.fps) == ((0.5, 0.25), "µm", 2)
    (tmp_path / "flowmag.json").write_text('{"flowmag": "1", "fps": 7, "pixel_size": null}')
    clip = read_clip(tmp_path)
    assert (clip.pixel_size, clip.unit, clip.fps) == ((0.5, 0.25), "µm", 7)


def test_jpegs_are_turned_as_the_camera_was_held(tmp_path):
    picture = np.zeros((24, 32), np.uint8)
    picture[:12, :16] = 200
    stored = PIL.Image.fromarray(picture)
    exif = stored.getexif()
    exif[0x0112] = 6  # turn clockwise by a quarter to see it upright
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    shown = read_clip(tmp_path).frame(0)
    np.testing.assert_allclose(shown, np.rot90(picture, -1), atol=40)


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "1", "L"])
def test_pictures_of_other_kinds(tmp_path, mode):
    PIL.Image.fromarray(COLOUR[0]).convert(mode).save(tmp_path / "a.png")
    samples = {"P": (3,), "RGBA": (4,)}.get(mode, ())
    assert read_clip(tmp_path).shape == (1, 24, 32, *samples)


def test_what_is_no_picture_is_passed_over(tmp_path):
    for t in range(2):
        save(tmp_path / f"{t}.png", GREY[t])
    for name in ("Thumbs.db", "._0.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"nothing to see")
    (tmp_path / "subfolder").mkdir()
    assert len(read_clip(tmp_path)) == 2


def test_what_a_picture_is_decides_and_not_its_name(tmp_path):
    PIL.Image.new("RGB", (20, 16), (200, 100, 50)).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").rename(tmp_path / "a.png")
    np.testing.assert_allclose(read_clip(tmp_path / "a.png").frame(0)[0, 0], (200, 100, 50), atol=3)


def test_one_picture_is_a_clip_of_one_frame(tmp_path):
    save(tmp_path / "mask.png", GREY[0])
    clip = read_clip(tmp_path / "mask.png")
    assert (clip.axes, clip.name) == ("TYX", "mask")
    np.testing.assert_array_equal(clip.frame(0), GREY[0])


@given(st.lists(st.text(st.sampled_from("ab0123456789_-."), max_size=8)))
def test_the_order_is_total_and_by_number(names):
    ordered = sorted(names, key=natural_key)  # any two names can be compared
    assert [natural_key(name) for name in ordered] == sorted(map(natural_key, ordered[::-1]))
    numbers = [f"frame{n}.png" for n in (1, 2, 9, 10, 100)]
    assert sorted(numbers[::-1], key=natural_key) == numbers


def test_the_folder_that_is_written_says_what_png_cannot(tmp_path):
    clip = Clip.from_array(COLOUR, "TYXS", fps=12.5, pixel_size=(0.5, 0.25), unit="µm")
    folder = write_clip(clip, tmp_path / "frames", provenance={"alpha": 8})
    assert [f.name for f in sorted(folder.iterdir())] == [
        "flowmag.json",
        *(f"frame_{t:05d}.png" for t in range(3)),
    ]
    assert json.loads((folder / "flowmag.json").read_text("utf-8"))["provenance"] == {"alpha": 8}
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(folder / "frame_00002.png")), COLOUR[2])


@pytest.mark.parametrize(
    ("axes", "dtype", "message"),
    [
        ("TYX", "float32", "would lose the values of a float32 clip"),
        ("TYX", "int16", "would lose the values of a int16 clip"),
        ("TZYX", "uint8", "2 planes in depth"),
        ("TCYX", "uint8", "2 channels"),
    ],
)
def test_what_png_cannot_hold_is_refused(tmp_path, axes, dtype, message):
    clip = Clip.from_array(np.zeros([2] * len(axes), dtype), axes)
    with pytest.raises(FlowmagError, match=message):
        write_clip(clip, tmp_path / "frames")
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    clip = Clip.from_array(GREY, "TYX")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("ten years")
    with pytest.raises(FlowmagError, match="give a new folder"):
        write_clip(clip, tmp_path / "full")
    assert (tmp_path / "full" / "thesis.txt").read_text() == "ten years"
    (tmp_path / "empty").mkdir()
    assert len(read_clip(write_clip(clip, tmp_path / "empty"))) == len(GREY)


def test_pictures_that_do_not_fit_together_are_refused(tmp_path):
    save(tmp_path / "0.png", GREY[0])
    save(tmp_path / "1.png", GREY[1])
    save(tmp_path / "2.png", GREY[2, :, :16])
    with pytest.raises(FlowmagError, match=r"0\.png: 32×24, 2\.png: 16×24"):
        read_clip(tmp_path)
    save(tmp_path / "2.png", COLOUR[0])
    with pytest.raises(FlowmagError, match=r"frame 2 of .* a clip needs frames of one kind"):
        read_clip(tmp_path).frame(2)


def test_a_folder_of_stacks_is_no_clip(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    with pytest.raises(FlowmagError, match="is a stack of shape"):
        read_clip(tmp_path)
    assert not is_clip(tmp_path)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize("picture", [GREY[0], COLOUR[0]], ids=["grey", "colour"])
def test_a_folder_of_pictures_is_a_clip(tmp_path, suffix, picture):
    assert not is_clip(tmp_path)
    save(tmp_path / f"a{suffix}", picture)
    assert is_clip(tmp_path)
