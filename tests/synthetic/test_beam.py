from __future__ import annotations

import numpy as np
import pytest

from napari_flowmag.errors import FlowmagError
from napari_flowmag.measure import displacement
from napari_flowmag.synthetic.beam import (
    beam_motion,
    beam_pixels,
    bending_frequency,
    bending_mode,
    draw_beam,
)


@pytest.mark.parametrize(
    ("order", "beta", "nodes"), [(1, 1.875104, 0), (2, 4.694091, 1), (3, 7.854757, 2)]
)
def test_modes_of_a_cantilever(order: int, beta: float, nodes: int) -> None:
    mode = bending_mode(np.linspace(0, 1, 201), order)
    assert mode[0] == pytest.approx(0, abs=1e-12)
    assert mode[-1] == pytest.approx(1, abs=1e-5)
    assert bending_mode(-0.2, order) == 0
    assert (np.diff(np.sign(mode[1:])) != 0).sum() == nodes
    # Bending: the fourth derivative is the mode itself times beta to the fourth.
    inner = np.diff(mode, 4) * 200**4
    np.testing.assert_allclose(inner[20:-20], beta**4 * mode[22:-22], atol=0.02 * beta**4)


def test_frequencies_are_those_of_the_textbook() -> None:
    ratios = [bending_frequency(n) / bending_frequency(1) for n in (1, 2, 3)]
    np.testing.assert_allclose(ratios, [1, 6.267, 17.547], rtol=1e-4)


@pytest.mark.parametrize("seed", [0, 1])
def test_each_place_of_the_bar_moves_as_claimed(seed: int) -> None:
    swing = [[0.0, 0.0, 0.0], [0.3, -0.2, 0.1]]
    frames, motion = draw_beam(swing, seed=seed), beam_motion(swing)
    for left in (60, 120, 180, 240):
        piece = beam_pixels()
        piece[:, :left], piece[:, left + 30 :] = False, False
        found = displacement(frames[0], frames[1], piece)[1]
        assert found == pytest.approx(motion[1, 1][piece].mean(), abs=0.015)


def test_unknown_modes_are_named() -> None:
    with pytest.raises(FlowmagError, match="bending mode 4: choose 1 to 3"):
        bending_mode(0.5, 4)
