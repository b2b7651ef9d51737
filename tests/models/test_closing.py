"""Motion that is too small in noise is made up for; what is right stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from napari_flowmag import load_magnifier
from napari_flowmag.flow.steps import Evidence
from napari_flowmag.models.closing import MOST, closing
from napari_flowmag.models.field import FieldMagnifier
from napari_flowmag.synthetic.clips import disk_coverage, translating_texture

CELLS = (32, 48)


@pytest.fixture(scope="module")
def magnifier() -> FieldMagnifier:
    bundled = load_magnifier("default", "cpu")
    assert isinstance(bundled, FieldMagnifier)
    return bundled


def everywhere(x: float, y: float, size: tuple[int, int] = CELLS) -> Tensor:
    return torch.tensor([x, y], dtype=torch.float32).view(1, 2, 1, 1).repeat(1, 1, *size)


def pictures(motion: Tensor, sigma: float = 0.0, seed: int = 0) -> Evidence:
    """Return what a step sees, unwarped, of random slopes that follow a motion, in noise."""
    rng = torch.Generator().manual_seed(seed)
    gx, gy, noise = torch.randn(3, 16, 1, *motion.shape[-2:], generator=rng)
    d = sigma * noise - gx * motion[:, :1] - gy * motion[:, 1:]
    products = torch.cat([gx * gx, gx * gy, gy * gy, gx * d, gy * d, d * d], 1)
    trust = torch.ones(1, 1, *motion.shape[-2:])
    return Evidence(products.mean(0, keepdim=True), torch.zeros_like(motion), trust)


@given(share=st.floats(0.75, 1.25), x=st.floats(-0.2, 0.2), y=st.floats(0.02, 0.2))
def test_what_is_missing_is_found(share: float, x: float, y: float) -> None:
    true = everywhere(x, y)
    found = closing(pictures(true, 0.001), share * true)
    torch.testing.assert_close(found, (1 - share) * true, atol=0.003 * float(true.norm()), rtol=0.1)


def test_right_motion_stays_as_it_is() -> None:
    true = everywhere(0.1, -0.05)
    assert closing(pictures(true, 0.01), true).abs().max() < 0.002
    assert not closing(pictures(true, 0.01), 0 * true).any()


def test_noise_of_the_motion_is_not_taken_for_too_much_of_it() -> None:
    true = everywhere(0.1, 0.0)
    rng = torch.Generator().manual_seed(1)
    measured = true + 0.05 * torch.randn(true.shape, generator=rng)
    assert closing(pictures(true), measured).mean((0, 2, 3)).norm() < 0.005


def test_what_noise_cannot_tell_is_left_alone() -> None:
    true = everywhere(0.1, 0.0)
    sure, unsure = (
        np.mean([float(closing(pictures(true, sigma, n), 0.8 * true)[:, 0].mean()) for n in (1, 2)])
        for sigma in (0.01, 50.0)
    )
    assert sure == pytest.approx(0.02, rel=0.1)
    assert abs(unsure) < 0.004


def test_no_more_than_so_much_is_put_back() -> None:
    true = everywhere(0.2, 0.0)
    found = closing(pictures(true), 0.1 * true)
    assert found[:, 0].mean() == pytest.approx(MOST * 0.02, rel=0.05)


def test_still_ground_beside_a_moving_thing_stays_still() -> None:
    true = everywhere(0.1, 0.0)
    true[..., 24:] = 0
    found = closing(pictures(true, 0.001), 0.8 * true)
    assert not found[..., 24:].any()
    assert found[:, 0, :, :8].mean() == pytest.approx(0.02, rel=0.1)


def test_parts_are_asked_by_themselves() -> None:
    true = everywhere(0.1, 0.0, (64, 128))
    share = torch.ones(1, 1, 64, 128)
    share[..., 64:] = 0.8
    found = closing(pictures(true, 0.01), share * true)[0, 0]
    assert found[:, :32].abs().max() < 0.004
    assert found[:, 96:].mean() == pytest.approx(0.02, rel=0.1)


@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99))
def test_any_size_gets_an_answer(height: int, width: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    motion = torch.randn(1, 2, height, width, generator=rng) / 10
    found = closing(pictures(motion, 1.0, seed), motion)
    assert found.shape == motion.shape
    assert (found.norm(dim=1) <= MOST * motion.norm(dim=1).max() + 1e-6).all()


def test_samples_of_a_batch_do_not_mix() -> None:
    motions = everywhere(0.1, 0.0), everywhere(0.0, -0.3)
    seen = [pictures(motion, 0.1, n) for n, motion in enumerate(motions)]
    both = Evidence(*(torch.cat(x) for x in zip(*seen, strict=True)))
    found = closing(both, 0.9 * torch.cat(motions))
    for n, motion in enumerate(motions):
        torch.testing.assert_close(found[n : n + 1], closing(seen[n], 0.9 * motion))


def noisy(sigma: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return a texture, and a disk in the middle of it moved to the right by 0.3 px."""
    size = (192, 192)
    frames = translating_texture([(0, 0), (0.3, 0)], size=size, seed=seed)
    cover = disk_coverage(size, 70.0)[..., None]
    rng = np.random.default_rng(seed)
    pair = np.stack([frames[0], cover * frames[1] + (1 - cover) * frames[0]])
    pair = pair + sigma * rng.standard_normal(pair.shape)
    first, second = torch.from_numpy(pair).float().movedim(-1, 1).contiguous().split(1)
    return first, second


@pytest.mark.parametrize(("sigma", "within"), [(0.0, 0.01), (0.06, 0.03)])
@torch.inference_mode()
def test_predicted_motion_is_as_large_as_it_is(
    magnifier: FieldMagnifier, sigma: float, within: float
) -> None:
    predicted, measured = [], []
    for seed in range(6):
        first, second = noisy(sigma, seed)
        prepared = magnifier.prepare(first)
        middle = (0, 0, slice(56, 136), slice(56, 136))
        predicted.append(float(magnifier.predict(prepared, second, torch.ones(1))[middle].mean()))
        measured.append(float(magnifier.flow.estimate(prepared, second).flow[middle].mean()))
    assert np.mean(predicted) == pytest.approx(0.3, rel=within)
    if sigma:
        assert abs(np.mean(predicted) - 0.3) < abs(np.mean(measured) - 0.3)
