from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_flowmag.models.base import MaskedAlpha
from napari_flowmag.models.encoding import encode_alpha


@pytest.fixture
def stored(data: Path) -> tuple[torch.Tensor, torch.Tensor]:
    with np.load(data / "authors_losses_metrics.npz") as file:
        return torch.from_numpy(file["alphas_enc"]), torch.from_numpy(file["encoding"])


def test_encoding_is_the_authors(stored) -> None:
    alpha, expected = stored
    torch.testing.assert_close(encode_alpha(alpha)[..., 0, 0], expected, atol=1e-5, rtol=0)


def test_a_map_is_encoded_pixel_by_pixel(stored) -> None:
    alpha, expected = stored
    pixels = alpha.view(1, 1, 1, 5).expand(2, 1, 3, 5)
    code = encode_alpha(pixels)
    assert code.shape == (2, 32, 3, 5)
    torch.testing.assert_close(code[1, :, 2].T, expected, atol=1e-5, rtol=0)


def test_half_precision_does_not_blur_the_phase(stored) -> None:
    # 16 is exact in half precision; its phase of 804 rad would not be.
    code = encode_alpha(torch.tensor([16.0], dtype=torch.float16))
    assert torch.equal(code, encode_alpha(torch.tensor([16.0])))


def test_a_mask_mixes_the_encodings() -> None:
    alpha, mask = torch.tensor([5.0, 9.0]), torch.rand(1, 1, 4, 6)
    code = encode_alpha(MaskedAlpha(alpha, mask, outside=2.0))
    expected = mask * encode_alpha(alpha) + (1 - mask) * encode_alpha(torch.tensor([2.0]))
    torch.testing.assert_close(code, expected)
