from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal

from napari_flowmag import FlowmagError
from napari_flowmag.masks import dilate, feather

masks = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def city_block(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the mask, straight from the definition."""
    inside = np.argwhere(mask)
    distance = np.full(mask.shape, np.inf)
    for index in np.ndindex(mask.shape):
        if len(inside):
            distance[index] = np.abs(inside - index).sum(1).min()
    return distance


@pytest.mark.parametrize("soft", [1, 3, 5, 25])
def test_dilation_is_the_authors(data: Path, soft: int) -> None:
    stored = np.load(data / "authors_losses_metrics.npz")
    assert_array_equal(dilate(stored["mask"], soft), stored[f"soft_mask_{soft}"])


@given(masks, st.integers(1, 6))
def test_dilation_takes_what_is_closer(mask: np.ndarray, soft: int) -> None:
    assert_array_equal(dilate(mask, soft), city_block(mask) < soft)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_without_an_edge_the_mask_stays(dtype: type) -> None:
    mask = np.eye(5).astype(dtype)
    assert_array_equal(dilate(mask, 0), mask)
    assert_array_equal(feather(mask, 0), mask)


@given(masks, st.integers(2, 6))
def test_feathering_falls_with_distance(mask: np.ndarray, px: int) -> None:
    soft = feather(mask, px)
    expected = np.maximum(1 - city_block(mask) / px, 0)
    np.testing.assert_allclose(soft, expected, atol=1e-6)


@given(masks, st.integers(2, 5), st.integers(1, 5))
def test_feathering_can_stay_inside_a_dilation(mask: np.ndarray, px: int, more: int) -> None:
    soft = px + more
    assert not feather(dilate(mask, soft - px), px)[dilate(mask, soft) == 0].any()


@pytest.mark.parametrize("edge", [dilate, feather])
def test_bad_masks_are_refused(edge: object) -> None:
    with pytest.raises(FlowmagError, match=r"one picture \(H, W\)"):
        edge(np.ones((2, 3, 4)), 5)
    with pytest.raises(FlowmagError, match="0 or more"):
        edge(np.ones((3, 4)), -1)
