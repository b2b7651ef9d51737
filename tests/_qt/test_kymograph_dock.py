"""The Kymograph dock on a viewer without a window: what lies where, and what is shown of it."""

from __future__ import annotations

import csv
import threading
from unittest.mock import Mock

import numpy as np
import pytest
import tifffile
from PIL import Image as Pictures
from qtpy.QtCore import Qt

from napari_flowmag._qt.job import running_jobs
from napari_flowmag._qt.kymograph_dock import KymographDock
from napari_flowmag._qt.kymograph_view import KymographView
from napari_flowmag._tracks import sample_layers
from napari_flowmag.kymograph import kymograph
from napari_flowmag.kymograph_files import Kymograph

from .conftest import moved_texture

SECONDS = {"scale": (0.05, 0.5, 0.5), "units": ("s", "um", "um"), "axis_labels": ("t", "y", "x")}


@pytest.fixture
def dock(qtbot, model):
    made = KymographDock(model)
    qtbot.addWidget(made)
    return made


@pytest.fixture
def settle(qtbot, dock):
    """Wait until what was asked for is on view."""

    def wait():
        qtbot.waitUntil(
            lambda: not (dock._pending or dock._timer.isActive() or running_jobs()), timeout=60_000
        )

    return wait


def draw(dock, model, corners, clip, shape_type="line"):
    """Draw a line by its (row, column) px of a clip, in a layer of the clip's scale."""
    plane = {name: getattr(clip, name)[-2:] for name in ("scale", "translate", "units")}
    shapes = model.add_shapes([np.array(corners)], shape_type=shape_type, **plane)
    dock.lines.set_value(shapes)
    return shapes


def axes_of(dock):
    plot = dock.view._plots[0]
    return [plot.getAxis(side).labelText for side in ("bottom", "left")]


def test_a_result_of_some_frames_lies_at_their_time(dock, model, settle, tmp_path):
    frames = moved_texture(12)
    clip = model.add_image(frames, name="clip", **SECONDS)
    part = frames[6:10] + 100
    model.add_image(part, name="part", translate=(0.3, 0, 0), **SECONDS)
    dock.other.set_value(model.layers["part"])
    draw(dock, model, [(10, 10), (10, 30)], clip)
    settle()
    found = dock.kymograph.slices
    np.testing.assert_allclose(found["clip"], frames[:, 10, 10:31], atol=1)
    np.testing.assert_allclose(found["part"][6:10], part[:, 10, 10:31], atol=1)
    assert np.isnan(np.delete(found["part"], range(6, 10), axis=0)).all()

    for suffix in ("png", "tif", "csv"):
        dock.output.save(str(tmp_path / f"xt.{suffix}"))
        settle()
        assert dock.output.state.text() == f"Saved {tmp_path / 'xt'}.{suffix}"
    pages = tifffile.imread(tmp_path / "xt.tif")
    np.testing.assert_array_equal(pages, [found["clip"], found["part"]])
    with (tmp_path / "xt.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row[0] == "part"]
    assert [float(row[1]) for row in rows] == pytest.approx(0.05 * np.arange(12))
    assert [bool("".join(row[2:])) for row in rows] == [6 <= t < 10 for t in range(12)]
    drawn = np.asarray(Pictures.open(tmp_path / "xt.png").convert("L"))
    right = drawn[100:300, drawn.shape[1] // 2 :]
    assert (right[:, 100:300] == 255).all()
    assert right[:, 330:450].mean() < 250


def test_a_part_of_a_clip_keeps_its_times(dock, model, settle, tmp_path):
    frames = moved_texture(12)
    part = model.add_image(frames[6:10], name="part", translate=(0.3, 0, 0), **SECONDS)
    model.add_image(frames, name="clip", **SECONDS)
    dock.clip.set_value(part)
    dock.other.set_value(model.layers["clip"])
    draw(dock, model, [(10, 10), (10, 30)], part)
    settle()
    found = dock.kymograph
    np.testing.assert_allclose(found.times(), [0.3, 0.35, 0.4, 0.45])
    np.testing.assert_array_equal(found.slices["part"], found.slices["clip"])
    dock.view.picked.emit(0.41)
    assert model.dims.point[0] == pytest.approx(0.4)
    assert dock.view._markers[0].value() == pytest.approx(0.4)


@pytest.mark.parametrize("unit", ["um", "nm"])
def test_a_binned_layer_is_sampled_at_the_same_place(dock, model, settle, unit):
    frames = moved_texture()
    clip = model.add_image(frames, name="clip", **SECONDS)
    factor = 1000 if unit == "nm" else 1
    model.add_image(
        frames[:, 4::2, ::2],
        name="binned",
        scale=(0.05, factor, factor),
        translate=(0, 2 * factor, 0),
        units=("s", unit, unit),
        axis_labels=("t", "y", "x"),
    )
    dock.other.set_value(model.layers["binned"])
    draw(dock, model, [(20, 10), (20, 30)], clip)
    settle()
    found = dock.kymograph.slices
    np.testing.assert_allclose(found["binned"][:, ::2], found["clip"][:, ::2], atol=1)
    draw(dock, model, [(0, 12), (20, 12)], clip)  # the binned layer begins at row 4
    settle()
    found = dock.kymograph.slices
    assert np.isnan(found["binned"][:, :3]).all()
    np.testing.assert_allclose(found["binned"][:, 4::2], found["clip"][:, 4::2], atol=1)


def test_layers_of_one_size_without_common_units_lie_pixel_on_pixel(dock, model, settle, frames):
    clip = model.add_image(frames, name="clip", **SECONDS)
    model.add_image(frames, name="video")
    dock.other.set_value(model.layers["video"])
    draw(dock, model, [(20, 10), (20, 30)], clip)
    settle()
    np.testing.assert_array_equal(*dock.kymograph.slices.values())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scale": (0.1, 0.5, 0.5)}, "not as far apart in time"),
        ({"translate": (3, 0, 0)}, "no frame at the same time"),
        ({"translate": (0, 100, 0)}, "the line lies outside"),
        ({"units": ("s", "pixel", "pixel")}, "set the scale and units"),
    ],
)
def test_layers_that_do_not_meet_are_named(dock, model, settle, frames, changes, reason):
    clip = model.add_image(frames, name="clip", **SECONDS)
    model.add_image(frames[:, :40], name="elsewhere", **(SECONDS | changes))
    dock.other.set_value(model.layers["elsewhere"])
    draw(dock, model, [(20, 10), (20, 30)], clip)
    settle()
    assert reason in dock.problem.text()
    assert "'elsewhere'" in dock.problem.text()
    assert dock.kymograph is None


def test_the_kymograph_follows_the_slice_and_the_channel_in_view(dock, model, settle):
    stack = np.stack([moved_texture(seed=s) for s in range(6)]).reshape(3, 2, 6, 48, 64)
    stack = stack.transpose(2, 0, 1, 3, 4)
    clip = model.add_image(stack, name="clip", axis_labels=("t", "z", "c", "y", "x"))
    only = {"translate": (0, 2, 0, 0, 0), "axis_labels": clip.axis_labels}
    model.add_image(stack[:, 2:], name="one slice", **only)
    draw(dock, model, [(20, 10), (20, 30)], clip)
    for z, c in ((0, 0), (2, 0), (2, 1)):
        model.dims.set_point((1, 2), (z, c))
        settle()
        shown = dock.kymograph.slices["clip"]
        np.testing.assert_allclose(shown, stack[:, z, c, 20, 10:31], atol=1)
    before = dock.kymograph
    model.dims.set_point(0, 4)
    settle()
    assert dock.kymograph is before  # time alone moves the marker only
    dock.other.set_value(model.layers["one slice"])
    settle()
    np.testing.assert_array_equal(*dock.kymograph.slices.values())
    model.dims.set_point(1, 1)
    settle()
    assert "does not reach the slice in view" in dock.problem.text()


def test_nothing_is_shown_or_exported_of_a_line_or_clip_that_is_gone(
    dock, model, settle, frames, monkeypatch
):
    clip = model.add_image(frames, name="clip")
    dock.show()
    asked = []
    dialog = "napari_flowmag._qt.kymograph_output.ask_where"
    monkeypatch.setattr(dialog, lambda *_: asked.append(True) or "")

    def exports_nothing():
        assert dock.kymograph is None
        assert not any(plot.isVisible() for plot in dock.view._plots)
        dock.output.export.click()
        assert not asked
        return dock.problem.text()

    lines = draw(dock, model, [(20, 10), (20, 30)], clip)
    settle()
    assert all(plot.isVisible() for plot in dock.view._plots)
    lines.data = [lines.data[0] + 100]
    settle()
    assert "leaves the picture" in exports_nothing()
    lines.data = [lines.data[0] - 100]
    settle()
    assert dock.view._plots[0].isVisible()
    lines.selected_data = {0}
    lines.remove_selected()
    settle()
    assert "draw a line" in exports_nothing()
    dock.ends[2].setValue(40)
    settle()
    assert dock.kymograph is not None
    model.layers.remove(clip)
    settle()
    exports_nothing()


def test_a_kymograph_that_is_outdated_is_given_up_and_not_exported(
    dock, model, settle, frames, qtbot, monkeypatch
):
    clip = model.add_image(frames, name="clip")
    lines = draw(dock, model, [(20, 10), (20, 30)], clip)
    settle()
    assert dock.output.export.isEnabled()
    begun, go_on = [], threading.Event()

    def slow(sampling, check):
        begun.append(sampling.line)
        while not go_on.wait(0.01):
            check()
        return sample_layers(sampling, check)

    monkeypatch.setattr("napari_flowmag._qt.kymograph_dock.sample_layers", slow)
    for count, row in enumerate((25, 30), start=1):
        lines.data = [np.array([(row, 10), (row, 30)])]
        qtbot.waitUntil(lambda n=count: len(begun) == n, timeout=10_000)
        assert not dock.output.export.isEnabled()
        assert not dock.output.open.isEnabled()
        assert "Sampling" in dock.output.state.text()
    go_on.set()
    settle()
    assert dock.output.export.isEnabled()
    assert dock.output.state.text() == ""
    np.testing.assert_allclose(dock.kymograph.slices["clip"], frames[:, 30, 10:31], atol=1)


def test_a_window_closes_without_an_error(make_napari_viewer, frames):
    viewer = make_napari_viewer()
    facts = {"units": ("s", "um", "um", "um"), "axis_labels": ("t", "z", "y", "x")}
    viewer.add_image(frames[:, None].repeat(2, 1), name="clip", **facts)
    _, made = viewer.window.add_plugin_dock_widget("flowmag", "Kymograph")
    viewer.dims.set_point(0, 2)
    viewer.close()  # the sliders go before their units, and both before the dock
    assert made.kymograph is None


def test_scale_and_units_that_come_later_reach_axes_and_view(dock, model, settle, frames):
    clip = model.add_image(frames, name="clip")
    lines = draw(dock, model, [(20, 10), (20, 30)], clip)
    settle()
    assert axes_of(dock) == ["frame", "position (px)"]
    model.dims.set_point(0, 5)
    lines.scale = (0.5, 0.5)
    clip.scale, clip.units = (0.05, 0.5, 0.5), ("s", "um", "um")
    settle()
    assert axes_of(dock) == ["time (s)", "position (µm)"]
    across, down = dock.view._plots[0].vb.viewRange()
    np.testing.assert_allclose(across, (-0.025, 0.275))
    np.testing.assert_allclose(down, (-0.25, 10.25))
    clip.scale, lines.scale = (0.05, 2, 2), (2, 2)
    settle()
    np.testing.assert_allclose(dock.view._plots[0].vb.viewRange()[1], (-1, 41))
    clip.data = frames + 500
    settle()
    np.testing.assert_allclose(dock.kymograph.slices["clip"], frames[:, 20, 10:31] + 500.0, atol=1)


def test_the_zoom_stays_while_a_line_is_dragged(dock, model, settle, frames):
    clip = model.add_image(frames, name="clip")
    lines = draw(dock, model, [(20, 10), (20, 30)], clip)
    settle()
    view = dock.view._plots[0].vb
    view.setRange(xRange=(1, 3), yRange=(4, 9), padding=0)
    for corners in ([(21, 10), (21, 30)], [(21, 10), (24, 30)], [(21, 10), (99, 30)]):
        lines.data = [np.array(corners)]
        settle()
    lines.data = [np.array([(21, 10), (21, 30)])]
    settle()
    np.testing.assert_allclose(view.viewRange(), [(1, 3), (4, 9)])


def test_lengths_are_right_where_pixels_are_higher_than_wide(dock, model, settle, frames):
    clip = model.add_image(frames, name="clip", **(SECONDS | {"scale": (0.05, 2, 0.5)}))
    draw(dock, model, [(10, 10), (30, 10)], clip)
    settle()
    assert dock.kymograph.positions()[-1] == pytest.approx(40)
    draw(dock, model, [(10, 10), (13, 26), (13, 30)], clip, "path")
    settle()
    assert dock.kymograph.positions()[-1] == pytest.approx(10 + 2)


def test_a_low_window_scrolls_the_dock_and_a_high_one_is_filled(dock):
    assert dock.minimumSizeHint().height() < 200
    dock.resize(600, 1000)
    dock.show()
    assert dock.view.height() > 500


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_line_along_pixels_without_values_is_told(dock, model, settle, frames):
    pixels = frames.astype(np.float32)
    pixels[:, :, :32] = np.nan
    clip = model.add_image(pixels, name="clip")
    model.add_image(np.full_like(pixels, np.nan), name="blank")
    dock.other.set_value(model.layers["blank"])
    lines = draw(dock, model, [(10, 5), (30, 5)], clip)
    settle()
    assert "'clip' has no values along the line" in dock.problem.text()
    assert dock.kymograph is None
    lines.data = [np.array([(10, 40), (30, 40)])]
    settle()
    assert dock.problem.text() == ""
    assert dock.kymograph is not None
    dock.view.auto.click()


def test_only_the_left_button_goes_to_a_time(qtbot):
    view = KymographView()
    qtbot.addWidget(view)
    view.resize(420, 300)
    view.show()
    view.show_kymograph(Kymograph({"clip": np.random.default_rng(0).random((9, 20))}))
    middle = view._plots[0].vb.sceneBoundingRect().center()
    picked = []
    view.picked.connect(picked.append)
    for button in ("RightButton", "LeftButton"):
        view._click(Mock(button=lambda b=button: Qt.MouseButton[b], scenePos=lambda: middle))
        assert len(picked) == (button == "LeftButton")


def test_long_names_leave_both_kymographs_in_view(qtbot):
    view = KymographView()
    qtbot.addWidget(view)
    view.resize(420, 300)
    view.show()
    names = ["2024-05-03 cardiomyocytes day 14 well B03 " + end for end in ("GFP", "GFP ×8")]
    view.show_kymograph(Kymograph(dict.fromkeys(names, np.random.default_rng(0).random((9, 20)))))
    room = view._graphics.width()
    qtbot.waitUntil(lambda: view._plots[1].sceneBoundingRect().right() <= room, timeout=10_000)
    widths = [plot.sceneBoundingRect().width() for plot in view._plots]
    assert min(widths) > 0.4 * room
    assert [title.toolTip() for title in view._titles] == names
    assert [title.width() < room for title in view._titles] == [True, True]


def test_typed_ends_make_a_line_in_a_layer_that_is_empty(dock, model, settle, frames):
    model.add_image(frames, name="clip", translate=(0, 3, 4), scale=(1, 2, 2))
    dock.draw_line()
    dock.ends[2].setValue(20)
    dock.ends[3].setValue(15)
    settle()
    assert list(dock.lines.value().shape_type) == ["line"]
    assert dock.problem.text() == ""
    expected = kymograph(frames, ((0, 0), (15, 20)))
    np.testing.assert_allclose(dock.kymograph.slices["clip"], expected, atol=1)


def test_typed_ends_move_the_line_that_is_shown(dock, model, settle, frames):
    clip = model.add_image(frames, name="clip")
    lines = draw(dock, model, [(5, 5), (5, 25)], clip)
    lines.add_paths([np.array([(30, 10), (20, 20), (30, 40)])])
    settle()
    assert [box.value() for box in dock.ends] == [10, 30, 40, 30]
    lines.selected_data = {0}
    settle()
    assert [box.value() for box in dock.ends] == [5, 5, 25, 5]
    dock.ends[0].setValue(7)
    settle()
    np.testing.assert_allclose(lines.data[0], [(5, 7), (5, 25)])
    np.testing.assert_allclose(lines.data[1], [(30, 10), (20, 20), (30, 40)])
    assert [box.value() for box in dock.ends] == [7, 5, 25, 5]
    lines.selected_data = {1}
    settle()
    dock.ends[3].setValue(35)
    settle()
    np.testing.assert_allclose(lines.data[0], [(5, 7), (5, 25)])
    np.testing.assert_allclose(lines.data[1], [(30, 10), (20, 20), (35, 40)])
    assert list(lines.shape_type) == ["line", "path"]
    length = np.hypot(10, 10) + np.hypot(15, 20)
    assert dock.kymograph.slices["clip"].shape[1] == round(length) + 1


def test_typed_ends_leave_other_shapes_alone(dock, model, settle, frames):
    clip = model.add_image(frames, name="clip")
    lines = draw(dock, model, [(5, 5), (5, 25), (20, 20)], clip, "polygon")
    settle()
    dock.ends[0].setValue(7)
    settle()
    assert "draw a line or a path" in dock.problem.text()
    np.testing.assert_allclose(lines.data[0], [(5, 5), (5, 25), (20, 20)])


def test_the_closed_dock_samples_no_more(dock, model, frames, qtbot, settle, monkeypatch):
    from qtpy.QtWidgets import QDockWidget

    holder = QDockWidget()
    qtbot.addWidget(holder)
    holder.setWidget(dock)
    clip = model.add_image(frames)
    shapes = draw(dock, model, [[5, 5], [20, 30]], clip)
    settle()
    assert dock.kymograph is not None
    shapes.data = [np.array([[6, 5], [20, 30]])]
    dock.setParent(None)  # what napari does when the dock is closed
    started = []
    monkeypatch.setattr("napari_flowmag._qt.kymograph_dock.Job", lambda *args: started.append(args))
    shapes.data = [np.array([[5, 6], [20, 30]])]
    model.add_image(frames, name="another")
    clip.data = frames + 1
    settle()
    assert not started
