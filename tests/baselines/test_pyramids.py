from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from napari_flowmag.baselines import laplacian
from napari_flowmag.baselines.common import factor_at, smooth
from napari_flowmag.baselines.phase import (
    ORIENTATIONS,
    _cut,
    _mirrored,
    analyse,
    levels,
    residual,
    synthesise,
)
from napari_flowmag.models.base import MaskedAlpha

SIZES = st.integers(8, 90)


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def rebuilt(picture: Tensor, gain: float = 1.0) -> Tensor:
    """All bands of a picture put together again."""
    size = picture.shape[-2], picture.shape[-1]
    spectrum = torch.fft.fft2(picture, norm="forward")
    total = residual(*size, picture) * spectrum
    for level in levels(*size, picture):
        part = level.cut(spectrum)
        masks = list(level.masks())
        assert len(masks) == ORIENTATIONS
        level.add(total, gain * sum(synthesise(analyse(part, mask), mask) for mask in masks))
    return torch.fft.ifft2(total, norm="forward").real


@settings(deadline=None, max_examples=15)
@given(height=SIZES, width=SIZES)
def test_the_steerable_pyramid_rebuilds_a_picture(height: int, width: int) -> None:
    picture = noise(2, 3, height, width)
    torch.testing.assert_close(rebuilt(picture), picture, atol=1e-5, rtol=0)


def test_its_bands_hold_what_they_should() -> None:
    """Otherwise the residual alone could rebuild a picture."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    wave = torch.sin(2 * torch.pi * (x + 2 * y) / 16)[None, None]
    torch.testing.assert_close(rebuilt(wave, 3.0), 3 * wave, atol=1e-4, rtol=0)
    flat = torch.ones(1, 1, 64, 64)
    torch.testing.assert_close(rebuilt(flat, 3.0), flat, atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=15)
@given(height=SIZES, width=SIZES)
def test_mirrors_are_cut_off_again(height: int, width: int) -> None:
    picture = noise(1, 2, height, width)
    padded = _mirrored(picture)
    assert padded.shape[-1] > width
    assert torch.equal(_cut(padded, picture), picture)


@settings(deadline=None, max_examples=15)
@given(height=st.integers(1, 90), width=st.integers(1, 90))
def test_the_laplacian_pyramid_rebuilds_a_picture(height: int, width: int) -> None:
    picture = noise(2, 3, height, width)
    parts = laplacian.bands(picture)
    torch.testing.assert_close(laplacian.collapse(parts), picture, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(64, 64), (51, 77)])
def test_a_flat_picture_has_no_bands(size: tuple[int, int]) -> None:
    *fine, coarse = laplacian.bands(torch.full((1, 1, *size), 0.7))
    assert len(fine) >= 2
    assert max(float(band.abs().max()) for band in fine) < 1e-5
    torch.testing.assert_close(coarse, torch.full_like(coarse, 0.7))


def test_averages_are_weighted_and_keep_what_is_even() -> None:
    values, weight = noise(1, 2, 30, 30), noise(1, 2, 30, 30)
    even = torch.full_like(values, 0.3)
    torch.testing.assert_close(smooth(even, weight, 2.0), even)
    left = weight * (torch.arange(30) < 15)
    seen = smooth(torch.where(left > 0, 1.0, 9.0), left, 2.0)[..., :14]
    torch.testing.assert_close(seen, torch.ones_like(seen))
    assert smooth(values, weight, 2.0).std() < 0.3 * values.std()
    assert torch.equal(smooth(values, torch.zeros_like(weight), 2.0), torch.zeros_like(values))


def test_factors_follow_the_grid_of_a_band() -> None:
    alpha = torch.ones(1, 1, 32, 48)
    alpha[..., 24:] = 5
    small = factor_at(alpha, torch.zeros(1, 3, 16, 24))
    assert small.shape == (1, 1, 16, 24)
    assert small[..., :12].unique().tolist() == [1]
    assert small[..., 12:].unique().tolist() == [5]
    assert factor_at(torch.tensor([2.0, 3.0]), small).flatten().tolist() == [2, 3]
    masked = MaskedAlpha(torch.tensor([5.0]), (alpha > 1).float())
    assert torch.equal(factor_at(masked, alpha), alpha)
