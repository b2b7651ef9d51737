"""How long the window stands still during a run, and what twenty runs and cancels leave behind.

    LIBGL_ALWAYS_SOFTWARE=1 xvfb-run -a -s "-screen 0 1920x1200x24" python benchmarks/gui.py

A timer beats in the GUI thread every 10 ms; a gap between two beats is time in which the window
answers nobody. Adding the result, and the first drawing of it, are counted apart. A software
renderer, as above, draws far slower than a graphics card.
"""

from __future__ import annotations

import gc
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

os.environ["NAPARI_CONFIG"] = str(Path(tempfile.mkdtemp()) / "settings.yaml")

import napari
import numpy as np
import psutil
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_flowmag.synthetic.clips import known_motion

FRAMES, SIDE = 60, 512
MIB = 2**20


class Heartbeat:
    """Gaps between the beats of a timer in the GUI thread, s."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setInterval(10)
        self._timer.timeout.connect(self._beat)
        self._timer.start()

    def _beat(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now

    def report(self, what: str) -> None:
        gaps = np.array(self.gaps)
        print(
            f"{what}: largest gap {gaps.max() * 1000:.0f} ms, "
            f"{(gaps > 0.25).sum()} of {len(gaps)} over 250 ms, "
            f"99 % below {np.percentile(gaps, 99) * 1000:.0f} ms"
        )
        self.gaps.clear()


def wait(until: Callable[[], bool], seconds: float = 300) -> None:
    """Let Qt's own loop run until something is so."""
    application, timer = QApplication.instance(), QTimer()
    end = time.monotonic() + seconds
    timer.setInterval(20)
    timer.timeout.connect(lambda: (until() or time.monotonic() > end) and application.exit())
    timer.start()
    application.exec()
    timer.stop()


def main() -> None:
    texture = known_motion("whole", size=(SIDE, SIDE), length=1).frames[0]
    rng = np.random.default_rng(0)
    clip = np.stack([np.roll(texture, int(s), axis=1) for s in rng.integers(-1, 2, FRAMES)])
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    viewer.add_image(clip, rgb=clip.ndim == 4, name="clip")
    dock = viewer.window.add_plugin_dock_widget("flowmag", "Magnify")[1]
    wait(lambda: True)
    heart = Heartbeat()

    shown: list[float] = []
    dock.preview.shown.connect(lambda seconds, frame: shown.append(seconds))
    dock.live.setChecked(True)
    wait(lambda: bool(shown))
    heart.report("first preview (torch is imported)")
    for t in range(1, 11):
        viewer.dims.set_current_step(0, t)
        count = len(shown)
        wait(lambda count=count: len(shown) > count)
    print(f"preview of one frame: {np.median(shown[1:]):.2f} s from the wish to the layer")
    heart.report("previews")
    dock.live.setChecked(False)
    wait(lambda: True)
    heart.gaps.clear()

    finished: list[float] = []
    dock.run()
    dock._job.finished.connect(lambda outcome: finished.append(time.perf_counter()))
    began = time.perf_counter()

    def report_at_the_end(step: int, total: int) -> None:
        # Here, not when the loop looks next: the result is added by then.
        if step >= total:
            heart.report(f"run of {FRAMES} frames, {SIDE} x {SIDE}")

    dock._job.progressed.connect(report_at_the_end)
    wait(lambda: bool(finished))
    print(f"run: {finished[0] - began:.1f} s")
    heart.report("adding the result")

    process = psutil.Process()
    before = 0
    for number in range(21):
        dock.run()
        if number % 2:
            wait(lambda: False, 0.3)
            dock.cancel()
        else:
            dock.cancel()
        wait(lambda: not dock.running)
        gc.collect()
        if number == 0:
            before = process.memory_info().rss
    growth = (process.memory_info().rss - before) / MIB
    threads = [t.name for t in threading.enumerate() if t.name.startswith("flowmag")]
    print(
        f"20 runs and cancels: {growth:+.0f} MiB, threads left: {threads}, layers: "
        f"{len(viewer.layers)}, bar hidden: {dock.bar.bar.isHidden()}"
    )

    dock.run()
    wait(lambda: False, 1)
    began = time.perf_counter()
    viewer.close()
    from napari_flowmag._qt.job import stop_all

    print(
        f"closed during a run: all stopped {stop_all()} after {time.perf_counter() - began:.2f} s"
    )


if __name__ == "__main__":
    main()
