"""The plugin in a real napari window, found through its manifest."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from napari_flowmag import magnify

pytest.importorskip("napari")


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


def dock(viewer, name):
    _, widget = viewer.window.add_plugin_dock_widget("flowmag", name)
    return widget


def same(frame, expected):
    """All but a handful of pixels alike: frames taken together round differently now and then."""
    difference = np.abs(frame.astype(int) - expected.astype(int))
    return difference.max() <= 1 and (difference > 0).mean() < 0.001


def test_sample_preview_run_cancel_and_run_again(viewer, qtbot, idle):
    viewer.open_sample("flowmag", "cells")
    (clip,) = viewer.layers
    clip.data = clip.data[:12, :96, :128]
    magnify_dock = dock(viewer, "Magnify")
    magnify_dock.form.alpha.set_value(6)
    viewer.dims.set_current_step(0, 5)
    with qtbot.waitSignal(magnify_dock.preview.shown, timeout=60_000):
        magnify_dock.live.setChecked(True)
    (preview,) = magnify_dock.preview.layers
    expected = magnify(clip.data, 6, reference="first")
    assert same(preview.data, expected[5])
    assert (preview.extent.world[0] == clip.extent.world[0, 1:]).all()
    with qtbot.waitSignal(magnify_dock.preview.shown, timeout=60_000):
        viewer.dims.set_current_step(0, 7)
    assert same(preview.data, expected[7])

    magnify_dock.run_button.click()
    magnify_dock.bar.cancel_button.click()
    idle()
    qtbot.waitUntil(lambda: not magnify_dock.running, timeout=10_000)
    assert [layer.name for layer in viewer.layers] == ["beating cells", "beating cells preview"]
    magnify_dock.run_button.click()
    idle()
    qtbot.waitUntil(lambda: not magnify_dock.running, timeout=10_000)
    result = viewer.layers["beating cells ×6"]
    np.testing.assert_array_equal(result.data, expected)
    assert "beating cells preview" not in viewer.layers

    for place, mode in enumerate(("side by side", "blink", "difference"), start=1):
        magnify_dock.mode.setCurrentIndex(place)
        assert magnify_dock.compare.mode == mode
    difference = viewer.layers["beating cells ×6 − beating cells"]
    np.testing.assert_array_equal(
        np.asarray(difference.data[4]), expected[4].astype("f4") - clip.data[4].astype("f4")
    )
    magnify_dock.mode.setCurrentIndex(0)
    assert all(layer.visible for layer in viewer.layers)
    assert not viewer.canvas.grid.enabled


def test_removing_the_preview_turns_it_off(viewer, qtbot, idle, frames):
    viewer.add_image(frames, name="clip")
    magnify_dock = dock(viewer, "Magnify")
    with qtbot.waitSignal(magnify_dock.preview.shown, timeout=60_000):
        magnify_dock.live.setChecked(True)
    viewer.layers.remove("clip preview")
    assert not magnify_dock.live.isChecked()
    idle()
    assert [layer.name for layer in viewer.layers] == ["clip"]


def test_clicks_become_a_mask_and_the_mask_a_region(viewer, qtbot, idle):
    viewer.open_sample("flowmag", "cells")
    (clip,) = viewer.layers
    mask_dock = dock(viewer, "Mask")
    mask_dock.click_inside()
    mask_dock._points.add([[120, 90]])
    mask_dock.click_outside()
    mask_dock._points.add([[120, 230]])
    qtbot.waitUntil(lambda: mask_dock.accept_button.isEnabled(), timeout=60_000)
    mask_dock.accept()
    labels = viewer.layers["beating cells mask"]
    known = clip.metadata["flowmag"]["moving"]
    found = labels.data == 1
    assert (found & known).sum() / (found | known).sum() > 0.85
    np.testing.assert_allclose(labels.scale, clip.scale[1:])
    labels.undo()
    assert not np.any(labels.data)
    labels.redo()
    magnify_dock = dock(viewer, "Magnify")
    magnify_dock.form.region.labels.set_value(labels)
    np.testing.assert_array_equal(magnify_dock.form.value().mask(), labels.data)
    idle()


def test_segment_anything_makes_the_mask_of_a_targeted_run(viewer, qtbot, idle, sam_checkpoint):
    viewer.open_sample("flowmag", "cells")
    (clip,) = viewer.layers
    clip.data = clip.data[:3, :96, :128]
    mask_dock = dock(viewer, "Mask")
    mask_dock.method.setCurrentIndex(1)
    mask_dock.checkpoint.set_value(str(sam_checkpoint))
    mask_dock.click_inside()
    mask_dock._points.add([[40, 60]])
    qtbot.waitUntil(lambda: mask_dock.accept_button.isEnabled(), timeout=60_000)
    # Clicks stay in sight.
    assert viewer.layers[-1] is mask_dock._points
    mask_dock.grow.setValue(2)
    mask_dock.accept()
    labels = viewer.layers["beating cells mask"]
    assert 0 < np.count_nonzero(labels.data) < labels.data.size
    magnify_dock = dock(viewer, "Magnify")
    magnify_dock.form.alpha.set_value(4)
    magnify_dock.form.region.labels.set_value(labels)
    magnify_dock.run_button.click()
    idle()
    qtbot.waitUntil(lambda: not magnify_dock.running, timeout=10_000)
    expected = magnify(clip.data, 4, mask=np.asarray(labels.data))
    np.testing.assert_array_equal(viewer.layers["beating cells ×4"].data, expected)


def test_a_kymograph_follows_its_line(viewer, qtbot, idle, tmp_path):
    from napari_flowmag.kymograph import kymograph

    viewer.open_sample("flowmag", "beam")
    (clip,) = viewer.layers
    made = dock(viewer, "Kymograph")
    for box, value in zip(made.ends, (272, 95, 272, 145), strict=True):
        box.setValue(value)
    grey = clip.data.mean(axis=-1)

    def shows(column):
        expected = kymograph(grey, ((95, column), (145, column)))
        kept = made.kymograph
        return kept is not None and np.allclose(kept.slices["vibrating beam"], expected, atol=1e-2)

    qtbot.waitUntil(lambda: shows(272), timeout=60_000)
    lines = made.lines.value()
    lines.data = [lines.data[0] - np.array([0, 12])]
    qtbot.waitUntil(lambda: shows(260), timeout=60_000)
    assert made.kymograph.unit == "mm"
    for suffix in ("png", "tif", "csv"):
        made.output.save(str(tmp_path / f"xt.{suffix}"))
        idle()
        assert (tmp_path / f"xt.{suffix}").stat().st_size > 100
    view = made.view
    view.contrast.setValue((100.0, 120.0))
    lines.data = [lines.data[0] + np.array([0, 2])]
    qtbot.waitUntil(lambda: shows(262), timeout=60_000)
    assert [tuple(image.levels) for image in view._images] == [(100.0, 120.0)]
    view.auto.click()
    assert view._images[0].levels[1] > 120
    lines.data = [lines.data[0] + np.array([0, 500])]
    qtbot.waitUntil(lambda: "leaves the picture" in made.problem.text(), timeout=60_000)


def test_a_clip_brings_the_magnify_dock(viewer, tmp_path, frames):
    import tifffile

    tifffile.imwrite(tmp_path / "clip.tif", frames, imagej=True, metadata={"axes": "TYX"})
    viewer.open(str(tmp_path / "clip.tif"), plugin="flowmag")
    assert any("Magnify" in name for name in viewer.window.dock_widgets)
    viewer.open(str(tmp_path / "clip.tif"), plugin="flowmag")
    assert sum("Magnify" in name for name in viewer.window.dock_widgets) == 1


def test_a_window_larger_than_its_screen_is_made_to_fit(make_napari_viewer, qtbot):
    # napari's first window is as large as its content would like to be.
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1900, 1100)
    magnify_dock = dock(viewer, "Magnify")
    window, room = magnify_dock.window(), magnify_dock.screen().availableGeometry()
    assert room.width() < 1900
    qtbot.waitUntil(lambda: room.contains(window.frameGeometry()), timeout=10_000)
    right = magnify_dock.mapTo(window, magnify_dock.rect().bottomRight()).x()
    assert right <= room.width()


def test_a_result_too_large_for_memory_lies_in_a_file(
    viewer, qtbot, idle, frames, monkeypatch, tmp_path
):
    from napari_flowmag import _run

    monkeypatch.setattr(_run, "_free_memory", lambda: 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    viewer.add_image(frames, name="clip")
    magnify_dock = dock(viewer, "Magnify")
    magnify_dock.form.alpha.set_value(4)
    magnify_dock.run()
    idle()
    qtbot.waitUntil(lambda: not magnify_dock.running, timeout=10_000)
    result = viewer.layers["clip ×4"]
    np.testing.assert_array_equal(result.data, magnify(frames, 4))
    assert len(list(tmp_path.iterdir())) == 1
    viewer.dims.set_current_step(0, 3)
    magnify_dock.mode.setCurrentIndex(3)
    magnify_dock.mode.setCurrentIndex(0)
    viewer.layers.clear()
    del result
    magnify_dock.preview.clear()
    qtbot.waitUntil(lambda: not (gc.collect(), *tmp_path.iterdir())[1:], timeout=10_000)


def test_closing_the_dock_stops_a_run_and_hiding_it_does_not(viewer, qtbot, idle):
    from .conftest import moved_texture

    clip = viewer.add_image(moved_texture(200))
    wrapper, magnify_dock = viewer.window.add_plugin_dock_widget("flowmag", "Magnify")
    ended = []
    magnify_dock.run_button.click()
    magnify_dock._job.finished.connect(ended.append)
    wrapper.setFloating(True)
    wrapper.hide()
    wrapper.show()
    wrapper.setFloating(False)
    assert magnify_dock.running
    viewer.window.remove_dock_widget(magnify_dock)
    idle()
    assert [outcome.cancelled for outcome in ended] == [True]
    assert list(viewer.layers) == [clip]


def test_closing_the_window_stops_a_run(make_napari_viewer, qtbot, idle):
    from .conftest import moved_texture

    viewer = make_napari_viewer()
    viewer.add_image(moved_texture(200))
    magnify_dock = dock(viewer, "Magnify")
    magnify_dock.run_button.click()
    viewer.close()
    idle()
