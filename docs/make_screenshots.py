"""Take the pictures of the guide: real windows on a virtual screen.

    LIBGL_ALWAYS_SOFTWARE=1 xvfb-run -a -s "-screen 0 1920x1200x24" python docs/make_screenshots.py

Pillow reduces each to 128 colours, which is enough for a window.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["NAPARI_CONFIG"] = str(Path(tempfile.mkdtemp()) / "settings.yaml")

import napari
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_flowmag._qt.job import running_jobs

IMAGES = Path(__file__).parent / "images"


def wait(until: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise TimeoutError
        QApplication.processEvents()
        time.sleep(0.01)


def pause(seconds: float) -> None:
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


def window(sample: str, theme: str) -> napari.Viewer:
    viewer = napari.Viewer(show=False)
    viewer.theme = theme
    viewer.window.resize(1280, 800)
    viewer.show()
    viewer.open_sample("flowmag", sample)
    return viewer


def dock(viewer: napari.Viewer, name: str):
    return viewer.window.add_plugin_dock_widget("flowmag", name)[1]


def shoot(viewer: napari.Viewer, name: str) -> None:
    viewer.reset_view()
    pause(0.5)
    path = IMAGES / f"{name}.png"
    viewer.screenshot(path=str(path), canvas_only=False, flash=False)
    picture = Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)
    viewer.close()


def magnify() -> None:
    viewer = window("beam", "dark")
    made = dock(viewer, "Magnify")
    made.form.alpha.set_value(20)
    viewer.dims.set_current_step(0, 9)  # near the largest swing
    shown = []
    made.preview.shown.connect(lambda seconds, frame: shown.append(frame))
    made.live.setChecked(True)
    wait(lambda: bool(shown))
    pause(1)  # the device that the first preview finds is another wish
    wait(lambda: not running_jobs() and not made.status.text())
    shoot(viewer, "gui-magnify")


def kymograph() -> None:
    viewer = window("beam", "dark")
    run = dock(viewer, "Magnify")
    run.form.alpha.set_value(20)
    run.run()
    wait(lambda: not run.running)
    viewer.window.remove_dock_widget(run)
    made = dock(viewer, "Kymograph")
    made.clip.set_value(viewer.layers[0])
    made.other.set_value(viewer.layers[1])
    for box, value in zip(made.ends, (272, 95, 272, 145), strict=True):
        box.setValue(value)
    wait(lambda: made.kymograph is not None and len(made.kymograph.slices) == 2)
    shoot(viewer, "gui-kymograph")


def mask() -> None:
    viewer = window("cells", "light")
    made = dock(viewer, "Mask")
    made.click_inside()
    made._points.add([[120, 90]])
    made.click_outside()
    made._points.add([[120, 230]])
    wait(made.accept_button.isEnabled)
    shoot(viewer, "gui-mask")


if __name__ == "__main__":
    magnify()
    kymograph()
    mask()
