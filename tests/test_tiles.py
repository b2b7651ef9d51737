from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_flowmag.tiles import ALIGN, MIN_TILE, spans, tiles

LENGTHS = st.integers(1, 3000)
TILES = st.integers(MIN_TILE, 1200)
CONTEXTS = st.integers(0, 300)


@given(LENGTHS, TILES, CONTEXTS)
def test_spans_cover_the_axis_and_share_every_pixel(length, tile, context):
    total = np.zeros(length)
    for span in spans(length, tile, context):
        assert 0 <= span.start < span.stop <= length
        assert span.stop - span.start == len(span.weight) <= tile
        assert span.weight.min() >= 0
        total[span.slice] += span.weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(LENGTHS, TILES, CONTEXTS)
def test_spans_start_on_the_grid_of_networks(length, tile, context):
    assert all(span.start % ALIGN == 0 for span in spans(length, tile, context))


@given(LENGTHS, TILES, CONTEXTS)
def test_results_near_a_cut_do_not_count(length, tile, context):
    margin = min(context, tile // 4)
    for span in spans(length, tile, context):
        if span.start > 0:
            assert not span.weight[:margin].any()
        if span.stop < length:
            assert not span.weight[len(span.weight) - margin :].any()


@given(LENGTHS, TILES, CONTEXTS)
def test_shares_change_smoothly(length, tile, context):
    total = np.zeros(length)
    for span in spans(length, tile, context):
        share = np.zeros(length)
        share[span.slice] = span.weight
        total = np.maximum(total, np.abs(np.diff(share, append=share[-1])))
    assert total.max() < 0.26  # the narrowest seam is 8 px wide


@pytest.mark.parametrize("context", [0, 20])
def test_tiles_of_a_picture_add_up(context):
    picture = np.random.default_rng(0).random((300, 500))
    blended = np.zeros_like(picture)
    cover = tiles(300, 500, 160, context)
    for tile in cover:
        part = picture[tile.rows.slice, tile.columns.slice]
        blended[tile.rows.slice, tile.columns.slice] += tile.weight * part
    assert len(cover) > 4
    np.testing.assert_allclose(blended, picture, atol=1e-6)


def test_no_tile_size_gives_the_whole_picture():
    (tile,) = tiles(30, 50, None, 100)
    assert tile.weight.shape == (30, 50)
    assert (tile.weight == 1).all()
