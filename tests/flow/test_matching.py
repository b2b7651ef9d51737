from __future__ import annotations

import pytest
import torch

from napari_flowmag.flow.matching import RADIUS, SCORES, Matcher, candidates, correlate


def test_candidates_are_in_the_order_of_the_scores() -> None:
    first = torch.zeros(1, 1, 11, 13)
    second = first.clone()
    first[..., 5, 6] = 1
    second[..., 3, 9] = 1  # 3 to the right, 2 up
    scores = correlate(first, second)
    assert scores.shape == (1, SCORES, 11, 13)
    best = int(scores[0, :, 5, 6].argmax())
    assert candidates(scores)[best].tolist() == [3, -2]
    assert candidates(scores).abs().max() == RADIUS


@pytest.mark.parametrize("start", [0.0, 5.0])
@torch.inference_mode()
def test_matches_are_looked_for_around_the_flow_so_far(start: float) -> None:
    torch.manual_seed(0)
    matcher = Matcher(8)
    matcher.head.bias[-1] = 20  # take every match
    features = torch.nn.functional.normalize(torch.randn(1, 32, 16, 24), dim=1)
    moved = features.roll(7, -1)
    flow = torch.zeros(1, 2, 16, 24)
    flow[:, 0] = start
    hidden = torch.zeros(1, 8, 16, 24)
    found, state, matches = matcher(features, moved, flow, hidden)
    assert torch.equal(matches.start, flow)
    assert state.shape == hidden.shape
    torch.testing.assert_close(matches.likely.exp().sum(1), torch.ones(1, 16, 24))
    within = found[0, 0, :, :16].median()
    assert within == pytest.approx(7, abs=0.1) if start else abs(within) < RADIUS
