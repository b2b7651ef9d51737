"""What users type to start napari with flowmag, each in a process and a window of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import tifffile

# Tells what is in the window as soon as its event loop runs, then closes it.
HARNESS = """
import json, sys
import napari
from qtpy.QtCore import QTimer

def look():
    viewer = napari.current_viewer()
    heavy = {"torch", "cv2", "segment_anything"} & set(sys.modules)
    shown = [name for name, dock in viewer.window.dock_widgets.items() if dock.isVisible()]
    print(json.dumps([[layer.name for layer in viewer.layers], shown, sorted(heavy)]))
    viewer.close()

loop = napari.run
def run(*args, **kwargs):
    QTimer.singleShot(0, look)
    loop(*args, **kwargs)
napari.run = run

if sys.argv[1] == "napari":
    from napari.__main__ import main
else:
    from napari_flowmag.cli import main
sys.argv = sys.argv[1:]
sys.exit(main())
"""


@pytest.fixture
def clip(tmp_path, frames):
    path = tmp_path / "beat.tif"
    tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "TYX"})
    return str(path)


@pytest.mark.parametrize(
    ("line", "layers"),
    [
        ("napari --plugin flowmag CLIP", ["beat"]),
        ("napari --plugin flowmag CLIP -w flowmag", ["beat"]),
        ("napari -w flowmag", []),
        ("flowmag gui CLIP", ["beat"]),
    ],
)
def test_a_window_opens_with_the_magnify_dock(line, layers, clip):
    words = [clip if word == "CLIP" else word for word in line.split()]
    done = subprocess.run(
        [sys.executable, "-c", HARNESS, *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    # Models wait for their first use: opening a window takes long enough.
    assert found == [layers, ["Magnify (flowmag)"], []]
