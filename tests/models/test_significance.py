"""What moves is told from noise; what is not told from noise stays where it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from napari_flowmag import load_magnifier
from napari_flowmag.flow.gauss_newton import GaussNewtonFlow
from napari_flowmag.models.field import FieldMagnifier
from napari_flowmag.models.significance import significance
from napari_flowmag.synthetic.clips import disk_coverage, translating_texture

SIZE = (128, 128)


@pytest.fixture
def magnifier() -> FieldMagnifier:
    bundled = load_magnifier("default", "cpu")
    assert isinstance(bundled, FieldMagnifier)
    return bundled


@pytest.fixture
def flow(magnifier: FieldMagnifier) -> GaussNewtonFlow:
    return magnifier.flow


def noise(like: Tensor, seed: int, sigma: float) -> Tensor:
    return sigma * torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


def pair(
    dx: float, sigma: float = 0.0, size: tuple[int, int] = SIZE, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return a texture and the same moved to the right, with noise of their own."""
    frames = translating_texture([(0, 0), (dx, 0)], size=size, seed=seed)
    first, second = torch.from_numpy(frames).movedim(-1, 1).contiguous().split(1)
    return first + noise(first, seed, sigma), second + noise(second, seed + 1, sigma)


def grid_motion(dx: float, size: tuple[int, int] = SIZE) -> Tensor:
    """Return one motion everywhere, in px of the flow's grid."""
    height, width = (-(-n // 4) for n in size)
    return torch.tensor([dx / 4, 0.0]).view(1, 2, 1, 1).repeat(1, 1, height, width)


def borne_out(flow: GaussNewtonFlow, first: Tensor, second: Tensor, motion: Tensor) -> Tensor:
    return shares(flow, first, second, motion)[0]


def shares(flow: GaussNewtonFlow, first: Tensor, second: Tensor, motion: Tensor) -> Tensor:
    """Return a picture for each of a batch; all of a cell's pixels have its share."""
    with torch.inference_mode():
        found = significance(flow.estimate(flow.prepare(first), second).seen, motion)[:, 0]
    height, width = first.shape[-2:]
    return found.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :height, :width]


@pytest.mark.parametrize("sigma", [0.002, 0.008, 0.02])
def test_noise_is_hardly_motion(flow: GaussNewtonFlow, sigma: float) -> None:
    kept, measured = [], []
    for seed in range(0, 12, 2):
        first, second = pair(0, sigma, seed=seed)
        with torch.inference_mode():
            motion = flow.estimate(flow.prepare(first), second).steps[-1]
        measured.append(float(motion.norm(dim=1).mean()))
        share = torch.nn.functional.avg_pool2d(borne_out(flow, first, second, motion)[None], 4)
        kept.append(float((share * motion.norm(dim=1)).mean()))
    assert 0 < np.mean(kept) < 0.6 * np.mean(measured)


@pytest.mark.parametrize(("dx", "sigma"), [(0.02, 0.002), (0.1, 0.02), (0.4, 0.1)])
def test_motion_is_found_in_noise(flow: GaussNewtonFlow, dx: float, sigma: float) -> None:
    first, second = pair(dx, sigma)
    assert borne_out(flow, first, second, grid_motion(dx)).min() > 0.9


def test_nobody_moves_the_other_way(flow: GaussNewtonFlow) -> None:
    first, second = pair(0.1, 0.01)
    assert not borne_out(flow, first, second, grid_motion(-0.1)).any()


def test_faint_motion_is_found_where_much_moves_together(flow: GaussNewtonFlow) -> None:
    first, second = pair(0.016, 0.008, size=(256, 256))
    assert borne_out(flow, first, second, grid_motion(0.016, (256, 256))).min() > 0.9
    parts = [(..., slice(y, y + 16), slice(x, x + 16)) for y in (40, 120, 200) for x in (40, 200)]
    motion = grid_motion(0.016, (16, 16))
    alone = [borne_out(flow, first[part], second[part], motion).mean() for part in parts]
    assert np.mean(alone) < 0.5


@pytest.mark.parametrize("moving", ["disk", "ground"])
def test_what_is_still_stays_still_beside_what_moves(
    flow: GaussNewtonFlow, moving: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (192, 192)
    cover = torch.from_numpy(disk_coverage(size, 56.0)).float()
    there = cover if moving == "disk" else 1 - cover
    (still, _), (before, after) = pair(0, size=size, seed=5), pair(0.2, size=size, seed=8)
    first, second = (there * x + (1 - there) * still for x in (before, after))
    first, second = first + noise(first, 1, 0.002), second + noise(second, 2, 0.002)
    # What is still is measured as nearly still, and so much it would be borne out by a wide window.
    share = torch.nn.functional.avg_pool2d(there[None, None], 4)
    motion = grid_motion(0.2, size) * share + grid_motion(0.01, size) * (1 - share)
    found = borne_out(flow, first, second, motion)
    y, x = np.mgrid[: size[0], : size[1]] - 95.5
    inside = torch.from_numpy(np.hypot(x, y) < 44)
    outside = torch.from_numpy(np.hypot(x, y) > 70)
    here, elsewhere = (inside, outside) if moving == "disk" else (outside, inside)
    assert found[here].min() > 0.9
    assert found[elsewhere].mean() < 0.5
    monkeypatch.setattr("napari_flowmag.models.significance.AGAINST", (1e9, 2e9))
    assert borne_out(flow, first, second, motion)[elsewhere].mean() > 0.8


def test_long_motion_is_none_of_noise(flow: GaussNewtonFlow) -> None:
    first, second = pair(0, 0.01)
    assert (borne_out(flow, first, second, grid_motion(1.01)) == 1).all()


def test_heavy_noise_tells_nothing(flow: GaussNewtonFlow) -> None:
    first, second = pair(0, 0.2)
    assert (borne_out(flow, first, second, grid_motion(0.05)) == 1).all()


def test_light_that_changes_hides_no_motion(flow: GaussNewtonFlow) -> None:
    first, second = pair(0.1, 0.005)
    slope = torch.linspace(-0.03, 0.05, SIZE[1])
    assert borne_out(flow, first, second + slope, grid_motion(0.1)).mean() > 0.9
    assert borne_out(flow, first, pair(0, 0.005)[1] + slope, grid_motion(0.02)).mean() < 0.2


@given(
    height=st.integers(2, 70),
    width=st.integers(2, 70),
    channels=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_any_picture_gets_a_share_for_each_pixel(
    height: int, width: int, channels: int, seed: int
) -> None:
    rng = torch.Generator().manual_seed(seed)
    first, second = torch.rand(2, 1, channels, height, width, generator=rng)
    motion = torch.randn(1, 2, -(-height // 4), -(-width // 4), generator=rng) / 10
    found = borne_out(GaussNewtonFlow(), first, second, motion)
    assert found.shape == (height, width)
    assert ((found >= 0) & (found <= 1)).all()


def test_samples_of_a_batch_do_not_mix(flow: GaussNewtonFlow) -> None:
    pairs = [pair(0.05, 0.02, seed=1), pair(0, 0.1, seed=3)]
    motion = grid_motion(0.05)
    first, second = (torch.cat(x) for x in zip(*pairs, strict=True))
    both = shares(flow, first, second, motion.repeat(2, 1, 1, 1))
    for found, one in zip(both, pairs, strict=True):
        torch.testing.assert_close(found, borne_out(flow, *one, motion), atol=1e-4, rtol=0)


def test_contrast_does_not_matter(flow: GaussNewtonFlow) -> None:
    first, second = pair(0.03, 0.02)
    found = borne_out(flow, first, second, grid_motion(0.03))
    faint = borne_out(flow, 0.2 * first + 0.5, 0.2 * second + 0.5, grid_motion(0.03))
    torch.testing.assert_close(found, faint, atol=1e-3, rtol=0)


def test_ground_in_noise_wobbles_less(magnifier: FieldMagnifier) -> None:
    size = (192, 192)
    cover = torch.from_numpy(disk_coverage(size, 40.0)).float()
    y, x = np.mgrid[: size[0], : size[1]] - 95.5
    ground = torch.from_numpy(np.hypot(x, y) > 70)
    kept, measured = [], []
    for seed in range(0, 12, 3):
        (still, _), disk = pair(0, size=size, seed=seed), pair(0.2, size=size, seed=seed + 1)
        first, second = (cover * x + (1 - cover) * still for x in disk)
        first, second = (f + noise(f, seed + i, 0.01) for i, f in enumerate((first, second)))
        with torch.inference_mode():
            prepared = magnifier.prepare(first)
            motion = magnifier.predict(prepared, second, torch.ones(1))[0, :2]
            estimate = magnifier.flow.estimate(prepared, second).flow[0]
        assert motion[0, 86:106, 86:106].mean() == pytest.approx(0.2, rel=0.1)
        kept.append(float(motion.norm(dim=0)[ground].mean()))
        measured.append(float(estimate.norm(dim=0)[ground].mean()))
    assert np.mean(kept) < 0.6 * np.mean(measured)


def test_what_is_not_borne_out_is_learnt_from_all_the_same(magnifier: FieldMagnifier) -> None:
    first, second = pair(0, 0.02)
    motion = magnifier.predict(magnifier.prepare(first), second, torch.ones(1))[:, :2]
    assert (motion == 0).any()
    weight = (motion == 0).to(motion)
    (motion * weight).sum().backward()
    gradient = magnifier.flow.updates[-1].head.weight.grad
    assert gradient is not None
    assert gradient.any()
