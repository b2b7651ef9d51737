"""What the Magnify dock offers, and what it follows, on a viewer without a window."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest
from napari.qt import get_stylesheet
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QStyleOptionComboBox

from napari_flowmag import magnify
from napari_flowmag._qt.channels import CARRIES, LEFT
from napari_flowmag._qt.kymograph_dock import KymographDock
from napari_flowmag._qt.magnify_dock import MagnifyDock
from napari_flowmag._qt.mask_dock import MaskDock
from napari_flowmag._qt.widgets import Elided

from .conftest import moved_texture

LONG = "2024-05-03 cardiomyocytes day 14 well B03 "


@pytest.fixture
def dock(qtbot, model):
    made = MagnifyDock(model)
    qtbot.addWidget(made)
    return made


def shown(dock):
    return dock.preview.layers[0].data if dock.preview.layers else None


def shows(dock, expected):
    return lambda: shown(dock) is not None and np.array_equal(shown(dock), expected)


def preview_first_frame(dock, qtbot):
    """Turn the preview on, of a factor that changes nothing."""
    dock._viewer.dims.set_current_step(0, 0)
    dock.form.alpha.set_value(1)
    dock.live.setChecked(True)
    qtbot.waitUntil(shows(dock, dock.form.clip.value().data[0]), timeout=60_000)


def test_the_only_slice_follows_the_slider(dock, model, qtbot, idle):
    deep = np.stack([moved_texture(seed=s) for s in range(3)], axis=1)
    model.add_image(deep, axis_labels=("t", "z", "y", "x"))
    model.dims.set_current_step(0, 2)
    model.dims.set_current_step(1, 1)
    dock.form.alpha.set_value(1)
    dock.form.slice_only.setChecked(True)
    dock.live.setChecked(True)
    for z in (1, 0, 2):  # 0 is where the form began
        model.dims.set_current_step(1, z)
        qtbot.waitUntil(shows(dock, deep[2, z]), timeout=60_000)
        assert dock.form.value().settings.z == z
    idle()


def test_labels_that_differ_between_slices_ask_for_one_slice(dock, model, qtbot, idle):
    deep = np.stack([moved_texture(4, seed=s) for s in range(3)], axis=1)
    model.add_image(deep, name="deep", axis_labels=("t", "z", "y", "x"))
    labels = model.add_labels(np.zeros(deep.shape, np.uint8))
    labels.data[:, 2, 10:20, 10:30] = 1
    dock.form.region.labels.set_value(labels)
    dock.run()
    idle()
    changed = (np.asarray(model.layers["deep ×8"].data) != deep).any(axis=0)
    assert changed[:, 10:20, 10:30].any(axis=(1, 2)).all(), "one slice serves for all"
    assert not changed[:, 30:].any()
    labels.data[:, 0, 30:40] = 1
    dock.live.setChecked(True)
    qtbot.waitUntil(lambda: "Only the slice in view" in dock.problem.text(), timeout=60_000)
    idle()


def test_the_preview_follows_its_clip_in_the_world(dock, model, qtbot, idle, frames):
    clip = model.add_image(frames, scale=(1, 0.5, 0.5))
    preview_first_frame(dock, qtbot)

    def lies_over():
        corners = [layer.data_to_world(p)[-2:] for layer, p in ((clip, (0, 5, 9)), (view, (5, 9)))]
        return np.allclose(*corners)

    (view,) = dock.preview.layers
    turn = [[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]
    for name, value in (("scale", (1, 2, 3)), ("rotate", turn), ("affine", np.diag([1, 2, 2, 1]))):
        setattr(clip, name, value)
        qtbot.waitUntil(lies_over, timeout=60_000)
    assert dock.preview.layers == [view]
    idle()


def test_the_form_follows_the_pixels_of_its_clip(dock, model, qtbot, idle, frames):
    clip = model.add_image(frames)
    preview_first_frame(dock, qtbot)
    clip.data = moved_texture(9, height=40)[3:]
    model.dims.set_current_step(0, 0)
    qtbot.waitUntil(shows(dock, clip.data[0]), timeout=60_000)
    clip.data = clip.data[:4]
    assert dock.form.last.value() == 3
    clip.data = clip.data[0]
    assert dock.form.clip.value() is None
    qtbot.waitUntil(lambda: not dock.preview.layers, timeout=5000)
    idle()


def test_the_preview_follows_pixels_that_are_changed_in_place(dock, model, qtbot, idle, frames):
    clip = model.add_image(frames.copy())
    preview_first_frame(dock, qtbot)
    clip.data[:] = 60000 - 2 * frames[:, ::-1]
    clip.data = clip.data
    qtbot.waitUntil(shows(dock, clip.data[0]), timeout=60_000)
    model.dims.set_current_step(0, 1)
    dock.form.alpha.set_value(4)
    expected = magnify(clip.data, 4)[1].astype(int)
    qtbot.waitUntil(lambda: np.abs(shown(dock) - expected).max() <= 1, timeout=60_000)
    idle()


def test_a_clip_and_its_preview_can_be_removed_together(dock, model, qtbot, idle, frames):
    for _ in range(4):  # napari takes them in any order
        model.add_image(frames)
        preview_first_frame(dock, qtbot)
        model.layers.select_all()
        model.layers.remove_selected()
        qtbot.wait(1)
        assert not len(model.layers)
        idle()


def test_the_closed_dock_leaves_nothing_behind(dock, model, qtbot, idle, frames):
    from qtpy.QtWidgets import QDockWidget

    clip = model.add_image(frames)
    holder = QDockWidget()
    qtbot.addWidget(holder)
    holder.setWidget(dock)
    preview_first_frame(dock, qtbot)
    dock.mode.setCurrentText("Side by side")
    dock.setParent(None)  # what napari does when the dock is closed
    assert list(model.layers) == [clip]
    assert not model.canvas.grid.enabled
    idle()


def test_the_dock_says_why_a_layer_is_no_clip(model, qtbot):
    from napari.utils._proxies import PublicOnlyProxy

    dock = MagnifyDock(PublicOnlyProxy(model))  # as napari gives it to docks
    qtbot.addWidget(dock)

    def said(words):
        return lambda: words in dock.problem.text()

    assert dock.problem.text() == "", "an empty viewer is no mistake"
    model.add_image(np.zeros((1, 20, 30), np.uint16), name="still")
    qtbot.waitUntil(said("layer 'still' has one frame"), timeout=5000)
    model.add_image(np.zeros((4, 2, 3, 20, 30), np.uint16), name="deep")
    qtbot.waitUntil(said("layer 'deep' of shape (4, 2, 3, 20, 30): name its axes"), timeout=5000)
    model.layers.clear()
    model.add_labels(np.zeros((4, 20, 30), np.uint8))
    qtbot.waitUntil(said("choose a clip"), timeout=5000)


def test_a_layer_becomes_a_clip_once_its_axes_have_names(dock, model):
    layer = model.add_image(np.zeros((4, 2, 3, 20, 30), np.uint16))
    assert dock.form.clip.value() is None
    layer.axis_labels = ("t", "z", "c", "y", "x")
    assert dock.form.clip.value() is layer
    layer.axis_labels = ("z", "t", "c", "y", "x")
    assert dock.form.last.maximum() == 1


def test_a_copy_of_a_channel_is_left_alone(dock, model):
    frames = [moved_texture(seed=s) for s in range(2)]
    for c in (0, 1, 1):
        known = {"path": "/clip.tif", "channel": c}
        model.add_image(frames[c].copy(), name=f"C{c}", metadata={"flowmag": known})
    first, second, copy = model.layers

    def roles():
        return [box.currentText() for _, box in dock.form.channels._roles]

    dock.form.clip.set_value(first)
    assert roles() == [CARRIES, CARRIES, LEFT]
    dock.form.clip.set_value(copy)
    assert roles() == [CARRIES, LEFT, CARRIES]
    assert dock.form.value().layers == (first, copy)
    assert second not in dock.form.value().layers


def test_factors_belong_to_the_labels_of_one_layer(dock, model, frames):
    model.add_image(frames)
    drawn = np.zeros((48, 64), np.uint8)
    drawn[:9] = 1
    first, second = model.add_labels(drawn), model.add_labels(drawn[::-1].copy())
    dock.form.region.labels.set_value(first)
    dock.form.region.set_alpha(1, 50)
    dock.form.region.labels.set_value(second)
    assert dock.form.region.settings()["label_alphas"] == ()


def test_a_device_is_what_is_shown_and_looked_for_once_it_is_typed(dock, qtbot):
    device, changes = dock.form.device, []
    device.device_changed.connect(lambda: changes.append(device.value()))
    edit = device.choice.lineEdit()
    edit.selectAll()
    qtbot.keyClicks(edit, "cuda:1")
    assert (device.value(), changes) == ("cuda:1", [])
    qtbot.keyClick(edit, Qt.Key.Key_Return)
    assert (device.value(), changes) == ("cuda:1", ["cuda:1"])
    device.choice.setCurrentIndex(1)
    assert changes == ["cuda:1", "cpu"]


def test_a_frame_that_was_in_view_is_one_of_its_clip(dock, model, frames):
    first, second = model.add_image(frames), model.add_image(frames)
    dock.form.clip.set_value(first)
    model.dims.set_current_step(0, 4)
    dock.form.reference.setCurrentIndex(1)
    dock.form.reference.activated.emit(1)
    assert dock.form.reference.currentText() == "Frame 4 (was in view)"
    assert dock.form.value().settings.reference == 4
    dock.form.clip.set_value(second)
    assert dock.form.reference.itemText(1) == "Frame in view"


@pytest.mark.parametrize("many", [1000, 10**7])
def test_labels_of_all_frames_have_rows_and_the_rest_is_counted(
    dock, model, frames, idle, monkeypatch, many
):
    monkeypatch.setattr("napari_flowmag._qt.region._MOST_PIXELS", many)
    model.add_image(frames)
    drawn = np.zeros((300, 48, 64), np.uint8)
    drawn[::20, 0, 0] = np.arange(1, 16)
    dock.form.region.labels.set_value(model.add_labels(drawn))
    idle()
    assert list(dock.form.region._rows) == list(range(1, 13))
    texts = [label.text() for label in dock.form.region.findChildren(QLabel)]
    assert "and 3 more, with the main factor" in texts


def test_labels_that_are_edited_after_a_slider_has_moved_are_found(dock, model, frames, qtbot):
    model.add_image(frames)
    labels = model.add_labels(np.zeros(frames.shape[1:], np.uint8))
    region = dock.form.region
    region.labels.set_value(labels)
    model.dims.set_current_step(0, 3)
    qtbot.waitUntil(lambda: not region._sliding, timeout=5000)
    labels.data[3:6, 3:6] = 4
    labels.refresh()
    qtbot.waitUntil(lambda: list(region._rows) == [4], timeout=5000)


def test_labels_that_are_read_as_needed_are_looked_for_beside_the_window(
    dock, model, qtbot, idle, frames
):
    import dask.array as da

    model.add_image(frames)
    threads = []

    def read(block_info):
        threads.append(threading.current_thread())
        number = block_info[None]["chunk-location"][0]
        return np.full((1, 48, 64), number, np.uint8)

    lazy = da.map_blocks(read, chunks=((1,) * 6, 48, 64), dtype=np.uint8)
    labels = model.add_labels(lazy)
    model.dims.set_current_step(0, 0)
    threads.clear()
    dock.form.region.labels.set_value(labels)
    idle()
    assert list(dock.form.region._rows) == [1, 2, 3, 4, 5]
    assert threading.main_thread() not in threads
    threads.clear()
    model.dims.set_current_step(0, 3)
    qtbot.wait(1)
    assert not dock.form.region._later.isActive(), "nothing was drawn"


def test_names_that_differ_at_the_end_look_different(dock, model, qtbot):
    names = [f"{LONG}GFP", f"{LONG}mCherry"]
    for name in names:
        model.add_image(moved_texture(), name=name)
    dock.show()
    labels = dock.form.channels.findChildren(Elided)
    dock.resize(dock.minimumSizeHint())
    texts = [QLabel.text(label) for label in labels]
    assert texts[0] != texts[1]
    assert all("…" in text for text in texts)
    assert [label.toolTip() for label in labels] == names
    dock.resize(1500, 600)
    assert [QLabel.text(label) for label in labels] == names, "there is room"
    box = dock.form.clip
    box.resize(150, box.height())
    shorter = []
    for layer in model.layers:
        box.set_value(layer)
        option = QStyleOptionComboBox()
        box.initStyleOption(option)
        shorter.append(box._elided(option))
    assert [text[-3:] for text in shorter] == ["GFP", "rry"]
    model.layers[0].name = "nuclei"
    labels = dock.form.channels.findChildren(Elided)
    assert "nuclei" in [label.text() for label in labels]


def test_the_role_of_a_channel_can_be_read_in_a_narrow_dock(dock, model, frames):
    dock.setStyleSheet(get_stylesheet("dark"))
    for name in ("DAPI", "GFP"):
        model.add_image(frames, name=name)
    dock.show()
    dock.resize(334, 600)
    for _, box in dock.form.channels._roles:
        assert box.width() >= box.sizeHint().width()


def test_the_name_of_a_model_is_told_apart_in_little_room_and_whole_in_the_tooltip(dock):
    box = dock.form.model
    box.resize(150, box.height())
    name = "adapted to 2024-05-03 cardiomyocytes ×"
    shorter = []
    for factor in ("8", "20"):
        box.add_model(name + factor, object(), {})
        assert name + factor in box.toolTip()
        option = QStyleOptionComboBox()
        box.initStyleOption(option)
        shorter.append(box._elided(option))
    assert [text[-2:] for text in shorter] == ["×8", "20"]
    assert all("…" in text for text in shorter)
    box.put_into_file(box.magnifier()[0], "/a/b/heart.safetensors")
    assert "heart.safetensors" in box.toolTip()


@pytest.mark.parametrize(("count", "words"), [(1, "1 thread"), (4, "4 threads")])
def test_the_device_counts_its_threads(monkeypatch, count, words):
    from napari_flowmag._qt.model_box import _describe

    monkeypatch.setattr("torch.get_num_threads", lambda: count)
    assert _describe("cpu", None) == f"computes on the CPU, {words}"


def test_channels_are_stacked_once_for_all_settings(dock, model, frames, monkeypatch):
    from napari_flowmag import _kept

    stacked = []
    real = _kept.frames_of
    monkeypatch.setattr(_kept, "frames_of", lambda layers: stacked.append(layers) or real(layers))
    first, second = (model.add_image(frames + n, name=f"c{n}") for n in range(2))
    dock.form.channels.set_role(second, CARRIES)
    before = dock.form.value().clip
    stacked.clear()
    dock.form.alpha.set_value(3)
    first.name, first.scale, first.units = "DAPI", (0.5, 1, 1), ("s", "pixel", "pixel")
    clip = dock.form.value().clip
    assert not stacked
    assert clip.frames is before.frames
    assert (clip.fps, clip.channel_names) == (2, ("DAPI", "c1"))
    second.data = frames + 7
    np.testing.assert_array_equal(dock.form.value().clip.frames[:, 1], frames + 7)
    model.layers.clear()
    assert dock.form._kept._frames is None


def test_the_pixels_of_every_channel_are_followed(dock, model, qtbot, idle, frames):
    model.add_image(frames, name="a")
    second = model.add_image(frames, name="b")
    dock.form.channels.set_role(second, CARRIES)
    preview_first_frame(dock, qtbot)
    second.data = frames + 1000
    qtbot.waitUntil(
        lambda: np.array_equal(dock.preview.layers[1].data, frames[0] + 1000), timeout=60_000
    )
    second.data = second.data[:4]
    qtbot.waitUntil(lambda: len(dock.preview.layers) == 1, timeout=60_000)
    assert dock.form.channels.isHidden()
    idle()


def test_tab_goes_past_what_is_folded_away(dock, qtbot):
    dock.show()
    more = dock.form.more
    unseen = (dock.form.tile, dock.form.device.choice, dock.adapt.amount)
    assert not any(widget.isVisible() for widget in unseen)
    width = dock.minimumSizeHint().width()
    more.toggleButton().click()
    assert dock.form.tile.isVisible()
    assert dock.minimumSizeHint().width() == width
    assert not dock.adapt.amount.isVisible()
    more.toggleButton().click()
    qtbot.waitUntil(lambda: not dock.form.tile.isVisible(), timeout=5000)


def test_each_key_goes_to_one_place(dock, model, qtbot):
    from qtpy.QtWidgets import QAbstractButton

    docks = (dock, MaskDock(model), KymographDock(model))  # they may all be open
    texts = []
    for made in docks:
        qtbot.addWidget(made)
        texts += [w.text() for kind in (QLabel, QAbstractButton) for w in made.findChildren(kind)]
    keys = [key.lower() for text in texts for key in re.findall(r"&(\w)", text)]
    assert len(keys) == len(set(keys)) > 15
    assert not set(keys) & set("fvlpwh"), "napari's menus"
