"""Saving layers from napari."""

from __future__ import annotations

import numpy as np
import pytest

from napari_flowmag import Clip, FlowmagError, read_clip, write_clip
from napari_flowmag._layers import clip_of, result_settings
from napari_flowmag._request import Request
from napari_flowmag.settings import MagnifySettings

components = pytest.importorskip("napari.components")

RNG = np.random.default_rng(0)
FACTS = {"fps": 20.0, "pixel_size": (0.5, 0.25), "unit": "µm"}


@pytest.fixture
def viewer():
    pytest.importorskip("npe2").PluginManager.instance().discover()
    return components.ViewerModel()


def opened(viewer, folder, values, axes, **facts):
    path = write_clip(Clip.from_array(values, axes, **{**FACTS, **facts}), folder / "beat.tif")
    return viewer.open(str(path), plugin="flowmag")


def noise(*shape):
    return RNG.integers(200, 60_000, shape).astype(np.uint16)


def plain(count, size=32, first=10, step=10):
    """Frames of one grey each, (T, H, W) uint8."""
    greys = first + step * np.arange(count, dtype=np.uint8)
    return np.broadcast_to(greys[:, None, None], (count, size, size)).copy()


def result_of(source, data, start=0, **known):
    """As a run leaves it beside its source."""
    known = {"role": "result", "source": source.name, **known}
    settings = {**result_settings(source, start), "metadata": {"flowmag": known}}
    return type(source)(data, name=f"{source.name} ×8", **settings)


def same_facts(clip):
    assert clip.fps == pytest.approx(20)
    assert clip.pixel_size == pytest.approx((0.5, 0.25))
    assert clip.unit == "µm"


@pytest.mark.parametrize("name", ["out.tif", "out.TIFF", "out.ome.tif", "out.ome.zarr", "out.zarr"])
def test_a_stack_keeps_values_and_scale(viewer, tmp_path, name):
    values = noise(5, 24, 32)
    opened(viewer, tmp_path, values, "TYX")
    assert viewer.layers.save(str(tmp_path / name), plugin="flowmag") == [str(tmp_path / name)]
    back = read_clip(tmp_path / name)
    assert (back.dtype, back.axes) == (values.dtype, "TYX")
    np.testing.assert_array_equal(np.asarray(back.frames), values)
    same_facts(back)


def test_channels_come_back_as_channels(viewer, tmp_path):
    values = noise(4, 2, 24, 32)
    opened(viewer, tmp_path, values, "TCYX", channel_names=("DAPI", "actin"))
    assert len(viewer.layers) == 2
    viewer.layers.save(str(tmp_path / "out.tif"), plugin="flowmag")
    back = read_clip(tmp_path / "out.tif")
    assert (back.axes, back.channel_names) == ("TCYX", ("DAPI", "actin"))
    np.testing.assert_array_equal(np.asarray(back.frames), values)
    same_facts(back)


def test_a_channel_saved_alone_keeps_its_name(viewer, tmp_path):
    values = noise(4, 2, 24, 32)
    opened(viewer, tmp_path, values, "TCYX", channel_names=("DAPI", "actin"))
    viewer.layers.selection = {viewer.layers[1]}
    viewer.layers.save(str(tmp_path / "out.tif"), selected=True, plugin="flowmag")
    assert read_clip(tmp_path / "out.tif").channel_names == ("actin",)
    viewer.layers.clear()
    viewer.open(str(tmp_path / "out.tif"), plugin="flowmag")
    viewer.layers.save(str(tmp_path / "again.ome.tif"), plugin="flowmag")
    assert read_clip(tmp_path / "again.ome.tif").channel_names == ("actin",)


def test_a_layer_that_was_given_another_name_is_a_channel_of_that_name(viewer, tmp_path):
    opened(viewer, tmp_path, noise(4, 2, 24, 32), "TCYX", channel_names=("DAPI", "actin"))
    viewer.layers[0].name = "nuclei"
    viewer.layers.save(str(tmp_path / "out.tif"), plugin="flowmag")
    assert read_clip(tmp_path / "out.tif").channel_names == ("nuclei", "actin")


def test_how_a_result_was_made_is_in_its_file(viewer, tmp_path):
    (source,) = opened(viewer, tmp_path, noise(4, 24, 32), "TYX")
    viewer.add_layer(result_of(source, source.data, provenance={"alpha": 8.0}))
    viewer.layers.selection = {viewer.layers[1]}
    viewer.layers.save(str(tmp_path / "out.tif"), selected=True, plugin="flowmag")
    assert read_clip(tmp_path / "out.tif").metadata["provenance"]["alpha"] == 8.0


def test_a_name_without_suffix_gets_that_of_the_format(viewer, tmp_path):
    # What the dialog passes on when a format was chosen from its list.
    from npe2 import PluginManager

    opened(viewer, tmp_path, plain(3), "TYX")
    writers = PluginManager.instance().iter_compatible_writers(["image"])
    ours = [w for w in writers if w.command.startswith("flowmag.")]
    saved = [viewer.layers.save(str(tmp_path / "out"), _writer=writer)[0] for writer in ours]
    assert sorted(saved) == [str(tmp_path / f"out{s}") for s in (".mp4", ".ome.zarr", ".tif")]
    assert all(len(read_clip(path)) == 3 for path in saved)


def test_one_layer_becomes_a_video(viewer, tmp_path):
    opened(viewer, tmp_path, plain(5), "TYX")
    viewer.layers.save(str(tmp_path / "out.mp4"), plugin="flowmag")
    back = read_clip(tmp_path / "out.mp4")
    assert back.shape == (5, 32, 32, 3)
    np.testing.assert_allclose(np.asarray(back.frames).mean((1, 2, 3)), plain(5)[:, 0, 0], atol=2)


@pytest.mark.parametrize("result_below", [False, True])
def test_source_and_result_stand_side_by_side(viewer, tmp_path, result_below):
    (source,) = opened(viewer, tmp_path, plain(5), "TYX")
    result = result_of(source, plain(5, first=150), provenance={"alpha": 8.0})
    viewer.layers.insert(0 if result_below else 1, result)
    viewer.layers.save(str(tmp_path / "out.mp4"), plugin="flowmag")
    back = read_clip(tmp_path / "out.mp4")
    assert back.shape == (5, 32, 64, 3)
    left, right = np.split(np.asarray(back.frames), 2, axis=2)
    np.testing.assert_allclose(left[:, 5:-5, 5:-5].mean((1, 2, 3)), plain(5)[:, 0, 0], atol=2)
    np.testing.assert_allclose(
        right[:, 5:-5, 5:-5].mean((1, 2, 3)), plain(5, first=150)[:, 0, 0], atol=2
    )
    assert back.metadata["provenance"]["alpha"] == 8.0


def test_a_result_of_some_frames_stands_beside_the_same_frames(viewer, tmp_path):
    (source,) = opened(viewer, tmp_path, plain(6), "TYX")
    viewer.add_layer(result_of(source, plain(3, first=150), start=2))
    viewer.layers.save(str(tmp_path / "out.mp4"), plugin="flowmag")
    left, right = np.split(np.asarray(read_clip(tmp_path / "out.mp4").frames), 2, axis=2)
    np.testing.assert_allclose(left[:, 5:-5, 5:-5].mean((1, 2, 3)), (30, 40, 50), atol=2)
    np.testing.assert_allclose(right[:, 5:-5, 5:-5].mean((1, 2, 3)), (150, 160, 170), atol=2)


def test_a_video_looks_as_the_contrast_limits_say(viewer, tmp_path):
    values = np.full((3, 32, 32), 5_000, np.uint16)
    values[:, 0, 0] = 60_000
    (layer,) = opened(viewer, tmp_path, values, "TYX")
    layer.contrast_limits = (0, 10_000)
    viewer.layers.save(str(tmp_path / "out.mp4"), plugin="flowmag")
    assert np.median(np.asarray(read_clip(tmp_path / "out.mp4").frames)) == pytest.approx(
        127.5, abs=2
    )


def test_layers_of_other_times_or_sizes_are_no_pair(viewer, tmp_path):
    (source,) = opened(viewer, tmp_path, plain(3), "TYX")
    viewer.add_layer(result_of(source, plain(3), start=9))
    with pytest.raises(FlowmagError, match="no frame in common"):
        viewer.layers.save(str(tmp_path / "out.mp4"), plugin="flowmag")
    del viewer.layers[1]
    viewer.add_layer(result_of(source, plain(3, size=40)))
    with pytest.raises(FlowmagError, match="two clips of one kind"):
        viewer.layers.save(str(tmp_path / "out.mp4"), plugin="flowmag")
    assert not (tmp_path / "out.mp4").exists()


def test_the_file_a_layer_was_read_from_is_not_overwritten(viewer, tmp_path):
    opened(viewer, tmp_path, plain(3), "TYX")
    with pytest.raises(FlowmagError, match="the input itself"):
        viewer.layers.save(str(tmp_path / "beat.tif"), plugin="flowmag")
    assert len(read_clip(tmp_path / "beat.tif")) == 3


def test_a_picture_is_no_clip(viewer, tmp_path):
    viewer.add_image(np.zeros((16, 16)), name="photo")
    with pytest.raises(FlowmagError, match="'photo' has no time axis"):
        viewer.layers.save(str(tmp_path / "out.tif"), plugin="flowmag")


def test_a_result_keeps_the_names_of_its_channels(viewer, tmp_path):
    sources = opened(viewer, tmp_path, noise(4, 2, 24, 32), "TCYX", channel_names=("DAPI", "actin"))
    request = Request(tuple(sources), clip_of(*sources), MagnifySettings(4))
    results = request.result_layers(noise(4, 2, 24, 32), {})
    viewer.layers.clear()
    for data, settings in results:
        viewer.add_image(data, **settings)
    viewer.layers.save(str(tmp_path / "out.tif"), plugin="flowmag")
    assert read_clip(tmp_path / "out.tif").channel_names == ("DAPI", "actin")
