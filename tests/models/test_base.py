from __future__ import annotations

import torch

from napari_flowmag.models.base import MaskedAlpha, broadcast_alpha, crop_alpha


def test_alphas_multiply_with_pictures() -> None:
    pictures = torch.ones(2, 3, 4, 5)
    each = torch.tensor([2.0, 3.0])
    assert (broadcast_alpha(each) * pictures)[1].eq(3).all()
    pixels = torch.rand(2, 1, 4, 5)
    assert torch.equal(broadcast_alpha(pixels), pixels)
    assert broadcast_alpha(torch.tensor(4.0)).shape == (1, 1, 1, 1)


def test_masked_alpha_as_a_map() -> None:
    mask = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3)
    alpha = MaskedAlpha(torch.tensor([5.0, 9.0]), mask, outside=0.0)
    assert broadcast_alpha(alpha).flatten(1).tolist() == [[0, 2.5, 5], [0, 4.5, 9]]


def test_a_tile_of_the_map_is_the_map_of_the_tile() -> None:
    rows, columns = slice(1, 3), slice(2, 7)
    mask, pixels = torch.rand(2, 1, 6, 8).split(1)
    each = torch.tensor([4.0])
    for alpha in (pixels, MaskedAlpha(each, mask), MaskedAlpha(pixels, mask, 0.5)):
        whole = broadcast_alpha(alpha)[..., rows, columns]
        assert torch.equal(broadcast_alpha(crop_alpha(alpha, rows, columns)), whole)
    assert crop_alpha(each, rows, columns) is each
