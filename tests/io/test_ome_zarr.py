from __future__ import annotations

import numpy as np
import pytest
import zarr

from napari_flowmag import Clip, FlowmagError, read_clip, write_clip

RNG = np.random.default_rng(0)
VALUES = RNG.integers(0, 1000, (3, 2, 4, 16, 20), np.uint16)  # t, c, z, y, x
AXES = [
    {"name": "t", "type": "time", "unit": "millisecond"},
    {"name": "c", "type": "channel"},
    *({"name": a, "type": "space", "unit": "nanometer"} for a in "zyx"),
]
SCALE = [{"type": "scale", "scale": [40.0, 1.0, 1000.0, 250.0, 200.0]}]


def store(path, *, version, axes=AXES, values=VALUES, scale=None, **multiscale):
    """Write an image as others do, with a level of half the size beside the full one."""
    form = 3 if version == "0.5" else 2
    group = zarr.create_group(path, zarr_format=form)
    group.create_array("full", data=values, chunks=(2, 1, 1, 8, 8)[-values.ndim :])
    group.create_array("half", data=values[..., ::2, ::2])
    datasets = [{"path": "full"}, {"path": "half"}]
    if version in ("0.4", "0.5"):
        datasets[0]["coordinateTransformations"] = scale or SCALE
    image = {
        "multiscales": [{"datasets": datasets, **({"axes": axes} if axes else {}), **multiscale}],
        "omero": {"channels": [{"label": "DAPI"}, {"label": "actin"}]},
    }
    group.attrs.update({"ome": {"version": version, **image}} if form == 3 else image)
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_image_with_all_axes(tmp_path, version):
    clip = read_clip(store(tmp_path / "a.zarr", version=version))
    assert (clip.axes, clip.dtype, clip.name) == ("TZCYX", np.uint16, "a")
    np.testing.assert_array_equal(np.asarray(clip.frames), VALUES.swapaxes(1, 2))
    assert clip.fps == pytest.approx(25)
    assert (clip.pixel_size, clip.unit) == ((1000, 250, 200), "nm")
    assert clip.channel_names == ("DAPI", "actin")


@pytest.mark.parametrize("axes", [None, ["t", "c", "z", "y", "x"]], ids=["0.2", "0.3"])
def test_old_versions_have_no_scale(tmp_path, axes):
    clip = read_clip(store(tmp_path / "a.zarr", version="0.3", axes=axes))
    np.testing.assert_array_equal(np.asarray(clip.frames), VALUES.swapaxes(1, 2))
    assert (clip.fps, clip.pixel_size) == (None, None)


def test_scales_of_image_and_level_multiply(tmp_path):
    doubled = [{"type": "scale", "scale": [2.0] * 5}]
    path = store(tmp_path / "a.zarr", version="0.4", coordinateTransformations=doubled)
    assert read_clip(path).pixel_size == (2000, 500, 400)


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        ("micrometer", (1e6, 250, 200)),
        ("picometer", (1, 250, 200)),
        (None, (1000, 250, 200)),
        ("pixel", (250, 200)),
    ],
)
def test_lengths_in_several_units(tmp_path, unit, size):
    axes = [a if a["name"] != "z" else {**a, "unit": unit} for a in AXES]
    clip = read_clip(store(tmp_path / "a.zarr", version="0.4", axes=axes))
    assert (clip.pixel_size, clip.unit) == (size, "nm")


def test_numbers_that_are_none_are_unknown(tmp_path):
    scale = [{"type": "scale", "scale": [float("inf"), 1.0, float("nan"), 250.0, 200.0]}]
    clip = read_clip(store(tmp_path / "a.zarr", version="0.4", scale=scale))
    assert (clip.fps, clip.pixel_size, clip.unit) == (None, (250, 200), "nm")


def test_a_picture_of_two_axes_is_one_frame(tmp_path):
    path = store(tmp_path / "a.zarr", version="0.3", axes=["y", "x"], values=VALUES[0, 0, 0])
    clip = read_clip(path)
    assert clip.axes == "TYX"
    np.testing.assert_array_equal(clip.frame(0), VALUES[0, 0, 0])


def test_the_folder_that_bioformats2raw_writes(tmp_path):
    root = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    store(tmp_path / "a.zarr/0", version="0.4")
    assert read_clip(tmp_path / "a.zarr").sizes["T"] == 3


@pytest.mark.parametrize("axes", ["TYX", "TZCYX", "TYXS"])
@pytest.mark.parametrize("known", [True, False])
def test_what_is_written_follows_the_specification(tmp_path, axes, known):
    yaozarrs = pytest.importorskip("yaozarrs")
    sizes = {"T": 3, "Z": 2, "C": 2, "Y": 16, "X": 20, "S": 3}
    spatial = [0.5] * (3 if "Z" in axes else 2)
    facts = {"fps": 5, "pixel_size": spatial, "unit": "µm"} if known else {}
    if "C" in axes and known:
        facts["channel_names"] = ("DAPI", "actin")
    values = RNG.integers(0, 255, [sizes[a] for a in axes], np.uint8)
    path = write_clip(Clip.from_array(values, axes, **facts), tmp_path / "a.ome.zarr")
    yaozarrs.validate_zarr_store(str(path))
    attributes = zarr.open_group(path, mode="r").attrs["ome"]
    (multiscale,) = attributes["multiscales"]
    assert [axis.get("unit") for axis in multiscale["axes"] if axis["name"] in "tx"] == (
        ["second", "micrometer"] if known else [None, None]
    )


def omero_channels(folder, values, axes, **facts):
    path = write_clip(Clip.from_array(values, axes, **facts), folder / "a.ome.zarr")
    return zarr.open_group(path, mode="r").attrs["ome"]["omero"]["channels"]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.float64])
def test_channels_open_with_full_contrast(tmp_path, dtype):
    values = np.stack([VALUES[:, 0] + 200, 3 * VALUES[:, 1]], axis=2).astype(dtype)
    if values.dtype.kind == "f":
        values[0, 0, 0, 0] = np.nan
    channels = omero_channels(tmp_path, values, "TZCYX", channel_names=("DAPI", "actin"))
    for c, told in enumerate(channels):
        window, own = told["window"], values[:, :, c]
        assert (window["start"], window["end"]) == (np.nanmin(own), np.nanmax(own))
        assert window["min"] <= window["start"] < window["end"] <= window["max"]


def test_eight_bits_and_constant_clips_open_as_they_are(tmp_path):
    for dtype, most in ((np.uint8, 255), (np.uint16, 65535)):
        values = np.full((2, 8, 8), 7, dtype)
        (told,) = omero_channels(tmp_path, values, "TYX", channel_names=("phase",))
        assert (told["window"]["start"], told["window"]["end"]) == (0, most)


def test_colours_are_shown_as_what_they_are_and_a_single_channel_in_grey(tmp_path):
    values = RNG.integers(0, 4000, (2, 8, 8, 3), np.uint16)
    channels = omero_channels(tmp_path, values, "TYXS")
    assert [told["color"] for told in channels] == ["FF0000", "00FF00", "0000FF"]
    assert {told["window"]["end"] for told in channels} == {values.max()}
    (told,) = omero_channels(tmp_path, values[..., 0], "TYX", channel_names=("phase",))
    assert told["color"] == "FFFFFF"


def test_a_frame_is_stored_in_chunks_of_its_own(tmp_path):
    values = np.zeros((3, 2, 1100, 20), np.uint8)
    path = write_clip(Clip.from_array(values, "TZYX"), tmp_path / "a.ome.zarr")
    assert zarr.open_array(path / "0", mode="r").chunks == (1, 1, 1024, 20)


@pytest.mark.parametrize("dtype", ["l", "q", "L", "Q"])
def test_whole_numbers_of_64_bits_by_both_of_their_names(tmp_path, dtype):
    values = np.arange(128).reshape(2, 8, 8).astype(dtype)
    path = write_clip(Clip.from_array(values, "TYX"), tmp_path / "a.ome.zarr")
    np.testing.assert_array_equal(np.asarray(read_clip(path).frames), values)


def test_an_image_is_replaced_and_anything_else_is_not(tmp_path):
    path = tmp_path / "a.ome.zarr"
    for level in (1, 2):
        write_clip(Clip.from_array(np.full((2, 8, 8), level, np.uint8), "TYX"), path)
    assert read_clip(path).frame(0).max() == 2
    assert [f.name for f in tmp_path.iterdir()] == [path.name]
    (tmp_path / "b.zarr").mkdir()
    (tmp_path / "b.zarr" / "thesis.txt").write_text("ten years")
    with pytest.raises(FlowmagError, match="is no OME-Zarr"):
        write_clip(read_clip(path), tmp_path / "b.zarr")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g.attrs.clear(), "holds no OME-Zarr image"),
        (lambda g: g.attrs.update(multiscales=[]), "damaged OME-Zarr metadata"),
        (lambda g: g.attrs.update(multiscales=[{"datasets": []}]), "damaged OME-Zarr metadata"),
        (lambda g: g.attrs.update(multiscales=[{"datasets": [{"path": "x"}]}]), "damaged"),
        (
            lambda g: g.attrs.update(
                multiscales=[{"axes": list("abczy"), "datasets": [{"path": "full"}]}]
            ),
            "flowmag reads t, c, z, y, x",
        ),
        (
            lambda g: g.attrs.update(
                multiscales=[{"axes": list("yx"), "datasets": [{"path": "full"}]}]
            ),
            "damaged OME-Zarr metadata",
        ),
    ],
    ids=["none", "empty", "no level", "level missing", "other axes", "too few axes"],
)
def test_damaged_metadata(tmp_path, change, message):
    path = store(tmp_path / "a.zarr", version="0.4")
    change(zarr.open_group(path, mode="r+"))
    with pytest.raises(FlowmagError, match=message) as caught:
        read_clip(path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_only_called_zarr(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(FlowmagError, match="not an OME-Zarr image"):
        read_clip(tmp_path / "a.zarr")
