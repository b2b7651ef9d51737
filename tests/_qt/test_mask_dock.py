"""The Mask dock on a viewer without a window: where its masks go, and which are thrown away."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_flowmag._qt.mask_dock import MaskDock


@pytest.fixture
def dock(qtbot, model):
    made = MaskDock(model)
    qtbot.addWidget(made)
    return made


def disc(frames=4, height=40, width=50, row=20, column=30):
    """(T, H, W): a bright disc of radius 8, and where it is."""
    y, x = np.mgrid[:height, :width]
    there = (y - row) ** 2 + (x - column) ** 2 < 64
    noise = np.random.default_rng(0).integers(0, 300, (frames, height, width))
    return (np.where(there, 30000, 5000) + noise).astype(np.uint16), there


def find(dock, qtbot, row=20, column=30):
    dock.click_inside()
    clip = dock.clip.value()
    world = clip.data_to_world((*[0] * (clip.ndim - 2), row, column))[-2:]
    dock._points.add([dock._points.world_to_data(world)])
    qtbot.waitUntil(dock.accept_button.isEnabled, timeout=60_000)


def overlap(first, second):
    return (first & second).sum() / (first | second).sum()


def settle(qtbot):
    """Let through what is to happen as soon as there is time."""
    qtbot.wait(1)


def test_a_mask_lies_on_a_clip_that_is_turned_and_stretched(dock, model, qtbot):
    frames, there = disc()
    affine = np.eye(4)
    affine[1:3, 1:3] = [[1.6, -1.2], [1.2, 1.6]]
    affine[1:3, 3] = 10, -6
    clip = model.add_image(frames, affine=affine)
    find(dock, qtbot)
    assert overlap(dock._preview.data == 1, there) > 0.9
    centre = dock._preview.data_to_world(np.argwhere(dock._preview.data).mean(axis=0))
    np.testing.assert_allclose(centre, clip.data_to_world((0, 20, 30))[1:], atol=1)


def test_a_mask_goes_to_its_place_on_labels_of_another_grid(dock, model, qtbot):
    frames, there = disc()
    model.add_image(frames, scale=(1, 0.5, 0.5))
    labels = model.add_labels(np.zeros((100, 100), np.uint8), translate=(-20, -30))
    dock.labels.set_value(labels)
    find(dock, qtbot)
    dock.accept()
    assert dock.status.text() == ""
    rows, columns = np.nonzero(labels.data)
    assert labels.data_to_world((rows.mean(), columns.mean())) == pytest.approx((10, 15), abs=1)
    assert labels.data.sum() == pytest.approx(there.sum() / 4, rel=0.3)


def test_labels_that_do_not_fit_are_refused_and_the_mask_stays(dock, model, qtbot):
    model.add_image(disc()[0], name="clip")
    far = model.add_labels(np.zeros((40, 50), np.uint8), translate=(500, 0), name="far")
    dock.labels.set_value(far)
    find(dock, qtbot)
    dock.accept()
    assert "labels 'far' do not reach" in dock.status.text()
    assert not far.data.any()
    dock.labels.set_value(None)
    dock.accept()
    assert model.layers["clip mask"].data.any()


@pytest.mark.parametrize("kind", ["uint8", "read only", "dask"])
def test_labels_that_cannot_hold_the_object_are_refused(dock, model, qtbot, kind):
    import dask.array as da

    model.add_image(disc()[0], name="clip")
    pixels = np.zeros((40, 50), np.uint8)
    pixels.setflags(write=kind == "uint8")
    labels = model.add_labels(da.from_array(pixels) if kind == "dask" else pixels, name="mine")
    dock.labels.set_value(labels)
    find(dock, qtbot)
    dock.object.setValue(300 if kind == "uint8" else 1)
    dock.accept()
    expected = "choose an object up to 255" if kind == "uint8" else "cannot be written to"
    assert "'mine'" in dock.status.text()
    assert expected in dock.status.text()
    assert not np.any(labels.data)
    assert dock.accept_button.isEnabled()
    dock.draw()
    assert labels.mode == "pan_zoom"


@pytest.mark.parametrize("axes", ["tzyx", "ztyx"])
def test_a_mask_is_written_into_its_frame_and_slice(dock, model, qtbot, axes):
    frames, there = disc()
    deep = np.stack([frames] * 3, axis=axes.index("z"))
    model.add_image(deep, axis_labels=tuple(axes))
    labels = model.add_labels(np.zeros(deep.shape, np.uint8))
    dock.labels.set_value(labels)
    model.dims.set_current_step(axes.index("z"), 1)
    model.dims.set_current_step(axes.index("t"), 3)
    find(dock, qtbot)
    model.dims.set_current_step(axes.index("t"), 0)  # where it was found counts
    dock.accept()
    place = (3, 1) if axes == "tzyx" else (1, 3)
    assert overlap(labels.data[place] == 1, there) > 0.9
    assert np.count_nonzero(labels.data) == np.count_nonzero(labels.data[place])


def test_another_clip_begins_anew(dock, model, qtbot):
    model.add_image(disc()[0], name="a")
    model.add_image(disc(height=24, width=24, row=10, column=10)[0], name="b")
    dock.clip.set_value(model.layers["a"])
    find(dock, qtbot)
    dock.clip.set_value(model.layers["b"])
    settle(qtbot)
    assert not dock.accept_button.isEnabled()
    dock.accept()
    assert [layer.name for layer in model.layers] == ["a", "b"]
    find(dock, qtbot, 10, 10)
    dock.accept()
    assert model.layers["b mask"].data.shape == (24, 24)


@pytest.mark.parametrize("in_place", [True, False])
def test_what_was_found_on_other_pixels_of_the_clip_is_forgotten(dock, model, qtbot, in_place):
    clip = model.add_image(disc()[0], name="clip")
    find(dock, qtbot)
    frames, there = disc(row=12, column=15)
    if in_place:
        clip.data[:] = frames
        clip.data = clip.data
    else:
        clip.data = frames
    settle(qtbot)
    assert [layer.name for layer in model.layers] == ["clip", "clip clicks"]
    assert not len(model.layers["clip clicks"].data)
    dock.accept()
    assert "clip mask" not in model.layers
    find(dock, qtbot, 12, 15)
    assert overlap(dock._preview.data == 1, there) > 0.9


def test_clicks_and_preview_stay_on_a_clip_that_moves(dock, model, qtbot):
    frames, there = disc()
    clip = model.add_image(frames, name="clip")
    dock.box()
    find(dock, qtbot)
    clip.scale, clip.translate = (1, 0.5, 2), (0, 30, 40)
    clip.affine = np.diag([1, 3, 3, 1])
    clip.units = ("s", "um", "um")
    for layer in (dock._points, dock._boxes, dock._preview):
        corner = layer.data_to_world((7, 9))[-2:]
        np.testing.assert_allclose(corner, clip.data_to_world((0, 7, 9))[1:])
        assert layer.units == clip.units[1:]
    dock.accept()
    mask = model.layers["clip mask"]
    assert overlap(mask.data == 1, there) > 0.9
    np.testing.assert_allclose(mask.data_to_world((7, 9)), clip.data_to_world((0, 7, 9))[1:])


def test_a_mask_grows_and_shrinks_and_its_distances_are_found_out_once(
    dock, model, qtbot, monkeypatch
):
    import scipy.ndimage

    measured, real = [], scipy.ndimage.distance_transform_edt
    monkeypatch.setattr(
        scipy.ndimage, "distance_transform_edt", lambda mask: measured.append(mask) or real(mask)
    )
    model.add_image(disc()[0], name="clip")
    find(dock, qtbot)
    measured.clear()
    sizes = []
    for px in (-3, -1, 0, 2, 5):
        dock.grow.setValue(px)
        sizes.append(int(dock._preview.data.sum()))
    assert sizes == sorted(set(sizes))
    assert len(measured) == 2, "outwards and inwards"


def test_the_closed_dock_leaves_no_clicks_and_no_preview_behind(dock, model, qtbot):
    from qtpy.QtWidgets import QDockWidget

    holder = QDockWidget()
    qtbot.addWidget(holder)
    holder.setWidget(dock)
    model.add_image(disc()[0], name="clip")
    find(dock, qtbot)
    dock.accept()
    dock.box()
    find(dock, qtbot)
    dock.setParent(None)  # what napari does when the dock is closed
    settle(qtbot)
    assert [layer.name for layer in model.layers] == ["clip", "clip mask"]


def test_all_layers_can_be_removed_together(dock, model, qtbot):
    model.add_image(disc()[0])
    find(dock, qtbot)
    dock._viewer.layers.select_all()
    model.layers.remove_selected()
    settle(qtbot)
    assert not len(model.layers)


def test_what_was_cleared_does_not_come_back(dock, model, qtbot, idle, monkeypatch):
    from napari_flowmag.segment.classical import AppearanceSegmenter

    model.add_image(disc()[0], name="clip")
    find(dock, qtbot)
    begun, go_on, real = threading.Event(), threading.Event(), AppearanceSegmenter.segment

    def slow(self, prepared, prompt):
        begun.set()
        go_on.wait(30)
        return real(self, prepared, prompt)

    monkeypatch.setattr(AppearanceSegmenter, "segment", slow)
    dock._points.add([[5, 5]])
    assert not dock.accept_button.isEnabled(), "what is shown is not what was clicked"
    qtbot.waitUntil(begun.is_set, timeout=30_000)
    dock.accept()
    assert "clip mask" not in model.layers
    dock.clear()
    go_on.set()
    idle()
    settle(qtbot)
    assert not dock.accept_button.isEnabled()
    assert [layer.name for layer in model.layers] == ["clip", "clip clicks"]
