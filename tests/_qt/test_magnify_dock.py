"""The Magnify dock on a viewer without a window: what it asks for, runs and writes down."""

from __future__ import annotations

import shlex
import threading

import numpy as np
import pytest
import tifffile

from napari_flowmag import magnify, read_clip
from napari_flowmag._command import command_for, needs_folder
from napari_flowmag._qt.channels import CARRIES, FOLLOWS, LEFT
from napari_flowmag._qt.magnify_dock import MagnifyDock
from napari_flowmag._qt.mask_dock import MaskDock
from napari_flowmag._qt.scrolled import Scrolled
from napari_flowmag._reader import read_layers
from napari_flowmag.cli import main
from napari_flowmag.errors import FlowmagError

from .conftest import moved_texture


@pytest.fixture
def dock(qtbot, model):
    made = MagnifyDock(model)
    qtbot.addWidget(made)
    return made


def run(dock, idle):
    dock.run()
    assert dock.running
    assert not dock.run_button.isEnabled()
    assert not dock.unload_button.isEnabled()
    idle()
    assert dock.unload_button.isEnabled()
    return dock._viewer.layers


def test_nothing_can_be_run_without_a_clip(dock):
    assert not dock.run_button.isEnabled()
    assert not dock.adapt.button.isEnabled()
    assert not dock.copy_button.isEnabled()


def test_the_result_lies_beside_its_source_and_is_what_magnify_gives(dock, model, frames, idle):
    layer = model.add_image(
        frames,
        name="beat",
        scale=(0.05, 0.3, -0.2),
        translate=(1, 20, 30),
        units=("s", "um", "um"),
        axis_labels=("t", "y", "x"),
        colormap="magma",
        contrast_limits=(15000, 25000),
    )
    dock.form.alpha.set_value(5)
    dock.form.first.setValue(2)
    result = run(dock, idle)[1]
    assert result.name == "beat ×5"
    np.testing.assert_array_equal(result.data, magnify(frames, 5, reference="first", start=2))
    for name in ("scale", "units", "axis_labels", "colormap", "contrast_limits"):
        np.testing.assert_array_equal(
            np.asarray(getattr(result, name), dtype=object).ravel(),
            np.asarray(getattr(layer, name), dtype=object).ravel(),
        )
    np.testing.assert_allclose(result.data_to_world((0, 3, 4)), layer.data_to_world((2, 3, 4)))
    assert result.metadata["flowmag"]["settings"]["alpha"] == 5
    assert len(result.metadata["flowmag"]["provenance"]["model"]["sha256"]) == 64
    assert dock.run_button.isEnabled()


@pytest.mark.parametrize("more", [True, False])
def test_a_clip_that_gets_other_axes_during_a_run_does_not_spoil_the_result(
    dock, model, frames, idle, more
):
    layer = model.add_image(frames, name="beat", scale=(0.5, 2, 3), translate=(1, 4, 5))
    dock.form.alpha.set_value(1)
    dock.form.first.setValue(2)
    dock.run()
    layer.name, layer.colormap = "heart", "magma"
    layer.data = np.stack([frames, frames], axis=1) if more else frames[0]
    idle()
    result = model.layers["heart ×1"]
    np.testing.assert_array_equal(result.data, frames[2:])
    np.testing.assert_allclose(result.scale, (0.5, 2, 3))
    np.testing.assert_allclose(result.translate, (2, 4, 5))
    assert result.colormap.name == "magma"


def test_what_a_clip_is_called_and_scaled_to_during_a_run_counts(dock, model, frames, idle):
    layer = model.add_image(frames, name="beat")
    dock.form.alpha.set_value(1)
    dock.form.first.setValue(2)
    dock.run()
    layer.name, layer.scale = "heart", (0.5, 2, 3)
    idle()
    result = model.layers["heart ×1"]
    np.testing.assert_allclose(result.scale, (0.5, 2, 3))
    np.testing.assert_allclose(result.translate, (1, 0, 0))


def test_cancelling_adds_nothing_and_leaves_no_thread(dock, model, idle):
    model.add_image(moved_texture(40))
    for _ in range(6):
        dock.run()
        dock.cancel()
        idle()
        assert not dock.running
        assert dock.bar.bar.isHidden()
        assert dock.run_button.isEnabled()
    assert len(model.layers) == 1
    assert not [t for t in threading.enumerate() if t.name.startswith("flowmag")]


def test_each_label_has_its_factor_and_frames_without_labels_take_the_nearest(
    dock, model, frames, idle
):
    model.add_image(frames)
    labels = np.zeros(frames.shape, np.uint8)
    labels[1, 5:20, 5:30] = 1
    labels[4, 25:40, 30:60] = 3
    layer = model.add_labels(labels)
    dock.form.alpha.set_value(4)
    dock.form.region.labels.set_value(layer)
    dock.form.region.set_alpha(3, 9)
    request = dock.form.value()
    assert dict(request.settings.label_alphas) == {1: 4, 3: 9}
    mask = request.mask()
    for t, drawn in enumerate((1, 1, 1, 4, 4, 4)):
        np.testing.assert_array_equal(mask[t], labels[drawn])
    result = run(dock, idle)[1]
    expected = magnify(frames, 4, mask=mask, reference="first", label_alphas=((1, 4), (3, 9)))
    np.testing.assert_array_equal(result.data, expected)


def test_labels_beside_the_clip_do_not_count(dock, model, frames, idle):
    model.add_image(frames)
    labels = np.zeros((60, 90), np.uint8)
    labels[5:20, 5:30] = 1
    labels[50:58, 70:85] = 2  # beyond the border
    layer = model.add_labels(labels)
    dock.form.alpha.set_value(4)
    dock.form.region.labels.set_value(layer)
    dock.form.region.set_alpha(2, 9)
    mask = labels[: frames.shape[1], : frames.shape[2]]
    assert not (mask == 2).any()
    result = run(dock, idle)[1]
    np.testing.assert_array_equal(result.data, magnify(frames, 4, mask=mask, reference="first"))


def test_a_second_run_and_a_preview_lie_above_the_first_run_and_below_what_was_drawn(
    dock, model, frames, idle, qtbot
):
    model.add_image(frames, name="clip")
    model.add_points(name="points")
    run(dock, idle)
    dock.form.alpha.set_value(5)
    run(dock, idle)
    with qtbot.waitSignal(dock.preview.shown, timeout=60_000):
        dock.live.setChecked(True)
    names = [layer.name for layer in model.layers]
    assert names == ["clip", "clip ×8", "clip ×5", "clip preview", "points"]


def test_magnified_channels_are_seen_in_place_of_the_clip_and_not_on_top(dock, model, idle, qtbot):
    looks = {"blending": "additive", "opacity": 0.7}
    model.add_image(moved_texture(seed=1), name="a", **looks)
    model.add_image(moved_texture(seed=2), name="b", **looks)
    dock.form.clip.set_value(model.layers["a"])
    dock.form.channels.set_role(model.layers["b"], CARRIES)
    with qtbot.waitSignal(dock.preview.shown, timeout=60_000):
        dock.live.setChecked(True)
    previews = dock.preview.layers
    layers = run(dock, idle)
    for lower, upper in (previews, (layers["a ×8"], layers["b ×8"])):
        assert (str(lower.blending), lower.opacity) == ("translucent_no_depth", 1)
        assert (str(upper.blending), upper.opacity) == ("additive", 0.7)


def test_a_preview_is_out_of_sight_before_its_clip_goes(dock, model, frames, idle, qtbot):
    clip = model.add_image(frames)
    with qtbot.waitSignal(dock.preview.shown, timeout=60_000):
        dock.live.setChecked(True)
    (preview,) = dock.preview.layers
    seen = []
    model.layers.events.removed.connect(lambda event: seen.append(preview.visible))
    model.layers.remove(clip)
    assert seen[0] is False
    qtbot.waitUntil(lambda: not len(model.layers), timeout=5000)
    idle()


def test_a_preview_looks_as_its_clip_does(dock, model, qtbot, idle):
    for seed, name in enumerate("ab"):
        model.add_image(moved_texture(seed=seed), name=name, blending="additive")
    first, second = model.layers
    dock.form.clip.set_value(first)
    dock.form.channels.set_role(second, CARRIES)
    with qtbot.waitSignal(dock.preview.shown, timeout=60_000):
        dock.live.setChecked(True)
    previews = dock.preview.layers
    for source, preview in zip((first, second), previews, strict=True):
        source.contrast_limits = (19000, 21000)
        source.gamma = 0.5
        source.colormap = "magma"
        source.opacity = 0.4
        assert preview.contrast_limits == [19000, 21000]
        assert (preview.gamma, preview.colormap.name) == (0.5, "magma")
    assert [preview.opacity for preview in previews] == [1, 0.4], "the clip is not seen through it"
    previews[0].gamma = 2
    with qtbot.waitSignal(dock.preview.shown, timeout=60_000):
        model.dims.set_current_step(0, 3)
    assert previews[0].gamma == 2, "it was chosen for the preview"
    idle()


@pytest.mark.parametrize("error", [FlowmagError("no such model"), ValueError("no such model")])
def test_a_preview_that_fails_says_so_each_time_and_leaves_no_old_picture(
    dock, model, frames, qtbot, idle, monkeypatch, error
):
    from napari.utils.notifications import notification_manager

    def frame(self, request, *rest):
        if request.settings.alpha > 50:
            raise error
        return frames[0]

    monkeypatch.setattr("napari_flowmag._live.LiveFrames.frame", frame)
    clip = model.add_image(frames)
    with qtbot.waitSignal(dock.preview.shown, timeout=60_000):
        dock.live.setChecked(True)
    with notification_manager:
        before = len(notification_manager.records)
        for alpha in (60, 70):
            with qtbot.waitSignal(dock.preview.failed, timeout=60_000):
                dock.form.alpha.set_value(alpha)
            assert "no such model" in dock.problem.text()
            assert list(model.layers) == [clip]
        told = len(notification_manager.records) - before
    assert told == (0 if isinstance(error, FlowmagError) else 1)
    with qtbot.waitSignal(dock.preview.shown, timeout=60_000):
        dock.form.alpha.set_value(5)
    assert not dock.problem.text()
    assert len(dock.preview.layers) == 1
    idle()


def test_settings_that_make_no_sense_have_no_preview(dock, model, frames, qtbot, idle):
    clip = model.add_image(frames)
    with qtbot.waitSignal(dock.preview.shown, timeout=60_000):
        dock.live.setChecked(True)
    dock.form.last.setValue(2)
    dock.form.first.setValue(4)
    qtbot.waitUntil(lambda: list(model.layers) == [clip], timeout=5000)
    with qtbot.waitSignal(dock.preview.shown, timeout=60_000):
        dock.form.first.setValue(0)
    assert len(dock.preview.layers) == 1
    idle()


@pytest.mark.parametrize("change", ["frame", "factor"])
def test_a_preview_that_waits_for_other_work_shows_nothing_out_of_date(
    dock, model, frames, qtbot, idle, monkeypatch, change
):
    clip = model.add_image(frames)
    with qtbot.waitSignal(dock.preview.shown, timeout=60_000):
        dock.live.setChecked(True)
    go_on = threading.Event()

    def adapt(request, preset, budget, handle):
        go_on.wait(60)

    monkeypatch.setattr("napari_flowmag._qt.adapt_box.adapt_request", adapt)
    dock.adapt.button.click()
    assert len(dock.preview.layers) == 1, "it is still right"
    assert not dock.unload_button.isEnabled()
    if change == "frame":
        model.dims.set_current_step(0, 4)
    else:
        dock.form.alpha.set_value(5)
    qtbot.waitUntil(lambda: list(model.layers) == [clip], timeout=5000)
    with qtbot.waitSignal(dock.preview.shown, timeout=60_000):
        go_on.set()
    assert len(dock.preview.layers) == 1
    idle()


def test_labels_appear_in_the_table_as_they_are_painted(dock, model, frames, qtbot):
    model.add_image(frames)
    layer = model.add_labels(np.zeros(frames.shape[1:], np.uint8))
    dock.form.region.labels.set_value(layer)
    assert dock.form.region.settings()["label_alphas"] == ()
    layer.paint((10, 10), 2)
    qtbot.waitUntil(lambda: 2 in dock.form.region._rows, timeout=5000)
    assert dock.form.region._rows[2].value() == dock.form.alpha.value()


def test_channels_that_carry_and_follow(dock, model, idle, qtbot):
    first, second = moved_texture(seed=1), moved_texture(seed=2)
    model.add_image(first, name="a")
    model.add_image(second, name="b")
    dock.form.clip.set_value(model.layers["a"])
    dock.form.channels.set_role(model.layers["b"], FOLLOWS)
    layers = run(dock, idle)
    both = magnify(np.stack([first, second], -1), 8, reference="first", motion_channels=(0,))
    np.testing.assert_array_equal(layers["a ×8"].data, both[..., 0])
    np.testing.assert_array_equal(layers["b ×8"].data, both[..., 1])
    dock.form.channels.set_role(model.layers["a"], LEFT)
    qtbot.waitUntil(lambda: not dock.run_button.isEnabled(), timeout=5000)
    assert "no channel shows the motion" in dock.problem.text()
    dock.form.clip.set_value(model.layers["b"])  # another clip: what was left alone takes part
    assert dock.form.value().layers == (model.layers["b"],)


def test_what_is_computed_on_is_known_after_a_run_and_has_the_room_there_is(
    dock, model, frames, idle
):
    model.add_image(frames)
    dock.resize(600, 800)
    dock.show()
    dock.form.more.expand(animate=False)
    run(dock, idle)
    used = dock.form.device.used
    assert used.text().startswith("computes on ")
    assert used.toolTip() == used.text()
    assert used.width() > 400
    assert dock.form.tile.width() > 400


def test_the_slice_in_view_of_a_clip_with_depth(dock, model, idle):
    deep = np.stack([moved_texture(seed=s) for s in range(3)], axis=1)
    model.add_image(deep, axis_labels=("t", "z", "y", "x"))
    model.dims.set_current_step(1, 2)
    dock.form.slice_only.setChecked(True)
    result = run(dock, idle)[1]
    expected = magnify(deep, 8, axes="TZYX", z=2, reference="first")
    np.testing.assert_array_equal(result.data[:, 0], expected)
    np.testing.assert_allclose(result.data_to_world((0, 0, 0, 0)), (0, 2, 0, 0))


def test_colour_multiscale_and_dask(dock, model, idle):
    import dask.array as da

    grey = (moved_texture() // 257).astype(np.uint8)
    rgb = np.stack([grey, grey[:, ::-1], grey], axis=-1)
    model.add_image(da.from_array(rgb, chunks=(1, -1, -1, -1)), rgb=True, name="rgb")
    model.add_image([grey, grey[:, ::2, ::2]], multiscale=True, name="pyramid")
    for name, expected in (("rgb", magnify(rgb, 8)), ("pyramid", magnify(grey, 8))):
        dock.form.clip.set_value(model.layers[name])
        np.testing.assert_array_equal(run(dock, idle)[f"{name} ×8"].data, expected)


def test_an_error_is_one_notification(dock, model, idle):
    from napari.utils.notifications import notification_manager

    broken = np.full((4, 40, 40), np.nan, np.float32)
    model.add_image(broken, contrast_limits=(0, 1))
    with notification_manager:
        before = len(notification_manager.records)
        dock.run()
        idle()
        records = notification_manager.records[before:]
    assert len(records) == 1
    assert "NaN" in records[0].message
    assert len(model.layers) == 1
    assert dock.run_button.isEnabled()


def test_a_long_path_makes_no_dock_wide(dock, qtbot):
    mask = MaskDock(dock._viewer)
    qtbot.addWidget(mask)
    line = f"cannot read /data/{'x' * 300}.tif: it is no clip"
    for widget, say in ((dock, dock._say), (dock, dock._complain), (mask, mask._say)):
        content = widget.findChild(Scrolled).widget()
        width = content.minimumSizeHint().width()
        say(line)
        content.layout().activate()
        assert content.minimumSizeHint().width() == width
    for label in (dock.status, dock.problem, mask.status):
        assert label.toolTip() == line
        assert label.heightForWidth(200) > 4 * label.fontMetrics().height(), "it can be read"


# the same as a command


def check_command(dock, folder, monkeypatch, results):
    """The command gives, to the bit, what the layers hold."""
    request = dock.form.value()
    line = command_for(request, folder if needs_folder(request) else None)
    words = shlex.split(line)
    assert words[:2] == ["flowmag", "magnify"]
    monkeypatch.chdir(folder)
    assert main(words[1:]) == 0
    made = read_clip(words[words.index("-o") + 1])
    whole = np.asarray(made.frames)
    for channel, layer in results.items():
        data = np.asarray(layer.data)
        part = whole if "C" not in made.axes else whole.take(channel, made.axes.index("C"))
        np.testing.assert_array_equal(part.reshape(data.shape), data)
    return words


def test_command_of_a_file(dock, model, idle, tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "clip.tif", moved_texture(), imagej=True, metadata={"axes": "TYX"})
    for data, settings, _ in read_layers(str(tmp_path / "clip.tif")):
        model.add_image(data, **settings)
    model.dims.set_current_step(0, 3)
    dock.form.reference.setCurrentText("Frame in view")
    dock.form._pick_reference(dock.form.reference.currentIndex())
    dock.form.last.setValue(4)
    layers = run(dock, idle)
    dock.form.clip.set_value(model.layers[0])
    assert not needs_folder(dock.form.value())
    words = check_command(dock, tmp_path, monkeypatch, {0: layers[1]})
    assert words[2] == str(tmp_path / "clip.tif")
    assert words[words.index("--reference") + 1] == "3"


def test_command_of_layers_with_a_mask(dock, model, frames, idle, tmp_path, monkeypatch):
    model.add_image(frames, name="in memory")
    labels = np.zeros(frames.shape, np.uint8)
    labels[0, 5:20, 5:30], labels[3, 25:40, 30:60] = 1, 2
    dock.form.region.labels.set_value(model.add_labels(labels))
    dock.form.region.set_alpha(2, 15)
    dock.form.region.feather.setValue(3)
    dock.form.reference.setCurrentText("Mean of all frames")
    layers = run(dock, idle)
    words = check_command(dock, tmp_path, monkeypatch, {0: layers[1]})
    assert "2=15" in words
    with pytest.raises(FlowmagError, match="choose a folder"):
        command_for(dock.form.value())


def test_command_of_some_channels_of_a_file(dock, model, idle, tmp_path, monkeypatch):
    stack = np.stack([moved_texture(seed=s) for s in range(3)], axis=1)
    tifffile.imwrite(tmp_path / "c.tif", stack, imagej=True, metadata={"axes": "TCYX"})
    for data, settings, _ in read_layers(str(tmp_path / "c.tif")):
        model.add_image(data, **settings)
    names = [layer.name for layer in model.layers]
    dock.form.channels.set_role(model.layers[1], LEFT)
    dock.form.channels.set_role(model.layers[2], FOLLOWS)
    layers = run(dock, idle)
    results = {0: layers[f"{names[0]} ×8"], 2: layers[f"{names[2]} ×8"]}
    words = check_command(dock, tmp_path, monkeypatch, results)
    assert words[words.index("--channels") + 1] == "0,2"
    assert words[words.index("--motion-channels") + 1] == "0"


def test_command_of_a_clip_of_true_and_false(dock, model, frames, idle, tmp_path, monkeypatch):
    model.add_image(frames > 20000, name="threshold")
    layers = run(dock, idle)
    words = check_command(dock, tmp_path, monkeypatch, {0: layers[1]})
    assert words[2].endswith("threshold.ome.zarr")


def test_a_changed_layer_is_no_file_any_more(dock, model, tmp_path):
    tifffile.imwrite(tmp_path / "clip.tif", moved_texture(), imagej=True, metadata={"axes": "TYX"})
    ((data, settings, _),) = read_layers(str(tmp_path / "clip.tif"))
    layer = model.add_image(data, **settings)
    assert not needs_folder(dock.form.value())
    layer.data = np.asarray(data) + 1
    assert needs_folder(dock.form.value())


def test_the_bundled_model_comes_first_and_baselines_say_what_they_are(dock):
    box = dock.form.model
    names = [box.itemText(i) for i in range(box.count())]
    assert names[0] == "default (bundled)"
    assert {"phase (baseline)", "linear (baseline)"} <= set(names)
    assert "oh (baseline)" not in names, "it needs a file of weights"
    box.setCurrentText("phase (baseline)")
    assert box.settings() == {"model": "phase"}
