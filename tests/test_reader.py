from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_flowmag import Clip, FlowmagError, write_clip
from napari_flowmag._layers import clip_of
from napari_flowmag._reader import get_reader
from napari_flowmag.io import readable_suffixes

MANIFEST = Path(__file__).parents[1] / "src/napari_flowmag/napari.yaml"
SIZES = {"T": 3, "Z": 2, "C": 2, "Y": 16, "X": 20, "S": 3}


def stored(folder: Path, axes: str, **facts) -> tuple[str, np.ndarray]:
    values = np.random.default_rng(0).integers(0, 255, [SIZES[a] for a in axes], np.uint8)
    return str(write_clip(Clip.from_array(values, axes, **facts), folder / "beat.ome.zarr")), values


def test_the_manifest_names_one_reader_and_each_suffix_that_is_read():
    npe2 = pytest.importorskip("npe2")
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    (reader,) = manifest.contributions.readers
    assert {pattern.removeprefix("*") for pattern in reader.filename_patterns} == {
        *readable_suffixes()
    }
    assert reader.accepts_directories
    assert (manifest.name, manifest.display_name) == ("flowmag", "flowmag")
    manifest.validate_imports()


def test_a_layer_has_the_physical_scale_of_its_clip(tmp_path):
    path, values = stored(tmp_path, "TZYX", fps=20, pixel_size=(2.0, 0.5, 0.25), unit="µm")
    ((data, settings, kind),) = get_reader(path)(path)
    assert kind == "image"
    assert data.chunks == ((1,) * 3, (1,) * 2, (16,), (20,))
    np.testing.assert_array_equal(np.asarray(data), values)
    assert settings["name"] == "beat"
    assert settings["scale"] == (0.05, 2.0, 0.5, 0.25)
    assert settings["units"] == ("s", "um", "um", "um")
    assert settings["axis_labels"] == ("t", "z", "y", "x")
    assert not settings["rgb"]
    assert settings["metadata"]["flowmag"]["fps"] == 20


def test_what_is_unknown_is_in_pixels(tmp_path):
    path, _ = stored(tmp_path, "TYX")
    ((_, settings, _),) = get_reader(path)(path)
    assert settings["scale"] == (1, 1, 1)
    assert settings["units"] == ("pixel", "pixel", "pixel")


def test_an_unknown_step_in_depth_alone_is_in_pixels(tmp_path):
    layers = pytest.importorskip("napari.layers")
    path, _ = stored(tmp_path, "TZYX", pixel_size=(0.5, 0.25), unit="µm")
    (layer,) = get_reader(path)(path)
    assert layer[1]["scale"] == (1, 1, 0.5, 0.25)
    assert layer[1]["units"] == ("pixel", "pixel", "um", "um")
    clip = clip_of(layers.Layer.create(*layer))
    assert (clip.pixel_size, clip.unit) == ((0.5, 0.25), "µm")


def test_colour_is_no_axis_and_channels_are_layers(tmp_path):
    path, _ = stored(tmp_path, "TYXS")
    ((data, settings, _),) = get_reader(path)(path)
    assert data.shape == (3, 16, 20, 3)
    assert (settings["rgb"], settings["axis_labels"]) == (True, ("t", "y", "x"))


def test_channels_become_layers_by_their_names(tmp_path):
    path, values = stored(tmp_path, "TZCYX", channel_names=("DAPI", "actin"))
    layers = get_reader(path)(path)
    assert [settings["name"] for _, settings, _ in layers] == ["beat DAPI", "beat actin"]
    assert [settings["metadata"]["flowmag"]["channel"] for _, settings, _ in layers] == [0, 1]
    for c, (data, settings, _) in enumerate(layers):
        np.testing.assert_array_equal(np.asarray(data), values[:, :, c])
        assert settings["axis_labels"] == ("t", "z", "y", "x")
        assert settings["blending"] == "additive"


def test_napari_accepts_the_layers(tmp_path):
    components = pytest.importorskip("napari.components")
    for axes in ("TYX", "TZCYX", "TYXS"):
        path, _ = stored(tmp_path, axes, fps=20)
        viewer = components.ViewerModel()
        for data, settings, _ in get_reader(path)(path):
            viewer.add_image(data, **settings)
        assert len(viewer.layers) == SIZES["C"] ** axes.count("C")


def test_what_is_no_clip_is_refused(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    assert get_reader(str(text)) is None
    assert get_reader(str(tmp_path)) is None
    assert get_reader(["a.tif", "b.tif"]) is None


def test_upper_case_suffixes_and_folders_of_pictures_are_clips(tmp_path):
    tifffile.imwrite(tmp_path / "A.TIF", np.zeros((16, 16), np.uint8))
    assert get_reader(str(tmp_path / "A.TIF")) is not None
    assert get_reader(str(tmp_path)) is not None


def test_a_broken_file_gives_its_line(tmp_path):
    path = tmp_path / "clip.tif"
    path.write_bytes(b"no picture")
    with pytest.raises(FlowmagError, match="not a TIFF file"):
        get_reader(str(path))(str(path))
