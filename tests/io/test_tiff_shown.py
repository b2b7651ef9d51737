"""TIFF files whose numbers are no intensities: palettes and negatives."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import tifffile

from napari_flowmag import FlowmagError, read_clip

RNG = np.random.default_rng(0)
NUMBERS = RNG.integers(0, 256, (4, 24, 32), np.uint8)
COLOURS = RNG.integers(0, 256, (256, 3)).astype(np.uint16)
GREYS = np.repeat(COLOURS[:, :1], 3, axis=1)


def write(path, values, kind, **options):
    """Write a stack, or a folder of pictures."""
    if kind == "stack":
        tifffile.imwrite(path, values, **options)
        return path
    path.mkdir()
    for t, frame in enumerate(values):
        tifffile.imwrite(path / f"{t}.tif", frame, **options)
    return path


def check(path, values, axes):
    clip = read_clip(path)
    assert (clip.axes, clip.dtype) == (axes, values.dtype)
    np.testing.assert_array_equal(np.asarray(clip.frames), values)


@pytest.mark.parametrize("kind", ["stack", "folder.of"])
@pytest.mark.parametrize("factor", [1, 256, 257])
def test_numbers_of_a_palette_are_read_as_its_colours(tmp_path, kind, factor):
    options = {"photometric": "palette", "colormap": COLOURS.T * factor}
    path = write(tmp_path / "a.tif", NUMBERS, kind, **options)
    check(path, COLOURS.astype(np.uint8)[NUMBERS], "TYXS")


@pytest.mark.parametrize("kind", ["stack", "folder.of"])
def test_a_palette_of_greys_gives_greys(tmp_path, kind):
    options = {"photometric": "palette", "colormap": GREYS.T * 257}
    path = write(tmp_path / "a.tif", NUMBERS, kind, **options)
    check(path, GREYS.astype(np.uint8)[NUMBERS, 0], "TYX")


def test_a_palette_of_finer_colours_keeps_them(tmp_path):
    colours = COLOURS * 257 + 1
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, NUMBERS, photometric="palette", colormap=colours.T)
    check(path, colours[NUMBERS], "TYXS")


def test_a_folder_of_palettes_is_the_same_in_png_and_tiff(tmp_path):
    for suffix in ("png", "tif"):
        (tmp_path / suffix).mkdir()
        for t, frame in enumerate(COLOURS.astype(np.uint8)[NUMBERS]):
            picture = PIL.Image.fromarray(frame).convert("P", palette=PIL.Image.Palette.ADAPTIVE)
            picture.save(tmp_path / suffix / f"{t}.{suffix}")
    check(tmp_path / "tif", np.asarray(read_clip(tmp_path / "png").frames), "TYXS")


def test_pages_with_palettes_of_their_own_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for shift, frame in enumerate(NUMBERS):
            palette = np.roll(COLOURS.T * 257, shift, axis=1)
            tif.write(frame, photometric="palette", colormap=palette, metadata=None)
    with pytest.raises(FlowmagError, match="a palette for each page"):
        read_clip(path)


@pytest.mark.parametrize("dialect", ["imagej", "ome"])
def test_a_table_to_look_at_intensities_with_changes_nothing(tmp_path, dialect):
    path = tmp_path / "a.tif"
    options = {"colormap": COLOURS.T * 257, "metadata": {"axes": "TYX"}, dialect: True}
    tifffile.imwrite(path, NUMBERS, photometric="palette", **options)
    with tifffile.TiffFile(path) as tif:
        assert tif.pages.first.photometric == tifffile.PHOTOMETRIC.PALETTE
    check(path, NUMBERS, "TYX")


@pytest.mark.parametrize("kind", ["stack", "folder.of"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_a_negative_is_read_as_it_is_shown(tmp_path, kind, dtype, byteorder):
    values = NUMBERS.astype(dtype)
    options = {"photometric": "miniswhite", "byteorder": byteorder}
    path = write(tmp_path / "a.tif", values, kind, **options)
    check(path, np.iinfo(dtype).max - values, "TYX")


@pytest.mark.parametrize("dtype", [np.int16, np.float32, bool])
def test_negatives_of_which_nothing_says_what_is_white_and_masks_stay(tmp_path, dtype):
    values = (NUMBERS // 128).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    check(tmp_path / "a.tif", values, "TYX")


def test_an_inverted_view_in_imagej_changes_nothing(tmp_path):
    options = {"photometric": "miniswhite", "imagej": True, "metadata": {"axes": "TYX"}}
    tifffile.imwrite(tmp_path / "a.tif", NUMBERS, **options)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.pages.first.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    check(tmp_path / "a.tif", NUMBERS, "TYX")
