"""Averaging what moves alike (napari_flowmag.flow.agreement)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from napari_flowmag.flow.agreement import agreed, roughness, variance
from napari_flowmag.flow.steps import Evidence

SIZE = 40
NOISE = 0.02
"""Standard deviation of the motion, px of the grid."""


def evidence(flow: Tensor, noise: float | Tensor = NOISE) -> Evidence:
    """What pictures show whose best motion is `flow`, with that standard deviation."""
    one = torch.ones_like(flow[:, :1])
    left = noise**2 * 4 * torch.pi * 4 * one  # of slopes that are 1, in 4π cells of 4 values
    return Evidence(torch.cat([one, 0 * one, one, 0 * flow, left], 1), flow, one)


def averaged(flow: Tensor, noise: float | Tensor = NOISE) -> Tensor:
    return agreed(flow, evidence(flow, noise))


def noisy(flow: Tensor) -> Tensor:
    return flow + NOISE * torch.randn(flow.shape, generator=torch.Generator().manual_seed(1))


def two_motions(apart: float) -> Tensor:
    """Stillness on the left, motion on the right."""
    flow = torch.zeros(1, 2, SIZE, SIZE)
    flow[:, 0, :, SIZE // 2 :] = apart
    return flow


def test_what_moves_alike_is_averaged() -> None:
    truth = torch.tensor([0.1, -0.05]).view(1, 2, 1, 1).expand(1, 2, SIZE, SIZE)
    error = averaged(noisy(truth)) - truth
    assert error.std() < 0.2 * NOISE
    assert error.mean().abs() < 0.1 * NOISE


def test_two_motions_stay_apart() -> None:
    truth = two_motions(0.3)  # 15 standard deviations
    error = (averaged(noisy(truth)) - truth).abs()
    assert error[..., SIZE // 2 - 2 : SIZE // 2 + 2].mean() < 0.5 * NOISE
    assert error.max() < 0.15


def test_motion_that_is_certain_is_kept() -> None:
    flow = 0.3 * torch.rand(1, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    change = averaged(flow, 1e-4) - flow
    assert change.square().mean().sqrt() < 0.1 * flow.std()


def test_who_is_certain_counts_most() -> None:
    """Where nothing can be seen motion is that of what is next to it."""
    truth = torch.full((1, 2, SIZE, SIZE), 0.1)
    blank = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    blank[:, 14:22] = True
    flow = torch.where(blank, 0.0, truth)
    noise = torch.where(blank, 1.0, NOISE)
    slopes = (NOISE / noise).square().view(1, 1, SIZE, SIZE)
    seen = evidence(flow)
    products = seen.products.clone()
    products[:, [0, 2]] = slopes
    found = agreed(flow, seen._replace(products=products))
    assert (found - truth)[..., blank].abs().max() < 0.06  # it was 0.1
    assert (found - truth)[..., blank].abs().mean() < 0.04
    assert (found - truth)[..., ~blank].abs().max() < 0.01


def test_outlines_are_no_noise() -> None:
    """The pictures differ most where two things meet, which is no reason to join them."""
    flow = two_motions(0.1)
    noise = torch.full((1, 1, SIZE, SIZE), NOISE)
    noise[..., SIZE // 2 - 1 : SIZE // 2 + 1] *= 3
    at_outline, elsewhere = (variance(flow, evidence(flow, n)) for n in (noise, NOISE))
    assert (at_outline / elsewhere).max() < 2  # not 9


def test_all_directions_are_alike() -> None:
    flow = noisy(two_motions(0.1))
    flipped = averaged(flow.flip(-1)).flip(-1)
    turned = averaged(flow.transpose(-1, -2)).transpose(-1, -2)
    torch.testing.assert_close(flipped, averaged(flow), rtol=0, atol=1e-6)
    torch.testing.assert_close(turned, averaged(flow), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(SIZE, SIZE), (3, 5), (1, 9), (1, 1)])
def test_nothing_outside_the_picture_counts(size: tuple[int, int]) -> None:
    flow = torch.full((2, 2, *size), 0.2)
    torch.testing.assert_close(averaged(flow), flow)


def test_gradients_are_those_of_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(4)
    flow = (NOISE * torch.randn(1, 2, 5, 4, generator=generator)).double().requires_grad_()
    seen = Evidence(*(value.double() for value in evidence(flow.detach())))
    # The noise is held as it is.
    rough = roughness(flow)
    monkeypatch.setattr("napari_flowmag.flow.agreement.roughness", lambda _: rough)

    def mean(flow: Tensor) -> Tensor:
        return agreed(flow, seen._replace(flow=flow.detach()))

    assert torch.autograd.gradcheck(mean, flow, atol=1e-4)


def test_roughness_is_the_variance_of_white_noise() -> None:
    found = roughness(noisy(torch.full((1, 2, 80, 80), 0.3)))[..., 20:-20, 20:-20]
    assert float(found.mean().sqrt()) == pytest.approx(NOISE, rel=0.1)
    smooth = torch.linspace(0, 0.5, 80).expand(1, 2, 80, 80)
    assert roughness(smooth)[..., 30:-30].max() < (0.1 * NOISE) ** 2


def test_what_steps_have_averaged_is_less_noisy_than_the_pictures() -> None:
    """Motions that the pictures tell apart only after averaging, as steps have done, stay so."""
    truth = two_motions(0.1)
    assert (averaged(noisy(truth), 3 * NOISE) - truth).abs().mean() < 0.0025


def test_variance_is_that_of_least_squares() -> None:
    """Of windows as wide as the one that is looked at, many times with fresh noise."""
    generator = torch.Generator().manual_seed(3)
    cells = 4 * torch.pi  # as many as a Gaussian window of σ = 1 is worth
    values = int(4 * cells)
    slopes = torch.randn(values, generator=generator)
    noise = 0.1 * torch.randn(2000, values, generator=generator)
    found = -(slopes * noise).sum(1) / slopes.square().sum()
    flow = torch.zeros(1, 2, SIZE, SIZE)
    mean = slopes.square().mean()
    seen = evidence(flow, 0.0)
    products = seen.products * mean
    products[:, 5] = 0.1**2 / 2  # the least of the surroundings; noise is twice that
    expected = variance(flow, seen._replace(products=products))[0, 0, SIZE // 2, SIZE // 2]
    assert float(found.var()) == pytest.approx(float(expected), rel=0.1)
