"""Windows on a virtual screen; without one these tests are skipped."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

# Before napari is imported: its settings, and ours, of the machine at hand play no part.
os.environ["NAPARI_CONFIG"] = str(Path(tempfile.mkdtemp(prefix="flowmag-tests-")) / "settings.yaml")
os.environ["NAPARI_ENSURE_PLUGIN_MAIN_THREAD"] = "1"
os.environ.setdefault("LIBGL_ALWAYS_SOFTWARE", "1")

HERE = Path(__file__).parent


def _missing() -> str:
    for name in ("napari", "qtpy", "pytestqt"):
        try:
            __import__(name)
        except ImportError as error:
            return f"{name} cannot be imported: {error}"
    if not (os.environ.get("DISPLAY") or shutil.which("Xvfb")) and os.name == "posix":
        return "no screen, and no Xvfb for a virtual one (see tests/system-libraries.sh)"
    return ""


_REASON = _missing()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if _REASON:
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=_REASON))


def moved_texture(count: int = 6, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """(T, H, W) uint16: a smooth texture that swings by up to 0.4 px."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = [(*rng.uniform(-0.4, 0.4, 2), rng.uniform(0, 6.28)) for _ in range(12)]
    frames = []
    for t in range(count):
        dx = 0.4 * np.sin(2 * np.pi * t / count)
        frames.append(sum(np.sin(a * (x - dx) + b * y + c) for a, b, c in waves))
    return np.round(20000 + 800 * np.stack(frames)).astype(np.uint16)


@pytest.fixture(scope="session", autouse=True)
def _libraries() -> None:
    """Load torch as the docks do, before a window is drawn: later tests import all of it."""
    from napari_flowmag._preload import preload_torch

    preload_torch()


@pytest.fixture
def frames() -> np.ndarray:
    return moved_texture()


@pytest.fixture
def model():
    """A viewer without a window."""
    from napari.components import ViewerModel

    return ViewerModel()


@pytest.fixture
def idle(qtbot) -> Callable[[], None]:
    """Wait until no job goes on."""
    from napari_flowmag._qt.job import running_jobs

    def wait() -> None:
        qtbot.waitUntil(lambda: not running_jobs(), timeout=60_000)

    return wait


@pytest.fixture(autouse=True)
def no_thread_stays():
    yield
    if _REASON:
        return
    from napari_flowmag._qt.job import stop_all

    assert stop_all(10)
    assert not [t for t in threading.enumerate() if t.name.startswith("flowmag")]
