"""What the preview shows while its clip, the viewer's axes and its wishes change."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_flowmag._live import LiveFrames
from napari_flowmag._qt.magnify_dock import MagnifyDock

from .conftest import moved_texture


@pytest.fixture
def dock(qtbot, model):
    made = MagnifyDock(model)
    qtbot.addWidget(made)
    made.form.alpha.set_value(1)
    return made


@pytest.fixture
def held(monkeypatch):
    """Hold the next frames back once they are computed: (begun, go on)."""
    begun, go_on, real = threading.Event(), threading.Event(), LiveFrames.frame

    def slow(self, *args):
        found = real(self, *args)
        begun.set()
        go_on.wait(30)
        return found

    def hold():
        monkeypatch.setattr(LiveFrames, "frame", slow)
        return begun, go_on

    return hold


def shows(dock, expected):
    return lambda: (
        bool(dock.preview.layers) and np.array_equal(dock.preview.layers[0].data, expected)
    )


def preview(dock, qtbot):
    dock._viewer.dims.set_current_step(0, 0)
    dock.live.setChecked(True)
    qtbot.waitUntil(shows(dock, dock.form.clip.value().data[0]), timeout=60_000)


@pytest.mark.parametrize("more", [True, False])
def test_a_frame_of_other_axes_than_the_clip_has_by_now_is_dropped(
    dock, model, qtbot, idle, held, more
):
    flat = moved_texture()
    deep = np.stack([moved_texture(seed=1), moved_texture(seed=2)], axis=1)
    first, second = (flat, deep) if more else (deep, flat)
    clip = model.add_image(first)
    model.dims.point = (0,) * first.ndim
    dock.live.setChecked(True)
    picture = first[(0,) * (first.ndim - 2)]
    qtbot.waitUntil(shows(dock, picture), timeout=60_000)
    begun, go_on = held()
    model.dims.set_current_step(0, 3)
    qtbot.waitUntil(begun.is_set, timeout=30_000)
    clip.data = second
    go_on.set()
    place = model.dims.current_step[: second.ndim - 2]
    qtbot.waitUntil(shows(dock, second[place]), timeout=60_000)
    idle()
    assert dock.status.text() == ""
    assert not dock.problem.text()


def test_a_slider_that_plays_shows_frames_that_it_has_left_behind(dock, model, qtbot, idle, held):
    frames = moved_texture()
    model.add_image(frames)
    preview(dock, qtbot)
    begun, go_on = held()
    model.dims.set_current_step(0, 2)
    qtbot.waitUntil(begun.is_set, timeout=30_000)
    seen = []
    dock.preview.shown.connect(lambda seconds, frame: seen.append(frame))
    model.dims.set_current_step(0, 4)
    go_on.set()
    qtbot.waitUntil(shows(dock, frames[4]), timeout=60_000)
    idle()
    assert seen == [2, 4]


@pytest.mark.parametrize(
    ("turned", "back"),
    [
        ({"ndisplay": 3}, {"ndisplay": 2}),
        ({"order": (1, 0, 2)}, {"order": (0, 1, 2)}),
        ({"order": (1, 2, 0)}, {"order": (0, 2, 1)}),
    ],
)
def test_a_frame_does_not_cover_a_view_without_frames(dock, model, qtbot, idle, turned, back):
    frames = moved_texture()
    clip = model.add_image(frames)
    preview(dock, qtbot)
    model.dims.update(turned)
    qtbot.waitUntil(lambda: "go back to 2D" in dock.status.text(), timeout=5000)
    assert list(model.layers) == [clip]
    dock.form.alpha.set_value(2)
    idle()
    assert list(model.layers) == [clip]
    dock.form.alpha.set_value(1)
    model.dims.update(back)
    model.dims.set_current_step(0, 3)
    qtbot.waitUntil(shows(dock, frames[3]), timeout=60_000)
    qtbot.waitUntil(lambda: dock.status.text() == "", timeout=5000)
    idle()


def test_a_frame_that_comes_after_the_view_has_turned_is_dropped(dock, model, qtbot, idle, held):
    clip = model.add_image(moved_texture())
    preview(dock, qtbot)
    begun, go_on = held()
    model.dims.set_current_step(0, 3)
    qtbot.waitUntil(begun.is_set, timeout=30_000)
    model.dims.ndisplay = 3
    qtbot.waitUntil(lambda: list(model.layers) == [clip], timeout=5000)
    go_on.set()
    idle()
    assert list(model.layers) == [clip]
