from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_flowmag import read_clip, write_clip


@pytest.fixture(scope="module")
def folder() -> Path:
    root = Path(__file__).parents[2]
    clips = Path(os.environ.get("FLOWMAG_SHARED", root.parent / "shared")) / "data" / "clips"
    if not clips.is_dir():
        pytest.skip("needs the shared clips: set FLOWMAG_SHARED to their folder")
    return clips


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("micro_cardiac_microbundle.tif", "TYX"),
        ("engineering_compressor.tif", "TYXS"),
        ("animal_turtle.tif", "TYXS"),
        ("person_speaker.tif", "TYXS"),
    ],
)
def test_real_clips_go_through_unchanged(folder, tmp_path, name, axes):
    clip = read_clip(folder / name, fps=100)
    assert (clip.axes, clip.dtype) == (axes, np.uint8)
    again = read_clip(write_clip(clip, tmp_path / name))
    np.testing.assert_array_equal(np.asarray(again.frames), tifffile.imread(folder / name))
    assert again.fps == 100
