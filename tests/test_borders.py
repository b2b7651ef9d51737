from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from napari_flowmag.borders import BEYOND, border_weights, continued
from napari_flowmag.synthetic.clips import texture
from napari_flowmag.warp import MARGIN, sample_spline, spline_coefficients

INNER = (..., slice(BEYOND, -BEYOND), slice(BEYOND, -BEYOND))


def picture(seed: int = 0, size: tuple[int, int] = (96, 120)) -> Tensor:
    drawn = texture(size, np.random.default_rng(seed), channels=1)
    return torch.from_numpy(drawn).float().view(1, 1, *size)


def repeated(inner: Tensor) -> Tensor:
    return F.pad(inner, (BEYOND,) * 4, mode="replicate")


def test_a_texture_goes_on_better_than_its_last_px() -> None:
    for seed in range(3):
        whole = picture(seed)
        inner = whole[INNER]
        found = continued(inner, border_weights(inner))
        assert torch.equal(found[INNER], inner)
        for distance, share in ((1, 0.4), (2, 0.6), (3, 0.8)):
            ring = torch.zeros_like(whole, dtype=torch.bool)
            cut = BEYOND - distance
            ring[..., cut : -cut or None, cut : -cut or None] = True
            ring[..., cut + 1 : -cut - 1, cut + 1 : -cut - 1] = False
            error, usual = ((x - whole)[ring].square().mean() for x in (found, repeated(inner)))
            assert error < share * usual, (seed, distance)


def test_it_looks_the_same_from_all_sides() -> None:
    inner = picture()
    found = continued(inner, border_weights(inner))
    for turn in (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.rot90(2, (-2, -1))):
        turned = turn(inner)
        again = continued(turned, border_weights(turned))
        # Weights are fitted at places that are not quite mirrored; corners, from guesses.
        torch.testing.assert_close(
            turn(again)[..., 20:-20, :], found[..., 20:-20, :], atol=0.02, rtol=0
        )
        torch.testing.assert_close(
            turn(again)[..., 20:-20], found[..., 20:-20], atol=0.02, rtol=0
        )  # fmt: skip


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(1, 50), width=st.integers(1, 50), channels=st.integers(1, 3),
    level=st.floats(-1e4, 1e4), contrast=st.sampled_from([0.0, 1e-3, 1.0, 6e4]),
)  # fmt: skip
def test_values_stay_within_those_of_the_picture(
    height: int, width: int, channels: int, level: float, contrast: float
) -> None:
    generator = torch.Generator().manual_seed(height * 64 + width)
    inner = level + contrast * torch.rand(2, channels, height, width, generator=generator)
    found = continued(inner, border_weights(inner))
    assert found.shape == (2, channels, height + 2 * BEYOND, width + 2 * BEYOND)
    assert torch.equal(found[INNER], inner)
    assert torch.equal(found.amax((2, 3)), inner.amax((2, 3)))
    assert torch.equal(found.amin((2, 3)), inner.amin((2, 3)))


def test_units_and_other_channels_do_not_matter() -> None:
    inner = torch.cat([picture(0), picture(1)], 1)
    found = continued(inner, border_weights(inner))
    counts = 50_000 * inner + 1_000
    torch.testing.assert_close(
        continued(counts, border_weights(counts)), 50_000 * found + 1_000, atol=1, rtol=0
    )
    alone = continued(inner[:, :1], border_weights(inner[:, :1]))
    torch.testing.assert_close(alone, found[:, :1], atol=1e-5, rtol=0)
    both = torch.cat([inner[:, :1], inner[:, -1:]])
    one_by_one = continued(both, border_weights(both))
    torch.testing.assert_close(one_by_one[:1], alone, atol=1e-5, rtol=0)


def test_one_pictures_weights_serve_others() -> None:
    frames = torch.cat([picture(0), picture(1)])
    weights = border_weights(frames[:1])
    found = continued(frames, weights)
    torch.testing.assert_close(found[:1], continued(frames[:1], weights))
    torch.testing.assert_close(found[1:], continued(frames[1:], weights))


def test_small_pictures_repeat_their_border() -> None:
    inner = picture()[..., :20, :60]
    assert border_weights(inner) is None
    assert torch.equal(continued(inner, None), repeated(inner))


def test_half_precision_around_it_leaves_it_as_it_is() -> None:
    inner = picture()
    found = continued(inner, border_weights(inner))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(continued(inner, border_weights(inner)), found)


def test_a_spline_reads_what_lies_beyond() -> None:
    whole = picture().double()
    coefficients = spline_coefficients(whole)
    inner = whole[INNER]
    flow = torch.zeros_like(inner[:, :1]).repeat(1, 2, 1, 1)
    for x, y in ((-BEYOND, 0), (BEYOND, 3), (2, -BEYOND), (-1, BEYOND)):
        flow[:, 0], flow[:, 1] = x, y
        rows = slice(BEYOND + y, whole.shape[-2] - BEYOND + y)
        columns = slice(BEYOND + x, whole.shape[-1] - BEYOND + x)
        found = sample_spline(coefficients, flow, BEYOND + MARGIN)
        torch.testing.assert_close(found, whole[..., rows, columns], atol=1e-6, rtol=0)
    flow[:, 0], flow[:, 1] = -BEYOND - 5, 0
    found = sample_spline(coefficients, flow, BEYOND + MARGIN)
    first = whole[..., BEYOND:-BEYOND, :1].expand(-1, -1, -1, 6)
    torch.testing.assert_close(found[..., :6], first, atol=1e-6, rtol=0)


@pytest.mark.parametrize("value", [0.0, 0.5, -3e4])
def test_flat_pictures_stay_flat(value: float) -> None:
    inner = torch.full((1, 3, 40, 40), value)
    assert torch.equal(continued(inner, border_weights(inner)), repeated(inner))
