"""Comparing a clip with its magnified version, on a viewer without a window."""

from __future__ import annotations

import numpy as np
import pytest

from napari_flowmag._layers import result_settings
from napari_flowmag._lines import new_lines
from napari_flowmag._origin import origin_of
from napari_flowmag._qt.compare import Compare
from napari_flowmag._qt.magnify_dock import MagnifyDock
from napari_flowmag.errors import FlowmagError

from .conftest import moved_texture


@pytest.fixture
def compare(model):
    return Compare(model)


@pytest.fixture
def dock(qtbot, model):
    made = MagnifyDock(model)
    qtbot.addWidget(made)
    return made


def add_result(model, source, start=0, stop=None, z=None, number=1):
    """A layer of frames that are by 1 brighter, as a run would add it."""
    from napari.layers import Image

    data = np.asarray(source.data)
    axes = source.axis_labels
    parts = {"t": slice(start, stop), "z": slice(z, None if z is None else z + 1)}
    made = data[tuple(parts.get(a, slice(None)) for a in axes)] + np.uint16(1)
    settings = result_settings(source, start, z)
    known = origin_of(source) | {"role": "result", "number": number}
    layer = Image(made, **settings, name=f"{source.name} ×8", metadata={"flowmag": known})
    model.layers.append(layer)
    return layer


@pytest.mark.parametrize("axes", ["tzyx", "ztyx"])
@pytest.mark.parametrize("z", [None, 2])
def test_difference_of_a_part_of_a_clip(compare, model, axes, z):
    deep = np.stack([moved_texture(seed=s) for s in range(3)], axis=axes.index("z"))
    scale = tuple({"t": 0.1, "z": 2.0}.get(a, 1.0) for a in axes)
    source = model.add_image(deep, name="clip", axis_labels=tuple(axes), scale=scale)
    result = add_result(model, source, 2, 5, z)
    compare.set_mode("difference", [source], [result])
    difference = model.layers[-1]
    assert difference.data.shape == result.data.shape
    assert (np.asarray(difference.data) == 1).all()
    np.testing.assert_allclose(difference.extent.world, result.extent.world)


def test_a_result_that_fits_no_part_of_the_clip_is_refused(compare, model, frames):
    source = model.add_image(frames, name="clip", axis_labels=("t", "y", "x"))
    result = add_result(model, source, 2)
    result.translate = (4, 0, 0)
    with pytest.raises(FlowmagError, match="do not fit"):
        compare.set_mode("difference", [source], [result])


@pytest.mark.parametrize("rgb", [False, True])
def test_difference_follows_the_preview(dock, model, qtbot, idle, rgb):
    frames = (moved_texture() // 257).astype(np.uint8)
    clip = np.stack([frames, frames[:, ::-1], frames], axis=-1) if rgb else frames
    model.add_image(clip, name="clip", rgb=rgb)
    model.dims.set_current_step(0, 2)
    with qtbot.waitSignal(dock.preview.shown, timeout=60_000):
        dock.live.setChecked(True)
    dock.mode.setCurrentText("Difference")
    assert dock.compare.mode == "difference"
    with qtbot.waitSignal(dock.preview.shown, timeout=60_000):
        model.dims.set_current_step(0, 4)
    (preview,) = dock.preview.layers
    expected = preview.data.astype("f4") - clip[4]
    assert expected.any()
    if rgb:
        expected = expected @ np.array([0.299, 0.587, 0.114], "f4")
    shown = model.layers["clip preview − clip"]
    np.testing.assert_allclose(np.asarray(shown.data), expected, atol=1e-4)
    idle()


def test_a_run_takes_the_place_of_the_preview_beside_the_clip(dock, model, qtbot, idle, frames):
    clip = model.add_image(frames, name="clip")
    with qtbot.waitSignal(dock.preview.shown, timeout=60_000):
        dock.live.setChecked(True)
    dock.mode.setCurrentText("Side by side")
    dock.run()
    idle()
    qtbot.waitUntil(lambda: not dock.running, timeout=10_000)
    qtbot.wait(1)
    result = model.layers["clip ×8"]
    assert dock.mode.currentText() == "Side by side"
    assert dock.compare.mode == "side by side"
    assert model.canvas.grid.enabled
    assert [layer for layer in model.layers if layer.visible] == [clip, result]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("upside_down", [False, True])
def test_the_clip_is_on_the_left_and_the_result_on_the_right(
    compare, model, frames, count, upside_down
):
    model.add_image(frames[0], name="below")
    labels = ("t", "y", "x")
    sources = [model.add_image(frames, name=f"{c}", axis_labels=labels) for c in range(count)]
    model.add_image(frames[0], name="between")
    results = [add_result(model, source) for source in sources]
    model.add_points(name="above")
    if upside_down:
        model.layers.reverse()
    compare.set_mode("side by side", sources, results)
    grid, layers = model.canvas.grid, model.layers
    assert grid.actual_shape(layers) == (1, 2)
    assert {grid.position(layers.index(source), layers) for source in sources} == {(0, 0)}
    assert {grid.position(layers.index(result), layers) for result in results} == {(0, 1)}


def sides(model, layers):
    """The columns of the grid in which layers are."""
    grid = model.canvas.grid
    return [grid.position(model.layers.index(layer), model.layers)[1] for layer in layers]


def test_the_clip_stays_on_the_left_when_layers_change_places(compare, model, frames):
    below = model.add_image(frames[0], name="below")
    clip = model.add_image(frames, name="clip", axis_labels=("t", "y", "x"))
    result = add_result(model, clip)
    compare.set_mode("side by side", [clip], [result])
    for change in (
        model.layers.reverse,
        lambda: model.layers.move(model.layers.index(clip), 0),
        lambda: model.layers.remove(below),
    ):
        change()
        assert sides(model, [clip, result]) == [0, 1]
    assert compare.mode == "side by side"


def test_channels_that_are_moved_among_those_of_the_result_end_the_grid(dock, model, qtbot, frames):
    labels = ("t", "y", "x")
    sources = [model.add_image(frames, name=name, axis_labels=labels) for name in "ab"]
    for source in sources:
        add_result(model, source)
    dock.form.clip.set_value(sources[0])
    dock.mode.setCurrentText("Side by side")
    assert len(dock.compare.layers) == 4
    model.layers.move(0, 3)
    qtbot.waitUntil(lambda: dock.mode.currentText() == "Off", timeout=5000)
    assert not model.canvas.grid.enabled


def test_channels_among_those_of_the_result_are_refused(compare, model, frames):
    sources, results = [], []
    for name in "ab":
        sources.append(model.add_image(frames, name=name, axis_labels=("t", "y", "x")))
        results.append(add_result(model, sources[-1]))
    with pytest.raises(FlowmagError, match="move the result above"):
        compare.set_mode("side by side", sources, results)
    assert all(layer.visible for layer in model.layers)
    assert not model.canvas.grid.enabled


@pytest.mark.parametrize("mode", ["Side by side", "Blink"])
def test_a_preview_takes_the_place_of_an_older_result(dock, model, qtbot, idle, frames, mode):
    clip = model.add_image(frames, name="clip", axis_labels=("t", "y", "x"))
    result = add_result(model, clip)
    dock.form.clip.set_value(clip)
    dock.mode.setCurrentText(mode)
    with qtbot.waitSignal(dock.preview.shown, timeout=60_000):
        dock.live.setChecked(True)
    assert dock.compare.mode == mode.lower()
    assert dock.compare.layers == (clip, *dock.preview.layers)
    assert not result.visible
    idle()


@pytest.mark.parametrize("mode", ["Side by side", "Blink", "Difference"])
def test_the_box_says_when_there_is_nothing_to_compare_any_more(dock, model, qtbot, frames, mode):
    clip = model.add_image(frames, name="clip", axis_labels=("t", "y", "x"))
    result = add_result(model, clip)
    dock.form.clip.set_value(clip)
    dock.mode.setCurrentText(mode)
    assert dock.compare.mode == mode.lower()
    model.layers.remove(result)
    qtbot.waitUntil(lambda: dock.mode.currentText() == "Off", timeout=5000)
    assert dock.compare.mode == "off"
    assert not model.canvas.grid.enabled
    assert list(model.layers) == [clip]
    assert clip.visible


@pytest.mark.parametrize("mode", ["Side by side", "Blink"])
def test_what_is_drawn_lies_on_the_clip_and_in_no_cell_of_its_own(dock, model, qtbot, frames, mode):
    clip = model.add_image(frames, name="clip", axis_labels=("t", "y", "x"))
    result = add_result(model, clip)
    model.layers.append(new_lines(clip))
    dock.form.clip.set_value(clip)
    dock.mode.setCurrentText(mode)
    line = new_lines(clip)
    model.layers.append(line)
    qtbot.wait(1)
    assert dock.mode.currentText() == ("Off" if mode == "Side by side" else mode)
    assert not model.canvas.grid.enabled
    assert line.visible
    if mode == "Side by side":
        assert dock.compare.mode == "off"
        assert all(layer.visible for layer in model.layers)
        dock.mode.setCurrentText(mode)  # with the line out of sight
    add_result(model, clip, number=2)
    qtbot.wait(1)
    assert dock.mode.currentText() == mode
    assert result in model.layers


def test_another_clip_is_compared_with_its_own_result(dock, model, qtbot, frames):
    labels = ("t", "y", "x")
    one, two, three = (model.add_image(frames, name=n, axis_labels=labels) for n in "abc")
    of_one, of_two = add_result(model, one), add_result(model, two, number=2)
    dock.form.clip.set_value(one)
    dock.mode.setCurrentText("Side by side")
    assert dock.compare.layers == (one, of_one)
    dock.form.clip.set_value(two)
    qtbot.waitUntil(lambda: dock.compare.layers == (two, of_two), timeout=5000)
    assert [layer for layer in model.layers if layer.visible] == [two, of_two]
    dock.form.clip.set_value(of_two)
    qtbot.wait(1)
    assert dock.mode.currentText() == "Side by side"
    dock.form.clip.set_value(three)
    qtbot.waitUntil(lambda: dock.mode.currentText() == "Off", timeout=5000)
    assert all(layer.visible for layer in model.layers)
    assert not model.canvas.grid.enabled


def test_a_difference_leaves_the_selection_alone(compare, model, frames):
    labels = ("t", "y", "x")
    sources = [model.add_image(frames, name=name, axis_labels=labels) for name in "ab"]
    results = [add_result(model, source) for source in sources]
    model.layers.selection = {sources[0]}
    compare.set_mode("difference", sources, results)
    assert model.layers.selection == {sources[0]}
    model.layers.selection = {sources[1], results[0]}
    compare.set_mode("off")
    assert model.layers.selection == {sources[1], results[0]}


def test_all_that_is_compared_can_be_removed_together(dock, model, qtbot, frames):
    clip = model.add_image(frames, name="clip", axis_labels=("t", "y", "x"))
    add_result(model, clip)
    dock.form.clip.set_value(clip)
    dock.mode.setCurrentText("Difference")
    model.layers.select_all()
    model.layers.remove_selected()
    qtbot.waitUntil(lambda: dock.mode.currentText() == "Off", timeout=5000)
    assert not len(model.layers)


def test_a_clip_is_compared_under_another_name(dock, model, frames):
    clip = model.add_image(frames, name="clip", axis_labels=("t", "y", "x"))
    result = add_result(model, clip)
    clip.name = "renamed"
    dock.form.clip.set_value(clip)
    dock.mode.setCurrentText("Blink")
    assert dock.compare.mode == "blink"
    dock.mode.setCurrentText("Off")
    other = model.add_image(frames, name="clip")
    dock.form.clip.set_value(other)
    dock.mode.setCurrentText("Blink")
    assert dock.mode.currentText() == "Off"
    assert "nothing to compare" in dock.problem.text()
    assert result.visible
