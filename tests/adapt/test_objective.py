from __future__ import annotations

import pytest
import torch

from napari_flowmag import MagnificationLoss, load_flow, load_magnifier
from napari_flowmag.adapt import AdaptSettings
from napari_flowmag.adapt.objective import Objective
from napari_flowmag.adapt.pairs import Pairs


@pytest.fixture(scope="module")
def pair(clip):
    both = torch.from_numpy(clip[[0, 2]])[:, None]
    return both[:1].clone(), both[1:].clone()


@pytest.mark.parametrize("names", [("default",), ("default", "lucas_kanade")])
def test_it_is_the_mean_of_the_papers_loss_over_estimators(pair, names):
    reference, frame = pair
    settings = AdaptSettings.of("paper", alpha=4)
    magnifier, alpha = load_magnifier("default", "cpu"), torch.tensor([4.0])
    flows = [load_flow(name) for name in names]
    ours = Objective.of(settings, flows)(magnifier, Pairs(reference, frame, alpha, merge=False))
    magnified = magnifier(reference, frame, alpha)
    papers = [MagnificationLoss(flow)(magnified, reference, frame, alpha).total for flow in flows]
    torch.testing.assert_close(ours, torch.stack(papers).mean())


def test_channels_of_one_picture_are_judged_by_their_mean(pair, paint_magnifier):
    reference, frame = (side.expand(-1, 3, -1, -1).contiguous() for side in pair)
    alpha = torch.tensor([2.0])
    objective = Objective.of(AdaptSettings.of("paper"), [load_flow("default")])

    class Torn(type(paint_magnifier)):
        def predict(self, prepared, frame, alpha):
            whole = super().predict(prepared, frame, alpha)
            return whole + whole.new_tensor([0.1, 0.0, -0.1]).view(1, 3, 1, 1)

    together, apart = (
        float(objective(Torn(), Pairs(reference, frame, alpha, merge))) for merge in (True, False)
    )
    whole = float(objective(paint_magnifier, Pairs(reference, frame, alpha, merge=True)))
    assert together == pytest.approx(whole, rel=1e-3)
    assert apart > 1.5 * together
