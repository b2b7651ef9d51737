from __future__ import annotations

import numpy as np
import torch

from napari_flowmag.models import load_magnifier
from napari_flowmag.train.pictures import SWAY, before_and_after, slices

WIDTH = 96


def wave(phase: float = 0.0) -> torch.Tensor:
    """A picture (1, 3, 80, 96) of upright stripes, 12 px apart."""
    x = torch.arange(WIDTH, dtype=torch.float32)
    return (0.5 + 0.4 * torch.sin(2 * np.pi * x / 12 + phase)).expand(1, 3, 80, -1).contiguous()


def displacement(slice_: np.ndarray) -> np.ndarray:
    """Displacement of the stripes in each line of a slice, px against the first line."""
    inside = slice_[:, 24:72, 0].astype(float)
    wave = np.exp(2j * np.pi * np.arange(48) / 12)
    found = -np.unwrap(np.angle(inside @ wave.conj())) * 12 / (2 * np.pi)
    return found - found[0]


def test_rows_are_pairs() -> None:
    levels = [torch.full((2, 3, 4, 5), level) for level in (0.0, 0.5, 2.0)]
    found = before_and_after(*levels)
    assert found.shape == (8, 15, 3)
    assert [found[0, x].tolist() for x in (0, 5, 10)] == [[0] * 3, [128] * 3, [255] * 3]


def test_slices_show_the_motion_before_after_and_exact() -> None:
    pictures = torch.cat([wave(), wave(1.0)])
    with torch.no_grad():
        found = slices(load_magnifier("default", "cpu"), pictures, 4.0)
    assert found.shape == (2 * 48, 3 * WIDTH, 3)
    sine = SWAY * np.sin(2 * np.pi * np.arange(48) / 24)
    for row in np.split(found, 2):
        before, after, exact = (displacement(part) for part in np.split(row, 3, 1))
        np.testing.assert_allclose(before, sine, atol=0.03)
        np.testing.assert_allclose(exact, 4 * sine, atol=0.03)
        # What the model made of it is drawn, not what it should have.
        assert 3 < np.abs(after).max() / np.abs(before).max() < 5
        assert not np.array_equal(after, exact)
