from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_flowmag.kymograph_files import Kymograph, save_kymograph


def _drawn(path: Path, slices: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(Image.open(save_kymograph(path, Kymograph(slices))), dtype=int)


@pytest.mark.parametrize("count", [2, 4, 5])
def test_channels_that_are_no_colours_are_drawn_side_by_side(tmp_path: Path, count: int) -> None:
    values = np.random.default_rng(0).random((20, 30, count)).astype(np.float32)
    sheet = _drawn(tmp_path / "all.png", {"clip": values, "magnified": values})
    width = sheet.shape[1] // (2 * count)
    for c in range(count):
        # A channel looks as it does alone, however much brighter another is; titles aside.
        alone = _drawn(tmp_path / "one.png", {"": values[..., c]})[40:]
        for place in (c, count + c):
            there = sheet[40:, place * width : (place + 1) * width]
            np.testing.assert_allclose(there, alone, atol=1)
    dimmed = values * np.arange(1, count + 1, dtype=np.float32)
    other = _drawn(tmp_path / "dim.png", {"clip": dimmed, "magnified": dimmed})
    np.testing.assert_allclose(other, sheet, atol=1)


@pytest.mark.parametrize(("unit", "ascii_name"), [("µm", "um"), ("Å", "angstrom"), ("px", "pixel")])
def test_imagej_gets_a_unit_that_it_can_write(tmp_path: Path, unit: str, ascii_name: str) -> None:
    values = np.zeros((4, 6), np.float32)
    path = save_kymograph(tmp_path / "xt.tif", Kymograph({"α": values}, distance=0.5, unit=unit))
    with tifffile.TiffFile(path) as file:
        assert file.imagej_metadata is not None
        assert file.imagej_metadata["unit"] == ascii_name
