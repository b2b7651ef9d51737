"""What goes into a file comes out of it: values, axes, scale, names and how it came to be."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_flowmag import Clip, read_clip, write_clip

AXES = ("TYX", "TZYX", "TCYX", "TZCYX", "TYXS", "TZYXS", "TCYXS", "TZCYXS")
TYPES = (
    *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)
OME_TYPES = [t for t in TYPES if t not in ("uint64", "int64", "float16")]


@st.composite
def clips(draw, axes=AXES, dtypes=TYPES):
    names = draw(st.sampled_from(axes))
    # TIFF knows neither depth nor channels of length one.
    smallest = {"T": 1, "Z": 2, "C": 2, "Y": 1, "X": 1}
    shape = [draw(st.sampled_from([3, 4])) if a == "S" else 0 for a in names]
    shape = [n or draw(st.integers(smallest[a], 6)) for a, n in zip(names, shape, strict=True)]
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    lengths = st.floats(1e-3, 1e3)
    has_scale = draw(st.booleans())
    spatial = "".join(a for a in "ZYX" if a in names)
    return Clip.from_array(
        draw(hnp.arrays(dtype, shape)),
        names,
        fps=draw(st.none() | st.floats(1e-3, 1e4)),
        pixel_size=tuple(draw(lengths) for _ in spatial) if has_scale else None,
        unit=draw(st.sampled_from(["µm", "nm", "mm", "Å", "in"])) if has_scale else None,
        channel_names=("DAPI", "α-actin", "c", "d", "e", "f")[: shape[names.index("C")]]
        if "C" in names and draw(st.booleans())
        else None,
    )


def check_round_trip(clip: Clip, name: str) -> Clip:
    provenance = {"alpha": 8.0, "model": {"name": "default", "µ": [1, 2]}}
    with tempfile.TemporaryDirectory() as folder:
        path = write_clip(clip, Path(folder) / name, provenance=provenance)
        again = read_clip(path)
        assert (again.axes, again.shape, again.dtype) == (clip.axes, clip.shape, clip.dtype)
        np.testing.assert_array_equal(np.asarray(again.frames), np.asarray(clip.frames))
    assert again.metadata["provenance"] == provenance
    assert again.fps == (None if clip.fps is None else pytest.approx(clip.fps))
    assert again.unit == clip.unit
    if clip.pixel_size is not None:
        assert again.pixel_size == pytest.approx(clip.pixel_size, rel=1e-5)
    assert again.channel_names == clip.channel_names
    return again


@settings(deadline=None, max_examples=60)
@given(clips())
def test_tiff(clip):
    check_round_trip(clip, "clip.tif")


@settings(deadline=None, max_examples=40)
@given(clips(dtypes=OME_TYPES))
def test_ome_tiff(clip):
    check_round_trip(clip, "clip.ome.tif")


@settings(deadline=None, max_examples=15)
@given(clips(dtypes=(*TYPES, "bool")))
def test_ome_zarr(clip):
    check_round_trip(clip, "clip.ome.zarr")


@settings(deadline=None, max_examples=40)
@given(clips(axes=("TYX", "TYXS"), dtypes=("uint8", "uint16")))
def test_folder_of_png(clip):
    check_round_trip(clip, "frames")


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 5), st.integers(2, 40), st.integers(2, 40), st.floats(0.01, 5000))
def test_mp4_keeps_number_order_and_facts_of_frames(count, height, width, fps):
    levels = np.linspace(30, 220, count).astype(np.uint8)
    frames = np.broadcast_to(levels[:, None, None], (count, height, width))
    clip = Clip.from_array(frames, "TYX", fps=fps, pixel_size=(0.5, 0.25), unit="µm")
    with tempfile.TemporaryDirectory() as folder:
        again = read_clip(write_clip(clip, Path(folder) / "clip.mp4", provenance={"alpha": 2}))
        means = np.asarray(again.frames).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(means, levels, atol=2)
    assert (again.fps, again.pixel_size, again.unit) == (fps, (0.5, 0.25), "µm")
    assert again.metadata["provenance"] == {"alpha": 2}


@pytest.mark.parametrize("name", ["clip.mp4", "clip"])
def test_a_depth_of_one_is_no_hindrance_to_pictures(tmp_path, name):
    values = np.zeros((3, 1, 1, 16, 16), np.uint8)
    clip = Clip.from_array(values, "TZCYX", fps=5, pixel_size=(3, 0.5, 0.25), unit="µm")
    again = read_clip(write_clip(clip, tmp_path / name))
    assert (len(again), again.fps, again.pixel_size) == (3, 5, (0.5, 0.25))


@pytest.mark.parametrize("axes", ["TYX", "TYXS"])
@pytest.mark.parametrize("name", ["clip.tif", "clip.ome.tif", "clip.ome.zarr", "clip.mp4", "clip"])
def test_the_name_of_a_single_channel_is_kept(tmp_path, name, axes):
    values = np.zeros((3, 16, 16, 3)[: len(axes)], np.uint8)
    clip = Clip.from_array(values, axes, channel_names=("GFP",))
    assert read_clip(write_clip(clip, tmp_path / name)).channel_names == ("GFP",)


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 there")
@pytest.mark.parametrize("odd", [b"caf\xe9", b"caf\x01"])
@pytest.mark.parametrize("name", ["clip.tif", "clip.ome.tif", "clip.ome.zarr", "clip.mp4", "clip"])
def test_a_clip_may_come_from_a_file_whose_name_metadata_cannot_hold(tmp_path, name, odd):
    source = tmp_path / os.fsdecode(odd + b".tif")
    write_clip(Clip.from_array(np.zeros((3, 16, 16), np.uint8), "TYX"), source)
    clip = read_clip(source)
    assert clip.name == "caf?"
    assert len(read_clip(write_clip(clip, tmp_path / name))) == 3


@pytest.mark.parametrize("name", ["again.tif", "again.ome.zarr", "again"])
def test_provenance_goes_from_file_to_file(tmp_path, name):
    clip = Clip.from_array(np.zeros((2, 8, 8), np.uint16), "TYX")
    first = read_clip(write_clip(clip, tmp_path / "first.tif", provenance={"alpha": 4}))
    assert read_clip(write_clip(first, tmp_path / name)).metadata["provenance"] == {"alpha": 4}


def test_big_endian_arrays_are_written_with_their_values(tmp_path):
    values = np.arange(24, dtype=">u2").reshape(2, 3, 4)
    for name in ("clip.tif", "clip.ome.zarr", "clip"):
        again = read_clip(write_clip(Clip.from_array(values, "TYX"), tmp_path / name))
        np.testing.assert_array_equal(np.asarray(again.frames), values)


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.ome.zarr"])
@pytest.mark.parametrize("count", [1, 3])
def test_an_unknown_step_in_depth_stays_unknown(tmp_path, name, count):
    values = np.zeros((count, 2, 6, 5), np.uint8)
    clip = Clip.from_array(values, "TZYX", fps=2, pixel_size=(0.5, 0.25), unit="µm")
    path = write_clip(clip, tmp_path / name)
    again = read_clip(path)
    assert (again.axes, again.pixel_size, again.unit) == ("TZYX", (0.5, 0.25), "µm")
    if path.suffix == ".tif":
        told = path.read_bytes()
        assert b"PhysicalSizeZ" not in told
        assert b"spacing" not in told
