"""Scale and time as TIFF files tell them."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_flowmag import Clip, read_clip, write_clip

RNG = np.random.default_rng(0)
STACK = RNG.integers(200, 1500, (5, 16, 20), np.uint16)
DEEP = RNG.integers(0, 255, (3, 2, 16, 20), np.uint8)


def check(path, *, fps=None, size=None, unit="µm"):
    clip = read_clip(path)
    assert clip.fps == (fps and pytest.approx(fps))
    assert clip.pixel_size == (size and pytest.approx(size))
    assert clip.unit == (unit if size else None)


def write_imagej(path, **told):
    metadata = {"axes": "TZYX", "unit": "um", "spacing": 3.0, "finterval": 0.5} | told
    tifffile.imwrite(path, DEEP, imagej=True, metadata=metadata, resolution=(2, 4))
    return path


def write_ome(path, **told):
    metadata = {"axes": "TZYX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 0.3}
    tifffile.imwrite(path, DEEP, metadata=metadata | {"TimeIncrement": 0.5} | told)
    return path


@pytest.mark.parametrize(
    ("unit", "seconds"),
    [("min", 60), ("milliseconds", 1e-3), ("microseconds", 1e-6), ("d", 86400), ("days", 86400)],
)
def test_imagej_times_in_other_units(tmp_path, unit, seconds):
    path = write_imagej(tmp_path / "a.tif", finterval=5, tunit=unit)
    check(path, fps=1 / (5 * seconds), size=(3, 0.25, 0.5))


def test_imagej_depth_in_another_unit(tmp_path):
    path = write_imagej(tmp_path / "a.tif", unit="micron", zunit="nm", spacing=300.0)
    check(path, fps=2, size=(0.3, 0.25, 0.5))


@pytest.mark.parametrize(
    ("told", "fps", "depth"),
    [
        ({"finterval": float("inf")}, None, (3,)),
        ({"finterval": float("nan")}, None, (3,)),
        ({"finterval": "unknown"}, None, (3,)),
        ({"finterval": -1}, None, (3,)),
        ({"spacing": float("nan")}, 2, ()),
        ({"spacing": float("inf")}, 2, ()),
        ({"spacing": -3}, 2, (3,)),
    ],
    ids=str,
)
def test_imagej_numbers_that_are_none_are_unknown(tmp_path, told, fps, depth):
    check(write_imagej(tmp_path / "a.tif", **told), fps=fps, size=(*depth, 0.25, 0.5))


@pytest.mark.parametrize(
    ("told", "size"),
    [
        ({"PhysicalSizeZ": 300, "PhysicalSizeZUnit": "nm"}, (0.3, 0.1, 0.1)),
        ({"PhysicalSizeY": 100, "PhysicalSizeYUnit": "nm"}, (0.3, 0.1, 0.1)),
        ({"PhysicalSizeZUnit": "pixel"}, (0.1, 0.1)),
        ({"PhysicalSizeYUnit": "pixel"}, None),
    ],
    ids=str,
)
def test_ome_lengths_in_several_units(tmp_path, told, size):
    check(write_ome(tmp_path / "a.ome.tif", **told), fps=2, size=size)


@pytest.mark.parametrize(
    ("told", "fps", "size"),
    [
        ({"TimeIncrement": "inf"}, None, (0.3, 0.1, 0.1)),
        ({"TimeIncrement": "nan"}, None, (0.3, 0.1, 0.1)),
        ({"PhysicalSizeZ": "nan"}, 2, (0.1, 0.1)),
        ({"PhysicalSizeX": "inf"}, 2, None),
    ],
    ids=str,
)
def test_ome_numbers_that_are_none_are_unknown(tmp_path, told, fps, size):
    check(write_ome(tmp_path / "a.ome.tif", **told), fps=fps, size=size)


def test_ome_times_of_planes_give_the_mean_rate(tmp_path):
    metadata = {"axes": "TYX", "Plane": {"DeltaT": [0.0, 0.1, 0.19, 0.31, 0.4]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, metadata=metadata)
    check(tmp_path / "a.ome.tif", fps=10)


def test_resolution_in_centimetres_is_a_pixel_size_and_dots_per_inch_are_not(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", STACK, resolution=(20000, 10000), resolutionunit="CENTIMETER"
    )
    check(tmp_path / "a.tif", size=(1.0, 0.5))
    tifffile.imwrite(tmp_path / "b.tif", STACK, resolution=(72, 72), resolutionunit="INCH")
    check(tmp_path / "b.tif")


@pytest.mark.parametrize("dtype", ["int64", "float16"])
def test_a_depth_of_one_is_no_hindrance_to_types_of_no_dialect(tmp_path, dtype):
    values = RNG.integers(0, 9, (3, 1, 2, 16, 20)).astype(dtype)
    clip = Clip.from_array(values, "TZCYX", fps=2, pixel_size=(3, 0.5, 0.25), unit="µm")
    path = write_clip(clip, tmp_path / "a.tif")
    check(path, fps=2, size=(0.5, 0.25))
    np.testing.assert_array_equal(np.asarray(read_clip(path).frames), values[:, 0])


def test_pixels_smaller_than_a_resolution_tag_can_tell_keep_their_size(tmp_path):
    clip = Clip.from_array(STACK, "TYX", pixel_size=(1e-10, 1e-10), unit="m")
    check(write_clip(clip, tmp_path / "a.tif"), size=(1e-10, 1e-10), unit="m")
