from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from napari_flowmag import FlowmagError, MagnificationLoss
from napari_flowmag.loss import colour_loss, magnification_loss
from napari_flowmag.models.base import MaskedAlpha


class StubFlow(nn.Module):
    """A small differentiable "flow" with weights and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(6, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)

    def forward(self, first, second):
        return 2 * torch.tanh(self.norm(self.conv(torch.cat([first, second], 1))))


class KnownFlow(nn.Module):
    """Gives flows that are known already, in the order the loss asks for them."""

    def __init__(self, *flows) -> None:
        super().__init__()
        self.flows = list(flows)

    def forward(self, first, second):
        return self.flows.pop(0)


@pytest.fixture
def stored(data: Path) -> dict[str, torch.Tensor]:
    with np.load(data / "authors_losses_metrics.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file}


@pytest.fixture
def batch() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    magnified, reference, frame = torch.rand(3, 2, 3, 12, 16).unbind()
    return magnified, reference, frame, torch.tensor([2.0, 5.0])


def test_loss_is_the_authors(stored) -> None:
    # Frames as slices of the authors' (B, 3, 2, H, W): not contiguous.
    reference, frame, magnified = stored["src"][:, :, 0], stored["src"][:, :, 1], stored["pred"]
    flow = KnownFlow(stored["flow_src"][:, 0], stored["flow_pred"][:, 0])
    terms = MagnificationLoss(flow)(magnified[:, :, 0], reference, frame, stored["alphas"])
    torch.testing.assert_close(terms.magnification, stored["mag_loss"], atol=1e-5, rtol=0)
    torch.testing.assert_close(terms.colour, stored["color_loss"], atol=1e-5, rtol=0)
    expected = stored["mag_loss"] + 10 * stored["color_loss"]
    torch.testing.assert_close(terms.total, expected, atol=1e-5, rtol=0)


def test_weights_of_the_sum(batch) -> None:
    terms = MagnificationLoss(StubFlow(), magnification_weight=3, colour_weight=0.5)(*batch)
    torch.testing.assert_close(terms.total, 3 * terms.magnification + 0.5 * terms.colour)


def test_gradients_reach_the_picture_through_flow_and_warp(batch) -> None:
    magnified, reference, frame, alpha = (x.double() for x in batch)
    loss = MagnificationLoss(StubFlow().double())
    magnified = magnified[:1, :, :4, :5].clone().requires_grad_()
    reference, frame, alpha = reference[:1, :, :4, :5], frame[:1, :, :4, :5], alpha[:1]
    for term in ("magnification", "colour", "total"):
        assert torch.autograd.gradcheck(
            lambda m, term=term: getattr(loss(m, reference, frame, alpha), term), magnified
        )


def test_colour_gradient_passes_through_the_flow_too(batch) -> None:
    magnified, reference, frame, alpha = batch
    loss = MagnificationLoss(StubFlow())
    magnified.requires_grad_()
    terms = loss(magnified, reference, frame, alpha)
    (whole,) = torch.autograd.grad(terms.colour, magnified)
    flow = terms.output_flow.detach()
    (warp_only,) = torch.autograd.grad(
        colour_loss(magnified, flow, frame, terms.input_flow), magnified
    )
    assert (whole - warp_only).abs().max() > 1e-6


def test_flow_stays_frozen(batch) -> None:
    flow = StubFlow().train()
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    magnified = batch[0].requires_grad_()
    MagnificationLoss(flow)(magnified, *batch[1:]).total.backward()
    assert magnified.grad is not None
    assert all(p.grad is None for p in flow.parameters())
    for name, value in flow.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} changed"


def test_a_known_input_flow_saves_its_estimation(batch) -> None:
    magnified, reference, frame, alpha = batch
    loss = MagnificationLoss(StubFlow())
    first = loss(magnified, reference, frame, alpha)
    again = loss(magnified, reference, frame, alpha, input_flow=first.input_flow)
    assert torch.equal(first.total, again.total)
    other = loss(magnified, reference, frame, alpha, input_flow=first.input_flow + 1)
    assert not torch.equal(first.total, other.total)


def test_normalised_pairs_count_alike() -> None:
    """A pair that moves 100 times as much, with 100 times the error, weighs hardly more."""
    torch.manual_seed(0)
    given = torch.randn(1, 2, 8, 8)
    output = given * 3 + 0.1
    alpha = torch.tensor([2.0])
    small = magnification_loss(output, given, alpha, normalise=1e-6)
    large = magnification_loss(100 * output, 100 * given, alpha, normalise=1e-6)
    torch.testing.assert_close(small, large, rtol=1e-4, atol=0)
    both = magnification_loss(
        torch.cat([output, 100 * output]), torch.cat([given, 100 * given]), alpha, normalise=0.5
    )
    error, scale = (output - 2 * given).abs().mean(), (2 * given).abs().mean()
    expected = (error / (scale + 0.5) + 100 * error / (100 * scale + 0.5)) / 2
    torch.testing.assert_close(both, expected)


def test_alpha_may_be_a_map(batch) -> None:
    *frames, alpha = batch
    loss = MagnificationLoss(StubFlow())
    whole = loss(*frames, alpha).total
    assert torch.equal(loss(*frames, alpha.view(2, 1, 1, 1).expand(2, 1, 12, 16)).total, whole)
    mask = torch.zeros(2, 1, 12, 16)
    masked = loss(*frames, MaskedAlpha(alpha, mask))
    torch.testing.assert_close(masked.total, loss(*frames, torch.ones(2)).total)


def test_flow_without_gradients_is_refused() -> None:
    flow = StubFlow()
    flow.differentiable = False
    with pytest.raises(FlowmagError, match="no gradients pass through StubFlow"):
        MagnificationLoss(flow)


def test_perfect_magnification_costs_nothing() -> None:
    """A picture moved by α times the motion: no motion error, no colour error inside."""
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")

    def picture(dx: float) -> torch.Tensor:
        return (0.5 + 0.4 * torch.sin((x - dx) / 4) * torch.cos(y / 5)).expand(1, 3, 24, 24)

    def moved(px: float) -> torch.Tensor:
        return F.pad(torch.full((1, 1, 24, 24), px), (0, 0, 0, 0, 0, 1))

    flow = KnownFlow(moved(1.0), moved(3.0))
    terms = MagnificationLoss(flow)(picture(3), picture(0), picture(1), torch.tensor([3.0]))
    assert terms.magnification == 0
    # Reflection at the border brings in what the pictures do not show.
    assert terms.colour < 0.01
