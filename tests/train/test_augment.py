from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from napari_flowmag.train.augment import add_noise, augment, window_size
from napari_flowmag.train.config import AugmentConfig

PLAIN = AugmentConfig(
    crop=32, window="crop", area=(1.0, 1.0), flip=0, rotation=0, jitter=(0.0, 0.0, 0.0, 0.0)
)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture(height: int, width: int, seed: int) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


@st.composite
def configs(draw: st.DrawFn) -> AugmentConfig:
    share = st.floats(0, 1)
    low = draw(st.floats(0.3, 1))
    return AugmentConfig(
        crop=draw(st.sampled_from([32, 47])),
        window=draw(st.sampled_from(["picture", "crop"])),
        area=(low, draw(st.floats(low, 1))),
        flip=draw(share),
        rotation=draw(st.floats(0, 45)),
        jitter=(draw(share), draw(share), draw(share), draw(st.floats(0, 0.5))),
        grey=draw(share),
    )


sizes = st.tuples(st.integers(47, 90), st.integers(47, 90))


@settings(deadline=None, max_examples=60)
@given(configs(), sizes, st.integers(0, 2**32))
def test_both_frames_are_varied_alike(
    config: AugmentConfig, size: tuple[int, int], seed: int
) -> None:
    pair = torch.stack([picture(*size, 1), picture(*size, 2)])
    found = augment(pair, config, rng(seed))
    assert found.shape == (2, 3, config.crop, config.crop)
    assert found.min() >= 0
    assert found.max() <= 1
    exchanged = augment(pair.flip(0), config, rng(seed))
    torch.testing.assert_close(found, exchanged.flip(0), rtol=0, atol=1e-4)
    still = augment(pair[:1].expand(2, -1, -1, -1), config, rng(seed))
    torch.testing.assert_close(still[0], still[1], rtol=0, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(sizes, st.sampled_from(["picture", "crop"]), st.integers(0, 2**32))
def test_a_turned_window_has_no_empty_corners(
    size: tuple[int, int], window: str, seed: int
) -> None:
    config = AugmentConfig(crop=32, window=window, jitter=(0.0, 0.0, 0.0, 0.0))  # type: ignore[arg-type]
    found = augment(torch.ones(2, 3, *size), config, rng(seed))
    torch.testing.assert_close(found, torch.ones_like(found))


@pytest.mark.parametrize("size", [(32, 640), (640, 32)])
def test_a_turned_window_may_be_larger_than_the_picture_is_wide(size: tuple[int, int]) -> None:
    config = AugmentConfig(crop=32, jitter=(0.0, 0.0, 0.0, 0.0))
    for seed in range(8):
        found = augment(torch.ones(2, 3, *size), config, rng(seed))
        torch.testing.assert_close(found, torch.ones(2, 3, 32, 32))


@settings(deadline=None)
@given(st.tuples(st.integers(32, 300), st.integers(32, 300)), st.integers(0, 2**32))
def test_a_window_of_the_picture_has_the_papers_share_of_it(
    size: tuple[int, int], seed: int
) -> None:
    height, width = window_size(size, AugmentConfig(), rng(seed))
    assert 1 <= height <= size[0]
    assert 1 <= width <= size[1]
    if 3 / 4 <= size[1] / size[0] <= 4 / 3:  # else the aspect can keep it from fitting
        assert 0.66 <= height * width / (size[0] * size[1]) <= 1


def test_without_variation_a_pair_is_only_cut() -> None:
    place = torch.arange(80 * 60).reshape(1, 80, 60).expand(3, -1, -1)
    pair = torch.stack([(place % 256).byte(), (place // 256).byte()])
    found = (255 * augment(pair, PLAIN, rng(3))).round().int()
    places = found[0] + 256 * found[1]
    top, left = divmod(int(places[0, 0, 0]), 60)
    expected = place[:, top : top + 32, left : left + 32]
    assert torch.equal(places, expected.int())


def test_the_same_seed_gives_the_same_picture() -> None:
    pair = torch.stack([picture(60, 60, 1), picture(60, 60, 2)])
    config = AugmentConfig(crop=32)
    assert torch.equal(augment(pair, config, rng(5)), augment(pair, config, rng(5)))
    assert not torch.equal(augment(pair, config, rng(5)), augment(pair, config, rng(6)))


def test_frames_swap_and_stand_still_when_asked() -> None:
    pair = torch.stack([torch.zeros(3, 40, 40), torch.ones(3, 40, 40)])
    base = {**PLAIN.__dict__}
    swapped = augment(pair, AugmentConfig(**{**base, "swap": 1.0}), rng(0))
    assert swapped[0].min() == 1
    assert swapped[1].max() == 0
    still = augment(pair, AugmentConfig(**{**base, "still": 1.0}), rng(0))
    assert torch.equal(still[0], still[1])


def test_grey_pictures_have_equal_channels() -> None:
    pair = torch.stack([picture(60, 60, 1), picture(60, 60, 2)])
    found = augment(pair, AugmentConfig(crop=32, grey=1.0), rng(0))
    torch.testing.assert_close(found[:, :1].expand(-1, 3, -1, -1), found)


@pytest.mark.parametrize("largest", [0.02, 0.1])
def test_noise_differs_between_frames_and_stays_within_its_bound(largest: float) -> None:
    pair = torch.full((2, 3, 64, 64), 0.5)
    strengths = []
    for seed in range(20):
        noise = add_noise(pair, largest, rng(seed)) - pair
        assert abs(float(torch.corrcoef(noise.flatten(1))[0, 1])) < 0.1
        strengths.append(float(noise.std()))
    assert max(strengths) <= 1.05 * largest
    assert min(strengths) < 0.5 * largest < max(strengths)
